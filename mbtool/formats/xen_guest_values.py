"""What a kernel tells Xen: its notes, or the older ``__xen_guest`` string, read the way Xen reads them.

Source: xen/common/libelf/libelf-dominfo.c, elf_xen_parse, elf_xen_parse_note, elf_xen_parse_guest_info.
"""

from __future__ import annotations

from dataclasses import dataclass

from mbtool.errors import RefusedError
from mbtool.formats import elf_notes, xen_legacy_guest
from mbtool.formats.dom_parms import PaeMode
from mbtool.formats.elf_file import ElfFile
from mbtool.formats.elf_headers import PT_NOTE, SHT_NOTE, Shdr
from mbtool.formats.elf_notes import Area, Note
from mbtool.formats.xen_notes import XenNote, feature_bits, number, numbers
from mbtool.formats.xen_versions import XenVersion
from mbtool.source import Source

MASK64 = (1 << 64) - 1
MASK32 = (1 << 32) - 1
BUFFER = 15
"""Characters that Xen keeps of LOADER, GUEST_OS, GUEST_VERSION and XEN_VERSION (``char[16]``)."""
MAX_STRING = 4096
"""Longest string note (ELF_MAX_STRING_LENGTH)."""


@dataclass(slots=True)
class GuestValues:
    """Filled in note by note, the last one counts. Addresses in bytes, None stands for UNSET_ADDR."""

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


def read_values(elf: ElfFile, values: GuestValues, told: bool, version: XenVersion) -> RefusedError | None:
    """elf_xen_parse: program headers first, sections only when those held no Xen note, the old string last."""
    for areas in (_note_segments, _note_sections):
        where = areas(elf)
        values.noted |= bool(where)
        notes = [note for note in elf_notes.walk_all(elf.source, where)[0] if elf_notes.for_xen(elf.source, note)]
        for note in notes:
            unknown = _apply(elf.source, note, values, version)
            if unknown is not None:
                return _refused_feature(unknown, version)
        if notes:
            return None
    if not told and (section := legacy_section(elf)):
        values.guest, values.noted = True, False
        _apply_legacy(xen_legacy_guest.read_text(elf.source, section.sh_offset), values)
    return None


def _note_segments(elf: ElfFile) -> list[Area]:
    """Every PT_NOTE that Xen looks at, padded to 4: those at offset 0 are the work of old binutils."""
    phdrs = [phdr for phdr in elf.program_headers[: elf.header.e_phnum] if phdr.p_type == PT_NOTE]
    return [(phdr.p_offset, phdr.p_filesz, 4) for phdr in phdrs if phdr.p_offset]


def _note_sections(elf: ElfFile) -> list[Area]:
    notes = [section for section in xen_sections(elf)[1:] if section.sh_type == SHT_NOTE]
    return [(section.sh_offset, section.sh_size, 4) for section in notes]


def xen_sections(elf: ElfFile) -> tuple[Shdr, ...]:
    """The sections that Xen sees: it does not know the extension of e_shnum."""
    return elf.section_headers()[: elf.header.e_shnum] if elf.header.e_shnum else ()


def legacy_section(elf: ElfFile) -> Shdr | None:
    """The ``__xen_guest`` section, None when there is none."""
    sections = xen_sections(elf)
    if elf.header.e_shstrndx >= len(sections):
        return None
    names = sections[elf.header.e_shstrndx].sh_offset
    wanted = xen_legacy_guest.SECTION.encode() + b"\0"
    # Xen reads names to their NUL, whatever the size of the name table
    matches = (s for s in sections[1:] if elf.source.read(names + s.sh_name, len(wanted)) == wanted)
    return next(matches, None)


def note_string(source: Source, note: Note) -> str | None:
    """A string note as Xen reads it: to the first NUL of the file, even past the descriptor; None when endless."""
    head, end, _ = source.read(note.desc_offset, MAX_STRING + 1).partition(b"\0")
    return head.decode("latin-1") if end else None


