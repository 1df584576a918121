"""What real loaders hand over, beside the plan for the machine as it describes itself: QEMU's loaders and GRUB.

The machine's own map, from its console, is what ``--e820`` is given. Loaders choose places freely; what the
protocol decides must be the same to the bit, and their places must be ones that the plan could have chosen.
"""

from __future__ import annotations

import base64
import re
import stat
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mbtool.formats.cpio import Member, build_cpio
from mbtool.plan import e820_text, linux_boot, protocols
from mbtool.plan.e820 import E820Map
from mbtool.plan.linux_kernel import HEAD_READ
from mbtool.plan.load import LoadPlan
from mbtool.plan.memory import Range
from mbtool.plan.modules import ModuleFile
from mbtool.plan.outline_load import content_at
from mbtool.plan.protocols import Protocol
from mbtool.source import open_file
from tests import grub, qemu
from tests.samples.report import number, ranges, report

pytestmark = pytest.mark.boot

MODULE = b"module" * 1000
RAM = ["-m", "96"]


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "module.bin"
    path.write_bytes(MODULE)
    return path


def own_map(found: list[tuple[int, int, int]]) -> E820Map:
    text = "".join(f"{start:#x} {end - start} type {kind}\n" for start, end, kind in found)
    return e820_text.parse(text.encode(), "console")


def planned(protocol: Protocol, kernel: Path, memory: E820Map) -> LoadPlan:
    modules = [ModuleFile("module.bin", len(MODULE), "two")]
    with open_file(kernel) as source:
        return protocols.load_plan(protocol, source, str(kernel), "one", modules, memory)


def entry_map(content: bytes, at: int, step: int, count: int) -> list[tuple[int, int, int]]:
    """Entries of 64-bit base, 64-bit length, 32-bit type as (start, end, type)."""
    found = (struct.unpack_from("<QQI", content, at + step * n) for n in range(count))
    return [(start, start + size, kind) for start, size, kind in found]


# ---- Multiboot -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loader", ["qemu", "grub"])
def test_multiboot1(samples: Path, module: Path, tmp_path: Path, tool: Callable[[str], str], loader: str) -> None:
    kernel = samples / "multiboot1/multiboot1.elf"
    if loader == "qemu":
        args = ["-kernel", str(kernel), "-append", "one", "-initrd", f"{module} two"]
    else:
        config = f"multiboot (memdisk)/{kernel.name} one\nmodule (memdisk)/module.bin two\nboot\n"
        disk = grub.disk(tmp_path, tool, config, [kernel, module], ["multiboot"])
        args = ["-drive", f"file={disk},format=raw"]
    values = report(qemu.run([*RAM, *args]).console, "mb1")
    found = ranges(values, "mmap", "base_addr", "length")
    plan = planned(Protocol.MULTIBOOT1, kernel, own_map(found))
    info = content_at(plan, plan.registers.ebx)
    flags, lower, upper = struct.unpack_from("<3I", info)
    assert (lower, upper) == (number(values, "mem_lower"), number(values, "mem_upper"))
    assert flags & ~number(values, "flags") == 0  # nothing that these loaders do not give too
    assert plan.registers.eax == number(values, "eax")
    loaded = next(load for load in plan.loads if load.name == str(kernel))
    assert loaded.address == number(values, "image")
    length, at = struct.unpack_from("<II", info, 44)
    at -= plan.registers.ebx
    assert length == 24 * len(found)
    assert entry_map(info, at + 4, 24, len(found)) == found
    start = struct.unpack_from("<I", info, struct.unpack_from("<I", info, 24)[0] - plan.registers.ebx)[0]
    assert start % 4096 == number(values, "mods[0].mod_start") % 4096 == 0
    assert values["mods[0].string.text"].endswith("two")


def test_multiboot2_by_grub(samples: Path, module: Path, tmp_path: Path, tool: Callable[[str], str]) -> None:
    kernel = samples / "multiboot2/multiboot2.elf"
    config = f"multiboot2 (memdisk)/{kernel.name} one\nmodule2 (memdisk)/module.bin two\nboot\n"
    disk = grub.disk(tmp_path, tool, config, [kernel, module], ["multiboot2"])
    values = report(qemu.run([*RAM, "-drive", f"file={disk},format=raw"]).console, "mb2")
    found = ranges(values, "mmap", "base_addr", "length")
    plan = planned(Protocol.MULTIBOOT2, kernel, own_map(found))
    info = content_at(plan, plan.registers.ebx)
    ours: dict[int, bytes] = {}
    at = 8
    while at < len(info):
        kind, size = struct.unpack_from("<II", info, at)
        ours[kind] = info[at : at + size]
        at += size + 7 & -8
    theirs = {
        number(values, name): name.removesuffix(".type")
        for name in values
        if re.fullmatch(r"tags\[\d+\]\.type", name)
    }
    assert ours.keys() <= theirs.keys()
    lower, upper = struct.unpack_from("<II", ours[4], 8)
    assert (lower, upper) == tuple(number(values, f"{theirs[4]}.{name}") for name in ("mem_lower", "mem_upper"))
    assert entry_map(ours[6], 16, 24, len(found)) == found
    assert len(ours[6]) == number(values, f"{theirs[6]}.size")
    assert struct.unpack_from("<3I", ours[9], 8) == tuple(
        number(values, f"{theirs[9]}.{name}") for name in ("num", "entsize", "shndx")
    )
    # it asks for the highest place: GRUB itself takes some of that
    (base,) = struct.unpack_from("<I", ours[21], 8)
    theirs_base = number(values, f"{theirs[21]}.load_base_addr")
    assert base % 4096 == theirs_base % 4096 == 0
    assert theirs_base <= base < theirs_base + (1 << 20)
    assert plan.registers.eax == number(values, "eax")


