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
from mbtool.model import Node
from mbtool.record import record
from mbtool.source import MIB, Source, open_file

MAX_LINKS = 40
"""Symbolic links on the way to one file, as Linux follows them."""
UNREAD = ("XFS", "btrfs", "LUKS", "LVM physical volume")
"""What may have boot entries in it, and is not looked into."""
NO_BOOT = ("Linux swap", "squashfs", "NTFS", "empty")
"""What holds no boot entries."""
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
    """``name``: what people call it. ``uuid``, ``label``: the volume's, as GRUB and blkid write them, or ""."""

    name: str
    uuid: str
    label: str

    def find(self, path: str, *, any_case: bool = False) -> TreeFile | None:
        """The file with this path; ``any_case``: as on FAT, case counts not."""

    def names(self, folder: str) -> list[str]:
        """What lies directly in a folder, sorted; nothing when there is no such folder."""

    def free(self, folder: str) -> int | None:
        """Bytes that may still be written in a folder; None when that is not known."""


def parts(path: str) -> list[str]:
    """The names that a path is made of."""
    return [part for part in path.split("/") if part not in ("", ".")]


@record
class Volume:
    """A volume of a disk. ``number``: its partition's, 0 for all of the disk; ``scheme``: ``gpt`` or ``msdos``."""

    tree: Tree
    number: int = 0
    scheme: str = ""


class FolderTree:
    """What is below a directory; symbolic links stay inside, as for a system whose root this is."""

    def __init__(self, root: Path, called: Mapping[Path, Path] | None = None) -> None:
        """``called``: directories in it, absolute, and what people call them."""
        self.root = root
        self.name = str(root)
        self.uuid = self.label = ""
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
        self.uuid = self.label = ""
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
        files = Files(source, self._table)
        super().__init__(source, ((file.path, file.directory, file.runs) for file in files))
        self.uuid, self.label = fat.serial(source, self._table.volume), files.label

    def free(self, folder: str) -> int | None:
        volume = self._table.volume
        return self._table.free() * volume.cluster_size if volume.fat_size <= MAX_TABLE else None


class IsoTree(VolumeTree):
    """An ISO 9660 volume, names as Rock Ridge has them."""

    def __init__(self, source: Source, descriptor: Node) -> None:
        """``descriptor``: the primary one."""
        root = descriptor["root_directory_record"]
        assert isinstance(root, bytes)
        super().__init__(source, ((file.path, False, file.runs) for file in IsoFiles(source, root)))
        self.uuid, self.label = iso.known_by(descriptor)


class ExtTree:
    """An ext2, ext3 or ext4 volume: what is asked for is looked up, for a root holds more than a boot needs."""

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self._volume = ExtVolume(source)
        self.uuid, self.label = ext.known_by(self._volume.block)

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


def volumes(disk: Source) -> Iterator[Volume]:
    """The volumes of an image that can be read: ISO, the FAT and ext4 ones of its partitions, or what it is."""
    if not iso.reject(disk) and (descriptor := iso.primary(disk)) is not None:
        yield Volume(IsoTree(disk, descriptor))
    if (tree := _tree(disk)) is not None:
        yield Volume(tree)
    elif (scheme := "gpt" if gpt.sector_size(disk) else "msdos") == "gpt" or not mbr.reject(disk):
        for partition in read(disk).partitions:
            part = disk.part(partition.offset, partition.size, f"{disk.name}:{partition.number}")
            if (tree := _tree(part)) is not None:
                yield Volume(tree, partition.number, scheme)


def unread(disk: Source) -> Iterator[tuple[Partition, str]]:
    """The partitions with a file system, or something around one, that cannot be read here, and its name."""
    if _tree(disk) is None and (gpt.sector_size(disk) or not mbr.reject(disk)):
        for partition in read(disk).partitions:
            name = named(disk.part(partition.offset, partition.size))
            if name in UNREAD:
                yield partition, name


def all_read(disk: Source) -> bool:
    """Whether no partition may have boot entries that cannot be read here."""
    if not gpt.sector_size(disk) and mbr.reject(disk):
        return True
    parts = ((each, disk.part(each.offset, each.size)) for each in read(disk).partitions)
    return all(
        each.bios_boot or not fat.reject(part) or not ext.reject(part) or named(part) in NO_BOOT
        for each, part in parts
    )


def _tree(source: Source) -> Tree | None:
    if not fat.reject(source):
        return FatTree(source)
    return None if ext.reject(source) else ExtTree(source)
