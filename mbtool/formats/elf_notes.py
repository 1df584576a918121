"""ELF notes: walked one by one, named by their owner, and built.

A note is a 12-byte header (``Elf32_Nhdr``, the same for both classes), a name and a descriptor, each padded to 4
bytes (gABI chapter 5, "Note Section"; some ELF64 producers pad to 8 and say so in p_align). What a type number
means depends on the owner's name alone: type 1 is an ABI tag from GNU, an entry point from Xen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from mbtool.errors import MbtoolError
from mbtool.formats.wire import Layout
from mbtool.formats.wire_plain import Int32ul, Struct
from mbtool.formats.xen_notes import XEN_NOTE_NAMES
from mbtool.model import Field, Finding, Node, Severity
from mbtool.record import record
from mbtool.source import Source

MAX_NOTES = 65536
"""Notes walked at most, like Xen's ELF_MAX_TOTAL_NOTE_COUNT (xen/include/xen/libelf.h)."""
MAX_AREAS = 256
"""Segments or sections of notes walked at most."""
MAX_BYTES = 1 << 20
"""Bytes of notes walked at most in one segment or section."""
MAX_DESC = 1 << 16
"""Bytes of a descriptor that are kept at most."""
MAX_DESCS = 2 << 20
"""Bytes of descriptors that are kept at most in all: areas may overlap, and notes whose size wraps around too."""
MAX_NAME = 256
XEN = b"Xen\0"
ZEROS = re.compile(rb"\0+")


@record
class Nhdr:
    """``Elf32_Nhdr`` and ``Elf64_Nhdr``, 12 bytes: sizes in bytes without padding."""

    n_namesz: int = 0
    n_descsz: int = 0
    n_type: int = 0


NHDR = Layout(Nhdr, Struct("n_namesz" / Int32ul, "n_descsz" / Int32ul, "n_type" / Int32ul), telling={"n_type"})


@record
class Note:
    """A note at ``offset`` of the file; ``desc`` holds the bytes of the descriptor at ``desc_offset``.

    ``name`` is the owner without its NUL. ``desc`` is shorter than ``header.n_descsz`` when cut by the end of the
    file or by MAX_DESC. ``size`` counts header and padding.
    """

    offset: int
    header: Nhdr
    name: str
    desc_offset: int
    desc: bytes
    size: int

    @property
    def type(self) -> int:
        return self.header.n_type

    @property
    def end(self) -> int:
        return self.offset + self.size


TYPE_NAMES: Mapping[str, Mapping[int, str]] = {
    "GNU": {1: "ABI_TAG", 2: "HWCAP", 3: "BUILD_ID", 4: "GOLD_VERSION", 5: "PROPERTY_TYPE_0"},
    "Linux": {0: "VERSION", 0x100: "BUILD_SALT", 0x101: "LTO_INFO"},
    "Xen": XEN_NOTE_NAMES,
    "stapsdt": {3: "PROBE"},
    "Go": {4: "GO_BUILD_ID"},
    "FDO": {0xCAFE1A7E: "PACKAGING_METADATA", 0x407C0C0A: "DLOPEN_METADATA"},
    "FreeBSD": {1: "ABI_TAG", 2: "NOINIT_TAG", 3: "ARCH_TAG", 4: "FEATURE_CTL"},
    "NetBSD": {1: "IDENT", 5: "MARCH"},
    "OpenBSD": {1: "IDENT"},
    "ELFBoot": {1: "PROGRAM_NAME", 2: "PROGRAM_VERSION", 3: "PROGRAM_CHECKSUM"},
    "CORE": {1: "PRSTATUS", 2: "FPREGSET", 3: "PRPSINFO", 4: "TASKSTRUCT", 6: "AUXV"},
    "VMCOREINFO": {0: "VMCOREINFO"},
}
"""Note type names by owner (Linux: include/linux/build-salt.h, elfnote-lto.h; FDO: systemd package metadata)."""

TEXT = {("Linux", 0x100), ("FDO", 0xCAFE1A7E), ("FDO", 0x407C0C0A), ("GNU", 4), ("Go", 4), ("VMCOREINFO", 0)}
TEXT |= {("ELFBoot", 1), ("ELFBoot", 2)}
"""Notes whose descriptor is text."""