def test_pvh_by_qemu(samples: Path, module: Path) -> None:
    kernel = samples / "pvh/pvh.elf"
    args = ["-kernel", str(kernel), "-append", "one", "-initrd", str(module)]
    values = report(qemu.run([*RAM, *args]).console, "pvh")
    found = ranges(values, "memmap", "addr", "size")
    plan = planned(Protocol.PVH, kernel, own_map(found))
    info = content_at(plan, plan.registers.ebx)
    magic, version, flags, modules = struct.unpack_from("<4I", info)
    assert (magic, version, flags, modules) == tuple(
        number(values, name) for name in ("magic", "version", "flags", "nr_modules")
    )
    at, count = struct.unpack_from("<QI", info, 40)
    assert entry_map(info, at - plan.registers.ebx, 24, count) == found
    assert plan.loads[1].address == number(values, "image")


# ---- Linux ---------------------------------------------------------------------------------------------------

DIR, RUN, LINK = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755, stat.S_IFLNK | 0o777
# Nothing that the kernel prints may land inside of the line: dmesg -n 1.
INIT = b"""#!/bin/sh
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox dmesg -n 1
/bin/busybox echo PAGE: $(/bin/busybox base64 -w 0 /sys/kernel/boot_params/data) :END
/bin/busybox poweroff -f
"""
LOADERS_OWN = {
    *range(0x1FA, 0x200),  # vid_mode; root_dev and boot_flag, where GRUB writes 0x100 and 0
    0x210,  # type_of_loader
    0x211,  # loadflags: CAN_USE_HEAP, for the 16-bit entry
    *range(0x214, 0x220),  # code32_start, ramdisk_image, ramdisk_size
    *(0x224, 0x225, 0x226),  # heap_end_ptr, ext_loader_ver
    *range(0x228, 0x22C),  # cmd_line_ptr
    *range(0x250, 0x258),  # setup_data: QEMU seeds the random numbers
}
"""Bytes of the setup header that each loader fills in for itself."""


@pytest.mark.real
@pytest.mark.parametrize("loader", ["qemu", "grub"])
def test_linux(
    debian: Callable[[str], Path], vmlinuz_cloud: Path, tmp_path: Path, tool: Callable[[str], str], loader: str
) -> None:
    initrd = tmp_path / "initrd"
    busybox = (debian("busybox-static") / "bin/busybox").read_bytes()
    members = [Member("sys", mode=DIR), Member("bin", mode=DIR), Member("bin/busybox", busybox, RUN)]
    initrd.write_bytes(build_cpio([*members, Member("bin/sh", b"busybox", LINK), Member("init", INIT, RUN)]))
    line = "console=ttyS0 panic=-1"
    if loader == "qemu":
        args = ["-kernel", str(vmlinuz_cloud), "-initrd", str(initrd), "-append", line]
    else:
        config = f"linux (hd1)/{vmlinuz_cloud.name} {line}\ninitrd (hd1)/initrd\nboot\n"
        disk = grub.disk(tmp_path, tool, config, [], ["linux"])
        files = grub.archive(tmp_path / "files.tar", [vmlinuz_cloud, initrd])
        args = ["-drive", f"file={disk},format=raw", "-drive", f"file={files},format=raw"]
    console = qemu.run(["-machine", "q35", "-m", "512", *args], until=":END").console
    match = re.search(r"PAGE: (\S+) :END", console)
    assert match
    theirs = base64.b64decode(match[1])
    memory = e820_text.parse(console.encode(), "console")
    with open_file(vmlinuz_cloud) as source:
        plan = linux_boot.plan(
            "vmlinuz", source.read(0, HEAD_READ), source.size, line, ModuleFile("i", initrd.stat().st_size), memory
        )
    ours = content_at(plan.load_plan, plan.params_at)
    word = partial(struct.unpack_from, "<I")
    # the memory map, and how many entries count
    assert ours[0x1E8] == theirs[0x1E8] > 5
    assert ours[0x2D0 : 0x2D0 + 20 * ours[0x1E8]] == theirs[0x2D0 : 0x2D0 + 20 * ours[0x1E8]]
    # the setup header, but for what each loader decides
    different = {at for at in range(0x1F1, 0x290) if ours[at] != theirs[at]}
    assert different <= LOADERS_OWN
    assert word(ours, 0x21C) == word(theirs, 0x21C) == (initrd.stat().st_size,)
    if loader == "grub":  # QEMU leaves it to the kernel to move itself from 1 MiB
        assert word(ours, 0x214) == word(theirs, 0x214)
    # the initrd: on a page, behind all that the kernel needs, below its limit, in RAM; ours above theirs
    place = Range.at(word(theirs, 0x218)[0], initrd.stat().st_size)
    assert place.start % 4096 == 0
    assert plan.memory.end <= place.start and place.end - 1 <= word(theirs, 0x22C)[0]
    assert any(span.covers(place) for span in memory.usable())
    assert plan.initrd and place.start <= plan.initrd.start
    assert bool(theirs[0x211] & 1)
