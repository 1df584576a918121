"""The P2M: dom0's list of machine frames by pseudo-physical frame, eight bytes each (four for a 32-bit kernel).

The images decide the entries up to ``first_p2m_pfn``: dom0's block and the initrd. What follows (the frames of the
P2M itself, then chunks as the allocator had them) only the machine knows; it is left INVALID_P2M_ENTRY (all ones).
Xen: xen/arch/x86/pv/dom0_build.c, ``dom0_construct`` (4.14 to 4.22 alike).
"""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.plan.counted import PIECE, counted
from mbtool.plan.memory import PAGE_SHIFT
from mbtool.plan.pv_dom0 import Plan
from mbtool.record import record

BLOCK = 1 << 17
"""Entries written at a time: 1 MiB."""


@record
class Run:
    """``count`` pages from ``pfn`` on have the frames ``mfn``, ``mfn + step``, …"""

    pfn: int
    mfn: int
    count: int
    step: int = 1


def initial_runs(plan: Plan) -> tuple[Run, ...]:
    """dom0's block and the initrd, in pfn order, as the initial mapping has them."""
    base, block = plan.alloc.start >> PAGE_SHIFT, 1 << plan.space.order
    if not plan.initrd_pages or plan.initrd is None:
        return (Run(0, base, block),)
    before, pages = plan.initrd_pfn, plan.initrd_pages
    runs = (
        Run(0, base, before),
        Run(before, plan.initrd.start >> PAGE_SHIFT, pages),
        Run(before + pages, base + before, block - before),
    )
    return tuple(run for run in runs if run.count)


def decided_runs(plan: Plan) -> tuple[Run, ...]:
    """The P2M entries that the images decide, in pfn order: ``first_p2m_pfn`` of them.

    A debug build of Xen hands out the block's pages behind the initial mapping in reverse.
    """
    runs = initial_runs(plan)
    turn = (plan.space.total.size >> PAGE_SHIFT) + 1
    end = (1 << plan.space.order) + (plan.initrd_pages if plan.space.initrd is not None else 0)
    if not plan.machine.debug or turn >= end:
        return runs
    last = plan.alloc.end >> PAGE_SHIFT
    kept = [Run(run.pfn, run.mfn, min(run.count, turn - run.pfn)) for run in runs if run.pfn < turn]
    return (*kept, Run(turn, last - 1, end - turn, -1), *(run for run in runs if run.pfn >= end))


def blocks(plan: Plan) -> Iterator[bytes]:
    """The whole P2M, ``nr_pages`` entries, in pieces of at most 1 MiB."""
    word = plan.width.word
    written = 0
    for run in decided_runs(plan):
        for start in range(0, run.count, BLOCK):
            yield b"".join(
                counted(run.mfn + at * run.step, min(PIECE, run.count - at), step=run.step, word=word)
                for at in range(start, min(start + BLOCK, run.count), PIECE)
            )
        written += run.count
    unknown = b"\xff" * word * BLOCK
    for start in range(written, plan.nr_pages, BLOCK):
        yield unknown[: word * (plan.nr_pages - start)]
