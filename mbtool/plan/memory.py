"""Addresses: half-open ranges and page arithmetic. Every sum of addresses in a plan is made here.

Addresses are bytes in a 64-bit space. An end may be 2^64 (one past the last byte), never more.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from mbtool.errors import InputError

PAGE_SHIFT = 12
PAGE = 1 << PAGE_SHIFT
TOP = 1 << 64
"""One past the last address."""


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """The bytes [start, end). Raises InputError for a negative size or an end past 2^64."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= TOP or self.end > TOP:
            raise InputError(
                "address range leaves the 64-bit address space", found=f"{self.start:#x} -> {self.end:#x}"
            )
        if self.end < self.start:
            raise InputError("address range ends before it starts", found=f"{self.start:#x} -> {self.end:#x}")

    @classmethod
    def at(cls, start: int, size: int) -> Range:
        """``size`` bytes from ``start``."""
        return cls(start, start + size)

    @classmethod
    def frames(cls, mfn: int, count: int) -> Range:
        """``count`` pages from page number ``mfn``."""
        return cls.at(mfn << PAGE_SHIFT, count << PAGE_SHIFT)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start

    def __bool__(self) -> bool:
        return self.end > self.start

    def __contains__(self, address: int) -> bool:
        return self.start <= address < self.end

    def __str__(self) -> str:
        return f"[{self.start:#x}, {self.end:#x})"

    def covers(self, other: Range) -> bool:
        """Whether all of ``other`` lies inside."""
        return self.start <= other.start and other.end <= self.end

    def overlaps(self, other: Range) -> bool:
        """Whether at least one byte is in both."""
        return max(self.start, other.start) < min(self.end, other.end)

    def shifted(self, delta: int) -> Range:
        """The same size ``delta`` bytes further on (or back)."""
        return Range(self.start + delta, self.end + delta)

    def paged(self) -> Range:
        """The whole pages that this touches; nothing for an empty range."""
        return Range(down(self.start), up(self.end)) if self else self

    @property
    def pages(self) -> range:
        """Numbers of the pages that this touches."""
        whole = self.paged()
        return range(whole.start >> PAGE_SHIFT, whole.end >> PAGE_SHIFT)


def up(value: int, align: int = PAGE) -> int:
    """``value`` rounded up to a multiple of ``align`` (a power of two); InputError past 2^64."""
    rounded = (value + align - 1) & -align
    if rounded > TOP:
        raise InputError("address rounds up past the 64-bit address space", found=f"{value:#x}")
    return rounded


def down(value: int, align: int = PAGE) -> int:
    """``value`` rounded down to a multiple of ``align`` (a power of two)."""
    return value & -align


def pages_of(size: int) -> int:
    """How many pages ``size`` bytes take."""
    return (size + PAGE - 1) >> PAGE_SHIFT


def order_of(size: int) -> int:
    """The smallest order whose ``PAGE << order`` bytes hold ``size`` bytes (Xen: get_order_from_bytes)."""
    return max(0, pages_of(size) - 1).bit_length()


def slots(space: Range, shift: int) -> int:
    """How many aligned pieces of ``1 << shift`` bytes ``space`` touches: table entries of that size."""
    return (up(space.end, 1 << shift) - down(space.start, 1 << shift)) >> shift


def overlapping(named: Iterable[tuple[str, Range]]) -> tuple[str, str] | None:
    """The names of the first two ranges that share a byte, or None."""
    placed = sorted((span, name) for name, span in named if span)
    for (first, name), (second, other) in itertools.pairwise(placed):
        if first.overlaps(second):
            return name, other
    return None
