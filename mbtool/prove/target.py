"""What can be proven: a directory from build-dom0 with its plan, a disk image, an ISO."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mbtool.errors import InputError
from mbtool.prove.stages import Stage
from mbtool.prove.verdict import Expectation

MAX_LAYOUT = 1 << 20
DRIVERS = ((b"QFI\xfb", "qcow2"), (b"KDMV", "vmdk"), (b"conectix", "vpc"))
"""How the images of ``mbtool.build.disk_format`` begin, and QEMU's names for them."""


@dataclass(frozen=True, slots=True)
class Target:
    """An image to boot and what the boot must show; ``cdrom`` for an ISO, ``driver`` what QEMU calls its format."""

    image: Path
    expected: Expectation
    cdrom: bool = False
    driver: str = "raw"


def target(path: Path, patterns: tuple[str, ...]) -> Target:
    """What ``path`` asks to be proven. Raises InputError when there is nothing bootable."""
    if path.is_dir():
        image = path / "disk.img"
        if not image.is_file():
            raise InputError(
                "has no disk image", source=str(path), expected="disk.img", remedy="run build-dom0 with --xen"
            )
        lines = _layout_lines(path / "layout.txt")
        return Target(image, Expectation(Stage.DOM0_BUILT, patterns, lines))
    if not path.is_file():
        raise InputError("no such file or directory", source=str(path))
    cdrom, driver = _format(path)
    return Target(path, Expectation(patterns=patterns), cdrom, driver)


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
