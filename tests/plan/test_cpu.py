"""What a CPU sees through planned page tables: the frames that the P2M lists, and no way to write a page table."""

from __future__ import annotations

import struct

import pytest

from mbtool.plan import p2m
from mbtool.plan.machine import Machine
from mbtool.plan.memory import PAGE, PAGE_SHIFT, Range
from mbtool.plan.pv_dom0 import Plan
from tests.plan.cpu import READ, WRITE, Cpu
from tests.plan.kernels import MIB, TOP_2G, kernel, planned

MACHINE = Machine(alloc_base=0x1000_0000, initrd_base=0x5000_0000)
PLANS = {
    "linux": planned(machine=MACHINE, initrd_len=5000),
    "everything mapped": planned(
        kernel(virt_base=0, p2m_base=None, unmapped_initrd=False), machine=MACHINE, initrd_len=3 * PAGE + 1
    ),
    "two L2 tables": planned(kernel(2 * MIB, virt_base=(1 << 30) - 5 * PAGE), machine=MACHINE),
    "two L3 tables": planned(kernel(2 * MIB, virt_base=(1 << 39) - PAGE, p2m_base=1 << 40), machine=MACHINE),
    "end of the addresses": planned(kernel(MIB, virt_base=(1 << 64) - 4 * MIB), machine=MACHINE),
    "debug build": planned(kernel(9 * MIB), machine=Machine(0x1000_0000, debug=True)),
    "32-bit": planned(
        kernel(elf_class=32, virt_base=(3 << 30) - 7 * PAGE, unmapped_initrd=False),
        machine=MACHINE,
        initrd_len=PAGE + 1,
        nr_pages=20000,
    ),
    "32-bit, low": planned(kernel(elf_class=32, virt_base=0), machine=MACHINE),
}


def regions(plan: Plan) -> dict[str, Range]:
    space = plan.space
    return {
        "kernel": space.kernel,
        "initrd": space.initrd or Range(0, 0),
        "P2M": space.p2m or Range(0, 0),
        "start_info": space.start_info,
        "page tables": space.page_tables,
        "stack": space.stack,
        "all": space.total,
    }


@pytest.mark.parametrize("name", PLANS)
def test_first_and_last_byte_of_every_region(name: str) -> None:
    plan = PLANS[name]
    cpu = Cpu(plan)
    code = "Q" if plan.width.bits == 64 else "I"
    frames = struct.unpack(f"<{plan.nr_pages}{code}", b"".join(p2m.blocks(plan)))
    for region, span in regions(plan).items():
        for address in (span.start, span.end - 1) if span else ():
            pfn, offset = divmod(address - plan.space.total.start, PAGE)
            assert cpu.reads(address, (frames[pfn] << PAGE_SHIFT) + offset), (region, hex(address))
            assert cpu.accesses(address, WRITE) is (region != "page tables"), (region, hex(address))


@pytest.mark.parametrize("name", PLANS)
def test_nothing_else_is_mapped(name: str) -> None:
    plan = PLANS[name]
    cpu = Cpu(plan)
    total = plan.space.total
    around = {total.start - 1, total.end, total.start - 2 * MIB, total.end + (1 << 30)}
    for address in around:
        if 0 <= address < 1 << plan.width.bits:
            assert not cpu.accesses(address, READ), hex(address)


def test_no_page_table_can_be_written() -> None:
    plan = PLANS["linux"]
    cpu = Cpu(plan)
    tables = plan.space.page_tables
    assert tables.start - TOP_2G == 4 * MIB + PAGE
    assert [cpu.accesses(address, WRITE) for address in range(tables.start, tables.end, PAGE)] == [False] * 7
    assert cpu.accesses(tables.start - 1, WRITE)
    assert cpu.accesses(tables.end, WRITE)
