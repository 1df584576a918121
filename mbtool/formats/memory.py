"""Physical memory as a source: read by address instead of by offset."""

from __future__ import annotations

from mbtool.source import Source


class Memory(Source):
    """A dump of memory whose first byte lies at physical address ``base``. Below and above it nothing is known."""

    def __init__(self, dump: Source, base: int = 0) -> None:
        self.name = dump.name
        self._dump = dump
        self._base = base

    def read(self, offset: int, size: int) -> bytes:
        """The bytes at physical address ``offset``; none when it lies outside of the dump."""
        return self._dump.read(offset - self._base, size) if offset >= self._base else b""

    @property
    def size(self) -> int:
        """The address after the last byte."""
        return self._base + self._dump.size

    @property
    def at_hand(self) -> int:
        return self._base + self._dump.at_hand
