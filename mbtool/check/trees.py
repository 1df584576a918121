"""Files by name, wherever they are: below a directory, or in a FAT volume of a disk image.

Paths are written with ``/`` and begin at the tree's root, whether or not they begin with ``/``.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Protocol

from mbtool.errors import InputError, MbtoolError
from mbtool.formats import ext, fat, gpt, iso, mbr, qcow2, vhd, vmdk
from mbtool.formats.disk import named
from mbtool.formats.ext_files import ExtVolume
from mbtool.formats.fat_files import Files, Table
from mbtool.formats.iso_files import IsoFiles
from mbtool.formats.partition import Partition
from mbtool.formats.partition_tables import read
from mbtool.formats.runs import Run, joined
from mbtool.record import record
from mbtool.source import MIB, Source, open_file

MAX_LINKS = 40
"""Symbolic links on the way to one file, as Linux follows them."""
UNREAD = ("XFS", "btrfs", "LUKS", "LVM physical volume")
"""What may have boot entries in it, and is not looked into."""
MAX_TABLE = 64 * MIB
"""Bytes of a file allocation table that is counted through."""


@record
class TreeFile:
    """A file that is there. ``name``: what people call it; ``key``: the same for the same file, by any name."""

    name: str
    key: str
    open: Callable[[], AbstractContextManager[Source]]

    def text(self, limit: int) -> bytes:
        """All of a small file. Raises InputError when it cannot be read or has more than ``limit`` bytes."""
        try:
            with self.open() as source:
                data = source.read(0, limit + 1)
        except MbtoolError as error:
            raise InputError(error.problem, source=self.name) from error
        if len(data) > limit:
            raise InputError("file is too large", source=self.name, expected=f"at most {limit} bytes")
        return data


class Tree(Protocol):
    """``name``: what people call it."""

    name: str

    def find(self, path: str, *, any_case: bool = False) -> TreeFile | None:
        """The file with this path; ``any_case``: as on FAT, case counts not."""

    def names(self, folder: str) -> list[str]:
        """What lies directly in a folder, sorted; nothing when there is no such folder."""

    def free(self, folder: str) -> int | None:
        """Bytes that may still be written in a folder; None when that is not known."""


def parts(path: str) -> list[str]:
    """The names that a path is made of."""
    return [part for part in path.split("/") if part not in ("", ".")]


class FolderTree:
    """What is below a directory; symbolic links stay inside, as for a system whose root this is."""

    def __init__(self, root: Path, called: Mapping[Path, Path] | None = None) -> None:
        """``called``: directories in it, absolute, and what people call them."""
        self.root = root
        self.name = str(root)
        self._called = called or {}

    def find(self, path: str, *, any_case: bool = False) -> TreeFile | None:
        real = self._real(path, any_case)
        if real is None or not real.is_file():
            return None
        said = self.root.joinpath(*parts(path))
        path_there = said if os.path.lexists(said) else real
        return TreeFile(self._as_called(path_there), os.path.realpath(real), partial(open_file, real))

    def _as_called(self, path: Path) -> str:
        """A file's name, as people would write it."""
        inside = ((whole, short) for whole, short in self._called.items() if path.is_relative_to(whole))
        return next((str(short / path.relative_to(whole)) for whole, short in inside), str(path))

    def names(self, folder: str) -> list[str]:
        real = self._real(folder, any_case=False)
        return _listed(real) if real is not None else []

    def free(self, folder: str) -> int | None:
        real = self._real(folder, any_case=False)
        try:
            status = os.statvfs(real) if real is not None else None
        except OSError:
            return None
        return status.f_bavail * status.f_frsize if status else None

    def _real(self, path: str, any_case: bool) -> Path | None:
        """Where a path leads; None when it leads nowhere."""
        here, ahead, links = self.root, deque(parts(path)), 0
        while ahead:
            part = ahead.popleft()
            if part == "..":
                here = here if here == self.root else here.parent
                continue
            there = here / part
            if not os.path.lexists(there):
                same = [name for name in _listed(here) if name.lower() == part.lower()] if any_case else []
                if not same:
                    return None
                there = here / same[0]
            if there.is_symlink():
                links += 1
                if links > MAX_LINKS:
                    return None
                target = str(there.readlink())
                ahead.extendleft(reversed(parts(target)))
                here = self.root if target.startswith("/") else here
            else:
                here = there
        return here


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []


