"""What a PVH dom0's plan looks like: its physical memory, on the map that Xen gives it."""

from __future__ import annotations

from collections.abc import Iterable

from mbtool.plan import pvh_dom0, pvh_lines
from mbtool.plan.e820 import E820Map
from mbtool.plan.outline import EntryState, Outline, Region, Use, physical
from mbtool.plan.pvh_dom0 import PvhPlan

USES = {"kernel": Use.KERNEL, "initrd": Use.MODULE}
"""Everything else is what Xen tells the kernel."""


def of_pvh_dom0(plan: PvhPlan, title: str, assumptions: Iterable[str] = ()) -> Outline:
    """The outline with Xen's own lines first; its memory map is the machine's, not dom0's."""
    regions = tuple(
        Region(name.replace("_", " "), USES.get(name, Use.INFO), span) for name, span in plan.regions if span
    )
    return Outline(
        "dom0-pvh",
        title,
        (physical("dom0's physical memory", regions, E820Map(plan.memory_map)),),
        (EntryState("32-bit", plan.registers),),
        pvh_dom0.start_info_node(plan),
        plan.host.e820,
        pvh_lines.lines(plan),
        tuple(assumptions),
        plan.findings,
    )
