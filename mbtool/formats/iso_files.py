"""Walking the directories of an ISO 9660 volume: every file with its path and where it lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mbtool.errors import FormatError
from mbtool.formats.iso9660 import DIRECTORY, MULTI_EXTENT, RECORD, SECTOR, DirectoryRecord, rock_ridge_name
from mbtool.formats.runs import Run
from mbtool.source import MIB, Source

MAX_FILES = 4096
MAX_DIRECTORIES = 16 * MIB
"""Bytes of directories that are read."""
MAX_EXTENTS = 1024
"""Extents of one file that are joined: a file of 4 GiB has two."""


@dataclass(frozen=True, slots=True)
class IsoFile:
    """A file: path from the root, size in bytes, its runs (offset, size) in bytes of the volume."""

    path: str
    size: int
    runs: tuple[Run, ...]


class IsoFiles:
    """The files below a root directory record, in the order of the directories. Iterate once.

    ``broken``: why directories could not be read whole; ``cut``: that there are more than MAX_FILES.
    """

    def __init__(self, source: Source, root: bytes) -> None:
        self._source = source
        self._root = root
        self._room = MAX_DIRECTORIES
        self.broken: list[str] = []
        self.cut = False

    def __iter__(self) -> Iterator[IsoFile]:
        waiting = [("", RECORD.parse(self._root))]
        seen: set[int] = set()
        count = 0
        while waiting:
            path, directory = waiting.pop(0)
            if directory.location_of_extent in seen:
                self.broken.append(f"{path or '/'} is its own ancestor, or a directory twice")
                continue
            seen.add(directory.location_of_extent)
            runs: list[Run] = []
            try:
                for name, record in self._records(path, directory):
                    count += 1
                    if count > MAX_FILES:
                        self.cut = True
                        return
                    if record.file_flags & DIRECTORY:
                        waiting.append((f"{path}/{name}", record))
                        continue
                    if len(runs) < MAX_EXTENTS:
                        runs.append((record.location_of_extent * SECTOR, record.data_length))
                    if not record.file_flags & MULTI_EXTENT:
                        size = sum(length for _, length in runs)
                        yield IsoFile(f"{path}/{name}", size, tuple(run for run in runs if run[1]))
                        runs = []
            except FormatError as error:
                self.broken.append(f"{path or '/'}: {error.problem}")

    def _records(self, path: str, directory: DirectoryRecord) -> Iterator[tuple[str, DirectoryRecord]]:
        """The entries of a directory without itself and its parent. FormatError when it is damaged."""
        base = directory.location_of_extent * SECTOR
        size = directory.data_length
        if size > self._room:
            raise FormatError(f"more than {MAX_DIRECTORIES} bytes of directories are not read")
        self._room -= size
        data = self._source.read(base, size)
        at = 0
        while at < len(data):
            length = data[at]
            if length == 0:  # no record crosses a sector: the rest of this one is empty
                at = (at // SECTOR + 1) * SECTOR
                continue
            record = RECORD.parse(data, at, source=self._source.name, base=base)
            name_end = RECORD.size + record.length_of_file_identifier
            if length < name_end or at + length > len(data):
                raise FormatError("a directory record is cut short", source=self._source.name, offset=base + at)
            raw = data[at + RECORD.size : at + name_end]
            if raw not in (b"\0", b"\1"):
                yield self._name(raw, data[at + name_end + (1 - len(raw) % 2) : at + length]), record
            at += length
        if len(data) < size:
            raise FormatError("the directory is cut short", source=self._source.name, offset=base + len(data))

    def _name(self, raw: bytes, system_use: bytes) -> str:
        if (given := rock_ridge_name(system_use)) is not None:
            return given.decode("utf-8", "replace")
        return raw.decode("ascii", "replace").partition(";")[0].rstrip(".")
