"""The files of an ext2, ext3 or ext4 volume, found by name; nothing is written, no journal is replayed.

Source: Linux, Documentation/filesystems/ext4: group_descr.rst, inodes.rst, ifork.rst, directory.rst,
inlinedata.rst.
"""

from __future__ import annotations

import stat
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from struct import Struct, unpack_from

from mbtool.errors import FormatError, UnsupportedError
from mbtool.formats import ext
from mbtool.source import MIB, BytesSource, Source

ROOT = 2
"""Number of the root directory's inode."""
EXTENTS_FLAG, INLINE_FLAG, ENCRYPTED_FLAG = 0x80000, 0x10000000, 0x800
EXTENT_MAGIC = 0xF30A
MAX_DEPTH, MAX_PIECES = 5, 1 << 18
"""Levels of an extent tree, as in Linux; pieces of one file, which a damaged tree could have without end."""
UNWRITTEN = 1 << 15
"""Extents that are longer by this are reserved, and read as zeros."""
MAX_DIRECTORY = 64 * MIB
MAX_LINKS = 40
"""Symbolic links on the way to one file, as Linux follows them."""
POINTERS = 12
"""Direct block numbers in an inode without extents; three levels of indirect ones follow."""
Piece = tuple[int, int, int]
"""First block in the file, number of blocks, first block on the volume (0: zeros)."""
_HEADER, _INDEX, _EXTENT = Struct("<HHHHI"), Struct("<IIHH"), Struct("<IHHI")


@dataclass(frozen=True)
class Inode:
    """``number``; ``area``: the 60 bytes with block numbers, extents, or the target of a short link."""

    number: int
    mode: int
    size: int
    flags: int
    area: bytes

    @property
    def directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def link(self) -> bool:
        return stat.S_ISLNK(self.mode)


