"""What can be proven: a directory from build-dom0 with its plan, a disk image, an ISO."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from mbtool.errors import InputError
from mbtool.plan.memory import PAGE_SHIFT
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
SETTLE = 3.0
"""Seconds that userspace is watched: an init that cannot run fails at once."""


@dataclass(frozen=True, slots=True)
class Target:
    """An image to boot and what the boot must show.

    ``cdrom`` for an ISO, ``driver``: what QEMU calls its format, ``memory``: MiB that it takes.
    """

    image: Path
    expected: Expectation
    cdrom: bool = False
    driver: str = "raw"
    memory: int = DEFAULT_MEMORY


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
        expected = Expectation(Stage.DOM0_BUILT, patterns, _layout_lines(path / "layout.txt"))
        return Target(image, expected, memory=_memory(path / "layout.json"))
    if not path.is_file():
        raise InputError("no such file or directory", source=str(path))
    expected = Expectation(patterns=patterns) if patterns else Expectation(Stage.USERSPACE, settle=SETTLE)
    cdrom, driver = _format(path)
    return Target(path, expected, cdrom, driver)


def _check_patterns(patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise InputError(f"--expect: not a regular expression: {error}", found=pattern) from error


def _layout_lines(path: Path) -> tuple[str, ...]:
    from mbtool.source import read_file

    return tuple(read_file(path, MAX_LAYOUT).decode("utf-8", "replace").splitlines())


def _format(path: Path) -> tuple[bool, str]:
    """Whether this is an ISO, and QEMU's name for the format. QEMU never guesses: a raw disk could mislead it."""
    from mbtool.source import open_file

    with open_file(path) as source:
        magic = source.read(0, 8)
        driver = next((name for start, name in DRIVERS if magic.startswith(start)), "raw")
        return source.read(0x8001, 5) == b"CD001", driver


def _memory(path: Path) -> int:
    """MiB that a machine needs for Xen to give dom0 all its pages: never less than DEFAULT_MEMORY."""
    from mbtool.source import read_file

    try:
        pages = json.loads(read_file(path, MAX_LAYOUT))["nr_pages"]
        dom0 = int(pages) >> MIB_SHIFT - PAGE_SHIFT
    except (ValueError, TypeError, KeyError) as error:
        raise InputError("is no layout that build-dom0 wrote", source=str(path)) from error
    return max(DEFAULT_MEMORY, dom0 + XEN_MEMORY)
