"""Disks boot: every protocol that the stub speaks, on the machines that it may meet, with what the plan says."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.disk.boot_set import BootSet, Module, request
from mbtool.disk.image import DiskRequest
from mbtool.formats import compression, elf_file, linux_boot, multiboot1, multiboot2
from mbtool.formats.multiboot_search import MULTIBOOT1, MULTIBOOT2
from mbtool.plan import linux_boot as plan_linux
from mbtool.plan import multiboot1 as plan_multiboot1
from mbtool.plan import multiboot2 as plan_multiboot2
from mbtool.plan import pvh as plan_pvh
from mbtool.plan.e820 import E820Entry, E820Map
from mbtool.plan.load import LoadPlan
from mbtool.plan.memory import Range
from mbtool.plan.modules import ModuleFile
from mbtool.prove.qemu import PROGRAM, Machine
from mbtool.source import Budget, open_file
from tests import qemu
from tests.disk.boots import MAPS, memory_of, modules_of, run, write
from tests.disk.vga import vga_text
from tests.samples.report import number, report

pytestmark = pytest.mark.boot

MIB = 1 << 20
MODULE = bytes(range(256)) * 13 + b"odd"
INIT = "init: mbtool sample initrd is running\ninit: the early archive was unpacked\ninit: end\n"


def by_init(console: str) -> str:
    """The console without the kernel's lines, which may come in the middle of one of init's."""
    return re.sub(r"\[ *\d+\.\d{6}\] [^\n]*\n", "", console)


@pytest.fixture(autouse=True)
def _machine(tool: Callable[[str], str]) -> None:
    tool(PROGRAM)


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "module.bin"
    path.write_bytes(MODULE)
    return path


# ---- the samples report what they were given -----------------------------------------------------------------

SAMPLES = ("multiboot1/multiboot1.elf", "multiboot2/multiboot2.elf", "pvh/pvh.elf")
TAGS = dict(zip(SAMPLES, MAPS, strict=True))


def known(path: Path, modules: list[ModuleFile], memory: E820Map) -> LoadPlan:
    """The plan for a sample on a machine whose memory is known."""
    with open_file(path) as source:
        head, size = source.read(0, MULTIBOOT2.limit), source.size
        elf = elf_file.parse_elf(source)
        if (at := MULTIBOOT2.first(head)) is not None:
            header = multiboot2.parse(head, at)
            return plan_multiboot2.plan("kernel", size, header, at, elf, "one two", modules, memory)
        if (at := MULTIBOOT1.first(head)) is not None:
            first = multiboot1.parse(head, at)
            return plan_multiboot1.plan("kernel", size, first, at, elf, "one two", modules, memory)
        return plan_pvh.plan("kernel", size, elf, "one two", modules, memory)


@pytest.mark.parametrize("name", SAMPLES)
def test_samples(samples: Path, module: Path, tmp_path: Path, name: str) -> None:
    """On any PC; then again by a plan for this very machine, which leaves the stub nothing to fill in."""
    tag = TAGS[name]
    initrd = samples / "initrd/initrd.img"
    contents = [initrd.read_bytes(), MODULE]
    disk, _ = request(BootSet(samples / name, initrd, modules=[Module(module, "three")], cmdline="one two"))
    machine = Machine(memory=96)
    values = report(run(write(disk, tmp_path), machine), tag)
    assert [values[register] for register in ("cs", "ds", "es", "ss")] == ["0x0010"] + ["0x0018"] * 3
    assert number(values, "cr0") & 0x80000001 == 1  # protected mode, no paging
    assert number(values, "image") == MIB
    given = modules_of(values, tag)
    assert [start for start, *_ in given] == [2 * MIB, 2 * MIB + 4096]
    assert [end - start for start, end, *_ in given] == [len(content) for content in contents]
    assert [crc for *_, crc in given] == [zlib.crc32(content) for content in contents]
    texts = ["initrd.img", "module.bin three"] if tag == "mb1" else ["", "three"]
    assert [text for _, _, text, _ in given] == texts

    memory = memory_of(values, tag)
    assert [(entry.range, entry.type) for entry in memory.entries][3][0].start == MIB
    if tag == "pvh":
        assert number(values, "magic") == 0x336EC578
        assert 0xE0000 <= number(values, "rsdp_paddr") < MIB
    elif tag == "mb1":
        assert (number(values, "mem_lower"), number(values, "mem_upper")) == (memory.mem_lower, memory.mem_upper)

    modules = [ModuleFile("initrd.img", len(contents[0])), ModuleFile("module.bin", len(MODULE), "three")]
    plan = known(samples / name, modules, memory)
    files = {"kernel": (samples / name).read_bytes(), "initrd.img": contents[0], "module.bin": MODULE}
    again = report(run(write(DiskRequest(files, plan), tmp_path), machine), tag)
    assert memory_of(again, tag) == memory
    places = {load.name: load.address for load in plan.loads}
    assert number(again, "image") == places["kernel"]
    assert (places["kernel"] > 90 * MIB) == (tag == "mb2")  # it asks for the highest place
    assert [(start, crc) for start, _, _, crc in modules_of(again, tag)] == [
        (places["initrd.img"], zlib.crc32(contents[0])),
        (places["module.bin"], zlib.crc32(MODULE)),
    ]


def test_multiboot2_tags(samples: Path, tmp_path: Path) -> None:
    disk, _ = request(BootSet(samples / SAMPLES[1], cmdline="one two"))
    values = report(run(write(disk, tmp_path), Machine(memory=96)), "mb2")
    tags: dict[int, str] = {}
    while (prefix := f"tags[{len(tags)}]") + ".type" in values:
        tags[number(values, f"{prefix}.type")] = prefix
    assert list(tags) == [21, 1, 2, 9, 8, 4, 6, 0]
    assert number(values, f"{tags[21]}.load_base_addr") == MIB
    assert values[f"{tags[1]}.string"] == "one two"
    assert (number(values, f"{tags[9]}.num"), number(values, f"{tags[9]}.entsize")) == (4, 40)
    memory = memory_of(values, "mb2")
    assert number(values, f"{tags[4]}.mem_lower") == memory.mem_lower
    assert number(values, f"{tags[4]}.mem_upper") == memory.mem_upper
    assert number(values, f"{tags[6]}.size") == 16 + 24 * len(memory.entries)


def test_an_empty_module(samples: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    disk, _ = request(BootSet(samples / SAMPLES[0], modules=[Module(tmp_path / "empty", "text")]))
    values = report(run(write(disk, tmp_path), Machine(memory=64)), "mb1")
    assert modules_of(values, "mb1") == [(2 * MIB, 2 * MIB, "empty text", 0)]


# ---- Debian's kernels ----------------------------------------------------------------------------------------


def ramdisk(console: str) -> tuple[int, int]:
    """First and last byte of the initrd as Linux says it, in whole pages."""
    match = re.search(r"RAMDISK: \[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\]", console)
    assert match, console[-3000:]
    return int(match[1], 16), int(match[2], 16)


def linux_memory(console: str) -> E820Map:
    """The map that the loader gave to Linux."""
    kinds = {"usable": 1, "reserved": 2, "ACPI data": 3, "ACPI NVS": 4}
    lines = re.findall(r"BIOS-e820: \[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\] ([\w ]+)$", console, re.MULTILINE)
    return E820Map(
        tuple(E820Entry(Range(int(first, 16), int(last, 16) + 1), kinds[kind]) for first, last, kind in lines)
    )


def linux_plan(kernel: Path, initrd: Path, memory: E820Map) -> plan_linux.LinuxPlan:
    head = kernel.read_bytes()[: linux_boot.MAX_END]
    module = ModuleFile("initrd", initrd.stat().st_size)
    return plan_linux.plan("kernel", head, kernel.stat().st_size, "console=ttyS0", module, memory)


@pytest.mark.real
def test_linux_on_any_pc_and_by_a_plan_for_the_machine(samples: Path, vmlinuz_cloud: Path, tmp_path: Path) -> None:
    initrd = samples / "initrd/initrd.img"
    disk, _ = request(BootSet(vmlinuz_cloud, initrd, cmdline="console=ttyS0"))
    machine = Machine(memory=512)
    console = run(write(disk, tmp_path), machine)
    assert INIT in by_init(console)
    assert "Command line: console=ttyS0\n" in console
    assert disk.boot is not None
    start = disk.boot.loads[-1].address
    assert ramdisk(console) == (start, start + 4095)

    plan = linux_plan(vmlinuz_cloud, initrd, linux_memory(console))
    files = {"kernel": vmlinuz_cloud.read_bytes(), "initrd": initrd.read_bytes()}
    again = run(write(DiskRequest(files, plan.load_plan), tmp_path), machine)
    assert INIT in by_init(again)
    assert linux_memory(again) == linux_memory(console)
    assert plan.initrd is not None and plan.initrd.start > 510 * MIB
    assert ramdisk(again) == (plan.initrd.start, plan.initrd.start + 4095)


@pytest.mark.real
def test_linux_initrd_is_planned_where_qemu_puts_it(samples: Path, vmlinuz_cloud: Path) -> None:
    initrd = samples / "initrd/initrd.img"
    words = ["-m", "512", "-kernel", str(vmlinuz_cloud), "-initrd", str(initrd), "-append", "console=ttyS0"]
    console = qemu.run(words, until=r"RAMDISK.*\n").console
    plan = linux_plan(vmlinuz_cloud, initrd, linux_memory(console))
    assert plan.initrd is not None
    assert ramdisk(console)[0] == plan.initrd.start


@pytest.mark.real
def test_linux_through_its_pvh_entry(samples: Path, vmlinuz_cloud: Path, tmp_path: Path) -> None:
    vmlinux = tmp_path / "vmlinux"
    with open_file(vmlinuz_cloud) as source:
        payload = linux_boot.read(source).payload
        assert payload is not None
        stream = compression.open_stream(source.part(*payload), Budget())
        vmlinux.write_bytes(stream.read(0, 128 * MIB))
    disk, _ = request(BootSet(vmlinux, samples / "initrd/initrd.img", cmdline="console=ttyS0"))
    assert disk.boot is not None and disk.boot.protocol == "pvh"
    console = run(write(disk, tmp_path), Machine(memory=512))
    assert INIT in by_init(console)
    start = disk.boot.loads[-1].address
    assert ramdisk(console) == (start, start + 4095)


# ---- other kernels of Debian ---------------------------------------------------------------------------------


@pytest.mark.real
def test_memtest(debian: Callable[[str], Path], tmp_path: Path) -> None:
    for name in ("memtest86+x64.bin", "memtest86+ia32.bin"):
        disk, _ = request(BootSet(debian("memtest86+") / "boot" / name, cmdline="console=ttyS0,115200"))
        console = run(write(disk, tmp_path), Machine(memory=64), until="Testing:")
        assert "Memtest86+" in console
    assert "Memtest86+" in vga_text(write(disk, tmp_path), "Memtest86+")


@pytest.mark.real
def test_grub_invaders(debian: Callable[[str], Path], tmp_path: Path) -> None:
    disk, _ = request(BootSet(debian("grub-invaders") / "boot/invaders.exec"))
    assert disk.boot is not None and disk.boot.protocol == "multiboot1"
    assert vga_text(write(disk, tmp_path), "-*-").count("-*-") > 20


@pytest.mark.real
def test_gnumach(debian: Callable[[str], Path], tmp_path: Path) -> None:
    (kernel,) = (debian("gnumach-image-1-486") / "boot").glob("gnumach*.gz")
    disk, _ = request(BootSet(kernel, cmdline="console=com0"))
    console = run(write(disk, tmp_path), Machine(memory=256), until="RTC time")
    assert "GNU Mach 1.8" in console
    assert "biosmem: 000000000000100000:00000000000ffdf000, available" in console


@pytest.mark.real
def test_linux_finds_the_text_screen(vmlinuz_cloud: Path, tmp_path: Path) -> None:
    disk, _ = request(BootSet(vmlinuz_cloud, cmdline="loglevel=8"))
    words = "Unable to mount root fs"  # the last of it, which stays
    assert words in vga_text(write(disk, tmp_path), words, memory=256)
