"""The bootstrap page tables, frame by frame, as dom0's first instruction finds them.

Frames are taken one after the other: the L4; then, walking the initial mapping upwards, an L1 whenever one is
needed, behind it an L2 where a new one begins (the start, each 1 GiB), behind that an L3 (the start, each 512 GiB).
A 32-bit kernel has an L3 in the L4's place and all four L2s; those that map nothing come last.
Xen: xen/arch/x86/pv/dom0_build.c, ``dom0_construct`` and ``mark_pv_pt_pages_rdonly`` (4.14 to 4.22 alike).

Left zero: Xen's own entries of the L4 (slots 256 to 271), and the frame numbers in entries for the P2M at INIT_P2M:
its tables and pages come from wherever the machine's allocator has them. So are Xen's entries at the end of a
32-bit kernel's last L2.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator

from mbtool.plan.counted import counted
from mbtool.plan.memory import PAGE, PAGE_SHIFT, Range, down
from mbtool.plan.p2m import initial_runs
from mbtool.plan.p2m_map import TABLE_FLAGS
from mbtool.plan.pv_dom0 import Plan
from mbtool.plan.pv_width import DIRTY, L1_SHIFT, L2_SHIFT, L3_SHIFT, L4_SHIFT, PAE_L2_TABLES
from mbtool.record import record

ENTRIES = 512
VA_MASK = (1 << 48) - 1
"""The part of a virtual address that selects table entries."""


@record
class Stretch:
    """Pages of the initial mapping whose entries count upwards: page numbers from v_start, first entry."""

    start: int
    end: int
    entry: int


def dirty_ranges(plan: Plan) -> tuple[Range, ...]:
    """What Xen writes while it runs on dom0's tables, so that the CPU sets the dirty bits: virtual ranges."""
    parms = plan.parms
    written = [Range.at(segment.p_paddr, segment.p_memsz) for segment in parms.segments]
    if parms.bsd_symtab_range is not None:
        written.append(Range(*parms.bsd_symtab_range))
    base = parms.virt_kstart - parms.pstart
    ranges = [span.shifted(base) for span in written if span]
    if parms.virt_hypercall is not None:
        ranges.append(Range.at(down(parms.virt_hypercall), PAGE))
    ranges.append(Range.at(plan.space.start_info.start, PAGE))
    if plan.space.p2m is not None:
        ranges.append(plan.space.p2m)
    return tuple(ranges)


def stretches(plan: Plan) -> Iterator[Stretch]:
    """The initial mapping in order, cut where frames or flags change."""
    total = plan.space.total
    pages = total.size >> PAGE_SHIFT
    first = total.start >> PAGE_SHIFT
    width = plan.width
    dirty = [range(span.pages.start - first, span.pages.stop - first) for span in dirty_ranges(plan)]
    tables = plan.space.page_tables.pages
    frames = range(tables.start - first, tables.stop - first)
    runs = initial_runs(plan)
    cuts = {0, pages, frames.start, frames.stop}
    cuts.update(run.pfn for run in runs)
    for span in dirty:
        cuts.update((span.start, span.stop))
    edges = sorted(cut for cut in cuts if 0 <= cut <= pages)
    for start, end in itertools.pairwise(edges):
        run = next(run for run in runs if run.pfn <= start < run.pfn + run.count)
        if start in frames:
            flags = width.read_only_flags
        elif any(start in span for span in dirty):
            flags = width.page_flags | DIRTY
        else:
            flags = width.page_flags
        yield Stretch(start, end, (run.mfn + start - run.pfn) << PAGE_SHIFT | flags)


def frames(plan: Plan) -> Iterator[bytes]:
    """The ``nr_pt_frames`` frames of 4096 bytes, in order."""
    total = plan.space.total
    order = _order(total, plan.width.top)
    number = {key: i for i, key in enumerate(order)}
    base = plan.page_table_base
    hooks: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for hook in plan.p2m_map.hooks:
        table, slot = divmod((hook.va & VA_MASK) >> hook.shift, ENTRIES)
        hooks.setdefault((hook.shift + 9, table), []).append((slot, hook.flags))
    pieces = tuple(stretches(plan))
    for shift, index in order:
        own = hooks.get((shift, index), ())
        if shift == L2_SHIFT:
            frame = _leaves(pieces, (index << L2_SHIFT) - (total.start & VA_MASK) >> PAGE_SHIFT)
            for slot, entry in own:
                frame[8 * slot : 8 * slot + 8] = entry.to_bytes(8, "little")
            yield bytes(frame)
            continue
        entries = [0] * ENTRIES
        for slot in range(ENTRIES):
            child = number.get((shift - 9, (index << 9) + slot))
            if child is not None:
                entries[slot] = base + child * PAGE | TABLE_FLAGS
        for slot, entry in own:
            entries[slot] = entry
        yield struct.pack(f"<{ENTRIES}Q", *entries)


def _order(total: Range, top: int) -> list[tuple[int, int]]:
    """Every table as (what it maps as a power of two, which piece of the address space), in frame order."""
    tables = [(top, 0)]
    seen = {(top, 0)}
    start = total.start & VA_MASK
    for index in range(start >> L2_SHIFT, (start + total.size - 1 >> L2_SHIFT) + 1):
        for shift in (L2_SHIFT, L3_SHIFT, L4_SHIFT):
            key = shift, index << L2_SHIFT >> shift
            if key not in seen:
                seen.add(key)
                tables.append(key)
    if top == L4_SHIFT:
        tables += [key for piece in range(PAE_L2_TABLES) if (key := (L3_SHIFT, piece)) not in seen]
    return tables


def _leaves(pieces: tuple[Stretch, ...], first: int) -> bytearray:
    """An L1 whose entry 0 maps page ``first`` (negative: it begins before v_start)."""
    frame = bytearray(PAGE)
    for piece in pieces:
        start, end = max(piece.start, first), min(piece.end, first + ENTRIES)
        if start < end:
            entry = piece.entry + (start - piece.start << L1_SHIFT)
            frame[8 * (start - first) : 8 * (end - first)] = counted(entry, end - start, step=PAGE)
    return frame