Area = tuple[int, int, int]
"""Where notes stand: offset and size in bytes, alignment that the header states."""


def walk_all(source: Source, areas: Iterable[Area]) -> tuple[list[Note], list[Finding]]:
    """The notes of several segments or sections in turn, the same area once, MAX_NOTES in all.

    Padding to 8 bytes, the specification's rule for ELF64, is believed only where it fits better than padding to 4.
    """
    notes: list[Note] = []
    findings: list[Finding] = []
    room = MAX_DESCS
    distinct = [area for area in dict.fromkeys(areas) if area[1]]
    if len(distinct) > MAX_AREAS:
        message = f"{len(distinct)} areas of notes, only the first {MAX_AREAS} are read"
        findings.append(_finding("NOTES-MANY", message, distinct[MAX_AREAS][0]))
    for start, size, align in distinct[:MAX_AREAS]:
        try:
            found, wrong = walk(source, start, size, room=room)
            if wrong and align == 8:
                wide = walk(source, start, size, 8, room)
                found, wrong = wide if not wide[1] else (found, wrong)
        except MbtoolError as error:
            found, wrong = [], [Finding.of(error, "NOTES-CUT")]
        notes += found
        findings += wrong
        room -= sum(len(note.desc) for note in found)
        if not room:
            message = f"more than {MAX_DESCS} bytes in notes' descriptors, the rest is not read"
            findings.append(_finding("NOTES-MANY", message, start))
            break
        if len(notes) > MAX_NOTES:
            findings.append(_finding("NOTES-MANY", f"more than {MAX_NOTES} notes, the rest is not read", start))
            return notes[:MAX_NOTES], findings
    return notes, findings


