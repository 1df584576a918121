"""What Xen prints on its console while it builds a PV dom0, from `` Dom0 kernel:`` to `` ENTRY ADDRESS:``.

Xen: xen/arch/x86/pv/dom0_build.c; up to 4.15 it prints the lines of absent parts too.
"""

from __future__ import annotations

from mbtool.plan.memory import TOP, Range
from mbtool.plan.pv_dom0 import Plan
from mbtool.plan.pv_width import init_p2m

NOTHING = Range(0, 0)


def lines(plan: Plan) -> tuple[str, ...]:
    """The lines without ``(XEN) `` and line ends; leading blanks are Xen's."""
    parms, space = plan.parms, plan.space
    pae = ", PAE" if plan.shows_pae else ""
    result = [f" Dom0 kernel: {plan.width.bits}-bit{pae}, lsb, paddr {_hex(parms.pstart)} -> {_hex(parms.pend)}"]
    if parms.bsd_symtab_range is not None:
        start, end = parms.bsd_symtab_range
        result.append(f" Dom0 symbol map {_hex(start)} -> {_hex(end)}")
    if plan.clipped:
        result.append(f"Dom0 memory clipped to {plan.nr_pages} pages")
    if parms.p2m_base is not None and init_p2m(parms) is None:
        result.append("P2M table base ignored")
    left = plan.nr_pages - plan.start_info.first_p2m_pfn
    result += [
        "PHYSICAL MEMORY ARRANGEMENT:",
        f" Dom0 alloc.:   {_span(plan.alloc)}" + (f" ({left} pages to be allocated)" if left else ""),
    ]
    if plan.initrd is not None:
        result.append(f" Init. ramdisk: {_span(plan.initrd)}")
    result += ["VIRTUAL MEMORY ARRANGEMENT:", f" Loaded kernel: {_span(space.kernel)}"]
    if space.initrd or plan.version.every_line:
        result.append(f" Init. ramdisk: {_span(NOTHING if space.initrd is None else space.initrd)}")
    result += [f" Phys-Mach map: {_span(plan.p2m)}", f" Start info:    {_span(space.start_info)}"]
    if plan.version.every_line:
        result += [f" Xenstore ring: {_span(NOTHING)}", f" Console ring:  {_span(NOTHING)}"]
    return (
        *result,
        f" Page tables:   {_span(space.page_tables)}",
        f" Boot stack:    {_span(space.stack)}",
        f" TOTAL:         {_span(space.total)}",
        f" ENTRY ADDRESS: {parms.virt_entry:016x}",
    )


def _hex(value: int) -> str:
    """Xen's ``%#lx``: zero has no 0x."""
    return f"{value:#x}" if value else "0"


def _span(span: Range) -> str:
    return f"{span.start:016x}->{span.end % TOP:016x}"
