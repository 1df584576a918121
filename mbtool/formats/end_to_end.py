"""Files that are loaded one behind the other, as one source."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from mbtool.source import BytesSource, Source


def end_to_end(sources: Sequence[Source], name: str, align: int = 1) -> Source:
    """All of them, each but the last filled up with zeros to a multiple of ``align`` bytes."""
    filled: list[Source] = []
    for source in sources:
        filled += [source, BytesSource(bytes(-source.size % align))]
    return _EndToEnd([source for source in filled[:-1] if source.size], name)


class _EndToEnd(Source):
    """Sources in order, none of them empty."""

    def __init__(self, sources: Sequence[Source], name: str) -> None:
        self.name = name
        self._sources = sources
        self._starts = list(accumulate((source.size for source in sources), initial=0))

    def read(self, offset: int, size: int) -> bytes:
        if offset < 0 or size <= 0:
            return b""
        pieces: list[bytes] = []
        for number in range(bisect_right(self._starts, offset) - 1, len(self._sources)):
            piece = self._sources[number].read(offset - self._starts[number], size)
            pieces.append(piece)
            offset, size = offset + len(piece), size - len(piece)
            if not size or offset < self._starts[number + 1]:
                break
        return b"".join(pieces)

    @property
    def size(self) -> int:
        return self._starts[-1]
