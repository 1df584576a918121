"""What holds for every plan: no overlaps, the equation, tables and P2M that tell the same story."""

from __future__ import annotations

import struct
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from mbtool.errors import MbtoolError, RefusedError
from mbtool.formats.dom_parms import DomParms
from mbtool.plan import p2m, page_tables, pv_dom0
from mbtool.plan.memory import PAGE, PAGE_SHIFT, Range, overlapping, pages_of, slots
from mbtool.plan.pv_dom0 import Plan
from mbtool.plan.pv_space import lay_out, pages_needed
from tests.plan.kernels import MIB, SLOT_1, TOP_2G, XEN, kernel
from tests.plan.walk import FRAME, Tables

BASES = st.one_of(
    st.sampled_from([0, TOP_2G, SLOT_1 - MIB, (1 << 30) - 2 * MIB, TOP_2G - 3 * MIB, 0xFFFF_8800_0000_0000]),
    st.integers(0, (1 << 47) - (1 << 30)).map(lambda value: value & -PAGE),
)
SIZES = st.one_of(st.integers(1, 32 * MIB), st.integers(1, 8 * MIB // PAGE).map(lambda pages: pages * PAGE))


BASES_32 = st.one_of(
    st.sampled_from([0, 3 << 30, (3 << 30) - 2 * MIB, 0xF500_0000]),
    st.integers(0, 0xF000_0000).map(lambda value: value & -PAGE),
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[DomParms, int | None, int]:
    bits = draw(st.sampled_from([64, 64, 32]))
    parms = kernel(
        draw(SIZES),
        start=draw(st.integers(0, 4 * MIB)),
        virt_base=draw(BASES if bits == 64 else BASES_32),
        elf_class=bits,
        p2m_base=draw(st.sampled_from([None, 3 * SLOT_1, 3 * SLOT_1 + 5 * PAGE])),
        unmapped_initrd=draw(st.booleans()),
    )
    initrd_len = draw(st.none() | st.integers(0, 3 * MIB))
    least = parms.virt_kend - parms.virt_base + (initrd_len or 0) >> PAGE_SHIFT
    return parms, initrd_len, least + draw(st.integers(1, 20000))


def attempt(parms: DomParms, initrd_len: int | None, nr_pages: int) -> Plan | None:
    """The plan, None when it is refused; anything but mbtool's own errors fails the test."""
    try:
        return pv_dom0.plan(parms, initrd_len=initrd_len, nr_pages=nr_pages, cmdline=b"", version=XEN)
    except MbtoolError:
        return None


@settings(max_examples=150, deadline=None)
@given(requests())
def test_layout(request: tuple[DomParms, int | None, int]) -> None:
    plan = attempt(*request)
    if plan is None:
        return
    space = plan.space
    parts = {
        "kernel": space.kernel,
        "initrd": space.initrd or Range(0, 0),
        "p2m": plan.p2m,
        "start_info": space.start_info,
        "page tables": space.page_tables,
        "stack": space.stack,
    }
    assert overlapping(parts.items()) is None
    inside = [span for name, span in parts.items() if span and (name != "p2m" or space.p2m is not None)]
    assert all(space.total.covers(span) for span in inside)
    need = 1 + sum(slots(space.total, shift) for shift in (39, 30, 21))
    if plan.width.bits == 32:
        need = 1 + 4 + slots(space.total, 21)
    assert need == space.nr_pt_frames
    assert space.total.end % (4 * MIB) == 0
    assert space.total.end - space.stack.end >= 512 * 1024
    assert plan.start_info.first_p2m_pfn <= plan.nr_pages
    assert plan.start_info.first_p2m_pfn + plan.start_info.nr_p2m_frames <= plan.nr_pages
    block = space.total.size - (pages_of(plan.initrd_len) * PAGE if space.initrd is not None else 0)
    assert PAGE << space.order >= block > (PAGE << space.order) // 2


@settings(max_examples=150, deadline=None)
@given(requests())
def test_tables_and_p2m_agree(request: tuple[DomParms, int | None, int]) -> None:
    """Each virtual page leads to the frame that the P2M has for it; only page tables are read-only."""
    plan = attempt(*request)
    if plan is None:
        return
    blob = b"".join(page_tables.frames(plan))
    wide = plan.width.bits == 64
    table = struct.unpack(f"<{plan.nr_pages}{'Q' if wide else 'I'}", b"".join(p2m.blocks(plan)))
    tables = Tables(blob, plan.page_table_base, 4 if wide else 3)
    leaves = dict(tables.leaves())
    total = plan.space.total
    assert list(leaves) == list(range(total.start, total.end, PAGE))
    assert tables.visited == set(range(plan.space.nr_pt_frames))
    for pfn, entry in enumerate(leaves.values()):
        assert (entry & FRAME) >> PAGE_SHIFT == table[pfn]
    read_only = {va for va, entry in leaves.items() if not entry & 2}
    assert read_only == set(range(plan.space.page_tables.start, plan.space.page_tables.end, PAGE))
    decided = table[: plan.start_info.first_p2m_pfn]
    assert len(set(decided)) == len(decided)


@settings(max_examples=150, deadline=None)
@given(requests(), st.integers(0, 100000), st.integers(0, 3 * MIB))
def test_nothing_shrinks_when_its_inputs_grow(
    request: tuple[DomParms, int | None, int], pages: int, bytes_more: int
) -> None:
    """More pages, or a longer initrd: no fewer tables, no lower end, no smaller need."""
    parms, initrd_len, nr_pages = request
    size = initrd_len or 0
    try:
        space = lay_out(parms, size, nr_pages)
        larger = [lay_out(parms, size, nr_pages + pages), lay_out(parms, size + bytes_more, nr_pages)]
    except MbtoolError:  # past the end of the addresses
        return
    for other in larger:
        assert other.nr_pt_frames >= space.nr_pt_frames
        assert other.total.end >= space.total.end
        assert other.start_info.start >= space.start_info.start
    assert larger[0].order >= space.order
    if parms.unmapped_initrd:
        assert pages_needed(larger[1], size + bytes_more) >= pages_needed(space, size)


@settings(max_examples=150, deadline=None)
@given(requests(), st.integers(0, 2000))
def test_more_memory_is_never_refused(request: tuple[DomParms, int | None, int], more: int) -> None:
    """Once there is enough for a kernel with INIT_P2M, there is enough with any more."""
    parms, initrd_len, nr_pages = request
    parms = replace(parms, p2m_base=3 * SLOT_1)
    if attempt(parms, initrd_len, nr_pages) is None:
        return
    try:
        pv_dom0.plan(parms, initrd_len=initrd_len, nr_pages=nr_pages + more, cmdline=b"", version=XEN)
    except RefusedError as error:
        raise AssertionError(str(error)) from error