def walk(
    source: Source, start: int, size: int, align: int = 4, room: int = MAX_DESCS
) -> tuple[list[Note], list[Finding]]:
    """The notes in the ``size`` bytes at ``start``, with what is wrong with them.

    A note that reaches past the end is kept as far as the file has it and ends the walk; Xen's even when its header
    does. Sizes are rounded up in 32 bits, as Xen does (libelf-tools.c, elf_note_next). Zeros between notes are
    skipped. The walk ends when ``room`` bytes of descriptors have been kept.
    """
    notes: list[Note] = []
    findings: list[Finding] = []
    data = source.read(start, min(size, MAX_BYTES))
    stop = start + len(data)
    if len(data) < size:
        findings.append(
            _finding("NOTES-CUT", "the notes reach past what can be read", start, f"{size} bytes", len(data))
        )
    at = start
    count = 0
    while at < stop:
        if stop - at < NHDR.size and source.read(at + NHDR.size, 4) != XEN:
            if any(data[at - start :]):
                findings.append(_tail(at, stop - at))
            break
        zeros = ZEROS.match(data, at - start)
        if zeros and (empty := (zeros.end() - zeros.start()) // NHDR.size):
            # padding: Xen steps over it as over empty notes
            count += empty
            at += empty * NHDR.size
            continue
        count += 1
        if count > MAX_NOTES:
            findings.append(_finding("NOTES-MANY", f"more than {MAX_NOTES} notes, the rest is not read", at))
            break
        note = _note(source, at, start + len(data), align, min(room, MAX_DESC))
        notes.append(note)
        room -= len(note.desc)
        if note.end > stop:
            findings.append(_cut(note, stop))
        if not room:
            break
        at = note.end
    return notes, findings


def _note(source: Source, at: int, stop: int, align: int, room: int) -> Note:
    header = NHDR.read(source, at)
    name_at = at + NHDR.size
    name = source.read(name_at, min(header.n_namesz, MAX_NAME)).split(b"\0", 1)[0]
    desc_at = at + _up(NHDR.size + _up(header.n_namesz, 4), align)
    # a note may be whole in the file though its segment says less: Xen reads it all the same
    near = desc_at < stop + MAX_DESC
    desc = source.read(desc_at, min(header.n_descsz, room)) if near else b""
    end = desc_at + _up(header.n_descsz, align)
    return Note(at, header, name.decode("utf-8", "backslashreplace"), desc_at, desc, end - at)


def _up(size: int, align: int) -> int:
    """Rounded up to ``align``, in 32 bits."""
    return (size + align - 1) & (0x100000000 - align)


def _tail(at: int, size: int) -> Finding:
    message = "the bytes behind the last note are too few for another"
    return Finding("NOTES-TAIL", Severity.WARNING, message, offset=at, found=f"{size} bytes")


def _cut(note: Note, stop: int) -> Finding:
    return Finding(
        "NOTE-CUT",
        Severity.WARNING,
        f"note {describe(note)} reaches past the end of its notes",
        offset=note.offset,
        expected=f"at most {stop - note.offset} bytes",
        found=str(note.size),
    )


def _finding(id_: str, message: str, offset: int, expected: str = "", found: int | str = "") -> Finding:
    return Finding(id_, Severity.ERROR, message, offset=offset, expected=expected, found=str(found))


def build_note(name: str, type_: int, desc: bytes, align: int = 4) -> bytes:
    """A note's bytes, padded; ``name`` gets its NUL."""
    owner = name.encode() + b"\0"
    header = NHDR.build(Nhdr(n_namesz=len(owner), n_descsz=len(desc), n_type=type_))
    head = header + owner
    head = head.ljust(_up(NHDR.size + _up(len(owner), 4), align), b"\0")
    return head + desc.ljust(_up(len(desc), align), b"\0")


def build_notes(notes: Iterable[tuple[str, int, bytes]], align: int = 4) -> bytes:
    """The bytes of (owner, type, descriptor) notes in a row: the content of a PT_NOTE segment."""
    return b"".join(build_note(name, type_, desc, align) for name, type_, desc in notes)


def for_xen(source: Source, note: Note) -> bool:
    """Whether Xen takes the note for its own: it reads the name to its NUL, whatever n_namesz says."""
    return source.read(note.offset + NHDR.size, 4) == XEN


def describe(note: Note) -> str:
    """Owner and type in words, ``Xen PHYS32_ENTRY``; unknown types as numbers."""
    return f"{note.name or '(no owner)'} {type_name(note)}"


def type_name(note: Note) -> str:
    """The type's name as its owner spells it, the bare number when unknown."""
    return TYPE_NAMES.get(note.name, {}).get(note.type, f"{note.type:#x}")


def build_id(notes: Iterable[Note]) -> bytes | None:
    """The GNU build-id, None when there is none."""
    return next((note.desc for note in notes if (note.name, note.type) == ("GNU", 3)), None)


def meaning(note: Note) -> str:
    """A descriptor in words, "" when there is nothing to add to its bytes."""
    key = (note.name, note.type)
    if key in TEXT:
        return note.desc.rstrip(b"\0").decode("utf-8", "backslashreplace")
    if key == ("GNU", 1) and len(note.desc) == 16:
        words = [int.from_bytes(note.desc[at : at + 4], "little") for at in range(0, 16, 4)]
        system = {0: "Linux", 1: "Hurd", 2: "Solaris", 3: "FreeBSD"}.get(words[0], f"system {words[0]}")
        return f"{system} {words[1]}.{words[2]}.{words[3]}"
    if key == ("Linux", 0x101):
        return "built with link-time optimisation" if any(note.desc) else "built without link-time optimisation"
    if key == ("Linux", 0) and len(note.desc) == 4:
        return f"{note.desc[2]}.{note.desc[1]}.{note.desc[0]}"
    if key == ("stapsdt", 3):
        parts = note.desc[24:].split(b"\0")
        return ":".join(part.decode("utf-8", "backslashreplace") for part in parts[:2])
    return ""


def node(note: Note) -> Node:
    """A note as an ``elf-note`` node placed at its file offset."""
    head = note.header
    raw = NHDR.build(head)
    at = note.desc_offset - note.offset
    fields = [NHDR.field(name, getattr(head, name), raw[o : o + s], o) for name, (o, s) in NHDR.offsets.items()]
    fields[2] = Field("n_type", note.type, 8, 4, type_name(note), raw[8:12], telling=True)
    owner = note.name.encode("utf-8", "backslashreplace")
    fields.insert(0, Field("name", note.name, NHDR.size, head.n_namesz, raw=owner, telling=True))
    fields.append(
        Field("desc", note.desc[:64], at, head.n_descsz, meaning(note), note.desc[:64], note.name not in ("Xen",))
    )
    return Node("elf-note", note.offset, note.size, tuple(fields))
