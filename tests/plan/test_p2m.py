"""P2M contents: where the images decide, in release and debug builds of Xen."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from mbtool.plan import p2m
from mbtool.plan.machine import Machine
from mbtool.plan.memory import PAGE
from mbtool.plan.pv_dom0 import Plan
from tests.plan.kernels import MIB, kernel, planned

UNKNOWN = (1 << 64) - 1
A, R = 0x30000, 0x50000
"""First frames of dom0's block and of the initrd."""
MACHINE = Machine(A << 12, R << 12)


def contents(plan: Plan) -> tuple[int, ...]:
    return struct.unpack(f"<{plan.nr_pages}Q", b"".join(p2m.blocks(plan)))


def test_initrd_behind_the_block() -> None:
    plan = planned(kernel(MIB), initrd_len=2 * PAGE + 1, nr_pages=8192, machine=MACHINE)
    table = contents(plan)
    assert table[:1024] == tuple(range(A, A + 1024))
    assert table[1024:1027] == (R, R + 1, R + 2)
    assert set(table[1027:]) == {UNKNOWN}
    assert plan.start_info.first_p2m_pfn == 1027
    assert plan.start_info.mod_start == 1024


def test_initrd_in_the_middle() -> None:
    plan = planned(kernel(MIB, unmapped_initrd=False), initrd_len=2 * PAGE + 1, nr_pages=8192, machine=MACHINE)
    table = contents(plan)
    assert table[:256] == tuple(range(A, A + 256))
    assert table[256:259] == (R, R + 1, R + 2)
    assert table[259:1027] == tuple(range(A + 256, A + 1024))
    assert set(table[1027:]) == {UNKNOWN}


def test_whole_of_a_domain_without_more_memory() -> None:
    plan = planned(kernel(MIB, p2m_base=None), nr_pages=1024, machine=MACHINE)
    assert contents(plan) == tuple(range(A, A + 1024))


@pytest.mark.parametrize("unmapped", [False, True])
@pytest.mark.parametrize("initrd_len", [None, 1, 5 * PAGE])
def test_debug_build(unmapped: bool, initrd_len: int | None) -> None:
    """Every pfn by itself, by the rule: behind the mapped pages, backwards from the block's end."""
    parms = kernel(9 * MIB, unmapped_initrd=unmapped)
    release = planned(parms, initrd_len=initrd_len, nr_pages=8192, machine=MACHINE)
    plan = planned(parms, initrd_len=initrd_len, nr_pages=8192, machine=replace(MACHINE, debug=True))
    mapped = plan.space.total.size // PAGE
    block, initrd = 1 << plan.space.order, plan.initrd_pages
    assert block > mapped + 1
    turned = [
        A + block - (pfn - mapped) if pfn > mapped and (pfn < block or not unmapped) else mfn
        for pfn, mfn in enumerate(contents(release)[: block + initrd])
    ]
    assert contents(plan)[: block + initrd] == tuple(turned)
    assert sorted(turned) == sorted(contents(release)[: block + initrd]), "the same frames in another order"


def test_debug_build_with_nothing_behind_the_mapping() -> None:
    """The block ends where the mapping does: nothing is turned, an initrd behind it neither."""
    plan = planned(kernel(3 * MIB), initrd_len=5 * PAGE, nr_pages=8192, machine=replace(MACHINE, debug=True))
    assert plan.space.total.size == PAGE << plan.space.order
    assert contents(plan) == contents(replace(plan, machine=MACHINE))


def test_blocks_are_small() -> None:
    """A P2M of 2 GiB is never in memory as a whole."""
    plan = planned(kernel(), nr_pages=1 << 28)
    sizes = [len(block) for block, _ in zip(p2m.blocks(plan), range(50), strict=False)]
    assert max(sizes) <= MIB
