"""Each sample boots, and reports what QEMU, GRUB or Xen was told to give it."""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from tests import grub, qemu
from tests.samples.report import number, ranges, raw, report

pytestmark = pytest.mark.boot

MIB = 1 << 20
RAM = 1
MODULE = bytes(range(256)) * 13 + b"odd"
"""A module of no round size."""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "module.bin"
    path.write_bytes(MODULE)
    return path


def assert_memory(entries: list[tuple[int, int, int]], mib: int) -> None:
    """A memory map of a machine with so much memory: RAM from 1 MiB on up to the firmware's tables at the top."""
    ram = [(start, end) for start, end, kind in entries if kind == RAM]
    assert [start for start, _ in ram] == [0, MIB]
    assert (mib - 1) * MIB < ram[1][1] <= mib * MIB
    assert all(before[1] <= after[0] for before, after in pairwise(entries))


# ---- Multiboot 1 ---------------------------------------------------------------------------------------------


def test_multiboot1_by_qemu(samples: Path, module: Path) -> None:
    kernel = samples / "multiboot1/multiboot1.elf"
    other = samples / "initrd/initrd.img"
    boot = qemu.run(
        ["-m", "96", "-kernel", str(kernel), "-append", "one  two\\", "-initrd", f"{module} first,{other}"]
    )
    values = report(boot.console, "mb1")
    assert boot.exit == 0  # it powered off
    assert number(values, "eax") == 0x2BADB002
    assert values["cmdline.string"] == rf"{kernel} one  two\x5c"
    assert values["boot_loader_name.string"] == "qemu"
    assert number(values, "flags") == 0b10_0100_1111  # memory, device, cmdline, modules, map, loader name
    assert number(values, "mods_count") == 2
    for index, path, text in ((0, module, f"{module} first"), (1, other, str(other))):
        start = number(values, f"mods[{index}].mod_start")
        assert start % 4096 == 0  # the header asks for it
        assert number(values, f"mods[{index}].mod_end") - start == path.stat().st_size
        assert values[f"mods[{index}].string.text"] == text
        assert number(values, f"mods[{index}].crc32") == zlib.crc32(path.read_bytes())
    memory = ranges(values, "mmap", "base_addr", "length")
    assert_memory(memory, 96)
    assert number(values, "mem_lower") == memory[0][1] // 1024
    assert number(values, "mem_upper") == (memory[3][1] - MIB) // 1024
    assert struct.unpack_from("<3I", raw(values)) == tuple(
        number(values, name) for name in ("flags", "mem_lower", "mem_upper")
    )


