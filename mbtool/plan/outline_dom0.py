"""What a PV dom0's plan looks like: its virtual memory, and where in machine memory that is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mbtool.formats import pv_start_info
from mbtool.plan import arrangement
from mbtool.plan.e820 import E820Map
from mbtool.plan.memory import PAGE_SHIFT, Range
from mbtool.plan.outline import AddressSpace, EntryState, Outline, Region, Use, physical
from mbtool.plan.p2m import initial_runs
from mbtool.plan.pv_dom0 import Plan, start_info_page
from mbtool.source import BytesSource


def of_pv_dom0(plan: Plan, title: str, memory: E820Map | None = None, assumptions: Iterable[str] = ()) -> Outline:
    """The outline with Xen's own lines first; ``memory`` is the machine's."""
    virtual = tuple(_virtual(plan))
    machine = [
        Region(region.name, region.use, span) for region in virtual for span in _machine_ranges(plan, region.range)
    ]
    if plan.initrd:
        machine = [region for region in machine if region.use is not Use.MODULE]
        machine.append(Region("initrd", Use.MODULE, plan.initrd))
    machine.append(Region("dom0's memory", Use.SPARE, plan.alloc))
    ground_of_virtual = (Region("mapped, empty", Use.SPARE, plan.space.total),)
    return Outline(
        "dom0-pv",
        title,
        (
            AddressSpace("dom0's virtual memory", virtual, ground_of_virtual, "not mapped"),
            physical("machine memory", tuple(machine), memory),
        ),
        (EntryState(f"{plan.width.bits}-bit", plan.registers),),
        pv_start_info.inspect(BytesSource(start_info_page(plan))),
        memory,
        arrangement.lines(plan),
        tuple(assumptions),
        plan.findings,
    )


def _virtual(plan: Plan) -> Iterator[Region]:
    space = plan.space
    yield Region("kernel", Use.KERNEL, space.kernel)
    if space.initrd:
        yield Region("initrd", Use.MODULE, space.initrd)
    yield Region("P2M", Use.P2M, plan.p2m)
    yield Region("start_info", Use.INFO, space.start_info.paged())
    yield Region("page tables", Use.PAGE_TABLES, space.page_tables)
    yield Region("boot stack", Use.STACK, space.stack)


def _machine_ranges(plan: Plan, span: Range) -> Iterator[Range]:
    """Where the pages of a virtual range are, for those in the initial mapping; whole pages."""
    if not plan.space.total.covers(span):
        return
    first = plan.space.total.start >> PAGE_SHIFT
    pages = range(span.pages.start - first, span.pages.stop - first)
    for run in initial_runs(plan):
        start, end = max(pages.start, run.pfn), min(pages.stop, run.pfn + run.count)
        if start < end:
            yield Range.frames(run.mfn + start - run.pfn, end - start)
