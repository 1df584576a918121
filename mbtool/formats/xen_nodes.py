"""What concerns Xen in a kernel, shown: its notes, the older string, and what a builder derives from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mbtool.errors import RefusedError
from mbtool.formats import xen_legacy_guest
from mbtool.formats.dom_parms import DomParms
from mbtool.formats.elf_file import ElfFile
from mbtool.formats.elf_notes import Note
from mbtool.formats.wire import flag_names
from mbtool.formats.xen_dom_parms import attempt_derive
from mbtool.formats.xen_guest_values import legacy_section, note_string
from mbtool.formats.xen_notes import (
    FEATURE_NAMES,
    KINDS,
    STRING_FEATURES,
    XEN_NOTE_NAMES,
    Form,
    XenNote,
    feature_bits,
    feature_list,
    number,
    numbers,
)
from mbtool.formats.xen_refusals import dom0_refusal, hole_refusal, mode_refusal
from mbtool.formats.xen_versions import NEWEST
from mbtool.model import Field, Finding, Hex, Node, Severity, Value
from mbtool.source import Source

NO_LIST = "it does not list what it supports"

feature_words = flag_names(FEATURE_NAMES)


def notes_node(source: Source, notes: Sequence[Note]) -> Node:
    """The ``xen-notes`` node: from the first to the last of these notes, one field per note type.

    When a type comes more than once the last one counts, as it does for Xen.
    """
    start = min(note.offset for note in notes)
    findings: list[Finding] = []
    last = {note.type: note for note in notes}
    count = Counter(note.type for note in notes)
    for note in last.values():
        if count[note.type] > 1:
            message = f"comes {count[note.type]} times, the last one counts"
            findings.append(_warning("XEN-NOTE-REPEATED", message, note, start))
    fields = [_field(source, note, start, findings) for note in last.values()]
    size = max(note.end for note in notes) - start
    return Node("xen-notes", start, size, tuple(fields), (), tuple(findings))


def _field(source: Source, note: Note, start: int, findings: list[Finding]) -> Field:
    name = XEN_NOTE_NAMES.get(note.type, f"TYPE_{note.type:#x}")
    raw = note.desc[:64]
    size = note.header.n_descsz
    kind = KINDS.get(XenNote(note.type)) if note.type <= max(XenNote) else None
    if kind is None:
        words = "" if note.type in XEN_NOTE_NAMES else "unknown to Xen, which ignores it"
        return Field(name, raw, note.desc_offset - start, size, words, raw)
    value, words = _decode(source, note, kind.form, start, findings)
    return Field(name, value, note.desc_offset - start, size, words or kind.words, raw, kind.telling)


def _decode(source: Source, note: Note, form: Form, start: int, findings: list[Finding]) -> tuple[Value, str]:
    """A note's value, and words for it that say more than what the note is for."""
    match form:
        case Form.STRING | Form.FEATURES:
            text = _text(source, note, start, findings)
            return _features(text, note, start, findings) if form is Form.FEATURES else (text, "")
        case Form.PAIRS:
            unit = 4 if len(note.desc) == 8 else 8
            values = tuple(Hex(value) for value in numbers(note.desc, unit))
            return tuple(zip(values[::2], values[1::2], strict=False)), ""
        case Form.WORDS:
            return tuple(Hex(value) for value in numbers(note.desc, 4)), ""
    if len(note.desc) not in (1, 2, 4, 8) or len(note.desc) < note.header.n_descsz:
        message = "no number of 1, 2, 4 or 8 bytes is there, Xen reads 0"
        findings.append(_warning("XEN-NOTE-SIZE", message, note, start))
    value = number(note.desc)
    match note.type:
        case XenNote.SUPPORTED_FEATURES:
            return Hex(value), feature_words(value) or "none"
        case XenNote.MOD_START_PFN:
            return value, "the initrd may be left unmapped" if value else "the initrd must be mapped"
        case XenNote.SUSPEND_CANCEL:
            return value, "a suspend may be cancelled" if value else "a suspend cannot be cancelled"
    return Hex(value), ""


def _text(source: Source, note: Note, start: int, findings: list[Finding]) -> str:
    """A string note as Xen reads it; a finding when that is not what the note holds."""
    own = note.desc.split(b"\0", 1)[0].decode("latin-1")
    read = note_string(source, note)
    if read is None or read != own:
        message = "the text does not end inside its note, Xen reads on"
        findings.append(_warning("XEN-NOTE-STRING", message, note, start, read or ""))
    return own if read is None else read


