"""What can be proven: a directory from build-dom0 with its plan, a disk image, an ISO."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mbtool.errors import InputError
from mbtool.plan.e820 import FOUR_GIB, RAM
from mbtool.plan.memory import PAGE_SHIFT, up
from mbtool.plan.pvh_map import UNUSABLE
from mbtool.prove.stages import Stage
from mbtool.prove.verdict import Expectation

MAX_LAYOUT = 1 << 20
DRIVERS = ((b"QFI\xfb", "qcow2"), (b"KDMV", "vmdk"), (b"conectix", "vpc"))
"""How the images of ``mbtool.build.disk_format`` begin, and QEMU's names for them."""
DEFAULT_MEMORY = 1024
"""MiB of a machine when nobody says otherwise."""
XEN_MEMORY = 512
"""MiB beside dom0's: plenty for Xen, its tables and what firmware keeps."""
MIB_SHIFT = 20
MBR_CODE = 440
"""Bytes of an MBR that are code."""
PVH_CPU, PVH_DEVICES = "qemu64,+svm,+npt", ("-device", "amd-iommu")
"""Xen builds a PVH dom0 only with hardware virtualisation and an IOMMU."""
PVH_TABLE = "PHYSICAL ADDRESSES OF DOM0:"
SETTLE = 3.0
"""Seconds that userspace is watched: an init that cannot run fails at once."""


@dataclass(frozen=True, slots=True)
class Target:
    """An image to boot and what the boot must show.

    ``cdrom`` for an ISO, ``driver``: what QEMU calls its format. The machine that it takes: ``memory`` in MiB,
    ``cpu`` by QEMU's name, ``devices`` as arguments of QEMU.
    """

    image: Path
    expected: Expectation
    cdrom: bool = False
    driver: str = "raw"
    boot_code: bool = True
    """Whether there may be something for a BIOS to start."""
    memory: int = DEFAULT_MEMORY
    cpu: str = "qemu64"
    devices: tuple[str, ...] = ()


def target(path: Path, patterns: tuple[str, ...]) -> Target:
    """What ``path`` asks to be proven. Raises InputError when there is nothing bootable.

    A directory from build-dom0: that Xen builds dom0 as laid out. An image alone: the patterns, and without any
    that it reaches userspace or powers off by itself.
    """
    _check_patterns(patterns)
    if path.is_dir():
        image = path / "disk.img"
        if not image.is_file():
            raise InputError(
                "has no disk image", source=str(path), expected="disk.img", remedy="run build-dom0 with --xen"
            )
        memory, pvh = _layout(path / "layout.json")
        expected = Expectation(Stage.DOM0_BUILT, patterns, _layout_lines(path / "layout.txt"))
        made = Target(image, expected, boot_code=_boot_code(image), memory=memory)
        return replace(made, cpu=PVH_CPU, devices=PVH_DEVICES) if pvh else made
    if not path.is_file():
        raise InputError("no such file or directory", source=str(path))
    expected = Expectation(patterns=patterns) if patterns else Expectation(Stage.USERSPACE, settle=SETTLE)
    cdrom, driver = _format(path)
    return Target(path, expected, cdrom, driver, boot_code=cdrom or driver != "raw" or _boot_code(path))


def _check_patterns(patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise InputError(f"--expect: not a regular expression: {error}", found=pattern) from error


def _layout_lines(path: Path) -> tuple[str, ...]:
    """Xen's lines of a layout; of a PVH dom0's without the table behind them, and without the heading, which Xen
    prints only when told to print much (``loglvl=info``).
    """
    from mbtool.source import read_file

    lines = read_file(path, MAX_LAYOUT).decode("utf-8", "replace").splitlines()
    return tuple(lines[1 : lines.index(PVH_TABLE)] if PVH_TABLE in lines else lines)


def _format(path: Path) -> tuple[bool, str]:
    """Whether this is an ISO, and QEMU's name for the format. QEMU never guesses: a raw disk could mislead it."""
    from mbtool.source import open_file

    with open_file(path) as source:
        magic = source.read(0, 8)
        driver = next((name for start, name in DRIVERS if magic.startswith(start)), "raw")
        cdrom = source.read(0x8001, 5) == b"CD001"
        kernel = source.read(0x202, 4) == b"HdrS"
        if kernel or (driver == "raw" and not cdrom and source.read(510, 2) != b"\x55\xaa"):
            raise InputError("is no disk image or ISO", source=str(path), remedy="make one of it with build-disk")
        return cdrom, driver


def _boot_code(disk: Path) -> bool:
    """Whether the MBR of a raw disk has code in it. Without, a BIOS goes astray and says nothing."""
    from mbtool.source import open_file

    with open_file(disk) as source:
        return any(source.read(0, MBR_CODE))


def _layout(path: Path) -> tuple[int, bool]:
    """MiB that a machine needs to give dom0 all its pages (at least DEFAULT_MEMORY); whether dom0 is PVH.

    A PVH dom0's memory map is cut from the machine's: it gets as much as the one that was planned for.
    """
    from mbtool.source import read_file

    try:
        layout = json.loads(read_file(path, MAX_LAYOUT))
        dom0 = int(layout["nr_pages"]) >> MIB_SHIFT - PAGE_SHIFT
        pvh = layout["mode"] == "pvh"
        planned = _planned_memory(layout["memory_map"]) if pvh else dom0 + XEN_MEMORY
    except (ValueError, TypeError, KeyError) as error:
        raise InputError("is no layout that build-dom0 wrote", source=str(path)) from error
    return max(DEFAULT_MEMORY, planned), pvh


def _planned_memory(entries: Iterable[Mapping[str, Any]]) -> int:
    """MiB of the machine that a dom0's map was cut from: up to the last RAM, or what dom0 has no use for."""
    ends = [int(entry["end"], 16) for entry in entries if entry["type"] in (RAM, UNUSABLE)]
    low = max((end for end in ends if end < FOUR_GIB), default=0)
    high = max(*ends, FOUR_GIB) if ends else FOUR_GIB
    return (up(low, 1 << MIB_SHIFT) + high - FOUR_GIB) >> MIB_SHIFT
