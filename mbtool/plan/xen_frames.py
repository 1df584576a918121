"""Where Xen puts dom0's block and the initrd in a machine's memory, foretold from its memory map.

Only the machine knows for certain, but Xen's rules leave little to chance on one that just booted:

1. Xen's image goes to the highest place below 4 GiB, then the boot modules, the last first, to the highest places
   they fit into (xen/arch/x86/setup.c, ``__start_xen``, ``consider_modules``).
2. The frame table comes from the top of what is left (xen/arch/x86/mm.c, ``init_frametable``).
3. All other memory is the heap's, in blocks of powers of two. A page is taken from the smallest block that holds
   it, in the zone of the highest addresses, from its upper end (xen/common/page_alloc.c, ``get_free_buddy``).
   So are the tables of Xen's M2P, and then dom0's block.

Compared with 88 boots of Xen 4.17.7, 4.21.0 and 4.22.0 by Multiboot in QEMU, of 256 MiB to 12 GiB (those of 4.17.7
are in tests/plan/test_xen_frames.py): the initrd was there in all of them, and so was dom0's block in all 78 where
it had 32 MiB or more, but only in 4 of 10 where it was smaller: such a block may come from where Xen has taken
memory for other things. Left out are several NUMA nodes, what drivers take of large machines, and Xen started by
UEFI, which does not move itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from mbtool.errors import InputError, RefusedError
from mbtool.plan.e820 import FOUR_GIB, MIB, E820Map, without
from mbtool.plan.host import FRAME_TABLE_ENTRY, M2P_ENTRY, M2P_STEP
from mbtool.plan.memory import PAGE, PAGE_SHIFT, Range, down, up
from mbtool.record import record

STEP = 2 * MIB
"""The ends of RAM count in steps of this (L2_PAGETABLE_SHIFT)."""
LOWEST = 16 * MIB
"""Nothing is moved below it (BOOTSTRAP_MAP_BASE)."""
XEN_AREA, XEN_UNUSED = 6 * MIB, 2 * MIB
"""Xen's image in memory, and what of it is left to others at its start (XEN_IMG_OFFSET)."""
SURE_ORDER = 13
"""From here on dom0's block was where it was foretold in every recorded boot."""
MAX_ORDER = 20
MAX_RAM = 1 << 44
"""What Xen can manage (without CONFIG_BIGMEM)."""


@record
class Frames:
    """Machine memory: ``kernel`` is the packed kernel with the room to unpack it."""

    xen: Range
    kernel: Range
    initrd: Range | None
    alloc: Range

    @property
    def words(self) -> str:
        """How sure this is, as an assumption."""
        sure = self.alloc.size >= PAGE << SURE_ORDER
        return (
            f"dom0's memory begins at {self.alloc.start:#x}"
            + (f" and the initrd is at {self.initrd.start:#x}" if self.initrd is not None else "")
            + ", foretold by Xen's rules for the memory map, which held in "
            + ("all recorded boots" if sure else "few recorded boots of blocks as small as dom0's")
            + " (on a BIOS: Xen started by UEFI stays where the firmware puts it)"
        )


