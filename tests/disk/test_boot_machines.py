"""The boot stub on the machines that it may meet: buses, memory, odd BIOSes, broken disks."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.disk.boot_set import BootSet, Module, request
from mbtool.disk.image import plan_disk
from mbtool.plan.e820 import E820Entry, E820Map
from mbtool.plan.load import MAP_MAX
from mbtool.plan.memory import Range
from mbtool.prove.qemu import PROGRAM, Machine
from tests.disk.boots import memory_of, modules_of, run, write
from tests.disk.odd_bios import Entry, Oddities, make_odd
from tests.samples.report import number, report

pytestmark = pytest.mark.boot

MIB = 1 << 20
SECTOR = 512
MODULE = bytes(range(256)) * 1300 + b"odd"
"""Longer than one read of the stub."""


@pytest.fixture(autouse=True)
def _machine(tool: Callable[[str], str]) -> None:
    tool(PROGRAM)


@pytest.fixture
def disk(samples: Path, tmp_path: Path) -> Path:
    """A Multiboot 1 sample with one module at 2 MiB."""
    (tmp_path / "module.bin").write_bytes(MODULE)
    wanted, _ = request(BootSet(samples / "multiboot1/multiboot1.elf", modules=[Module(tmp_path / "module.bin")]))
    return write(wanted, tmp_path)


def works(console: str) -> dict[str, str]:
    """The sample's report, with the module where and as it should be."""
    values = report(console, "mb1")
    assert modules_of(values, "mb1") == [(2 * MIB, 2 * MIB + len(MODULE), "module.bin", zlib.crc32(MODULE))]
    return values


def attached(disk: Path, *devices: str) -> list[str]:
    """QEMU's arguments for the disk as drive ``boot`` of the last of the devices."""
    drive = ["-drive", f"if=none,id=boot,format=raw,snapshot=on,file={disk}"]
    return drive + [word for device in devices for word in ("-device", device)]


# ---- buses and memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bus", ["ahci", "ide", "virtio", "usb"])
def test_disk_on_every_bus(disk: Path, bus: str) -> None:
    works(run(disk, Machine(memory=64, bus=bus, machine="pc" if bus == "ide" else "q35")))


@pytest.mark.parametrize(
    "devices",
    [
        ("virtio-scsi-pci", "scsi-hd,drive=boot,bootindex=0"),
        ("nvme,serial=1,drive=boot,bootindex=0",),
        ("usb-ehci", "usb-storage,drive=boot,bootindex=0"),
    ],
    ids=["scsi", "nvme", "usb2"],
)
def test_other_buses(disk: Path, devices: tuple[str, ...]) -> None:
    works(run(disk, Machine(memory=64), what=attached(disk, *devices)))


def test_a_machine_of_old(disk: Path) -> None:
    """A 486 on an ISA bus."""
    machine = Machine(memory=16, machine="isapc", cpu="486")
    console = run(disk, machine, until="mb1: end\n", what=attached(disk, "ide-hd,drive=boot"))
    works(console[: console.index("mb1: end") + len("mb1: end\n")])


def test_more_than_4_gib_of_memory(samples: Path, tmp_path: Path) -> None:
    wanted, _ = request(BootSet(samples / "multiboot2/multiboot2.elf"))
    memory = memory_of(report(run(write(wanted, tmp_path), Machine(memory=6144)), "mb2"), "mb2")
    assert max(span.end for span in memory.usable()) > 1 << 32
    assert sum(span.size for span in memory.usable()) > 6143 * MIB
    assert memory.mem_upper < 4 * MIB  # KiB, below 4 GiB


def test_too_little_memory_is_refused(samples: Path, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(20 * MIB))
    kernel = samples / "multiboot1/multiboot1.elf"
    wanted, _ = request(BootSet(kernel, modules=[Module(tmp_path / "big")]))
    console = run(write(wanted, tmp_path), Machine(memory=16), until="to 0x01600000\n")
    assert "error: not enough memory below 4 GiB: boot/big: needs 0x00200000 to 0x01600000" in console


# ---- BIOSes that do things their own way ---------------------------------------------------------------------

