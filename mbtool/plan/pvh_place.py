"""Where in dom0's memory map Xen puts a PVH kernel, and the initrd with all that tells the kernel about it.

Xen: xen/arch/x86/hvm/dom0_build.c, ``check_load_address``, ``find_kernel_memory``, ``find_memory``. ``entries`` are
dom0's map in order.
"""

from __future__ import annotations

from collections.abc import Sequence

from mbtool.formats.dom_parms import DomParms
from mbtool.plan.e820 import MIB, RAM, E820Entry
from mbtool.plan.memory import PAGE, TOP, Range, down, up

MASK32 = (1 << 32) - 1
DEFAULT_ALIGN = 2 * MIB
"""Of a kernel that says nothing about it, neither in its note nor in its segments."""


def fits(entries: Sequence[E820Entry], kernel: Range) -> bool:
    """Whether one RAM entry holds all of the kernel."""
    return any(entry.type == RAM and entry.range.covers(kernel) for entry in entries)


def find_kernel(entries: Sequence[E820Entry], parms: DomParms, size: int) -> int | None:
    """The highest place for a relocatable kernel of ``size`` bytes, None when there is none.

    Xen gives up at the first entry (from the top) that lies too low, and takes address 0 for "none".
    """
    align = alignment(parms)
    for entry in reversed(entries):
        span = entry.range
        if entry.type != RAM or span.size < size or span.start > parms.phys_max:
            continue
        end = min(span.end, parms.phys_max + 1)
        start = (end - size) & MASK32 & -align
        if start < parms.phys_min:
            return None
        if start >= span.start and start + size <= end:
            return start or None
    return None


def alignment(parms: DomParms) -> int:
    """Bytes that a relocated kernel is aligned to: its note's word, that of its segments, or 2 MiB."""
    if parms.phys_align is not None:
        return parms.phys_align
    return parms.palign & MASK32 if parms.palign >= PAGE else DEFAULT_ALIGN


def find_room(entries: Sequence[E820Entry], kernel: Range, size: int, *, below_first: bool) -> int | None:
    """Where ``size`` bytes go: the lowest RAM above 1 MiB that has them, clear of the kernel's pages.

    In the kernel's own entry: below the kernel if that is large enough, else behind it (``below_first``); before
    4.19 only the larger of both sides was looked at.
    """
    pages = Range(down(kernel.start), up(kernel.end))
    for entry in entries:
        span = entry.range
        if span.end <= MIB or entry.type != RAM:
            continue
        start = max(span.start, MIB)
        if span.end <= pages.start or start >= pages.end:
            if span.end - start >= size:
                return start
        elif below_first:
            if pages.start - start >= size:
                return start
            if span.end - pages.end >= size:
                return pages.end
        # 64-bit unsigned as in C: a kernel that reaches out of the entry makes a side that seems endless
        elif (pages.start - start) % TOP > (span.end - pages.end) % TOP:
            if (pages.start - start) % TOP >= size:
                return start
        elif (span.end - pages.end) % TOP >= size:
            return pages.end
    return None
