"""ELF images shown: headers, segments, sections, notes, what Xen makes of them, and what is inside.

A segment's or section's node lies where its content lies; its fields are stored in the header table, so their
offsets, counted from the node, may be negative.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from mbtool.errors import MbtoolError
from mbtool.formats import elf_notes, linux_details, multiboot
from mbtool.formats.context import Context
from mbtool.formats.elf_file import ElfFile, parse_elf, reject
from mbtool.formats.elf_headers import EHDR, PHDR, PT_LOAD, PT_NOTE, SHDR, SHT_NOBITS, SHT_NOTE, Ehdr, Phdr, Shdr
from mbtool.formats.elf_notes import Note
from mbtool.model import Field, Finding, Node, Severity
from mbtool.source import Source

__all__ = ["Ehdr", "ElfFile", "Phdr", "Shdr", "inspect", "parse_elf", "reject"]

T = TypeVar("T")

LEGACY_SECTION = "__xen_guest"
LINUX_MAP = 0xFFFF_FFFF_8000_0000
"""Where 64-bit Linux is linked (__START_KERNEL_map). Other kernels are kept whole, to be looked at for Xen, too."""
MAX_NODES = 1024
"""Nodes shown at most for each of segments, sections and notes, unless everything is asked for."""


def inspect(source: Source, context: Context) -> Node:
    """The ``elf`` node. Of a stream, nothing behind the notes is unpacked unless ``context.full``."""
    return _Inspection(parse_elf(source), context).node()


@dataclass(slots=True)
class _Inspection:
    """One ELF file being shown; a part that cannot be read becomes a finding."""

    elf: ElfFile
    context: Context
    findings: list[Finding] = field(default_factory=list)

    def node(self) -> Node:
        elf, source = self.elf, self.elf.source
        header = EHDR[elf.header.ei_class]
        fields = list(header.fields(source.read(0, header.size)))
        self.findings += elf.findings
        sections = self.guard(self.sections) or ()
        names = self.guard(lambda: elf.section_names(sections)) or ("",) * len(sections)
        if elf.header.e_shoff and not sections and not self.sections_reachable():
            fields.append(_unread(elf))
        multiboot_headers = (self.guard(lambda: multiboot.headers(source)) or ()) if elf.is_x86 else ()
        areas = self.note_areas()
        if any(start > source.at_hand for start, _, _ in areas):
            from mbtool.formats import xen_nodes  # noqa: F401  while they are being unpacked
        contents = self.contents(areas)
        notes = self.guard(lambda: self.notes(areas, sections)) or []
        xen = [note for note in notes if elf_notes.for_xen(source, note)]
        children = [
            *self.segments(),
            *self.section_nodes(sections, names),
            *(elf_notes.node(note) for note in self.limited(notes, "note")),
            *self.xen(xen, LEGACY_SECTION in names),
            *multiboot_headers,
            *contents,
        ]
        if elf.is_x86 and not any(node.kind == "linux-kernel" for node in contents):
            self.findings += self.guard(lambda: multiboot.near_misses(source)) or ()
        known = source.known_size
        size = elf.headers_end if known is None else known
        return Node("elf", 0, size, tuple(fields), tuple(children), tuple(self.findings))

    def guard(self, part: Callable[[], T]) -> T | None:
        """The part, or None and a finding."""
        try:
            return part()
        except MbtoolError as error:
            self.findings.append(Finding.of(error, "ELF-DAMAGED"))
            return None

    def limited(self, parts: Sequence[T], what: str) -> Sequence[T]:
        """The first MAX_NODES of them, all when everything was asked for."""
        if len(parts) <= MAX_NODES or self.context.full:
            return parts
        message = f"{len(parts)} {what}s, only the first {MAX_NODES} are shown"
        self.findings.append(Finding("ELF-MANY", Severity.WARNING, message, remedy="--full shows all"))
        return parts[:MAX_NODES]

    def whole_size(self) -> int | None:
        """The file's size (bytes) if that is known; not that of what came of a stream before it broke."""
        source = self.elf.source
        return None if source.damage is not None else source.known_size

    def segments(self) -> list[Node]:
        """``elf-segment`` nodes at the segments' file contents."""
        header = self.elf.header
        layout = PHDR[header.ei_class]
        known = self.whole_size()
        nodes = []
        for index, phdr in enumerate(self.limited(self.elf.program_headers, "segment")):
            at = header.e_phoff + index * header.e_phentsize - phdr.p_offset
            fields = layout.fields(layout.build(phdr), base=at)
            findings = tuple(_segment_findings(phdr, known))
            nodes.append(Node("elf-segment", phdr.p_offset, phdr.p_filesz, fields, (), findings))
        return nodes

    def sections_reachable(self) -> bool:
        """Whether the section headers can be read without unpacking more, or everything was asked for."""
        elf = self.elf
        end = elf.header.e_shoff + elf.header.e_shnum * elf.header.e_shentsize
        return self.context.full or elf.source.known_size is not None or end <= elf.source.at_hand

    def sections(self) -> tuple[Shdr, ...]:
        elf = self.elf
        if not elf.header.e_shoff or not self.sections_reachable():
            return ()
        sections = elf.section_headers()
        count = elf.section_count()
        if len(sections) < count:
            self.findings.append(
                Finding(
                    "ELF-SHDRS-CUT",
                    Severity.ERROR,
                    "the section header table is cut short",
                    field="e_shnum",
                    expected=f"{count} section headers at {elf.header.e_shoff:#x}",
                    found=str(len(sections)),
                )
            )
        return sections

    def section_nodes(self, sections: tuple[Shdr, ...], names: tuple[str, ...]) -> list[Node]:
        """``elf-section`` nodes at the sections' file contents; the first, which is none, is left out."""
        header = self.elf.header
        layout = SHDR[header.ei_class]
        known = self.whole_size()
        nodes = []
        shown = self.limited(list(zip(sections, names, strict=True))[1:], "section")
        for index, (shdr, name) in enumerate(shown, 1):
            size = 0 if shdr.sh_type == SHT_NOBITS else shdr.sh_size
            at = header.e_shoff + index * header.e_shentsize - shdr.sh_offset
            fields = (Field("name", name, telling=True), *layout.fields(layout.build(shdr), base=at))
            cut = size and known is not None and shdr.sh_offset + size > known
            findings = (_cut("ELF-SECTION-CUT", "section", shdr.sh_offset, size, known or 0),) if cut else ()
            nodes.append(Node("elf-section", shdr.sh_offset, size, fields, (), findings))
        return nodes

    def note_areas(self) -> list[elf_notes.Area]:
        """Where the notes of PT_NOTE segments are."""
        phdrs = [phdr for phdr in self.elf.program_headers if phdr.p_type == PT_NOTE]
        return [(phdr.p_offset, phdr.p_filesz, phdr.p_align) for phdr in phdrs]

    def notes(self, areas: list[elf_notes.Area], sections: tuple[Shdr, ...]) -> list[Note]:
        """The notes of PT_NOTE segments; those of SHT_NOTE sections too when there is no Xen note, or when full."""
        notes = self.walk(areas)
        if self.context.full or not any(elf_notes.for_xen(self.elf.source, note) for note in notes.values()):
            named = [shdr for shdr in sections[1:] if shdr.sh_type == SHT_NOTE]
            more = self.walk([(shdr.sh_offset, shdr.sh_size, shdr.sh_addralign) for shdr in named])
            notes = {**more, **notes}
        return sorted(notes.values(), key=lambda note: note.offset)

    def walk(self, areas: list[tuple[int, int, int]]) -> dict[int, Note]:
        """Notes by offset: areas that overlap give each note once."""
        notes, findings = self.guard(lambda: elf_notes.walk_all(self.elf.source, areas)) or ([], [])
        self.findings += [finding for finding in findings if finding not in self.findings]
        return {note.offset: note for note in notes}

    def xen(self, notes: list[Note], legacy: bool) -> list[Node]:
        """``xen-notes`` or ``xen-guest-string``, and ``dom-parms``; nothing when the image has neither."""
        elf = self.elf
        node = None
        if not notes and not legacy:
            return []
        from mbtool.formats import xen_nodes  # only kernels that may speak to Xen pay for it

        if notes:
            node = self.guard(lambda: xen_nodes.notes_node(elf.source, notes))
        else:
            node = self.guard(lambda: xen_nodes.guest_node(elf))
        if node is None:
            return []
        start, size = node.offset, node.size
        parms = self.guard(lambda: xen_nodes.dom_parms_node(elf, start, size))
        return [node, parms] if parms else [node]

    def contents(self, areas: list[elf_notes.Area]) -> list[Node]:
        """What the image says about itself, looked for no further than the notes when it is being unpacked."""
        source = self.elf.source
        loads = [phdr.p_offset for phdr in self.elf.program_headers if phdr.p_type == PT_LOAD and phdr.p_filesz]
        start, stop, keep = min(loads, default=0), source.known_size, 0
        if self.context.full:
            stop = source.size
        if stop is None:
            ends = [at + min(size, elf_notes.MAX_BYTES) for at, size, _ in areas]
            stop = max(source.at_hand, *ends)
            if any(phdr.p_vaddr >= LINUX_MAP for phdr in self.elf.program_headers):
                keep = min((at for at, _, _ in areas), default=0)
        if node := self.guard(lambda: linux_details.find(source, start, stop, keep)):
            return [node]
        from mbtool.formats import xen_hypervisor

        node = self.guard(lambda: xen_hypervisor.find(source, start, stop))
        return [node] if node else []


def _unread(elf: ElfFile) -> Field:
    words = f"not read: their headers at {elf.header.e_shoff:#x} lie past what needs unpacking (--full reads them)"
    return Field("sections", elf.header.e_shnum, meaning=words)


def _segment_findings(phdr: Phdr, known: int | None) -> Iterable[Finding]:
    if phdr.p_filesz and known is not None and phdr.p_offset + phdr.p_filesz > known:
        yield _cut("ELF-SEGMENT-CUT", "segment", phdr.p_offset, phdr.p_filesz, known)
    if phdr.p_type == PT_LOAD and phdr.p_filesz > phdr.p_memsz:
        yield Finding(
            "ELF-SEGMENT-SIZE",
            Severity.ERROR,
            "the segment has more bytes in the file than in memory",
            field="p_filesz",
            expected=f"at most {phdr.p_memsz}",
            found=str(phdr.p_filesz),
        )


def _cut(id_: str, what: str, offset: int, size: int, known: int) -> Finding:
    return Finding(
        id_,
        Severity.ERROR,
        f"the {what} reaches past the end of the file",
        expected=f"{size} bytes at {offset:#x}",
        found=f"a file of {known} bytes",
    )
