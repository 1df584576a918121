"""From an ELF file to what Xen derives before it builds a domain, with Xen's own refusals.

    program headers ──▶ pstart, pend ─┐
    PT_NOTE, else SHT_NOTE, ──────────┼──▶ virt_base, virt_kstart … virt_kend, virt_entry, p2m_base, flags
    else ``__xen_guest``              ┘

The steps and their order are those of xen/common/libelf/libelf-loader.c (elf_init, elf_parse_binary) and
libelf-dominfo.c (elf_xen_parse, elf_xen_note_check, elf_xen_addr_calc_check); the last checks are dom0's
(xen/arch/x86/pv/dom0_build.c, hvm/dom0_build.c). All sums wrap at 64 bits as in C.
"""

from __future__ import annotations

from mbtool.errors import RefusedError
from mbtool.formats.dom_parms import DomParms, LoadSegment
from mbtool.formats.elf_file import ElfFile, parse_elf
from mbtool.formats.elf_headers import PT_LOAD, SHT_STRTAB, SHT_SYMTAB
from mbtool.formats.xen_guest_values import MASK64, GuestValues, read_values, xen_sections
from mbtool.formats.xen_refusals import (
    address_refusal,
    dom0_refusal,
    hole_refusal,
    mode_refusal,
    note_refusal,
    table_refusal,
)
from mbtool.formats.xen_versions import NEWEST, XenVersion
from mbtool.record import record
from mbtool.source import Source


def derive(
    source: Source,
    elf: ElfFile | None = None,
    *,
    hvm: bool = False,
    version: XenVersion = NEWEST,
    pv32: bool = True,
) -> DomParms:
    """What Xen ``version`` derives from a dom0 kernel, PV or (``hvm``) PVH; unpacks a stream to its end.

    ``pv32``: Xen was built with CONFIG_PV32, as is usual.

    Raises RefusedError with Xen's message when it would not build dom0 from it, FormatError for no ELF file. What
    depends on the layout (HYPERCALL_PAGE, overlap with Xen's range) is left to the planner. Where releases differ
    is in the table of ``xen_versions``.
    """
    attempt = attempt_derive(elf or parse_elf(source), hvm=hvm, version=version, size=source.size)
    parms = attempt.parms
    refusal = (
        attempt.refusal
        or mode_refusal(parms, hvm=hvm, version=version, pv32=pv32)
        or dom0_refusal(parms, hvm=hvm, version=version)
        or (None if hvm else hole_refusal(parms))
    )
    if refusal:
        refusal.source = source.name
        raise refusal
    return parms


@record
class Attempt:
    """What libelf derives, and why it then refuses the kernel (None when it does not)."""

    parms: DomParms
    refusal: RefusedError | None


def attempt_derive(elf: ElfFile, *, hvm: bool, version: XenVersion, size: int | None) -> Attempt:
    """The derivation without dom0's own checks; ``size`` is the file's, None skips the checks that need it."""
    told = hvm and version.notes_know_pvh  # before, libelf did not know what it was parsing for
    values = GuestValues()
    refusal = table_refusal(elf, size) or read_values(elf, values, told, version)
    parms = _calculate(elf, values, told)
    refusal = refusal or note_refusal(elf, values, parms, hvm=hvm, version=version)
    return Attempt(parms, refusal or address_refusal(values, parms, hvm=hvm, version=version))


def _calculate(elf: ElfFile, values: GuestValues, told: bool) -> DomParms:
    """elf_parse_binary and the arithmetic of elf_xen_addr_calc_check."""
    segments = tuple(
        LoadSegment(p.p_offset, p.p_vaddr, p.p_paddr, p.p_filesz, p.p_memsz, p.p_flags, p.p_align)
        for p in elf.program_headers[: elf.header.e_phnum]
        if p.p_type == PT_LOAD and p.p_flags & 7
    )
    pstart = min((s.p_paddr for s in segments), default=MASK64)
    pend = max((s.p_paddr + s.p_memsz & MASK64 for s in segments), default=0)
    virt_base = 0 if told else values.virt_base or 0
    paddr_offset = values.elf_paddr_offset
    if told or paddr_offset is None:
        # the legacy string's default: its kernels put virtual addresses in p_paddr
        paddr_offset = 0 if told or values.noted else virt_base
    virt_offset = virt_base - paddr_offset & MASK64
    entry = elf.header.e_entry if values.virt_entry is None else values.virt_entry
    if told:
        entry = elf.header.e_entry if values.phys_entry is None else values.phys_entry
    symtab = _bsd_symtab(elf, pend) if values.bsd_symtab else None
    return DomParms(
        elf_class=elf.elf_class,
        machine=elf.header.e_machine,
        segments=segments,
        pstart=pstart,
        pend=pend,
        palign=max((s.p_align for s in segments), default=0),
        virt_base=virt_base,
        elf_paddr_offset=paddr_offset,
        virt_offset=virt_offset,
        virt_kstart=pstart + virt_offset & MASK64,
        virt_kend=(symtab[1] if symtab else pend) + virt_offset & MASK64,
        virt_entry=entry,
        virt_hypercall=values.virt_hypercall,
        virt_hv_start_low=values.virt_hv_start_low,
        p2m_base=values.p2m_base,
        unmapped_initrd=values.unmapped_initrd,
        pae=values.pae,
        bsd_symtab=values.bsd_symtab,
        bsd_symtab_range=symtab,
        phys_entry=values.phys_entry,
        phys_reloc=values.phys_reloc,
        phys_align=values.phys_align,
        phys_min=values.phys_min,
        phys_max=values.phys_max,
        f_supported=values.f_supported,
        f_required=values.f_required,
        has_supported_features_note=values.has_supported_features_note,
        guest_os=values.guest_os,
        guest_ver=values.guest_ver,
        xen_ver=values.xen_ver,
        loader=values.loader,
        legacy=values.guest,
    )


def _bsd_symtab(elf: ElfFile, pend: int) -> tuple[int, int] | None:
    """elf_parse_bsdsyms: the symbol and string tables behind the kernel, with an ELF header of their own.

    The size word is counted twice: once alone, once in the structure that the section headers follow.
    """
    sections = xen_sections(elf)
    symtab = next((s for s in sections[1:] if s.sh_type == SHT_SYMTAB), None)
    if symtab is None or not 0 < symtab.sh_link < len(sections):
        return None
    strtab = sections[symtab.sh_link]
    if strtab.sh_type != SHT_STRTAB:
        return None
    align, shdr_size = (8, 64) if elf.elf_class == 64 else (4, 40)
    size = _up(4 + 4 + 64 + 3 * shdr_size, align)  # the union of both ELF headers is 64 bytes
    size = _up(size + symtab.sh_size, align)
    size = _up(size + strtab.sh_size, align)
    start = _up(pend, align)
    return start, start + size & MASK64


def _up(value: int, align: int) -> int:
    return value + align - 1 & ~(align - 1) & MASK64
