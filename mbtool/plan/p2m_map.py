"""The page tables that map the P2M at INIT_P2M, outside the initial mapping.

They and the P2M's own pages come from Xen's heap, one after the other by ascending address: L3, L2, L1 tables on
demand, then a page of 1 GiB, 2 MiB or 4 KiB. Their number is start_info's ``nr_p2m_frames``; their machine frames
only the machine knows. Xen: xen/arch/x86/pv/dom0_build.c, ``setup_pv_physmap`` (4.14 to 4.22 alike).
"""

from __future__ import annotations

from mbtool.plan.memory import PAGE, PAGE_SHIFT, Range, down, up
from mbtool.plan.pv_width import L1_SHIFT, L2_SHIFT, L3_SHIFT, L4_SHIFT
from mbtool.record import record

TABLE_FLAGS = 0x067
"""P, RW, US, A, D: an entry that points to a table."""
LEAF_FLAGS = 0x0010_0000_0000_0067
"""The same for a page, with Xen's guest-kernel bit 52."""
PSE = 0x080


@record
class Hook:
    """An entry that lands in a table of the initial mapping: what it maps begins at ``va``."""

    shift: int
    """Size of what the entry maps, as a power of two: 39 for an entry of the L4."""
    va: int
    flags: int


@record
class P2mMap:
    """``frames``: pages taken, tables and P2M together; ``pages_needed``: what dom0 must have at least for it."""

    frames: int
    pages_needed: int
    hooks: tuple[Hook, ...]


def map_p2m(p2m: Range, initial: Range, owned: int, *, gigabyte_pages: bool) -> P2mMap:
    """Map ``p2m`` for a domain that owns ``owned`` pages and has ``initial`` mapped."""
    tables: set[tuple[int, int]] = set()
    hooks: list[Hook] = []
    frames = needed = 0
    at = p2m.start

    def mapped(shift: int) -> bool:
        """Whether the initial mapping has the table that maps these ``1 << shift`` bytes."""
        return down(initial.start, 1 << shift) <= at < up(initial.end, 1 << shift)

    def enter(shift: int, flags: int, pages: int) -> None:
        """Take pages and write the entry for them into the table above."""
        nonlocal frames
        if shift == L4_SHIFT or mapped(shift + 9):
            hooks.append(Hook(shift, down(at, 1 << shift), flags))
        frames += pages

    def large(shift: int) -> bool:
        """Whether a page of this size fits here."""
        return not at & ((1 << shift) - 1) and at + (1 << shift) <= p2m.end

    while at < p2m.end:
        needed = max(needed, owned + frames + (up(p2m.end) - at >> PAGE_SHIFT) + 3)
        for shift in (L4_SHIFT, L3_SHIFT, L2_SHIFT, L1_SHIFT):
            key = shift, at >> shift
            if shift == L1_SHIFT:
                enter(shift, LEAF_FLAGS, 1)
                at = down(at + PAGE)
            elif key in tables or mapped(shift):
                continue
            elif large(shift) and (shift == L2_SHIFT or (shift == L3_SHIFT and gigabyte_pages)):
                enter(shift, LEAF_FLAGS | PSE, 1 << shift - PAGE_SHIFT)
                at += 1 << shift
                break
            else:
                tables.add(key)
                enter(shift, TABLE_FLAGS, 1)
    return P2mMap(frames, needed, tuple(hooks))
