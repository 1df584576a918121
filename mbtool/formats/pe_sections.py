"""Sections of a PE image: names, where they lie in the file and in memory, and what is odd about them.

Source: Microsoft "PE Format", section "Section Table (Section Headers)"; what firmware refuses: EDK II
MdePkg/Library/BasePeCoffLib (PeCoffLoaderGetPeHeader, PeCoffLoaderLoadImage).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from mbtool.formats import pe_names
from mbtool.formats.pe_headers import PeHeaders
from mbtool.formats.pe_wire import SECTION_HEADER, SectionHeader
from mbtool.model import Field, Finding, Hex, Node, Severity
from mbtool.record import record
from mbtool.source import Source

SYMBOL_SIZE = 18
"""Bytes of a COFF symbol; the string table follows the symbols."""
MAX_NAME = 256


@record
class Section:
    """A section with its name resolved; offsets and sizes in bytes."""

    name: str
    header: SectionHeader
    header_offset: int
    """File offset of the section header."""
    stored: int
    """Bytes that the file really has of it."""

    @property
    def offset(self) -> int:
        """File offset of the content."""
        return self.header.PointerToRawData if self.stored else 0

    @property
    def content(self) -> int:
        """Bytes of real content: without the padding to FileAlignment that ``SizeOfRawData`` includes."""
        size = self.header.VirtualSize
        return min(size, self.stored) if size else self.stored

    @property
    def memory(self) -> int:
        """Bytes taken in memory, before rounding up to SectionAlignment."""
        return self.header.VirtualSize or self.header.SizeOfRawData

    def shares(self, other: Section) -> bool:
        """Whether both have some byte of the file in their content."""
        return max(self.offset, other.offset) < min(self.offset + self.content, other.offset + other.content)


def sections(source: Source, headers: PeHeaders, file_size: int) -> tuple[Section, ...]:
    """The sections in the order of their table. ``file_size`` bounds what each can have."""
    return tuple(
        Section(
            _name(source, headers, header.Name),
            header,
            headers.sections_offset + index * SECTION_HEADER.size,
            max(0, min(header.SizeOfRawData, file_size - header.PointerToRawData))
            if header.PointerToRawData
            else 0,
        )
        for index, header in enumerate(headers.sections)
    )


def string_table(headers: PeHeaders) -> int:
    """File offset (bytes) of the COFF string table, 0 when there is none."""
    coff = headers.coff
    return coff.PointerToSymbolTable + coff.NumberOfSymbols * SYMBOL_SIZE if coff.PointerToSymbolTable else 0


def _name(source: Source, headers: PeHeaders, stored: bytes) -> str:
    """``/123`` stands for the string at offset 123 of the string table."""
    plain = stored.rstrip(b"\0").decode("utf-8", "backslashreplace")
    table = string_table(headers)
    if table and plain.startswith("/") and plain[1:].isascii() and plain[1:].isdigit():
        text, _, _ = source.read(table + int(plain[1:]), MAX_NAME).partition(b"\0")
        return text.decode("utf-8", "backslashreplace") or plain
    return plain


def rva_to_offset(parts: Sequence[Section], rva: int) -> int | None:
    """The file offset of an RVA, None when no section stores it: padding is not loaded."""
    for part in parts:
        into = rva - part.header.VirtualAddress
        if 0 <= into < part.content:
            return part.header.PointerToRawData + into
    return None


def offset_to_rva(parts: Sequence[Section], offset: int) -> int | None:
    """The RVA of a file offset, None when it lies in no section."""
    for part in parts:
        into = offset - part.header.PointerToRawData
        if 0 <= into < part.stored:
            return part.header.VirtualAddress + into
    return None


def at_rva(parts: Sequence[Section], rva: int) -> Section | None:
    """The section that holds an RVA in memory."""
    for part in parts:
        if 0 <= rva - part.header.VirtualAddress < part.memory:
            return part
    return None


def node(source: Source, part: Section) -> Node:
    """The node of a section: its bytes in the file, padding included.

    Its fields are stored in the section table, so their offsets, counted from the node, may be negative.
    """
    data = source.read(part.header_offset, SECTION_HEADER.size)
    derived = (
        Field("name", part.name, telling=True),
        Field("address", Hex(part.header.VirtualAddress), meaning=_permissions(part.header), telling=True),
        Field("content_size", part.content, meaning="without padding"),
    )
    fields = (*derived, *SECTION_HEADER.fields(data, base=part.header_offset - part.offset))
    return Node("pe-section", part.offset, part.stored, fields, (), tuple(_odd(part)))


def _permissions(header: SectionHeader) -> str:
    mask = header.Characteristics
    return "".join(
        letter if mask >> bit & 1 else "-" for letter, bit in (("r", 30), ("w", 31), ("x", 29), ("d", 25))
    ).removesuffix("-")


def _odd(part: Section) -> Iterator[Finding]:
    header = part.header
    mask = header.Characteristics
    if mask & pe_names.MEM_WRITE and mask & pe_names.MEM_EXECUTE:
        yield Finding(
            "PE-WRITABLE-CODE",
            Severity.INFO,
            f"section {part.name} is writable and executable, which firmware that protects memory may refuse",
            "Characteristics",
        )
    if header.PointerToRawData and part.stored < header.SizeOfRawData:
        yield Finding(
            "PE-SECTION-CUT",
            Severity.ERROR,
            f"section {part.name} reaches past the end of the file",
            "SizeOfRawData",
            expected=f"{header.SizeOfRawData} bytes at {header.PointerToRawData:#x}",
            found=f"{part.stored}",
        )
    if header.SizeOfRawData and not header.PointerToRawData:
        yield Finding(
            "PE-SECTION-UNSTORED",
            Severity.WARNING,
            f"section {part.name} has a stored size but no place in the file",
            "PointerToRawData",
        )


def layout_findings(parts: Sequence[Section], headers: PeHeaders) -> Iterator[Finding]:
    """What is odd about the sections together: alignment, overlap, image size, entry point."""
    optional = headers.optional
    if optional is None:
        return
    align, file_align = optional.SectionAlignment, optional.FileAlignment
    for name, value in (("SectionAlignment", align), ("FileAlignment", file_align)):
        if value == 0 or value & (value - 1):
            yield Finding("PE-ALIGNMENT", Severity.WARNING, "is not a power of two", name, found=f"{value:#x}")
    if 0 < align < file_align:
        yield Finding(
            "PE-ALIGNMENT",
            Severity.WARNING,
            "is smaller than FileAlignment",
            "SectionAlignment",
            expected=f"at least {file_align:#x}",
            found=f"{align:#x}",
        )
    if 0 < align < 4096:
        yield Finding(
            "PE-SMALL-ALIGNMENT",
            Severity.INFO,
            "is less than a page, so that firmware cannot protect code and data separately",
            "SectionAlignment",
            expected="at least 0x1000",
            found=f"{align:#x}",
        )
    yield from _image_size(parts, optional.SizeOfImage, align)
    yield from _entry_point(parts, optional.AddressOfEntryPoint)
    yield from _overlaps(parts)


def _image_size(parts: Sequence[Section], size: int, align: int) -> Iterator[Finding]:
    end = max((part.header.VirtualAddress + part.memory for part in parts), default=0)
    if end > size:
        yield Finding(
            "PE-IMAGE-SIZE",
            Severity.ERROR,
            "sections reach past the size of the image: firmware refuses to load it",
            "SizeOfImage",
            expected=f"at least {end:#x}",
            found=f"{size:#x}",
        )
    elif align and not align & (align - 1) and size % align:
        yield Finding(
            "PE-IMAGE-SIZE-UNALIGNED",
            Severity.INFO,
            "is no multiple of SectionAlignment",
            "SizeOfImage",
            found=f"{size:#x}",
        )


def _entry_point(parts: Sequence[Section], entry: int) -> Iterator[Finding]:
    if not parts:
        return
    holder, severity = at_rva(parts, entry), Severity.WARNING
    if holder is None:
        problem, severity = "lies in no section", Severity.ERROR
    elif not holder.header.Characteristics & pe_names.MEM_EXECUTE:
        problem = f"lies in {holder.name}, which is not executable"
    else:
        return
    yield Finding("PE-ENTRY", severity, problem, "AddressOfEntryPoint", found=f"{entry:#x}")


def _overlaps(parts: Sequence[Section]) -> Iterator[Finding]:
    """At most one finding each for memory and file: hostile tables could give a million."""
    memory = [(part.header.VirtualAddress, part.memory, part.name) for part in parts]
    stored = [(part.header.PointerToRawData, part.stored, part.name) for part in parts]
    for where, severity, ranges in (("memory", Severity.WARNING, memory), ("the file", Severity.INFO, stored)):
        taken = sorted(span for span in ranges if span[1])
        for (start, size, name), (next_start, _, next_name) in pairwise(taken):
            if start + size > next_start:
                yield Finding(
                    "PE-OVERLAP",
                    severity,
                    f"sections {name} and {next_name} overlap in {where}",
                    found=f"{next_start:#x} below {start + size:#x}",
                )
                break
