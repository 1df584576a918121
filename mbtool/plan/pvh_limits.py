"""What stops Xen from building a PVH dom0, in the order in which it finds out, with its own messages.

Xen: xen/arch/x86/hvm/dom0_build.c, ``pvh_load_kernel``; xen/common/libelf/libelf-loader.c, ``elf_load_binary``.
"""

from __future__ import annotations

from collections.abc import Sequence

from mbtool.errors import RefusedError
from mbtool.formats.dom_parms import DomParms
from mbtool.formats.xen_refusals import dom0_refusal, mode_refusal
from mbtool.plan import pvh_place
from mbtool.plan.e820 import MIB, RAM, E820Entry
from mbtool.plan.memory import TOP, Range
from mbtool.plan.pv_limits import refuse_segments
from mbtool.plan.pvh_versions import PvhRules


def refuse_parms(parms: DomParms, how: PvhRules) -> None:
    """A kernel without PVH entry point, or one that says it is no dom0."""
    refusal = mode_refusal(parms, hvm=True)
    if how.dom0_feature:
        refusal = refusal or dom0_refusal(parms)
    if refusal:
        raise refusal


def kernel_at(parms: DomParms, entries: Sequence[E820Entry], how: PvhRules) -> tuple[Range, int]:
    """Where the kernel is loaded, and how many bytes up from where it is linked."""
    size = parms.virt_kend - parms.virt_kstart
    kernel = Range.at((parms.virt_kstart - parms.virt_base) % TOP, size)
    moved = 0
    if how.checked_address:
        if not pvh_place.fits(entries, kernel):
            moved = _move(parms, entries, kernel) - kernel.start
    else:
        _refuse_unbacked(parms, entries, kernel)
    refuse_segments(parms)
    return kernel.shifted(moved), moved


def _move(parms: DomParms, entries: Sequence[E820Entry], kernel: Range) -> int:
    """The address for a kernel that cannot stay where it is linked."""
    areas = ", ".join(str(span) for span in _ram(entries))
    if not parms.phys_reloc:
        raise RefusedError(
            "d0 kernel: Address conflict and not relocatable: dom0 has no RAM where its kernel is linked",
            expected=f"RAM at {kernel}",
            found=f"RAM at {areas}",
            remedy="give dom0 more memory, or use a kernel with a PHYS32_RELOC note",
        )
    start = pvh_place.find_kernel(entries, parms, kernel.size)
    if start is None:
        raise RefusedError(
            "d0 kernel: Failed find a load address: the kernel may be moved, yet there is no room for it",
            expected=f"{kernel.size:#x} bytes of RAM from {parms.phys_min:#x} to {parms.phys_max:#x},"
            f" at a multiple of {pvh_place.alignment(parms):#x}",
            found=f"RAM at {areas}",
            remedy="give dom0 more memory",
        )
    return start


def _refuse_unbacked(parms: DomParms, entries: Sequence[E820Entry], kernel: Range) -> None:
    """Before 4.19 Xen does not look at the map: it fails when it copies a segment to where dom0 has no RAM."""
    for segment in parms.segments:
        span = Range.at(segment.p_paddr - parms.pstart + kernel.start, segment.p_memsz)
        if span and not _backed(entries, span):
            raise RefusedError(
                "Failed to load kernel: -1: dom0 has no RAM where a segment goes",
                expected=f"RAM at {span}",
                found=f"RAM at {', '.join(map(str, _ram(entries)))}",
                remedy="give dom0 more memory",
            )


def _backed(entries: Sequence[E820Entry], span: Range) -> bool:
    """Whether RAM entries, one after the other, hold all of ``span``."""
    at = span.start
    for ram in _ram(entries):
        if at in ram:
            at = ram.end
    return at >= span.end


def _ram(entries: Sequence[E820Entry]) -> list[Range]:
    return [entry.range for entry in entries if entry.type == RAM]


def find_room(entries: Sequence[E820Entry], kernel: Range, size: int, how: PvhRules) -> int:
    """Where the initrd and all else go. RefusedError with what would be needed when there is no such place."""
    start = pvh_place.find_room(entries, kernel, size, below_first=how.checked_address)
    if start is None:
        raise RefusedError(
            "Unable to find a memory region to load initrd and metadata",
            expected=f"{size / MIB:.1f} MiB in one piece above 1 MiB, clear of the kernel at {kernel}",
            found=f"RAM at {', '.join(map(str, _ram(entries)))}",
            remedy="give dom0 more memory, or make the initrd smaller",
        )
    return start