def _features(text: str, note: Note, start: int, findings: list[Finding]) -> tuple[Value, str]:
    names = feature_list(text)
    unknown = feature_bits(text)[2]
    if unknown is not None:
        findings.append(
            Finding(
                "XEN-FEATURE-UNKNOWN",
                Severity.ERROR,
                "requires a feature that Xen does not know, Xen will not load the kernel",
                field="FEATURES",
                offset=note.desc_offset - start,
                expected=", ".join(STRING_FEATURES),
                found=repr(unknown),
            )
        )
    required = [name[1:] for name in names if name.startswith("!")]
    supported = [name for name in names if not name.startswith("!")]
    parts = [
        f"required: {', '.join(required)}" if required else "",
        f"supported: {', '.join(supported)}" if supported else "",
    ]
    return names, "; ".join(part for part in parts if part)


def _warning(id_: str, message: str, note: Note, start: int, found: str = "") -> Finding:
    field = XEN_NOTE_NAMES.get(note.type, "")
    return Finding(id_, Severity.WARNING, message, field=field, offset=note.offset - start, found=found)


def guest_node(elf: ElfFile) -> Node | None:
    """The ``xen-guest-string`` node, None when there is no ``__xen_guest`` section."""
    section = legacy_section(elf)
    if section is None:
        return None
    text = xen_legacy_guest.read_text(elf.source, section.sh_offset)
    fields = tuple(
        Field(
            name, value, meaning=xen_legacy_guest.KEYS.get(name, "unknown to Xen, which ignores it"), telling=True
        )
        for name, value in xen_legacy_guest.parse_pairs(text)
    )
    return Node("xen-guest-string", section.sh_offset, len(text) + 1, fields)


def dom_parms_node(elf: ElfFile, offset: int, size: int) -> Node:
    """The ``dom-parms`` node: whether Xen (NEWEST) takes the kernel as PV, PVH, dom0, and what it derives.

    ``offset`` and ``size`` say where the notes stand that it comes from. The virtual addresses are PV's.
    """
    known = elf.source.known_size
    pv, pvh = (attempt_derive(elf, hvm=hvm, version=NEWEST, size=known) for hvm in (False, True))
    parms = pv.parms
    verdicts = (
        _verdict("pv", pv.refusal or mode_refusal(parms) or hole_refusal(parms)),
        _verdict("pvh", pvh.refusal or mode_refusal(pvh.parms, hvm=True)),
        _verdict("dom0", dom0_refusal(parms), "" if parms.has_supported_features_note else NO_LIST),
    )
    fields = verdicts + (_pv_fields(parms) if verdicts[0].value or not verdicts[1].value else ()) + _fields(parms)
    return Node("dom-parms", offset, size, fields)


def _verdict(name: str, refusal: RefusedError | None, yes: str = "") -> Field:
    words = yes if refusal is None else refusal.problem + (f": {refusal.found}" if refusal.found else "")
    return Field(name, refusal is None, meaning=words, telling=True)


def _pv_fields(parms: DomParms) -> tuple[Field, ...]:
    return (
        _address("virt_base", parms.virt_base, "where the domain's first page is mapped"),
        _address("virt_offset", parms.virt_offset, "added to physical addresses"),
        _address("virt_kstart", parms.virt_kstart, "start of the loaded kernel", telling=True),
        _address("virt_kend", parms.virt_kend, "end of the loaded kernel", telling=True),
        _address("virt_entry", parms.virt_entry, "first instruction", telling=True),
        *_optional("p2m_base", parms.p2m_base, "where the P2M table goes"),
        *_optional("virt_hypercall", parms.virt_hypercall, "page filled with hypercalls"),
        *_optional("virt_hv_start_low", parms.virt_hv_start_low, "Xen's range may begin here"),
        Field("unmapped_initrd", parms.unmapped_initrd, meaning="whether the initrd is left unmapped"),
        Field("pae", str(parms.pae), meaning="page tables of a 32-bit kernel"),
    )


def _fields(parms: DomParms) -> tuple[Field, ...]:
    symtab = parms.bsd_symtab_range
    return (
        _address("pstart", parms.pstart, "lowest physical address of the kernel", telling=True),
        _address("pend", parms.pend, "end of its highest physical address", telling=True),
        *_optional("phys_entry", parms.phys_entry, "first instruction under PVH", telling=True),
        Field("phys_reloc", parms.phys_reloc, meaning="whether PVH may load it elsewhere"),
        *_optional("bsd_symtab_pstart", symtab and symtab[0], "start of the loaded symbol table"),
        *_optional("bsd_symtab_pend", symtab and symtab[1], "end of the loaded symbol table"),
        Field("f_supported", Hex(parms.f_supported), meaning=feature_words(parms.f_supported)),
        Field("f_required", Hex(parms.f_required), meaning=feature_words(parms.f_required)),
    )


def _address(name: str, value: int, words: str, *, telling: bool = False) -> Field:
    return Field(name, Hex(value), meaning=words, telling=telling)


def _optional(name: str, value: int | None, words: str, *, telling: bool = False) -> tuple[Field, ...]:
    return () if value is None else (_address(name, value, words, telling=telling),)
