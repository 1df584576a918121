"""What stops Xen from building a PV dom0, in the order in which it finds out, with its own messages.

Xen: xen/arch/x86/pv/dom0_build.c, ``dom0_construct`` and ``setup_pv_physmap``; xen/common/libelf/libelf-loader.c,
``elf_load_binary``. Where Xen does not look and goes astray the words are mbtool's.
"""

from __future__ import annotations

from mbtool.errors import MbtoolError, RefusedError
from mbtool.formats.dom_parms import DomParms
from mbtool.plan.machine import Machine
from mbtool.plan.memory import PAGE, TOP, Range, up
from mbtool.plan.p2m_map import P2mMap, map_p2m
from mbtool.plan.pv_space import Space, lay_out, pages_needed
from mbtool.plan.pv_width import HYPERVISOR_COMPAT_VIRT_START, L2_SHIFT, init_p2m

HYPERVISOR_VIRT = Range(0xFFFF_8000_0000_0000, 0xFFFF_8800_0000_0000)
"""Xen's own part of the address space (HYPERVISOR_VIRT_START, HYPERVISOR_VIRT_END)."""
NON_CANONICAL = Range(0x0000_8000_0000_0000, 0xFFFF_8000_0000_0000)
MAX_PAGES = (1 << 32) - 1
"""Xen keeps a domain's pages in 32 bits."""


def refuse_kernel(parms: DomParms) -> None:
    """What goes astray from the start."""
    if parms.virt_base % PAGE:
        raise RefusedError(
            "VIRT_BASE is not at a page: Xen does not check this and builds page tables that lead nowhere",
            found=f"{parms.virt_base:#x}",
        )


def refuse_space(parms: DomParms, space: Space) -> None:
    """Where the initial mapping may not be."""
    total, private = space.total, xen_private(parms)
    if total.overlaps(private):
        raise RefusedError(
            "DOM0 image overlaps with Xen private area.",
            expected=f"an initial mapping outside {private}",
            found=str(total),
        )
    if total.overlaps(NON_CANONICAL):
        raise RefusedError("the initial mapping has addresses that no x86-64 CPU has", found=str(total))


def xen_private(parms: DomParms) -> Range:
    """Xen's own part of the kernel's address space; a 32-bit kernel may let it begin higher (HV_START_LOW)."""
    if parms.elf_class == 64:
        return HYPERVISOR_VIRT
    low = parms.virt_hv_start_low or 0
    return Range(max(HYPERVISOR_COMPAT_VIRT_START, up(low, 1 << L2_SHIFT)), TOP)


def refuse_load(parms: DomParms, space: Space) -> None:
    """What stops it while it copies the kernel: sizes that cannot be, a hypercall page that is not there."""
    refuse_segments(parms)
    if parms.virt_hypercall is not None and parms.virt_hypercall not in space.total:
        raise RefusedError(
            "Invalid HYPERCALL_PAGE field in ELF notes.",
            expected=f"an address inside {space.total}",
            found=f"{parms.virt_hypercall:#x}",
        )


def refuse_segments(parms: DomParms) -> None:
    """Segments that libelf does not copy: sizes that cannot be, or more in all than there is room for."""
    room = 2 * (parms.virt_kend - parms.virt_kstart)
    for segment in parms.segments:
        room -= segment.p_memsz
        if segment.p_filesz > segment.p_memsz:
            raise RefusedError(
                "Failed to load the kernel binary: a segment has more bytes in the file than in memory",
                expected=f"p_filesz at most {segment.p_memsz:#x}",
                found=f"{segment.p_filesz:#x}",
            )
    if room < 0:
        raise RefusedError("program segments total to more than the input image size: they overlap each other")


def place_p2m(
    parms: DomParms, space: Space, initrd_len: int, nr_pages: int, machine: Machine
) -> tuple[Range, P2mMap]:
    """Where dom0 sees the P2M, and the tables for it when it is outside the initial mapping."""
    if space.p2m is not None:
        return space.p2m, P2mMap(0, 0, ())
    base = init_p2m(parms)
    assert base is not None
    if base + nr_pages * 8 > TOP:  # its end wraps, and Xen allocates nothing
        raise RefusedError(
            "Not enough RAM for DOM0 P->M table",
            field="INIT_P2M",
            expected=f"at most {TOP - nr_pages * 8:#x}, which leaves room for {nr_pages} entries",
            found=f"{base:#x}",
        )
    p2m = Range.at(base, nr_pages * 8)
    if space.total.start <= p2m.end and p2m.start <= space.total.end:
        raise RefusedError(
            "DOM0 P->M table overlaps initial mapping", expected=f"clear of {space.total}", found=str(p2m)
        )
    if p2m.overlaps(HYPERVISOR_VIRT) or p2m.overlaps(NON_CANONICAL):
        raise RefusedError(
            "INIT_P2M lies where dom0 cannot have memory: Xen does not check this and destroys its own tables",
            found=str(p2m),
        )
    owned = pages_needed(space, initrd_len)
    return p2m, map_p2m(p2m, space.total, owned, gigabyte_pages=machine.gigabyte_pages)


def too_small(message: str, parms: DomParms, initrd_len: int, nr_pages: int, machine: Machine) -> RefusedError:
    """Xen's message, what takes the room, and the least that would do."""
    try:
        least = _least_pages(parms, initrd_len, nr_pages, machine)
    except MbtoolError as error:  # more memory brings other trouble
        return RefusedError(f"{message}, and no amount would do: {error.problem}", found=error.found)
    mib = (least * PAGE + (1 << 20) - 1) >> 20
    block = (PAGE << lay_out(parms, initrd_len, least).order) >> 20
    room = up(initrd_len)
    amount = f"{room / (1 << 20):.1f} MiB" if room >= 1 << 20 else f"{room >> 10} KiB"
    initrd = f", the initrd {amount}" if initrd_len else ""
    return RefusedError(
        f"{message}: kernel, page tables and padding take a block of {block} MiB{initrd}",
        expected=f"at least {mib} MiB",
        found=f"{nr_pages * PAGE / (1 << 20):g} MiB",
        remedy=f"give dom0_mem={mib}M or more" if least <= MAX_PAGES else "no domain can be that large",
    )


def _least_pages(parms: DomParms, initrd_len: int, nr_pages: int, machine: Machine) -> int:
    """The smallest number of pages, ``nr_pages`` or more, that is not too small: both needs grow with it."""
    while True:
        space = lay_out(parms, initrd_len, nr_pages)
        needed = pages_needed(space, initrd_len)
        if needed <= nr_pages:
            needed = place_p2m(parms, space, initrd_len, nr_pages, machine)[1].pages_needed
        if needed <= nr_pages:
            return nr_pages
        nr_pages = needed
