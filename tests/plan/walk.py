"""A page-table walk over planned tables, as a CPU would do it, and all leaves in them."""

from __future__ import annotations

import struct
from collections.abc import Iterator

FRAME = 0x000F_FFFF_FFFF_F000
PRESENT = 1


class Tables:
    """The frames of ``blob``, consecutive in machine memory from ``base`` (the L4, with ``levels`` 3 the L3)."""

    def __init__(self, blob: bytes, base: int, levels: int = 4) -> None:
        self._levels = levels
        self._blob = blob
        self._base = base
        self.visited: set[int] = set()

    def _entries(self, address: int) -> tuple[int, ...]:
        at = address - self._base
        assert 0 <= at <= len(self._blob) - 4096
        assert at % 4096 == 0
        self.visited.add(at // 4096)
        return struct.unpack_from("<512Q", self._blob, at)

    def leaves(self, address: int | None = None, shift: int = 0, va: int = 0) -> Iterator[tuple[int, int]]:
        """(virtual address, entry) of every page that is mapped; entries that lead to frame 0 are passed over."""
        shift = shift or 3 + 9 * self._levels
        for slot, entry in enumerate(self._entries(self._base if address is None else address)):
            if not entry & FRAME:
                continue
            assert entry & PRESENT
            here = va | slot << shift
            if shift == 12:
                yield here | (-(1 << 48) % (1 << 64) if here >> 47 else 0), entry
            else:
                assert entry & 0xFFF == 0x067
                yield from self.leaves(entry & FRAME, shift - 9, here)
