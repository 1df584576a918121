"""Write disks, boot them, and read what the samples on them report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mbtool.disk.image import DiskRequest, plan_disk, write_disk
from mbtool.plan.e820 import E820Entry, E820Map
from mbtool.plan.memory import Range
from mbtool.prove.qemu import End, Machine, boot, drive_arguments
from tests.samples.report import number, ranges

MAPS = {
    "mb1": ("mmap", "base_addr", "length"),
    "mb2": ("mmap", "base_addr", "length"),
    "pvh": ("memmap", "addr", "size"),
}
"""How each sample names the memory map that it got."""


def write(disk: DiskRequest, folder: Path) -> Path:
    """The disk as a file in the folder."""
    path = folder / "disk.img"
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        write_disk(plan_disk(disk), fd)
    finally:
        os.close(fd)
    return path


def run(
    path: Path,
    machine: Machine,
    until: str | None = None,
    seconds: float = 120,
    what: Sequence[str] | None = None,
) -> str:
    """The console of a machine that boots the disk until it powers off, or ``until`` is on the console.

    ``what``: QEMU's arguments for the disk, where ``machine.bus`` does not say it.
    """
    seen = (lambda text: until in text.replace("\r", "")) if until else (lambda text: False)
    result = boot(machine, [*(what or drive_arguments(path, machine.bus))], timeout=seconds, seen=seen)
    console = result.console.replace("\r", "")
    assert result.end is (End.STOPPED if until else End.POWER_OFF), f"{result.end}: {console[-3000:]}"
    return console


def memory_of(values: dict[str, str], tag: str) -> E820Map:
    """The memory map that a sample reports."""
    return E820Map(tuple(E820Entry(Range(first, end), kind) for first, end, kind in ranges(values, *MAPS[tag])))


def modules_of(values: dict[str, str], tag: str) -> list[tuple[int, int, str, int]]:
    """Start, end, text and CRC-32 of each module that a sample reports."""
    if tag == "mb1":
        count = number(values, "mods_count")
        names = [
            (f"mods[{n}].mod_start", f"mods[{n}].mod_end", f"mods[{n}].string.text", f"mods[{n}]")
            for n in range(count)
        ]
    elif tag == "mb2":
        tags = [f"tags[{n}]" for n in range(64) if values.get(f"tags[{n}].type") == "0x00000003"]
        names = [(f"{t}.mod_start", f"{t}.mod_end", f"{t}.string", t) for t in tags]
    else:
        return [
            (
                start := number(values, f"modlist[{n}].paddr"),
                start + number(values, f"modlist[{n}].size"),
                values.get(f"modlist[{n}].cmdline.string", ""),
                number(values, f"modlist[{n}].crc32"),
            )
            for n in range(number(values, "nr_modules"))
        ]
    return [
        (number(values, start), number(values, end), values[text], number(values, f"{name}.crc32"))
        for start, end, text, name in names
    ]
