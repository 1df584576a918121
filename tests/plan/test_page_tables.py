"""The bootstrap page tables, read back by a walk of our own. The recorded boots are compared in tests/oracle."""

from __future__ import annotations

import itertools
import struct

from mbtool.plan import p2m, page_tables
from mbtool.plan.memory import PAGE
from mbtool.plan.pv_dom0 import Plan
from tests.plan.kernels import MIB, TOP_2G, kernel, planned
from tests.plan.walk import FRAME, Tables

CLEAN, WRITTEN, TABLE = 0x0010_0000_0000_0027, 0x0010_0000_0000_0067, 0x0010_0000_0000_0025


def leaves(plan: Plan) -> dict[int, int]:
    blob = b"".join(page_tables.frames(plan))
    assert len(blob) == plan.space.nr_pt_frames * PAGE
    tables = Tables(blob, plan.page_table_base)
    found = dict(tables.leaves())
    assert tables.visited == set(range(plan.space.nr_pt_frames)), "every frame is used"
    return found


def flags(plan: Plan) -> dict[int, int]:
    return {va - plan.space.total.start: entry & ~FRAME for va, entry in leaves(plan).items()}


def test_frame_order() -> None:
    """L4, L1, L2, L3, then the other L1 tables."""
    plan = planned(kernel(6 * MIB))
    entries = struct.unpack(f"<{plan.space.nr_pt_frames * 512}Q", b"".join(page_tables.frames(plan)))
    base = plan.page_table_base
    assert entries[511] == base + 3 * PAGE | 0x067
    assert entries[3 * 512 + 510] == base + 2 * PAGE | 0x067
    assert entries[2 * 512 : 2 * 512 + 5] == (
        base + 1 * PAGE | 0x067,
        base + 4 * PAGE | 0x067,
        base + 5 * PAGE | 0x067,
        base + 6 * PAGE | 0x067,
        0,
    )
    assert entries[1] == 0x067  # INIT_P2M's slot


def test_flags() -> None:
    """A kernel with a hole; start_info dirty; tables read-only; stack and padding untouched."""
    parms = kernel(2 * PAGE + 1, start=3 * PAGE, virt_hypercall=TOP_2G + PAGE)
    found = flags(planned(parms))
    assert [found[i * PAGE] for i in range(8)] == [
        CLEAN,  # below the kernel
        WRITTEN,  # the hypercall page
        CLEAN,
        *[WRITTEN] * 3,  # the kernel, its last byte on a page of its own
        WRITTEN,  # start_info
        TABLE,
    ]
    assert [found[i * PAGE] for i in range(7, 13)] == [TABLE] * 5 + [CLEAN]
    assert set(found.values()) == {CLEAN, WRITTEN, TABLE}
    assert len(found) == 1024
    assert all(found[i * PAGE] == CLEAN for i in range(12, 1024))


def test_flags_inside() -> None:
    """A mapped initrd is clean, a P2M in the initial mapping is written."""
    plan = planned(kernel(PAGE, p2m_base=None, unmapped_initrd=False), initrd_len=PAGE + 1, nr_pages=2048)
    found = flags(plan)
    assert [found[i * PAGE] for i in range(10)] == [WRITTEN, CLEAN, CLEAN, *[WRITTEN] * 4, WRITTEN, TABLE, TABLE]


def test_frames_behind_pages() -> None:
    plan = planned(kernel(PAGE, unmapped_initrd=False), initrd_len=PAGE + 1, nr_pages=4096)
    found = leaves(plan)
    alloc, initrd = plan.alloc.start, plan.initrd.start if plan.initrd else 0
    assert [found[TOP_2G + i * PAGE] & FRAME for i in range(4)] == [alloc, initrd, initrd + PAGE, alloc + PAGE]
    assert plan.page_table_base == alloc + 2 * PAGE
    assert found[plan.space.page_tables.start] & FRAME == plan.page_table_base


def test_stretches_do_not_depend_on_tables() -> None:
    plan = planned(kernel(64 * MIB))
    parts = list(page_tables.stretches(plan))
    assert parts[0].start == 0
    assert parts[-1].end == plan.space.total.size // PAGE
    assert all(one.end == other.start for one, other in itertools.pairwise(parts))
    assert len(parts) < 10
    assert len(p2m.initial_runs(plan)) == 1