LOW: list[Entry] = [(0, 0x9FC00, 1), (0x9FC00, 0xA0000, 2), (0xF0000, MIB, 2)]
TOP = 60 * MIB
MAPS: dict[str, list[Entry]] = {
    "plain": [*LOW, (MIB, TOP, 1)],
    "in pieces, in no order": [(2 * MIB + 100, TOP, 1), *LOW, (MIB + 4096, 2 * MIB + 100, 1), (MIB, MIB + 4096, 1)],
    "empty entries": [*LOW[:1], (5 * MIB, 5 * MIB, 2), *LOW[1:], (MIB, TOP, 1), (0, 0, 1)],
    "overlapping": [*LOW, (MIB, TOP, 1), (16 * MIB, TOP, 1), (32 * MIB, 33 * MIB, 3), (31 * MIB, 40 * MIB, 4)],
    "hole below 16 MiB": [*LOW, (MIB, 15 * MIB, 1), (16 * MIB, TOP, 1)],
    "unknown types": [*LOW, (MIB, TOP, 1), (50 * MIB, 51 * MIB, 12), (51 * MIB, 52 * MIB, 0x80000000)],
    "above 4 GiB": [
        *LOW,
        (MIB, TOP, 1),
        (1 << 32, 5 << 32, 1),
        (0xFD << 32, 0x100 << 32, 2),
        (3 << 30, 4 << 30, 2),
    ],
}


def as_map(entries: list[Entry]) -> E820Map:
    return E820Map(tuple(E820Entry(Range(start, end), kind) for start, end, kind, *_ in entries if end > start))


@pytest.mark.parametrize("name", MAPS)
def test_memory_maps(disk: Path, tool: Callable[[str], str], name: str) -> None:
    """Each map reaches the kernel as it is, empty entries apart; mem_upper is what Multiboot says of it."""
    make_odd(disk, Oddities(MAPS[name]), tool("nasm"))
    values = works(run(disk, Machine(memory=64)))
    memory = memory_of(values, "mb1")
    assert memory == as_map(MAPS[name])
    assert number(values, "mem_upper") == memory.mem_upper


def test_entries_that_are_to_be_ignored(disk: Path, tool: Callable[[str], str]) -> None:
    """ACPI 3: without bit 0 of the attributes an entry does not count. Its type would forbid the module's place."""
    ignored: Entry = (2 * MIB, 3 * MIB, 2, 0)
    make_odd(disk, Oddities([*LOW, ignored, (MIB, TOP, 1, 9)]), tool("nasm"))
    assert memory_of(works(run(disk, Machine(memory=64))), "mb1") == as_map([*LOW, (MIB, TOP, 1)])


def test_more_entries_than_are_handed_on(disk: Path, tool: Callable[[str], str]) -> None:
    entries: list[Entry] = [(0, 0x9FC00, 1)]
    entries += [(MIB + n * 0x50000, MIB + (n + 1) * 0x50000, 1) for n in range(169)]
    make_odd(disk, Oddities(entries), tool("nasm"))
    assert memory_of(works(run(disk, Machine(memory=64))), "mb1") == as_map(entries[:MAP_MAX])


@pytest.mark.parametrize(
    "odd",
    [
        Oddities(MAPS["plain"], answer=20, carry_ends=True),
        Oddities(MAPS["plain"], lower=512),
        Oddities(MAPS["plain"], failures=2),
        Oddities(MAPS["plain"], rude=True),
    ],
    ids=["short entries, end by carry", "large EBDA", "reads that fail twice", "registers changed"],
)
def test_oddities(disk: Path, tool: Callable[[str], str], odd: Oddities) -> None:
    make_odd(disk, odd, tool("nasm"))
    values = works(run(disk, Machine(memory=64)))
    assert number(values, "mem_lower") == (odd.lower or 639)
    assert memory_of(values, "mb1") == as_map(MAPS["plain"])