class ExtVolume:
    """Raises UnsupportedError for a volume with features that are not followed, FormatError for a damaged one."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.block = ext.superblock(source)
        unknown = self.block.s_feature_incompat & ~ext.READABLE
        if unknown:
            raise UnsupportedError(f"ext4 features {unknown:#x} are not followed", source=source.name)
        self._folders: dict[int, dict[bytes, int]] = {}

    def find(self, path: list[str]) -> tuple[list[str], Inode] | None:
        """What a path from the root leads to, its names without links, and its inode; None when nowhere."""
        here: list[tuple[str, int]] = []
        ahead, links = deque(path), 0
        while ahead:
            part = ahead.popleft()
            if part == "..":
                del here[-1:]
                continue
            folder = self.inode(here[-1][1] if here else ROOT)
            number = self.names(folder).get(part.encode("utf-8", "surrogateescape")) if folder.directory else None
            if number is None:
                return None
            inode = self.inode(number)
            if not inode.link:
                here.append((part, number))
                continue
            links += 1
            if links > MAX_LINKS:
                return None
            target = self._target(inode)
            ahead.extendleft(reversed([name for name in target.split("/") if name not in ("", ".")]))
            if target.startswith("/"):
                here.clear()
        return [name for name, _ in here], self.inode(here[-1][1] if here else ROOT)

    def inode(self, number: int) -> Inode:
        """An inode by its number, which counts from 1."""
        group, index = divmod(number - 1, self.block.s_inodes_per_group)
        if not 0 < number <= self.block.s_inodes_count:
            raise FormatError(f"there is no inode {number}", source=self.source.name)
        at = self._tables[group] * self.block.block_size + index * self.block.inode_size
        raw = self.source.exact(at, 128, f"inode {number}")
        mode, low, flags, high = (
            *unpack_from("<H2xI", raw),
            *unpack_from("<I", raw, 0x20),
            *unpack_from("<I", raw, 0x6C),
        )
        return Inode(number, mode, low | (0 if stat.S_ISLNK(mode) else high << 32), flags, raw[0x28:0x64])

    def names(self, folder: Inode) -> dict[bytes, int]:
        """The names in a directory, and the numbers of their inodes."""
        if folder.number not in self._folders:
            if folder.size > MAX_DIRECTORY:
                raise UnsupportedError("a directory is larger than is read", source=self.source.name)
            data = self.open(folder).read(0, folder.size)
            self._folders[folder.number] = dict(_entries(data[4:] if folder.flags & INLINE_FLAG else data))
        return self._folders[folder.number]

    def open(self, inode: Inode, name: str = "") -> Source:
        """A file's content; ``name``: what messages call it. Holes read as zeros."""
        if inode.flags & ENCRYPTED_FLAG:
            raise UnsupportedError("an encrypted file", source=name or self.source.name)
        if inode.flags & INLINE_FLAG:
            if inode.size > len(inode.area):
                raise UnsupportedError(
                    "a file that lies in its inode's attributes", source=name or self.source.name
                )
            return BytesSource(inode.area[: inode.size], name)
        pieces = self._extents(inode.area, 0) if inode.flags & EXTENTS_FLAG else self._pointers(inode)
        return _File(self.source, self.block.block_size, inode.size, self._merged(pieces), name or self.source.name)

    def _merged(self, pieces: Iterable[Piece]) -> list[Piece]:
        """The pieces, with those that follow each other on the volume made one."""
        found: list[Piece] = []
        for first, count, place in pieces:
            before = found[-1] if found else (0, 0, 0)
            if before[0] + before[1] == first and before[2] and before[2] + before[1] == place:
                found[-1] = before[0], before[1] + count, before[2]
            else:
                found.append((first, count, place))
            if len(found) > MAX_PIECES:
                raise UnsupportedError("a file in more pieces than are read", source=self.source.name)
        return found

    def _target(self, inode: Inode) -> str:
        short = inode.size < len(inode.area) and not inode.flags & EXTENTS_FLAG
        raw = inode.area[: inode.size] if short else self.open(inode).read(0, 4096)
        return raw.decode("utf-8", "surrogateescape")

    @cached_property
    def _tables(self) -> list[int]:
        """First block of every group's inode table."""
        block = self.block
        groups = -(-block.s_inodes_count // block.s_inodes_per_group)
        size = max(32, block.s_desc_size) if block.wide else 32
        if groups * size > MAX_DIRECTORY:
            raise UnsupportedError("more groups than are read", source=self.source.name)
        at = (block.s_first_data_block + 1) * block.block_size
        raw = self.source.exact(at, groups * size, "group descriptors")
        tables = []
        for start in range(0, len(raw), size):
            (low,) = unpack_from("<I", raw, start + 8)
            high = unpack_from("<I", raw, start + 0x28)[0] if size >= 64 else 0
            tables.append(low | high << 32)
        return tables

    def _extents(self, area: bytes, depth: int) -> Iterator[Piece]:
        """The pieces in a node of an extent tree."""
        magic, count, _, levels, _ = _HEADER.unpack_from(area)
        if magic != EXTENT_MAGIC or depth > MAX_DEPTH or _HEADER.size * (count + 1) > len(area):
            raise FormatError("an extent tree is damaged", source=self.source.name)
        for at in range(_HEADER.size, _HEADER.size * (count + 1), _HEADER.size):
            if levels:
                _, low, high, _ = _INDEX.unpack_from(area, at)
                yield from self._extents(self._block(low | high << 32), depth + 1)
            else:
                first, size, high, low = _EXTENT.unpack_from(area, at)
                written = size <= UNWRITTEN
                yield first, size if written else size - UNWRITTEN, (low | high << 32) if written else 0

    def _pointers(self, inode: Inode) -> Iterator[Piece]:
        """The pieces that block numbers name, directly and by up to three blocks of such numbers."""
        numbers = unpack_from("<15I", inode.area)
        per = self.block.block_size // 4
        first, last = 0, -(-inode.size // self.block.block_size)
        for level, number in ((0, number) for number in numbers[:POINTERS]):
            if first < last:
                yield from self._pointed(number, level, first)
            first += 1
        for level, number in enumerate(numbers[POINTERS:], 1):
            if first < last and number:
                yield from self._pointed(number, level, first)
            first += per**level

    def _pointed(self, number: int, level: int, first: int) -> Iterator[Piece]:
        if not number:
            return
        if not level:
            yield first, 1, number
            return
        per = self.block.block_size // 4
        for index, inner in enumerate(unpack_from(f"<{per}I", self._block(number))):
            yield from self._pointed(inner, level - 1, first + index * per ** (level - 1))

    def _block(self, number: int) -> bytes:
        size = self.block.block_size
        return self.source.exact(number * size, size, f"block {number}")


def _entries(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Names and inode numbers of a directory; where a record makes no sense, the rest of its data is left out."""
    at = 0
    while at + 8 <= len(data):
        number, size, length = unpack_from("<IHB", data, at)
        if size < 8:
            return
        if number and length:
            yield data[at + 8 : at + 8 + length], number
        at += size


class _File(Source):
    """A file in pieces of whole blocks, with zeros between them."""

    def __init__(self, volume: Source, block: int, size: int, pieces: list[Piece], name: str) -> None:
        self.name = name
        self.streamed = volume.streamed
        self._volume = volume
        self._block = block
        self._size = size
        self._pieces = sorted(pieces)
        self._starts = [first for first, _, _ in self._pieces]

    def read(self, offset: int, size: int) -> bytes:
        size = min(size, self._size - offset)
        if offset < 0 or size <= 0:
            return b""
        data = bytearray(size)
        number = max(0, bisect_right(self._starts, offset // self._block) - 1)
        for first, count, place in self._pieces[number:]:
            start, end = first * self._block, (first + count) * self._block
            if start >= offset + size:
                break
            low, high = max(start, offset), min(end, offset + size)
            if low < high and place:
                piece = self._volume.read(place * self._block + low - start, high - low)
                data[low - offset : low - offset + len(piece)] = piece
        return bytes(data)

    @property
    def size(self) -> int:
        return self._size