class VolumeTree:
    """The files of a volume in an image, of which nothing is copied; case counts not."""

    def __init__(self, source: Source, found: Iterable[tuple[str, bool, Sequence[Run]]]) -> None:
        """``found``: path, whether it is a directory, and runs, of everything in the volume."""
        self.name = source.name
        self._source = source
        self._files: dict[str, tuple[str, Sequence[Run]]] = {}
        self._names: dict[str, dict[str, None]] = {}
        for path, directory, runs in found:
            folder, name = "", ""
            for name in parts(path):
                self._names.setdefault(folder, {})[name] = None
                folder = f"{folder}/{name.lower()}"
            if not directory:
                self._files.setdefault(folder, (path, runs))

    def find(self, path: str, *, any_case: bool = False) -> TreeFile | None:
        found = self._files.get("".join(f"/{part}" for part in parts(path)).lower())
        if found is None:
            return None
        name = f"{self.name}:{found[0]}"
        return TreeFile(name, name, lambda: nullcontext(joined(self._source, found[1], name)))

    def names(self, folder: str) -> list[str]:
        return sorted(self._names.get("".join(f"/{part}" for part in parts(folder)).lower(), ()))

    def free(self, folder: str) -> int | None:
        return None


class FatTree(VolumeTree):
    """A FAT volume."""

    def __init__(self, source: Source) -> None:
        self._table = Table(source, fat.open_volume(source))
        super().__init__(source, ((file.path, file.directory, file.runs) for file in Files(source, self._table)))

    def free(self, folder: str) -> int | None:
        volume = self._table.volume
        return self._table.free() * volume.cluster_size if volume.fat_size <= MAX_TABLE else None


class IsoTree(VolumeTree):
    """An ISO 9660 volume, names as Rock Ridge has them."""

    def __init__(self, source: Source, root: bytes) -> None:
        super().__init__(source, ((file.path, False, file.runs) for file in IsoFiles(source, root)))


class ExtTree:
    """An ext2, ext3 or ext4 volume: what is asked for is looked up, for a root holds more than a boot needs."""

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self._volume = ExtVolume(source)

    def find(self, path: str, *, any_case: bool = False) -> TreeFile | None:
        found = self._volume.find(parts(path))
        if found is None or not stat.S_ISREG(found[1].mode):
            return None
        names, inode = found
        name = f"{self.name}:/{'/'.join(parts(path))}"
        return TreeFile(
            name, f"{self.name}:/{'/'.join(names)}", lambda: nullcontext(self._volume.open(inode, name))
        )

    def names(self, folder: str) -> list[str]:
        found = self._volume.find(parts(folder))
        if found is None or not found[1].directory:
            return []
        names = (name.decode("utf-8", "surrogateescape") for name in self._volume.names(found[1]))
        return sorted(name for name in names if name not in (".", ".."))

    def free(self, folder: str) -> int | None:
        return self._volume.block.free


def contents(image: Source) -> Source:
    """The disk that a hypervisor's image keeps; else, or when that cannot be read here, the image itself."""
    for kind in (qcow2, vmdk, vhd):
        if not kind.reject(image):
            disk = kind.open_disk(image)
            return image if isinstance(disk, str) else disk
    return image


def volumes(disk: Source) -> Iterator[Tree]:
    """The volumes of an image that can be read: ISO, the FAT and ext4 ones of its partitions, or what it is."""
    if not iso.reject(disk) and (root := iso.root_directory(disk)) is not None:
        yield IsoTree(disk, root)
    if (volume := _volume(disk)) is not None:
        yield volume
    elif gpt.sector_size(disk) or not mbr.reject(disk):
        for partition in read(disk).partitions:
            part = disk.part(partition.offset, partition.size, f"{disk.name}:{partition.number}")
            if (volume := _volume(part)) is not None:
                yield volume


def unread(disk: Source) -> Iterator[tuple[Partition, str]]:
    """The partitions with a file system, or something around one, that cannot be read here, and its name."""
    if _volume(disk) is None and (gpt.sector_size(disk) or not mbr.reject(disk)):
        for partition in read(disk).partitions:
            name = named(disk.part(partition.offset, partition.size))
            if name in UNREAD:
                yield partition, name


def _volume(source: Source) -> Tree | None:
    if not fat.reject(source):
        return FatTree(source)
    return None if ext.reject(source) else ExtTree(source)