MODULE_PLACE = f"not enough memory below 4 GiB: boot/module.bin: needs 0x00200000 to 0x{2 * MIB + len(MODULE):08X}"
KERNEL_PLACE = "not enough memory below 4 GiB: boot/multiboot1.elf: needs 0x00100000 to "


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (Oddities(no_extensions=True), "this BIOS cannot read the disk by LBA\n"),
        (Oddities(sector=4096), "the disk's sectors are not 512 bytes\n"),
        (Oddities(failures=3), "cannot read the disk\n"),
        (Oddities([*LOW]), KERNEL_PLACE),
        (Oddities([*LOW, (MIB, 2 * MIB + len(MODULE) - 1, 1)]), MODULE_PLACE),
        (Oddities([*LOW, (MIB, TOP, 1), (2 * MIB + 5000, 2 * MIB + 5001, 2)]), MODULE_PLACE),
        (Oddities([*LOW, (MIB, 2 * MIB + 9, 1), (2 * MIB + 10, TOP, 1)]), MODULE_PLACE),
        (Oddities([*LOW, (MIB, TOP, 1), (0xC0000, 2 * MIB + 1, 5)]), KERNEL_PLACE),
        (Oddities([(0, 0x2FFFF, 1), (MIB, TOP, 1)]), "not enough memory below 4 GiB: boot information: needs"),
        (Oddities([(0, 0, 1)]), "this BIOS has no memory map (INT 15h, e820h)\n"),
    ],
    ids=[
        "no extensions",
        "sectors of 4096 bytes",
        "read error",
        "no memory",
        "one byte short",
        "one byte reserved",
        "a hole of one byte",
        "reserved from below",
        "little low memory",
        "no map",
    ],
)
def test_refusals(disk: Path, tool: Callable[[str], str], odd: Oddities, words: str) -> None:
    make_odd(disk, odd, tool("nasm"))
    assert run(disk, Machine(memory=64), until=words).count("error: ") == 1


@pytest.mark.parametrize(
    "devices",
    [("virtio-blk-pci,drive=boot{}",), ("virtio-scsi-pci", "scsi-hd,drive=boot{}")],
    ids=["virtio", "scsi"],
)
def test_sectors_of_4096_bytes(disk: Path, devices: tuple[str, ...]) -> None:
    """SeaBIOS refuses such a disk itself, and says so (on the serial port where there are no graphics)."""
    larger = ",logical_block_size=4096,physical_block_size=4096,bootindex=0"
    what = attached(disk, *(device.format(larger) for device in devices))
    machine = Machine(memory=64, machine="q35,graphics=off")
    assert "mbtool" not in run(disk, machine, until="Boot failed: could not read the boot disk", what=what)


def test_a_floppy_has_no_extensions(disk: Path) -> None:
    """The disk in a drive that this BIOS reads by cylinder, head and sector alone."""
    what = ["-drive", f"if=floppy,format=raw,snapshot=on,file={disk}"]
    run(disk, Machine(memory=64, machine="pc"), until="error: this BIOS cannot read the disk by LBA\n", what=what)


# ---- broken disks --------------------------------------------------------------------------------------------


def place(disk: Path, samples: Path, name: str) -> int:
    """Byte offset on the disk of a file on its ESP."""
    module = disk.with_name("module.bin")
    wanted, _ = request(BootSet(samples / "multiboot1/multiboot1.elf", modules=[Module(module)]))
    plan = plan_disk(wanted)
    return plan.esp_offset + plan.esp.extents[name][0]


def flip(disk: Path, offset: int) -> None:
    with disk.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes((byte ^ 0x10,)))


@pytest.mark.parametrize("at", [0, 100_000, len(MODULE) - 1])
def test_a_wrong_byte_in_a_file(disk: Path, samples: Path, at: int) -> None:
    flip(disk, place(disk, samples, "boot/module.bin") + at)
    run(disk, Machine(memory=64), until="error: wrong checksum, the disk is damaged: boot/module.bin\n")


@pytest.mark.parametrize(
    ("at", "words"),
    [(34 * SECTOR, "second stage damaged\n"), (34 * SECTOR + 0x1000 + 100, "the load list is damaged\n")],
    ids=["second stage", "load list"],
)
def test_a_wrong_byte_in_the_stub(disk: Path, at: int, words: str) -> None:
    flip(disk, at)
    run(disk, Machine(memory=64), until=f"error: {words}")


@pytest.mark.parametrize("once", [False, True])
def test_a_sector_that_cannot_be_read(disk: Path, samples: Path, once: bool) -> None:
    sector = (place(disk, samples, "boot/module.bin") + 200_000) // SECTOR
    error = {"event": "none", "sector": sector, "once": once}
    file = {"driver": "blkdebug", "image": {"driver": "file", "filename": str(disk)}, "inject-error": [error]}
    node = {"driver": "raw", "node-name": "boot", "file": file}
    what = ["-blockdev", json.dumps(node), "-device", "virtio-blk-pci,drive=boot,bootindex=0"]
    if once:
        works(run(disk, Machine(memory=64), what=what))
    else:
        run(disk, Machine(memory=64), until="error: cannot read the disk: boot/module.bin\n", what=what)
