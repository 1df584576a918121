"""From an ELF file to what Xen derives before it builds a domain, with Xen's own refusals.

    program headers ──▶ pstart, pend ─┐
    PT_NOTE, else SHT_NOTE, ──────────┼──▶ virt_base, virt_kstart … virt_kend, virt_entry, p2m_base, flags
    else ``__xen_guest``              ┘

The steps and their order are those of xen/common/libelf/libelf-loader.c (elf_init, elf_parse_binary) and
libelf-dominfo.c (elf_xen_parse, elf_xen_note_check, elf_xen_addr_calc_check); the last checks are dom0's
(xen/arch/x86/pv/dom0_build.c, hvm/dom0_build.c). All sums wrap at 64 bits as in C.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mbtool.errors import RefusedError
from mbtool.formats import elf_notes, xen_legacy_guest
from mbtool.formats.dom_parms import DomParms, LoadSegment, PaeMode
from mbtool.formats.elf_file import (
    EM_386,
    EM_X86_64,
    PT_LOAD,
    PT_NOTE,
    SHT_NOTE,
    SHT_STRTAB,
    SHT_SYMTAB,
    ElfFile,
    Shdr,
    parse_elf,
)
from mbtool.formats.elf_notes import Note
from mbtool.formats.xen_notes import FEAT_DOM0, XenNote, feature_bits, number, numbers
from mbtool.source import Source

Version = tuple[int, int]
MASK64 = (1 << 64) - 1
MASK32 = (1 << 32) - 1
BUFFER = 15
"""Characters that Xen keeps of LOADER, GUEST_OS, GUEST_VERSION and XEN_VERSION (``char[16]``)."""
MAX_STRING = 4096
"""Longest string note (ELF_MAX_STRING_LENGTH)."""
COMPAT_VIRT_START = 0xF5800000
"""Highest start of Xen's range in a 32-bit domain (__HYPERVISOR_COMPAT_VIRT_START)."""


def derive(
    source: Source, elf: ElfFile | None = None, *, hvm: bool = False, version: Version = (4, 17)
) -> DomParms:
    """What Xen ``version`` derives from a dom0 kernel, PV or (``hvm``) PVH; unpacks a stream to its end.

    Raises RefusedError with Xen's message when it would not build dom0 from it, FormatError for no ELF file. What
    depends on the layout (HYPERCALL_PAGE, overlap with Xen's range) is left to the planner. Differences:
    4.14 and 4.15 know nothing of ``hvm`` here, 4.18 lets PVH have PADDR_OFFSET without VIRT_BASE, 4.19 reads
    PHYS32_RELOC, 4.22 asks for the dom0 feature in PVH too.
    """
    attempt = attempt_derive(elf or parse_elf(source), hvm=hvm, version=version, size=source.size)
    if attempt.refusal:
        raise attempt.refusal
    refuse_dom0(attempt.parms, hvm=hvm, version=version)
    return attempt.parms


@dataclass(frozen=True, slots=True)
class Attempt:
    """What libelf derives, and why it then refuses the kernel (None when it does not)."""

    parms: DomParms
    refusal: RefusedError | None


def attempt_derive(elf: ElfFile, *, hvm: bool, version: Version, size: int | None) -> Attempt:
    """The derivation without dom0's own checks; ``size`` is the file's, None skips the checks that need it."""
    told = hvm and version >= (4, 16)  # before, libelf did not know what it was parsing for
    found = _Findings()
    refusal = _refuse_tables(elf, size) or _read_notes(elf, found, told, version)
    parms = _calculate(elf, found, told)
    refusal = refusal or _refuse_notes(elf, found, parms, hvm, version)
    return Attempt(parms, refusal or _refuse_addresses(found, parms, hvm, version))


@dataclass(slots=True)
class _Findings:
    """What the notes or the legacy string said; None stands for UNSET_ADDR."""

    noted: bool = False  # a note segment or section was seen, with Xen notes in it or not
    guest: bool = False  # a __xen_guest section was seen
    virt_base: int | None = None
    virt_entry: int | None = None
    virt_hypercall: int | None = None
    virt_hv_start_low: int | None = None
    p2m_base: int | None = None
    elf_paddr_offset: int | None = None
    phys_entry: int | None = None
    phys_reloc: bool = False
    phys_align: int | None = None
    phys_min: int = 0
    phys_max: int = MASK32
    unmapped_initrd: bool = False
    pae: PaeMode = PaeMode.NO
    bsd_symtab: bool = False
    f_supported: int = 0
    f_required: int = 0
    has_supported_features_note: bool = False
    guest_os: str = ""
    guest_ver: str = ""
    xen_ver: str = ""
    loader: str = ""


