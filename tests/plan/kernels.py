"""Kernels for the planner's tests: what Xen would derive from them, without files."""

from __future__ import annotations

from mbtool.formats import xen_versions
from mbtool.formats.dom_parms import DomParms, LoadSegment
from mbtool.plan.machine import Machine
from mbtool.plan.pv_dom0 import Plan, plan

MIB = 1 << 20
TOP_2G = 0xFFFF_FFFF_8000_0000
SLOT_1 = 0x80_0000_0000
XEN = xen_versions.parse("4.17")


def kernel(
    size: int = 4 * MIB,
    *,
    start: int = 0,
    virt_base: int = TOP_2G,
    p2m_base: int | None = SLOT_1,
    unmapped_initrd: bool = True,
    f_required: int = 0,
    virt_hypercall: int | None = None,
    elf_class: int = 64,
    filesz: int = 0,
    p_memsz: int | None = None,
) -> DomParms:
    """One segment of ``size`` bytes at physical ``start``; entry at its first byte."""
    memsz = size if p_memsz is None else p_memsz
    return DomParms(
        elf_class=elf_class,
        machine=62,
        segments=(LoadSegment(0, virt_base + start, start, filesz, memsz, 7, 4096),),
        pstart=start,
        pend=start + size,
        virt_base=virt_base,
        elf_paddr_offset=0,
        virt_offset=virt_base,
        virt_kstart=virt_base + start,
        virt_kend=virt_base + start + size,
        virt_entry=virt_base + start,
        virt_hypercall=virt_hypercall,
        p2m_base=p2m_base,
        unmapped_initrd=unmapped_initrd,
        f_required=f_required,
    )


def planned(
    parms: DomParms | None = None,
    *,
    initrd_len: int | None = None,
    nr_pages: int = 131072,
    cmdline: bytes = b"",
    version: str = "4.17",
    machine: Machine | None = None,
) -> Plan:
    """A plan with everything at its simplest."""
    return plan(
        parms or kernel(),
        initrd_len=initrd_len,
        nr_pages=nr_pages,
        cmdline=cmdline,
        version=xen_versions.parse(version),
        machine=machine,
    )