def test_debug_exit_device_gives_a_status(samples: Path) -> None:
    kernel = samples / "multiboot1/multiboot1.elf"
    boot = qemu.run(["-m", "32", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-kernel", str(kernel)])
    report(boot.console, "mb1")
    assert boot.exit == 33


# ---- Under GRUB ----------------------------------------------------------------------------------------------


@pytest.fixture
def grub_disk(tmp_path: Path, tool: Callable[[str], str]) -> Callable[..., Path]:
    """``grub_disk(config, files, modules)``: a BIOS disk of GRUB alone, with the files in its memory disk."""
    return partial(grub.disk, tmp_path, tool)


def test_multiboot1_by_grub(samples: Path, module: Path, grub_disk: Callable[..., Path]) -> None:
    kernel = samples / "multiboot1/multiboot1.elf"
    config = "multiboot (memdisk)/multiboot1.elf one two\nmodule (memdisk)/module.bin three\nboot\n"
    disk = grub_disk(config, [kernel, module], ["multiboot"])
    boot = qemu.run(["-m", "96", "-drive", f"file={disk},format=raw"])
    values = report(boot.console, "mb1")
    assert boot.exit == 0
    assert values["boot_loader_name.string"].startswith("GRUB 2")
    assert values["cmdline.string"] == "one two"
    assert values["mods[0].string.text"] == "three"
    assert number(values, "mods[0].crc32") == zlib.crc32(MODULE)
    assert (number(values, "elf_num"), number(values, "elf_size")) == (4, 40)  # the kernel's own section headers
    assert_memory(ranges(values, "mmap", "base_addr", "length"), 96)


def test_multiboot2_by_grub(samples: Path, module: Path, grub_disk: Callable[..., Path]) -> None:
    kernel = samples / "multiboot2/multiboot2.elf"
    config = "multiboot2 (memdisk)/multiboot2.elf one two\nmodule2 (memdisk)/module.bin three\nboot\n"
    disk = grub_disk(config, [kernel, module], ["multiboot2"])
    boot = qemu.run(["-m", "96", "-drive", f"file={disk},format=raw"])
    values = report(boot.console, "mb2")
    assert boot.exit == 0
    assert number(values, "eax") == 0x36D76289
    assert number(values, "total_size") == len(raw(values))

    tags: dict[int, str] = {}  # type: prefix of its lines
    while (prefix := f"tags[{len(tags)}]") + ".type" in values:
        tags[number(values, f"{prefix}.type")] = prefix
    assert {0, 1, 2, 3, 4, 6, 8, 9, 14, 21} <= tags.keys()
    assert values[f"{tags[1]}.string"] == "one two"
    assert values[f"{tags[2]}.string"].startswith("GRUB 2")
    start = number(values, f"{tags[3]}.mod_start")
    assert start % 4096 == 0
    assert number(values, f"{tags[3]}.mod_end") - start == len(MODULE)
    assert values[f"{tags[3]}.string"] == "three"
    assert number(values, f"{tags[3]}.crc32") == zlib.crc32(MODULE)
    memory = ranges(values, "mmap", "base_addr", "length")
    assert_memory(memory, 96)
    assert number(values, f"{tags[4]}.mem_upper") == (memory[3][1] - MIB) // 1024
    assert (number(values, f"{tags[9]}.num"), number(values, f"{tags[9]}.entsize")) == (4, 40)
    # It asked for the highest place, and runs where GRUB says it put it.
    assert number(values, f"{tags[21]}.load_base_addr") == number(values, "image") > 64 * MIB


# ---- PVH -----------------------------------------------------------------------------------------------------


def check_pvh_by_qemu(kernel: Path, module: Path, load: int) -> None:
    boot = qemu.run(["-m", "96", "-kernel", str(kernel), "-append", "one two", "-initrd", str(module)])
    values = report(boot.console, "pvh")
    assert boot.exit == 0
    assert number(values, "image") == load
    assert number(values, "magic") == 0x336EC578
    assert number(values, "version") == 1
    assert values["cmdline.string"] == "one two"
    assert number(values, "nr_modules") == 1
    assert number(values, "modlist[0].size") == len(MODULE)
    assert number(values, "modlist[0].crc32") == zlib.crc32(MODULE)
    memory = ranges(values, "memmap", "addr", "size")
    assert len(memory) == number(values, "memmap_entries")
    assert_memory(memory, 96)


def test_pvh_by_qemu(samples: Path, module: Path) -> None:
    check_pvh_by_qemu(samples / "pvh/pvh.elf", module, MIB)


def test_pvh_runs_where_it_is_put(samples: Path, module: Path, tmp_path: Path) -> None:
    """The claim of its PHYS32_RELOC note: moved by 3 MiB in its headers alone, the code runs unchanged."""
    image = bytearray((samples / "pvh/pvh.elf").read_bytes())

    def move(offset: int) -> None:
        struct.pack_into("<I", image, offset, struct.unpack_from("<I", image, offset)[0] + 3 * MIB)

    entry = image[0x18:0x1C]
    move(image.index(struct.pack("<3I", 4, 4, 18) + b"Xen\0" + entry) + 16)  # the descriptor of PHYS32_ENTRY
    move(0x18)  # e_entry
    for program_header in (0x34, 0x54):
        move(program_header + 8)  # p_vaddr
        move(program_header + 12)  # p_paddr
    moved = tmp_path / "moved.elf"
    moved.write_bytes(image)
    check_pvh_by_qemu(moved, module, 4 * MIB)


# ---- Under Xen -----------------------------------------------------------------------------------------------


@pytest.fixture
def xen(xen_gz: Path, tmp_path: Path) -> Path:
    """Xen unpacked: QEMU's Multiboot loader takes no compressed kernel."""
    path = tmp_path / "xen"
    path.write_bytes(gzip.decompress(xen_gz.read_bytes()))
    return path


def boot_xen(
    xen: Path, options: str, kernel: Path, initrd: Path, machine: list[str], until: str | None
) -> qemu.Boot:
    """Boot dom0 ``kernel`` with the command line "one two" and an initrd."""
    modules = f"{kernel} one two,{initrd}"
    command = ["-machine", "q35", *machine, "-kernel", str(xen), "-append", f"console=com1 com1=115200 {options}"]
    return qemu.run([*command, "-initrd", modules], until)


HALTED = "Dom0 halted: halting machine"


def arrangement(console: str, name: str) -> tuple[int, int]:
    """The last address range that Xen printed with this name (the virtual one comes after the physical)."""
    start, end = re.findall(rf"\(XEN\)  {re.escape(name)}: +([0-9a-f]+)->([0-9a-f]+)", console)[-1]
    return int(start, 16), int(end, 16)


@pytest.mark.real
@pytest.mark.parametrize("name", ["pv-dom0", "pv-dom0-mapped"])
def test_pv_dom0_by_xen(samples: Path, xen: Path, module: Path, name: str) -> None:
    mapped = name == "pv-dom0-mapped"
    kernel = samples / f"pv-dom0/{name}.elf"
    boot = boot_xen(xen, "dom0_mem=192M", kernel, module, ["-cpu", "qemu64", "-m", "512"], HALTED)
    values = report(boot.console, "pv")
    start_info, _ = arrangement(boot.console, "Start info")
    page_tables, page_tables_end = arrangement(boot.console, "Page tables")
    _, stack_end = arrangement(boot.console, "Boot stack")
    assert number(values, "rsi") == start_info
    assert number(values, "rsp") == stack_end
    assert values["magic"].startswith("xen-3.0-x86_64")
    assert number(values, "nr_pages") == 192 * MIB // 4096
    assert number(values, "pt_base") == page_tables
    assert number(values, "nr_pt_frames") == (page_tables_end - page_tables) // 4096
    assert number(values, "mfn_list") == arrangement(boot.console, "Phys-Mach map")[0]
    assert number(values, "mod_len") == len(MODULE)
    assert values["cmd_line"] == "one two"
    privileged, init_domain, mod_start_pfn = 1, 2, 8
    assert number(values, "flags") & 0xFF == privileged | init_domain | (0 if mapped else mod_start_pfn)
    if mapped:
        assert number(values, "mod_start") == arrangement(boot.console, "Init. ramdisk")[0]
        assert number(values, "mod.crc32") == zlib.crc32(MODULE)
    else:
        assert number(values, "mfn_list") == 0x8000000000  # its INIT_P2M note
        assert number(values, "mod_start") < number(values, "nr_pages")
    assert number(values, "console.dom0.info_off") + number(values, "console.dom0.info_size") == len(raw(values))
    assert struct.unpack_from("<Q", raw(values), 32) == (number(values, "nr_pages"),)


@pytest.mark.real
def test_pvh_dom0_by_xen(samples: Path, xen: Path, module: Path) -> None:
    machine = ["-cpu", "qemu64,+svm,+npt", "-device", "amd-iommu", "-m", "512"]
    boot = boot_xen(xen, "dom0=pvh,verbose dom0_mem=128M", samples / "pvh/pvh.elf", module, machine, HALTED)
    values = report(boot.console, "pvh")
    assert number(values, "magic") == 0x336EC578
    assert values["cmdline.string"] == "one two"
    assert number(values, "modlist[0].size") == len(MODULE)
    assert number(values, "modlist[0].crc32") == zlib.crc32(MODULE)
    kinds = {"usable": 1, "reserved": 2, "ACPI data": 3, "ACPI NVS": 4, "unusable": 5}
    text = boot.console.split("Dom0 memory map:")[1]
    printed = re.findall(r"\[([0-9a-f]{16}), ([0-9a-f]{16})\] \(([\w ]+)\)", text)
    assert ranges(values, "e820", "addr", "size") == [
        (int(first, 16), int(last, 16) + 1, kinds[kind]) for first, last, kind in printed
    ]


# ---- The initrd ----------------------------------------------------------------------------------------------

INIT_LINES = r"^init: mbtool sample initrd is running\ninit: the early archive was unpacked\ninit: end\n"


@pytest.mark.real
def test_initrd_on_the_bare_machine(samples: Path, vmlinuz_cloud: Path) -> None:
    initrd = samples / "initrd/initrd.img"
    boot = qemu.run(
        ["-m", "512", "-kernel", str(vmlinuz_cloud), "-append", "console=ttyS0 quiet", "-initrd", str(initrd)]
    )
    assert re.search(INIT_LINES, boot.console, re.MULTILINE), boot.console[-2000:]
    assert boot.exit == 0


@pytest.mark.real
def test_initrd_in_a_linux_dom0(samples: Path, xen: Path, vmlinuz: Path) -> None:
    initrd = samples / "initrd/initrd.img"
    modules = f"{vmlinuz} console=hvc0 quiet,{initrd}"
    options = "console=com1 com1=115200 dom0_mem=512M"
    machine = ["-machine", "q35", "-cpu", "qemu64", "-m", "1024"]
    boot = qemu.run([*machine, "-kernel", str(xen), "-append", options, "-initrd", modules])
    assert re.search(INIT_LINES, boot.console, re.MULTILINE), boot.console[-2000:]
    assert boot.exit == 0  # dom0 powered the machine off through Xen
