"""Files of a FAT volume: directories and cluster chains, read only as far as the files reach.

A volume is walked at a cost bounded by its own tables: no cluster is followed twice in a volume that is sound, so
a walk that follows more clusters than there are has met files that share them, and ends there.
"""

from __future__ import annotations

import sys
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from mbtool.formats.fat import (
    DIR_ENTRY,
    DIRECTORY,
    ENTRY_SIZE,
    LAST_LONG_ENTRY,
    LONG_NAME,
    VOLUME_ID,
    DirEntry,
    Volume,
    short_checksum,
)
from mbtool.formats.runs import Run
from mbtool.source import Source

MAX_FILES = 65536
MAX_DEPTH = 16
MAX_DIRECTORY = 65536 * ENTRY_SIZE
"""Bytes of one directory, by the specification."""
PAGE = 1 << 14
"""Entries of the table that are read at once."""
DELETED, DOT = 0xE5, 0x2E


@dataclass(frozen=True, slots=True)
class File:
    """A file or directory found in a volume: its path, size and clusters in order."""

    path: str
    directory: bool
    size: int
    runs: tuple[Run, ...]
    """Byte ranges in the volume, merged where clusters follow each other, cut at ``size``."""
    clusters: int = 0
    """Clusters of the chain, as far as it was followed."""
    broken: str = ""
    """What is wrong with the chain."""


