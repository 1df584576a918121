"""Room for the next update: where kernels are installed, one more kernel and initrd has to fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from mbtool.check.boot_entries import System
from mbtool.check.boot_entry import BootEntry
from mbtool.check.rule import Evidence
from mbtool.check.trees import TreeFile
from mbtool.errors import MbtoolError
from mbtool.source import MIB

INITRDS = ("initrd.img-*", "initramfs-*", "initrd-*")


def space_left(system: System, entries: Iterable[BootEntry]) -> Iterator[Evidence]:
    """That the file system of the boot directory has less room than the largest kernel and initrd in it take.

    Nothing where no kernel has a release in its name: such files are not installed by updates.
    """
    free = system.tree.free(system.boot)
    kernels = system.kernels()
    if free is None or not kernels:
        return
    named = [file for entry in entries for name in entry.initrds if (file := system.file(entry, name)) is not None]
    names = (name for name in system.tree.names(system.boot) if any(fnmatchcase(name, each) for each in INITRDS))
    beside = [file for name in names if (file := system.tree.find(f"{system.boot}/{name}")) is not None]
    needed = _largest(kernels) + _largest([*named, *beside])
    if free < needed:
        yield Evidence(
            "there is no room for one more kernel and initrd",
            system.name,
            expected=f"at least {_mib(needed)} free, as the largest kernel and initrd take",
            found=f"{_mib(free)} free",
        )


def _largest(files: Iterable[TreeFile]) -> int:
    return max(map(_size, files), default=0)


def _size(file: TreeFile) -> int:
    try:
        with file.open() as source:
            return source.size
    except MbtoolError:
        return 0


def _mib(size: int) -> str:
    return f"{size / MIB:.1f} MiB"