def foretell(memory: E820Map, kernel_len: int, initrd_len: int | None, order: int) -> Frames:
    """``kernel_len``: the kernel's file and the room to unpack it, in bytes; ``order``: of dom0's block.

    Raises RefusedError when something has no place, InputError for more memory than Xen knows.
    """
    ram = memory.usable()
    size = sum(span.size for span in ram)
    if size > MAX_RAM:
        raise InputError("no Xen manages so much memory", expected=f"at most {MAX_RAM >> 40} TiB")
    xen, kernel, initrd = _moved(ram, kernel_len, initrd_len)
    free = ram
    for taken in (Range(0, MIB), xen, kernel, *([initrd] if initrd is not None else [])):
        free = without(free, taken.paged())
    heap = Heap(_cut_from_top(free, down(size // PAGE * FRAME_TABLE_ENTRY, STEP)))
    for _ in range(0, size // PAGE * M2P_ENTRY, M2P_STEP):
        heap.take((M2P_STEP >> PAGE_SHIFT).bit_length() - 1)
    return Frames(xen, kernel, initrd, Range.frames(heap.take(order), 1 << order))


def _moved(ram: tuple[Range, ...], kernel_len: int, initrd_len: int | None) -> tuple[Range, Range, Range | None]:
    """Xen, the kernel and the initrd, all as high as they can be; the initrd first."""
    xen: Range | None = None
    sizes = {"kernel": up(kernel_len)} | ({} if initrd_len is None else {"initrd": up(initrd_len)})
    found: dict[str, Range] = {}
    for span in reversed(ram):
        start, end = max(up(span.start, STEP), LOWEST), down(span.end, STEP)
        if start >= end:
            continue
        room: tuple[Range, ...] = (Range(start, end),)
        if xen is None and end <= FOUR_GIB and end - start >= XEN_AREA:
            xen = Range(end - XEN_AREA + XEN_UNUSED, end)
            room = without(room, xen)
        for name in ("initrd", "kernel"):
            if name in sizes and name not in found:
                fits = [place for place in room if place.size >= sizes[name]]
                if fits:
                    found[name] = Range(fits[-1].end - sizes[name], fits[-1].end)
                    room = without(room, found[name])
    _refuse_unmoved(ram, sizes, found, xen)
    assert xen is not None
    initrd = None if initrd_len is None else Range.at(found["initrd"].start, initrd_len)
    return xen, found["kernel"], initrd


def _refuse_unmoved(
    ram: tuple[Range, ...], sizes: dict[str, int], found: dict[str, Range], xen: Range | None
) -> None:
    """Xen gives up on itself and the kernel; an initrd stays where the loader put it, which nobody foretells."""
    largest = f"{max((span.size for span in ram), default=0) / MIB:.1f} MiB of RAM in one piece at most"
    if "kernel" not in found:
        raise RefusedError(
            "Not enough memory to relocate the dom0 kernel image: the packed kernel and the room to unpack it",
            expected=f"{sizes['kernel'] / MIB:.1f} MiB in one piece above {LOWEST // MIB} MiB",
            found=largest,
            remedy="a machine with more memory, or a smaller initrd",
        )
    if xen is None:
        raise RefusedError(
            "Not enough memory to relocate Xen",
            expected=f"{XEN_AREA // MIB} MiB in one piece between {LOWEST // MIB} MiB and 4 GiB",
            found=largest,
        )
    if len(found) < len(sizes):
        raise RefusedError(
            "the initrd is too large for Xen to move it: it stays where the loader put it, which is not foretold",
            expected=f"{sizes['initrd'] / MIB:.1f} MiB in one piece above {LOWEST // MIB} MiB",
            found=largest,
            remedy="say where by --alloc-base and --initrd-base, without --predict-frames",
        )


def _cut_from_top(spans: tuple[Range, ...], size: int) -> tuple[Range, ...]:
    """``spans`` without ``size`` bytes in steps of 2 MiB from their upper ends."""
    left = []
    for span in reversed(spans):
        end = down(span.end, STEP)
        cut = min(size, max(0, end - up(span.start, STEP)))
        size -= cut
        left += [part for part in without((span,), Range(end - cut, end)) if part]
    return tuple(sorted(left))


class Heap:
    """Free memory in aligned blocks of powers of two pages, as large as they can be; zones by the highest bit."""

    def __init__(self, spans: Iterable[Range]) -> None:
        self._zones: dict[int, list[set[int]]] = {}
        for span in spans:
            page, end = up(span.start) >> PAGE_SHIFT, down(span.end) >> PAGE_SHIFT
            while page < end:
                order = min((end - page).bit_length() - 1, MAX_ORDER)
                if page:
                    order = min(order, (page & -page).bit_length() - 1)
                self._free(page, order)
                page += 1 << order

    def take(self, order: int) -> int:
        """The first page of a block that is taken; RefusedError when there is none."""
        for zone in sorted(self._zones, reverse=True):
            for larger, pages in enumerate(self._zones[zone][order:], order):
                if pages:
                    page = max(pages)
                    pages.remove(page)
                    return self._split(page, larger, order)
        raise RefusedError("Not enough RAM for domain 0 allocation", expected=f"a free block of {1 << order} pages")

    def _split(self, page: int, larger: int, order: int) -> int:
        while larger > order:
            larger -= 1
            self._free(page, larger)
            page += 1 << larger
        return page

    def _free(self, page: int, order: int) -> None:
        zone = self._zones.setdefault(page.bit_length(), [set() for _ in range(MAX_ORDER + 1)])
        zone[order].add(page)