class Table:
    """A file allocation table, read page by page; ``followed`` counts the clusters of all chains asked for."""

    def __init__(self, source: Source, volume: Volume, offset: int | None = None) -> None:
        self.volume = volume
        self.last = {12: 0xFF8, 16: 0xFFF8, 32: 0x0FFFFFF8}[volume.bits]
        """Entries from this on end a chain."""
        self.followed = 0
        self._source = source
        self._offset = volume.fat_offset if offset is None else offset
        self._page: tuple[int, array[int]] = (-1, array("I"))

    def page(self, number: int) -> array[int]:
        """Entries [number * PAGE, (number + 1) * PAGE), fewer where the table or the data ends."""
        if self._page[0] != number:
            self._page = (number, self._read(number))
        return self._page[1]

    def _read(self, number: int) -> array[int]:
        bits = self.volume.bits
        count = max(0, min(PAGE, self.volume.entries - number * PAGE))
        raw = self._source.read(self._offset + number * PAGE * bits // 8, (count * bits + 7) // 8)
        if bits == 12:  # three bytes hold two entries
            low = [raw[at] | (raw[at + 1] & 0xF) << 8 for at in range(0, len(raw) - 1, 3)]
            high = [raw[at + 1] >> 4 | raw[at + 2] << 4 for at in range(0, len(raw) - 2, 3)]
            both = array("I", bytes(4 * (len(low) + len(high))))
            both[0::2], both[1::2] = array("I", low), array("I", high)
            return both[:count]
        entries = array("I" if bits == 32 else "H")
        entries.frombytes(raw[: len(raw) // entries.itemsize * entries.itemsize])
        if sys.byteorder == "big":
            entries.byteswap()
        return entries if bits == 32 else array("I", entries)

    def entry(self, cluster: int) -> int:
        """What the table says of a cluster: 0 free, the next one, or ``last`` and above; 0 past the table's end."""
        page = self.page(cluster // PAGE)
        index = cluster % PAGE
        return page[index] & 0x0FFFFFFF if index < len(page) else 0

    def free(self) -> int:
        """Clusters that are free: the whole table is read."""
        pages = (self.page(number) for number in range(-(-self.volume.entries // PAGE)))
        return sum(page.count(0) for page in pages) - self.page(0)[:2].count(0)

    def chain(self, first: int, size: int | None) -> tuple[tuple[Run, ...], int, str]:
        """Runs and number of clusters of a chain and what is wrong with it.

        ``size``: bytes that the chain should hold (a file), None to follow it to its end (a directory).
        """
        volume = self.volume
        limit = MAX_DIRECTORY if size is None else size
        wanted = -(-limit // volume.cluster_size)
        runs: list[Run] = []
        count, here, wrong = 0, first, ""
        while count < wanted:
            if here >= self.last:
                if size is not None:
                    wrong = f"ends after {count * volume.cluster_size} of {size} bytes"
                break
            if not 2 <= here < volume.entries:
                wrong = f"leads to cluster {here}, of {volume.entries - 2}"
                break
            if self.followed >= volume.clusters:
                wrong = "shares clusters with others, or runs in a circle"
                break
            length = self._straight(here, min(wanted - count, volume.entries - here))
            self.followed += length
            offset, take = (
                volume.offset(here),
                min(length * volume.cluster_size, limit - count * volume.cluster_size),
            )
            if runs and sum(runs[-1]) == offset:
                runs[-1] = (runs[-1][0], runs[-1][1] + take)
            else:
                runs.append((offset, take))
            count += length
            here = self.entry(here + length - 1)
        else:
            if here < self.last:
                wrong = f"goes on after {limit} bytes" if size is not None else "is longer than a directory can be"
        return tuple(runs), count, wrong

    def _straight(self, here: int, most: int) -> int:
        """How many clusters from ``here`` on, ``most`` at most, follow each other in the chain."""
        count, step = 1, 8
        while count < most:
            at = here + count - 1
            page, index = self.page(at // PAGE), at % PAGE
            piece = page[index : index + min(step, most - count)]
            following = range(at + 1, at + 1 + len(piece))
            if piece != array("I", following):
                return count + next(
                    number for number, pair in enumerate(zip(piece, following, strict=True)) if pair[0] != pair[1]
                )
            if not piece:
                break
            count, step = count + len(piece), min(2 * step, PAGE)
        return count


class Files:
    """Every file and directory of a volume, parents first, at most MAX_FILES, MAX_DEPTH deep.

    Iterate once; ``label`` (of the root directory), ``cut`` (there was more) and ``broken`` (what is wrong with the
    root directory) are known then.
    """

    def __init__(self, source: Source, table: Table) -> None:
        self.label = ""
        self.cut = False
        self.broken = ""
        self._source = source
        self._table = table

    def __iter__(self) -> Iterator[File]:
        volume, count = self._table.volume, 0
        runs: tuple[Run, ...] = ((volume.root_offset, volume.boot.BPB_RootEntCnt * ENTRY_SIZE),)
        if volume.bits == 32:
            runs, _, self.broken = self._table.chain(volume.boot.BPB_RootClus, None)
        waiting = deque([("", runs, 0)])
        while waiting:
            parent, runs, depth = waiting.popleft()
            for name, entry in self._entries(runs, root=not parent):
                count += 1
                if count > MAX_FILES:
                    self.cut = True
                    return
                file = self._file(f"{parent}/{name}", entry)
                yield file
                if file.directory and depth < MAX_DEPTH:
                    waiting.append((file.path, file.runs, depth + 1))

    def _file(self, path: str, entry: DirEntry) -> File:
        cluster = entry.cluster if self._table.volume.bits == 32 else entry.DIR_FstClusLO
        directory = bool(entry.DIR_Attr & DIRECTORY)
        if not directory and not entry.DIR_FileSize:
            return File(path, False, 0, (), 0, f"has cluster {cluster}, but no bytes" if cluster else "")
        runs, clusters, wrong = self._table.chain(cluster, None if directory else entry.DIR_FileSize)
        return File(path, directory, entry.DIR_FileSize, runs, clusters, wrong)

    def _entries(self, runs: tuple[Run, ...], *, root: bool) -> Iterator[tuple[str, DirEntry]]:
        """The entries of a directory with their long names; ``.``, ``..``, deleted ones and labels left out."""
        parts: dict[int, bytes] = {}
        checksum = 0
        for offset, size in runs:
            data = self._source.read(offset, size)
            for at in range(0, len(data) - ENTRY_SIZE + 1, ENTRY_SIZE):
                raw = data[at : at + ENTRY_SIZE]
                if raw[0] == 0:
                    return
                if raw[0] == DELETED:
                    parts = {}
                elif raw[11] & 0x3F == LONG_NAME:
                    if raw[0] & LAST_LONG_ENTRY:
                        parts, checksum = {}, raw[13]
                    parts[raw[0] & 0x3F] = raw[1:11] + raw[14:26] + raw[28:32]
                elif raw[11] & VOLUME_ID:
                    if root and not self.label:
                        self.label = raw[:11].decode("cp437").rstrip()
                elif raw[0] != DOT:
                    long = parts if checksum == short_checksum(raw[:11]) else {}
                    yield _long_name(long) or short_name(raw), DIR_ENTRY.parse(raw)
                    parts = {}


def files(source: Source, volume: Volume) -> Iterator[File]:
    """Every file and directory of a volume."""
    return iter(Files(source, Table(source, volume)))


def _long_name(parts: dict[int, bytes]) -> str:
    name = b"".join(parts[number] for number in sorted(parts)).decode("utf-16-le", "replace")
    return name.split("\0")[0].replace("/", "_")


def short_name(raw: bytes) -> str:
    """The 8.3 name of a directory entry as text, lower case where the entry asks for it (DIR_NTRes)."""
    first = b"\xe5" if raw[0] == 5 else raw[:1]  # 0xE5 itself would mean a deleted entry
    base, extension = (part.decode("cp437").rstrip() for part in (first + raw[1:8], raw[8:11]))
    base = base.lower() if raw[12] & 0x08 else base
    extension = extension.lower() if raw[12] & 0x10 else extension
    return (f"{base}.{extension}" if extension else base).replace("/", "_")
