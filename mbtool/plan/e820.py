"""A machine's memory map as its firmware tells it: the BIOS call INT 15h with eax = 0xe820."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mbtool.plan.memory import Range, down, up

RAM = 1
MIB = 1 << 20
FOUR_GIB = 1 << 32


@dataclass(frozen=True, slots=True)
class E820Entry:
    """Memory of one type: 1 RAM, 2 reserved, 3 ACPI tables, 4 ACPI NVS, 5 unusable; others are reserved too."""

    range: Range
    type: int = RAM


@dataclass(frozen=True, slots=True)
class E820Map:
    """The entries in the firmware's order; they may overlap and leave gaps."""

    entries: tuple[E820Entry, ...]

    def usable(self) -> tuple[Range, ...]:
        """The RAM in order, joined where it adjoins; what another entry calls anything but RAM is left out."""
        free = joined(entry.range for entry in self.entries if entry.type == RAM)
        for entry in self.entries:
            if entry.type != RAM:
                free = without(free, entry.range)
        return free

    @property
    def ram(self) -> int:
        """Bytes of RAM in whole pages, as Xen counts it (``System RAM:``)."""
        return sum(max(0, down(span.end) - up(span.start)) for span in self.usable())

    @property
    def mem_lower(self) -> int:
        """KiB of RAM from 0, at most 640."""
        return min(self._reach(0), 640 << 10) >> 10

    @property
    def mem_upper(self) -> int:
        """KiB of RAM from 1 MiB up to the first hole, seen up to 4 GiB."""
        return max(0, min(self._reach(MIB), FOUR_GIB) - MIB) >> 10

    def _reach(self, start: int) -> int:
        return next((span.end for span in self.usable() if start in span), start)


def joined(spans: Iterable[Range]) -> tuple[Range, ...]:
    """The same bytes as disjoint ranges in order."""
    result: list[Range] = []
    for span in sorted(span for span in spans if span):
        if result and span.start <= result[-1].end:
            result[-1] = Range(result[-1].start, max(result[-1].end, span.end))
        else:
            result.append(span)
    return tuple(result)


def without(spans: Iterable[Range], taken: Range) -> tuple[Range, ...]:
    """The parts of ``spans`` outside of ``taken``."""
    result = []
    for span in spans:
        if not span.overlaps(taken):
            result.append(span)
            continue
        if span.start < taken.start:
            result.append(Range(span.start, taken.start))
        if taken.end < span.end:
            result.append(Range(taken.end, span.end))
    return tuple(result)
