"""Free memory while a boot is planned: places are taken by address, or found.

Of a machine that is not known (no memory map) it is assumed that it has RAM from 1 MiB on, and low memory where
the boot stub leaves it alone; the stub checks every place on the machine itself. Things are then found as low as
possible, for nobody knows where the memory ends.
"""

from __future__ import annotations

from mbtool.errors import RefusedError
from mbtool.formats.load_list import LOW_END, LOW_START
from mbtool.plan.e820 import FOUR_GIB, MIB, E820Map, without
from mbtool.plan.memory import TOP, Range

LOW = Range(LOW_START, LOW_END)
"""Where a loader puts what it tells the kernel."""
HIGH = Range(MIB, FOUR_GIB)
"""Where 32-bit code can load things."""


class Room:
    """What is free, piece by piece in order. ``known``: a memory map is given."""

    def __init__(self, memory: E820Map | None) -> None:
        self.known = memory is not None
        usable = (LOW, HIGH) if memory is None else memory.usable()
        outside = (Range(0, LOW.start), Range(LOW.end, MIB))
        for span in outside:
            usable = without(usable, span)
        self._free = usable

    def take(self, what: str, span: Range, source: str) -> None:
        """Take this very place for ``what``. Raises RefusedError when part of it is not free."""
        if span and not any(free.covers(span) for free in self._free):
            near = [str(free) for free in self._free if free.overlaps(span)]
            raise RefusedError(
                f"no free memory where {what} goes",
                source=source,
                expected=f"free memory at {span}",
                found=", ".join(near[:4]) or "none of it",
            )
        self._free = without(self._free, span)

    def find(
        self, what: str, size: int, source: str, *, align: int = 1, within: Range = HIGH, highest: bool = False
    ) -> int:
        """Take ``size`` bytes at a multiple of ``align`` inside ``within``, and return where they start.

        The lowest place, or with ``highest`` and a known map the highest. Raises RefusedError when there is none,
        with how many bytes are too many.
        """
        start = self._highest(size, align, within) if highest and self.known else self._lowest(size, align, within)
        if start is None:
            largest = self.largest(align, within)
            raise RefusedError(
                f"{what} is too big by {size - largest} bytes",
                source=source,
                expected=f"at most {largest} bytes, the largest free place in {within}",
                found=f"{size} bytes",
            )
        self._free = without(self._free, Range.at(start, size))
        return start

    def free(self, span: Range) -> bool:
        """Whether all of ``span`` is free."""
        return any(free.covers(span) for free in self._free)

    def largest(self, align: int = 1, within: Range = HIGH) -> int:
        """Bytes of the largest free place inside ``within`` that starts at a multiple of ``align``."""
        return max((cut.end - min(_up(cut.start, align), cut.end) for cut in self._cuts(within)), default=0)

    def _lowest(self, size: int, align: int, within: Range) -> int | None:
        starts = (_up(cut.start, align) for cut in self._cuts(within) if cut.end - _up(cut.start, align) >= size)
        return next(starts, None)

    def _highest(self, size: int, align: int, within: Range) -> int | None:
        for cut in reversed(self._cuts(within)):
            start = (cut.end - size) // align * align
            if start >= cut.start:
                return start
        return None

    def _cuts(self, within: Range) -> list[Range]:
        """The free pieces as far as they lie inside ``within``."""
        return [
            Range(max(free.start, within.start), min(free.end, within.end))
            for free in self._free
            if free.overlaps(within)
        ]


def _up(value: int, align: int) -> int:
    """Rounded up to a multiple of any number (a Multiboot 2 header may name one that is no power of two)."""
    return min(-(-value // align) * align, TOP)