def _apply(source: Source, note: Note, values: GuestValues, version: XenVersion) -> str | None:
    """elf_xen_parse_note: put one note's value in its place. Returns the unknown feature that it requires."""
    value = number(note.desc) if len(note.desc) == note.header.n_descsz else 0
    match note.type:
        case XenNote.ENTRY:
            values.virt_entry = _address(value)
        case XenNote.HYPERCALL_PAGE:
            values.virt_hypercall = _address(value)
        case XenNote.VIRT_BASE:
            values.virt_base = _address(value)
        case XenNote.PADDR_OFFSET:
            values.elf_paddr_offset = _address(value)
        case XenNote.HV_START_LOW:
            values.virt_hv_start_low = _address(value)
        case XenNote.INIT_P2M:
            values.p2m_base = _address(value)
        case XenNote.MOD_START_PFN:
            values.unmapped_initrd = value != 0
        case XenNote.SUPPORTED_FEATURES:
            values.has_supported_features_note = True
            values.f_supported |= _words(note)[0]
        case XenNote.PHYS32_ENTRY:
            values.phys_entry = None if value & MASK32 == MASK32 else value & MASK32
        case XenNote.PHYS32_RELOC if version.phys32_reloc:
            _apply_reloc(note, values)
        case _:
            return _apply_string(source, note, values)
    return None


def _words(note: Note) -> tuple[int, ...]:
    """The descriptor as 32-bit numbers, at least three: zeros when its size is no multiple of 4 or it is cut."""
    whole = len(note.desc) // 4 * 4 if note.header.n_descsz % 4 == 0 else 0
    return (*numbers(note.desc[:whole], 4), 0, 0, 0)


def _apply_reloc(note: Note, values: GuestValues) -> None:
    words = _words(note)
    values.phys_reloc = True
    count = note.header.n_descsz // 4
    if count >= 1:
        values.phys_align = None if words[0] == MASK32 else words[0]
    if count >= 2:
        values.phys_min = words[1]
    if count >= 3:
        values.phys_max = words[2]


def _apply_string(source: Source, note: Note, values: GuestValues) -> str | None:
    text = note_string(source, note)
    if text is None:
        return None
    match note.type:
        case XenNote.LOADER:
            values.loader = text[:BUFFER]
        case XenNote.GUEST_OS:
            values.guest_os = text[:BUFFER]
        case XenNote.GUEST_VERSION:
            values.guest_ver = text[:BUFFER]
        case XenNote.XEN_VERSION:
            values.xen_ver = text[:BUFFER]
        case XenNote.PAE_MODE:
            if text == "yes":
                values.pae = PaeMode.EXTENDED_CR3
            elif "bimodal" in text:
                values.pae = PaeMode.BIMODAL
        case XenNote.BSD_SYMTAB:
            values.bsd_symtab |= text == "yes"
        case XenNote.FEATURES:
            supported, required, unknown = feature_bits(text)
            values.f_supported |= supported
            values.f_required |= required
            return unknown
    return None


def _apply_legacy(text: str, values: GuestValues) -> None:
    """elf_xen_parse_guest_info; an unknown required feature ends the reading, and Xen then goes on regardless."""
    value_of = xen_legacy_guest.c_number
    for name, value in xen_legacy_guest.parse_pairs(text):
        match name:
            case "LOADER":
                values.loader = value[:BUFFER]
            case "GUEST_OS":
                values.guest_os = value[:BUFFER]
            case "GUEST_VER":
                values.guest_ver = value[:BUFFER]
            case "XEN_VER":
                values.xen_ver = value[:BUFFER]
            case "PAE" if value == "yes[extended-cr3]":
                values.pae = PaeMode.EXTENDED_CR3
            case "PAE" if value.startswith("yes"):
                values.pae = PaeMode.YES
            case "BSD_SYMTAB":
                values.bsd_symtab = True
            case "VIRT_BASE":
                values.virt_base = _address(value_of(value))
            case "VIRT_ENTRY":
                values.virt_entry = _address(value_of(value))
            case "ELF_PADDR_OFFSET":
                values.elf_paddr_offset = _address(value_of(value))
            case "HYPERCALL_PAGE":
                values.virt_hypercall = _address(value_of(value) << 12 & MASK64)
            case "FEATURES":
                supported, required, unknown = feature_bits(value)
                values.f_supported |= supported
                values.f_required |= required
                if unknown is not None:
                    break
    if values.virt_base is not None and values.virt_hypercall is not None:
        values.virt_hypercall = _address(values.virt_hypercall + values.virt_base & MASK64)


def _address(value: int) -> int | None:
    """All ones is how Xen writes "unset"."""
    return None if value == MASK64 else value


def _refused_feature(feature: str, version: XenVersion) -> RefusedError:
    """Xen says nothing here but that it failed."""
    return RefusedError(
        version.unconstructed,
        field="FEATURES",
        expected="required features that Xen knows",
        found=repr(feature),
    )