def _refuse_tables(elf: ElfFile, size: int | None) -> RefusedError | None:
    """elf_init: both header tables must lie in the file."""
    header = elf.header
    if size is None:
        return None
    for name, start, step, count in (
        ("phdr", header.e_phoff, header.e_phentsize, header.e_phnum),
        ("shdr", header.e_shoff, header.e_shentsize, min(header.e_shnum, size // 40)),
    ):
        end = start + step * count & MASK64
        if end > size:
            return _refused(f"ELF: {name} overflow (off {end:x} > size {size:x})", elf)
    return None


def _read_notes(elf: ElfFile, found: _Findings, told: bool, version: Version) -> RefusedError | None:
    """elf_xen_parse: program headers first, sections only when those held no Xen note, the old string last."""
    for areas in (note_segments(elf), _note_sections(elf)):
        seen = 0
        for start, size in areas:
            found.noted = True
            for note in elf_notes.walk(elf.source, start, size)[0]:
                if note.name == "Xen":
                    seen += 1
                    if unknown := _apply(elf.source, note, found, version):
                        return _refused_feature(elf, unknown, version)
        if seen:
            return None
    if not told and (section := legacy_section(elf)):
        found.guest, found.noted = True, False
        _apply_legacy(xen_legacy_guest.read_text(elf.source, section.sh_offset), found)
    return None


def note_segments(elf: ElfFile) -> Iterator[tuple[int, int]]:
    """(offset, size) of every PT_NOTE that Xen looks at: those at offset 0 are the work of old binutils."""
    for phdr in elf.program_headers[: elf.header.e_phnum]:
        if phdr.p_type == PT_NOTE and phdr.p_offset:
            yield phdr.p_offset, phdr.p_filesz


def _note_sections(elf: ElfFile) -> Iterator[tuple[int, int]]:
    for section in _sections(elf)[1:]:
        if section.sh_type == SHT_NOTE:
            yield section.sh_offset, section.sh_size


def _sections(elf: ElfFile) -> tuple[Shdr, ...]:
    """The sections that Xen sees: it does not know the extension of e_shnum."""
    return elf.section_headers()[: elf.header.e_shnum] if elf.header.e_shnum else ()


def legacy_section(elf: ElfFile) -> Shdr | None:
    """The ``__xen_guest`` section, None when there is none."""
    sections = _sections(elf)
    names = elf.section_names(sections)
    return next(
        (s for s, name in list(zip(sections, names, strict=True))[1:] if name == xen_legacy_guest.SECTION), None
    )


def note_string(source: Source, note: Note) -> str | None:
    """A string note as Xen reads it: to the first NUL of the file, even past the descriptor; None when endless."""
    head, end, _ = source.read(note.desc_offset, MAX_STRING + 1).partition(b"\0")
    return head.decode("latin-1") if end else None


def _apply(source: Source, note: Note, found: _Findings, version: Version) -> str:
    """elf_xen_parse_note: put one note's value in its place. Returns the unknown feature it requires, or ""."""
    value = number(note.desc) if len(note.desc) == note.header.n_descsz else 0
    match note.type:
        case XenNote.ENTRY:
            found.virt_entry = _address(value)
        case XenNote.HYPERCALL_PAGE:
            found.virt_hypercall = _address(value)
        case XenNote.VIRT_BASE:
            found.virt_base = _address(value)
        case XenNote.PADDR_OFFSET:
            found.elf_paddr_offset = _address(value)
        case XenNote.HV_START_LOW:
            found.virt_hv_start_low = _address(value)
        case XenNote.INIT_P2M:
            found.p2m_base = _address(value)
        case XenNote.MOD_START_PFN:
            found.unmapped_initrd = value != 0
        case XenNote.SUPPORTED_FEATURES:
            found.has_supported_features_note = True
            found.f_supported |= (numbers(note.desc, 4) or (0,))[0]
        case XenNote.PHYS32_ENTRY:
            found.phys_entry = None if value & MASK32 == MASK32 else value & MASK32
        case XenNote.PHYS32_RELOC if version >= (4, 19):
            _apply_reloc(note, found)
        case _:
            return _apply_string(source, note, found)
    return ""


def _apply_reloc(note: Note, found: _Findings) -> None:
    words = numbers(note.desc, 4)
    found.phys_reloc = True
    count = note.header.n_descsz // 4
    # a descriptor that is no multiple of 4 gives zeros
    words = (*words, 0, 0, 0)
    if count >= 1:
        found.phys_align = None if words[0] == MASK32 else words[0]
    if count >= 2:
        found.phys_min = words[1]
    if count >= 3:
        found.phys_max = words[2]


def _apply_string(source: Source, note: Note, found: _Findings) -> str:
    text = note_string(source, note)
    if text is None:
        return ""
    match note.type:
        case XenNote.LOADER:
            found.loader = text[:BUFFER]
        case XenNote.GUEST_OS:
            found.guest_os = text[:BUFFER]
        case XenNote.GUEST_VERSION:
            found.guest_ver = text[:BUFFER]
        case XenNote.XEN_VERSION:
            found.xen_ver = text[:BUFFER]
        case XenNote.PAE_MODE:
            if text == "yes":
                found.pae = PaeMode.EXTENDED_CR3
            elif "bimodal" in text:
                found.pae = PaeMode.BIMODAL
        case XenNote.BSD_SYMTAB:
            found.bsd_symtab |= text == "yes"
        case XenNote.FEATURES:
            supported, required, unknown = feature_bits(text)
            found.f_supported |= supported
            found.f_required |= required
            return unknown
    return ""


def _apply_legacy(text: str, found: _Findings) -> None:
    """elf_xen_parse_guest_info; an unknown required feature ends the reading, and Xen then goes on regardless."""
    value_of = xen_legacy_guest.c_number
    for name, value in xen_legacy_guest.parse_pairs(text):
        match name:
            case "LOADER":
                found.loader = value[:BUFFER]
            case "GUEST_OS":
                found.guest_os = value[:BUFFER]
            case "GUEST_VER":
                found.guest_ver = value[:BUFFER]
            case "XEN_VER":
                found.xen_ver = value[:BUFFER]
            case "PAE" if value == "yes[extended-cr3]":
                found.pae = PaeMode.EXTENDED_CR3
            case "PAE" if value.startswith("yes"):
                found.pae = PaeMode.YES
            case "BSD_SYMTAB":
                found.bsd_symtab = True
            case "VIRT_BASE":
                found.virt_base = _address(value_of(value))
            case "VIRT_ENTRY":
                found.virt_entry = _address(value_of(value))
            case "ELF_PADDR_OFFSET":
                found.elf_paddr_offset = _address(value_of(value))
            case "HYPERCALL_PAGE":
                found.virt_hypercall = _address(value_of(value) << 12 & MASK64)
            case "FEATURES":
                supported, required, unknown = feature_bits(value)
                found.f_supported |= supported
                found.f_required |= required
                if unknown:
                    break
    if found.virt_base is not None and found.virt_hypercall is not None:
        found.virt_hypercall = _address(found.virt_hypercall + found.virt_base & MASK64)


def _address(value: int) -> int | None:
    """All ones is how Xen writes "unset"."""
    return None if value == MASK64 else value


def _calculate(elf: ElfFile, found: _Findings, told: bool) -> DomParms:
    """elf_parse_binary and the arithmetic of elf_xen_addr_calc_check."""
    segments = tuple(
        LoadSegment(p.p_offset, p.p_vaddr, p.p_paddr, p.p_filesz, p.p_memsz, p.p_flags, p.p_align)
        for p in elf.program_headers[: elf.header.e_phnum]
        if p.p_type == PT_LOAD and p.p_flags & 7
    )
    pstart = min((s.p_paddr for s in segments), default=MASK64)
    pend = max((s.p_paddr + s.p_memsz & MASK64 for s in segments), default=0)
    virt_base = 0 if told else found.virt_base or 0
    paddr_offset = found.elf_paddr_offset
    if told or paddr_offset is None:
        # the legacy string's default: its kernels put virtual addresses in p_paddr
        paddr_offset = 0 if told or found.noted else virt_base
    virt_offset = virt_base - paddr_offset & MASK64
    entry = elf.header.e_entry if found.virt_entry is None else found.virt_entry
    if told:
        entry = elf.header.e_entry if found.phys_entry is None else found.phys_entry
    symtab = _bsd_symtab(elf, pend) if found.bsd_symtab else None
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
        virt_hypercall=found.virt_hypercall,
        virt_hv_start_low=found.virt_hv_start_low,
        p2m_base=found.p2m_base,
        unmapped_initrd=found.unmapped_initrd,
        pae=found.pae,
        bsd_symtab=found.bsd_symtab,
        bsd_symtab_range=symtab,
        phys_entry=found.phys_entry,
        phys_reloc=found.phys_reloc,
        phys_align=found.phys_align,
        phys_min=found.phys_min,
        phys_max=found.phys_max,
        f_supported=found.f_supported,
        f_required=found.f_required,
        has_supported_features_note=found.has_supported_features_note,
        guest_os=found.guest_os,
        guest_ver=found.guest_ver,
        xen_ver=found.xen_ver,
        loader=found.loader,
        legacy=found.guest,
    )


def _bsd_symtab(elf: ElfFile, pend: int) -> tuple[int, int] | None:
    """elf_parse_bsdsyms: the symbol and string tables behind the kernel, with an ELF header of their own.

    The size word is counted twice: once alone, once in the structure that the section headers follow.
    """
    sections = _sections(elf)
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


def _refuse_notes(
    elf: ElfFile, found: _Findings, parms: DomParms, hvm: bool, version: Version
) -> RefusedError | None:
    """elf_xen_note_check: is it made for Xen at all?"""
    if not found.noted and not found.guest:
        if not elf.is_x86:
            return None
        return _refused("ERROR: Not a Xen-ELF image: No ELF notes or '__xen_guest' section found", elf)
    if parms.phys_entry is not None and (hvm or version < (4, 16)):
        return None
    if not parms.loader.startswith("generic") and not parms.guest_os.startswith("linux"):
        return _refused(
            "ERROR: Will only load images built for the generic loader or Linux images"
            f" (Not '{parms.loader}' and '{parms.guest_os}') or with PHYS32_ENTRY set",
            elf,
        )
    if not parms.xen_ver.startswith("xen-3.0"):
        return _refused(f"ERROR: Xen will only load images built for Xen v3.0 (Not '{parms.xen_ver}')", elf)
    return None


def _refuse_addresses(found: _Findings, parms: DomParms, hvm: bool, version: Version) -> RefusedError | None:
    """The checks of elf_xen_addr_calc_check."""
    lenient = hvm and version >= (4, 18)
    if found.elf_paddr_offset is not None and found.virt_base is None and not lenient:
        return RefusedError("ERROR: ELF_PADDR_OFFSET set, VIRT_BASE unset")
    kernel = f"kernel {parms.virt_kstart:#x}-{parms.virt_kend:#x}"
    if (
        not parms.virt_kstart <= parms.virt_entry <= parms.virt_kend
        or parms.virt_base > parms.virt_kstart
        or parms.virt_kstart > parms.virt_kend
    ):
        return RefusedError(
            "ERROR: ELF start or entries are out of bounds",
            expected="base <= kernel start <= entry <= kernel end",
            found=f"base {parms.virt_base:#x}, {kernel}, entry {parms.virt_entry:#x}",
        )
    if parms.p2m_base is not None and parms.virt_kstart <= parms.p2m_base < parms.virt_kend:
        return RefusedError(
            "ERROR: P->M table base is out of bounds",
            expected="an address outside the kernel",
            found=f"{parms.p2m_base:#x}, {kernel}",
        )
    return None


def refuse_dom0(parms: DomParms, *, hvm: bool = False, version: Version = (4, 17), pv32: bool = True) -> None:
    """Raise RefusedError when the kernel passes libelf but cannot be dom0 of this Xen.

    ``pv32``: Xen was built with CONFIG_PV32.
    """
    if hvm:
        if parms.phys_entry is None:
            raise RefusedError("Unable to find XEN_ELFNOTE_PHYS32_ENTRY address")
        if version < (4, 22):
            return
    elif parms.elf_class == 32 and not pv32:
        raise RefusedError("Found 32-bit PV kernel, but CONFIG_PV32 missing")
    elif (parms.elf_class, parms.machine) != (64, EM_X86_64) and (
        parms.elf_class != 32 or parms.machine != EM_386 or parms.pae is PaeMode.NO
    ):
        raise RefusedError(
            "Mismatch between Xen and DOM0 kernel",
            expected="ELF64 for x86-64, or ELF32 for i386 with PAE",
            found=f"ELF{parms.elf_class} for machine {parms.machine}, PAE {parms.pae}",
        )
    if parms.has_supported_features_note and not parms.f_supported >> FEAT_DOM0 & 1:
        raise RefusedError("Kernel does not support Dom0 operation")
    if not hvm and parms.elf_class == 32 and parms.virt_hv_start_low is not None:
        start = _up(parms.virt_hv_start_low, 1 << 21)
        if start > COMPAT_VIRT_START:
            raise RefusedError(
                "Dom0 expects too high a hypervisor start address",
                expected=f"at most {COMPAT_VIRT_START:#x}",
                found=f"{start:#x}",
            )


def _refused(message: str, elf: ElfFile) -> RefusedError:
    return RefusedError(message, source=elf.source.name)


def _refused_feature(elf: ElfFile, feature: str, version: Version) -> RefusedError:
    """Xen says nothing here but that it failed."""
    domain = "d0" if version >= (4, 21) else "domain 0"
    return RefusedError(
        f"Could not construct {domain}",
        source=elf.source.name,
        field="FEATURES",
        expected="required features that Xen knows",
        found=repr(feature),
    )
