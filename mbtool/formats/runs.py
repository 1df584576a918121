"""A file that lies in pieces in a volume, as one source."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from mbtool.source import Source

Run = tuple[int, int]
"""A range of a volume: (offset, size) in bytes."""


def joined(source: Source, runs: Sequence[Run], name: str) -> Source:
    """The ranges of ``source`` one after the other; what lies past the end of ``source`` is missing at the end."""
    if len(runs) == 1:
        return source.part(*runs[0], name)
    return _Joined(source, runs if source.streamed else _clipped(runs, source.size), name)


def _clipped(runs: Sequence[Run], size: int) -> list[Run]:
    """The runs up to where the first of them passes ``size``."""
    kept: list[Run] = []
    for offset, length in runs:
        kept.append((offset, max(0, min(length, size - offset))))
        if kept[-1][1] < length:
            break
    return kept


class _Joined(Source):
    """Several ranges of another source, in order."""

    def __init__(self, parent: Source, runs: Sequence[Run], name: str) -> None:
        self.name = name
        self._parent = parent
        self._runs = runs
        self._starts: list[int] = []
        self._size = 0
        for _, size in runs:
            self._starts.append(self._size)
            self._size += size
        self.streamed = parent.streamed

    def read(self, offset: int, size: int) -> bytes:
        size = min(size, self._size - offset)
        if offset < 0 or size <= 0:
            return b""
        number = bisect_right(self._starts, offset) - 1
        pieces = []
        while size > 0:
            start, length = self._runs[number]
            skip = offset - self._starts[number]
            wanted = min(size, length - skip)
            piece = self._parent.read(start + skip, wanted)
            pieces.append(piece)
            if len(piece) < wanted:
                break
            offset, size, number = offset + wanted, size - wanted, number + 1
        return b"".join(pieces)

    @property
    def size(self) -> int:
        return self._size
