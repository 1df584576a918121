"""A PVH dom0's memory map: the host's, with as much RAM as dom0 is given, and what Xen takes out of it again.

::

    host   | RAM | reserved |            RAM                                  | ACPI |
    dom0   | RAM | reserved | RAM … metadata | RSDP XSDT MADT | unusable       | ACPI |

dom0's RAM is at the host's addresses, in order until it has all its pages. Xen: xen/arch/x86/e820.c,
``sanitize_e820_map``; xen/arch/x86/hvm/dom0_build.c, ``pvh_setup_e820``, ``pvh_steal_ram``, ``pvh_add_mem_range``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from mbtool.errors import InputError
from mbtool.plan.e820 import FOUR_GIB, MIB, RAM, E820Entry, E820Map
from mbtool.plan.memory import PAGE, PAGE_SHIFT, Range, down, up

RESERVED, ACPI, NVS, UNUSABLE = 2, 3, 4, 5


def sanitized(host: E820Map) -> tuple[E820Entry, ...]:
    """The map as Xen keeps it: in order, neighbours of one type joined; of overlapping types the higher wins."""
    edges = sorted(
        (address, start, entry.type)
        for entry in host.entries
        if entry.range
        for address, start in ((entry.range.start, True), (entry.range.end, False))
    )
    result: list[E820Entry] = []
    open_types: dict[int, int] = {}
    last = 0
    for address, start, kind in edges:
        if open_types and last < address:
            _append(result, E820Entry(Range(last, address), max(open_types)))
        last = address
        open_types[kind] = open_types.get(kind, 0) + (1 if start else -1)
        if not open_types[kind]:
            del open_types[kind]
    return tuple(result)


def _append(entries: list[E820Entry], new: E820Entry) -> None:
    if entries and entries[-1].type == new.type and entries[-1].range.end == new.range.start:
        entries[-1] = E820Entry(Range(entries[-1].range.start, new.range.end), new.type)
    else:
        entries.append(new)


def _whole_pages(span: Range) -> range:
    """Numbers of the pages that lie wholly inside."""
    return range(up(span.start) >> PAGE_SHIFT, down(span.end) >> PAGE_SHIFT)


class GuestMap:
    """dom0's map while Xen builds it. ``entries`` stay in order; they may hold empty ones."""

    def __init__(self, host: E820Map, nr_pages: int) -> None:
        """The host's map with RAM for ``nr_pages``; InputError when it has less."""
        self.entries: list[E820Entry] = []
        left = nr_pages
        for entry in sanitized(host):
            if entry.type != RAM:
                self.entries.append(entry)
            elif not left:
                self.entries.append(E820Entry(entry.range, UNUSABLE))
            elif pages := _whole_pages(entry.range):
                given = min(len(pages), left)
                left -= given
                self.entries.append(E820Entry(Range.frames(pages.start, given)))
                if given < len(pages):
                    rest = Range.frames(pages.start + given, len(pages) - given)
                    self.entries.append(E820Entry(rest, UNUSABLE))
        if left:
            raise InputError(
                "the machine has less memory than dom0 is to have",
                expected=f"less than {(nr_pages - left) << PAGE_SHIFT >> 20} MiB for dom0",
                found=f"{nr_pages << PAGE_SHIFT >> 20} MiB",
                remedy="describe a larger machine, or give dom0 less (dom0_mem)",
            )

    @property
    def ram(self) -> tuple[Range, ...]:
        return tuple(entry.range for entry in self.entries if entry.type == RAM)

    def steal(self, size: int, align: int = 1, limit: int = FOUR_GIB) -> int | None:
        """Cut ``size`` bytes (and what is over after aligning) off the end of the highest RAM entry that has them.

        Returns their address; None without such an entry that ends at or below ``limit`` and keeps above 1 MiB.
        """
        for i, entry in reversed(list(enumerate(self.entries))):
            span = entry.range
            if entry.type != RAM or span.end > limit or span.size < size:
                continue
            address = down(span.end - size, align)
            if address < span.start or address < MIB:
                continue
            self.entries[i] = E820Entry(Range(span.start, address))
            return address
        return None

    def add(self, span: Range, kind: int) -> bool:
        """Enter a range into the map; False when another entry is there.

        A range that ends where an entry of its type begins moves that entry's start down, yet Xen leaves the
        entry's size as it was: the map then says too little.
        """
        for i, entry in enumerate(self.entries):
            there = entry.range
            if there.start == span.end and entry.type == kind:
                self.entries[i] = E820Entry(Range.at(span.start, there.size), kind)
                return True
            next_start = self.entries[i + 1].range.start if i + 1 < len(self.entries) else span.end
            if there.end == span.start and entry.type == kind and next_start >= span.end:
                self.entries[i] = E820Entry(Range(there.start, span.end), kind)
                return True
            if there.start >= span.end:
                break
            if there.end > span.start:
                return False
        else:
            i = len(self.entries)
        self.entries.insert(i, E820Entry(span, kind))
        return True


def firmware_areas(host: E820Map) -> list[Range]:
    """What of the host's memory is reserved, ACPI or NVS: disjoint, in order."""
    return [entry.range for entry in sanitized(host) if entry.type in (RESERVED, ACPI, NVS)]


def firmware_owns(areas: Sequence[Range], span: Range) -> bool:
    """Whether every page of ``span`` lies wholly in one of the firmware's ``areas``.

    Xen: ``acpi_memory_banned`` and ``page_is_ram_type``, on the host's map.
    """
    pages = span.paged()
    at = pages.start
    while at < pages.end:
        i = bisect_right(areas, at, key=lambda area: area.start) - 1
        if i < 0 or not areas[i].covers(Range.at(at, PAGE)):
            return False
        at = down(areas[i].end)
    return True
