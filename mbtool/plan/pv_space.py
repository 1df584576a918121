"""The initial mapping of a PV dom0: where everything lies in its virtual address space.

    v_start = virt_base ── pfn 0
      │  kernel        virt_kstart … virt_kend
      │  initrd        when it is mapped (no MOD_START_PFN note)
      │  P2M           when it is mapped here (no INIT_P2M note)
      │  start_info    one page, dom0's console information included
      │  page tables   nr_pt_frames pages
      │  boot stack    one page
    v_end    ── a multiple of 4 MiB, at least 512 KiB behind the stack

Xen: xen/arch/x86/pv/dom0_build.c, ``dom0_construct`` (4.14 to 4.22 alike).
"""

from __future__ import annotations

from mbtool.errors import InputError, RefusedError
from mbtool.formats import pv_start_info, vga_console
from mbtool.formats.dom_parms import DomParms
from mbtool.plan.memory import PAGE, TOP, Range, order_of, pages_of, up
from mbtool.plan.pv_width import init_p2m, width_of
from mbtool.record import record

V_END_ALIGN = 4 << 20
PADDING = 512 << 10


@record
class Space:
    """Virtual ranges; ``initrd`` and ``p2m`` are None when they are not in the initial mapping."""

    kernel: Range
    initrd: Range | None
    p2m: Range | None
    start_info: Range
    page_tables: Range
    stack: Range
    total: Range
    order: int
    """The block of machine memory behind all but the initrd has ``1 << order`` pages."""

    @property
    def nr_pt_frames(self) -> int:
        return len(self.page_tables.pages)


def lay_out(parms: DomParms, initrd_len: int, nr_pages: int) -> Space:
    """The initial mapping of a kernel that is given ``initrd_len`` bytes of initrd and ``nr_pages`` of memory.

    Raises RefusedError when it would leave the address space.
    """
    try:
        return _solved(parms, initrd_len, nr_pages)
    except InputError as error:
        mapped = initrd_len and not parms.unmapped_initrd
        raise RefusedError(
            "the initial mapping does not fit below the end of the addresses: Xen does not check this",
            expected=f"at most {(TOP - parms.virt_base) / (1 << 20):g} MiB from {parms.virt_base:#x} on",
            found=error.found,
            remedy="a smaller initrd, or a kernel with a MOD_START_PFN note, which has it unmapped"
            if mapped
            else "",
        ) from error


def _solved(parms: DomParms, initrd_len: int, nr_pages: int) -> Space:
    """The equation solved: as many page-table frames as it takes to map themselves too."""
    width = width_of(parms)
    kernel = Range(parms.virt_kstart, parms.virt_kend)
    at = up(kernel.end)
    initrd = p2m = None
    if not parms.unmapped_initrd:
        initrd = Range.at(at, initrd_len)
        at = up(initrd.end)
    if init_p2m(parms) is None:
        p2m = Range.at(at, nr_pages * width.word)
        at = up(p2m.end)
    start_info = Range.at(at, pv_start_info.START_INFO_64.size + vga_console.SIZE)
    pt_start = up(start_info.end)
    frames = 2
    while True:
        page_tables = Range.at(pt_start, frames * PAGE)
        stack = Range.at(page_tables.end, PAGE)
        v_end = up(stack.end, V_END_ALIGN)
        if v_end - stack.end < PADDING:
            v_end += V_END_ALIGN
        total = Range(parms.virt_base, v_end)
        need = width.tables(total)
        if need <= frames:
            break
        frames = need  # Xen tries every number; need only grows with frames, so none in between fits
    block = total.size - (up(initrd_len) if initrd is not None else 0)
    return Space(kernel, initrd, p2m, start_info, page_tables, stack, total, order_of(block))


def pages_needed(space: Space, initrd_len: int) -> int:
    """What dom0 must have at least before the kernel is even loaded: the block and the initrd, in pages."""
    return (1 << space.order) + pages_of(initrd_len)
