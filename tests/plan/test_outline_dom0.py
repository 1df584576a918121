"""The outline of a PV dom0: its machine regions are where its page tables say that the virtual ones are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mbtool.plan import page_tables
from mbtool.plan.e820 import E820Map
from mbtool.plan.machine import Machine
from mbtool.plan.memory import PAGE
from mbtool.plan.outline import Use
from mbtool.plan.outline_dom0 import of_pv_dom0
from mbtool.plan.page_table_dump import PageTables
from mbtool.plan.pv_dom0 import Plan
from mbtool.render.svg import draw
from mbtool.source import BytesSource
from tests.plan.kernels import MIB, kernel, planned
from tests.plan.loads import ram

MACHINE = Machine(alloc_base=0x1000_0000, initrd_base=0x5000_0000)
PLANS = {
    "linux": planned(machine=MACHINE, initrd_len=5000),
    "everything mapped": planned(
        kernel(virt_base=0, p2m_base=None, unmapped_initrd=False), machine=MACHINE, initrd_len=3 * PAGE + 1
    ),
    "no initrd": planned(kernel(MIB), machine=MACHINE),
    "32-bit": planned(
        kernel(elf_class=32, virt_base=(3 << 30) - 7 * PAGE, unmapped_initrd=False),
        machine=MACHINE,
        initrd_len=PAGE + 1,
        nr_pages=20000,
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_machine_regions_by_the_page_tables(name: str) -> None:
    plan: Plan = PLANS[name]
    narrow = plan.width.bits == 32
    outline = of_pv_dom0(plan, "title")
    virtual, machine = outline.spaces
    blob = b"".join(page_tables.frames(plan))
    tables = PageTables(BytesSource(blob, "pt"), plan.page_table_base, plan.page_table_base, pae=narrow)
    for region in virtual.regions:
        if not plan.space.total.covers(region.range):
            continue
        there = [item for item in machine.regions if item.name == region.name]
        if region.use is not Use.MODULE:  # a module's last page is not all its own
            assert sum(item.range.size for item in there) == region.range.paged().size
        start = tables.walk(region.range.start).target
        last = tables.walk(region.range.end - 1).target
        assert start is not None and last is not None
        assert any(start in item.range for item in there) and any(last in item.range for item in there)
    (state,) = outline.entries
    assert (state.name, "eip" in state.registers) == (f"{plan.width.bits}-bit", narrow)
    assert outline.structure.kind == "pv-start-info"
    assert draw(outline).startswith("<svg")


def test_places_are_checked_against_the_machines_memory() -> None:
    def told(memory: E820Map | None) -> list[str]:
        machine = replace(MACHINE, ram=memory.usable() if memory else ())
        plan = planned(machine=machine, initrd_len=5000)
        return [finding.message.split(" cannot")[0] for finding in of_pv_dom0(plan, "t", memory).findings]

    assert told(None) == []
    assert told(ram((MIB, 2 << 30))) == []
    assert told(ram((MIB, 0x4000_0000))) == ["the initrd"]
    assert told(ram((MIB, 0x1000_1000), (0x5000_0000, 0x6000_0000))) == ["dom0's memory"]
