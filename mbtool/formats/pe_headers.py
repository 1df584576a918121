"""The headers of a PE image together: parsed with what is wrong with them, and built.

Source: Microsoft "PE Format", section "File Headers".
"""

from __future__ import annotations

from dataclasses import replace

from mbtool.errors import FormatError
from mbtool.formats import pe_names
from mbtool.formats.pe_wire import (
    COFF_HEADER,
    DATA_DIRECTORY,
    DOS_HEADER,
    OPTIONAL_HEADER_32,
    OPTIONAL_HEADER_64,
    SECTION_HEADER,
    CoffHeader,
    DataDirectory,
    DosHeader,
    OptionalHeader,
    SectionHeader,
)
from mbtool.formats.wire import Layout
from mbtool.model import Finding, Severity
from mbtool.record import record
from mbtool.source import Source

PE_SIGNATURE = b"PE\0\0"
PE32, PE32_PLUS = 0x10B, 0x20B
"""The two values of Magic."""
MAX_DIRECTORIES = len(pe_names.DIRECTORIES)
MAX_SECTIONS = 1024
"""More sections than this are not looked at: a boot image has a dozen, Windows stops at 96."""


@record
class PeHeaders:
    """All headers of an image. ``optional`` is None when it is missing or of an unknown kind."""

    dos: DosHeader
    coff: CoffHeader
    optional: OptionalHeader | None
    directories: tuple[DataDirectory, ...]
    sections: tuple[SectionHeader, ...]

    @property
    def optional_offset(self) -> int:
        """File offset (bytes) of the optional header."""
        return self.dos.e_lfanew + len(PE_SIGNATURE) + COFF_HEADER.size

    @property
    def directories_offset(self) -> int:
        """File offset (bytes) of the first data directory."""
        return self.optional_offset + optional_layout(self.optional).size

    @property
    def sections_offset(self) -> int:
        """File offset (bytes) of the section table: behind the optional header, however large that says it is."""
        return self.optional_offset + self.coff.SizeOfOptionalHeader

    def directory(self, index: int) -> DataDirectory:
        """A data directory by its index, empty when the image does not have so many."""
        return self.directories[index] if index < len(self.directories) else DataDirectory()


def optional_layout(optional: OptionalHeader | None) -> Layout[OptionalHeader]:
    """The layout that an optional header has on the wire."""
    return OPTIONAL_HEADER_32 if optional is not None and optional.Magic == PE32 else OPTIONAL_HEADER_64


def build(headers: PeHeaders) -> bytes:
    """The bytes from ``e_lfanew`` to the end of the section table.

    Counts and sizes (NumberOfSections, SizeOfOptionalHeader, NumberOfRvaAndSizes) are computed, not taken from the
    values; every other field is written as it is.
    """
    optional = b""
    if headers.optional is not None:
        counted = replace(headers.optional, NumberOfRvaAndSizes=len(headers.directories))
        optional = optional_layout(counted).build(counted) + b"".join(
            map(DATA_DIRECTORY.build, headers.directories)
        )
    coff = replace(headers.coff, NumberOfSections=len(headers.sections), SizeOfOptionalHeader=len(optional))
    return PE_SIGNATURE + COFF_HEADER.build(coff) + optional + b"".join(map(SECTION_HEADER.build, headers.sections))


def parse(source: Source) -> tuple[PeHeaders, list[Finding]]:
    """The headers of a PE image and what is wrong with them.

    Raises FormatError when there is no PE signature or the COFF header is cut short; any later damage leaves out
    what cannot be read and adds a finding.
    """
    dos = DOS_HEADER.read(source, 0)
    at = dos.e_lfanew
    if source.read(at, len(PE_SIGNATURE)) != PE_SIGNATURE:
        raise FormatError("no PE signature", source=source.name, offset=at, field="e_lfanew")
    coff = COFF_HEADER.read(source, at + len(PE_SIGNATURE))
    findings: list[Finding] = []
    headers = PeHeaders(dos, coff, None, (), ())
    try:
        headers = replace(headers, optional=_optional(source, headers))
    except FormatError as error:
        findings.append(Finding.of(error))
    if headers.optional is not None:
        headers = replace(headers, directories=_directories(source, headers, headers.optional, findings))
    return replace(headers, sections=_sections(source, headers, findings)), findings


def _optional(source: Source, headers: PeHeaders) -> OptionalHeader:
    at = headers.optional_offset
    size = headers.coff.SizeOfOptionalHeader
    magic = int.from_bytes(source.exact(at, 2, "optional header"), "little")
    if magic not in (PE32, PE32_PLUS):
        raise FormatError(
            "unknown kind of optional header",
            source=source.name,
            offset=at,
            field="Magic",
            expected="0x10b (PE32) or 0x20b (PE32+)",
            found=f"{magic:#x}",
        )
    layout = OPTIONAL_HEADER_32 if magic == PE32 else OPTIONAL_HEADER_64
    if size < layout.size:
        raise FormatError(
            "optional header is smaller than its kind",
            source=source.name,
            offset=at,
            field="SizeOfOptionalHeader",
            expected=f"at least {layout.size} bytes",
            found=f"{size}",
        )
    return layout.read(source, at)


def _directories(
    source: Source, headers: PeHeaders, optional: OptionalHeader, findings: list[Finding]
) -> tuple[DataDirectory, ...]:
    """As many data directories as the header counts, has room for, and the format knows."""
    count = optional.NumberOfRvaAndSizes
    at = headers.directories_offset
    room = (headers.sections_offset - at) // DATA_DIRECTORY.size
    there = min(count, MAX_DIRECTORIES, room)
    data = source.read(at, there * DATA_DIRECTORY.size)
    there = len(data) // DATA_DIRECTORY.size
    if there < count:
        findings.append(
            Finding(
                "PE-DIRECTORIES",
                Severity.WARNING,
                "counts more data directories than there are",
                "NumberOfRvaAndSizes",
                expected=f"at most {there}",
                found=f"{count}",
            )
        )
    return tuple(DATA_DIRECTORY.parse(data, index * DATA_DIRECTORY.size) for index in range(there))


def _sections(source: Source, headers: PeHeaders, findings: list[Finding]) -> tuple[SectionHeader, ...]:
    """As many section headers as are really there, MAX_SECTIONS at most."""
    count = headers.coff.NumberOfSections
    at = headers.sections_offset
    data = source.read(at, min(count, MAX_SECTIONS) * SECTION_HEADER.size)
    there = len(data) // SECTION_HEADER.size
    if there < min(count, MAX_SECTIONS):
        findings.append(
            Finding(
                "PE-SECTIONS-CUT",
                Severity.ERROR,
                "section table is cut short",
                "NumberOfSections",
                at,
                f"{count} sections",
                f"{there}",
            )
        )
    elif there < count:
        findings.append(
            Finding(
                "PE-SECTIONS-MANY",
                Severity.WARNING,
                f"only the first {MAX_SECTIONS} sections are shown",
                "NumberOfSections",
                found=f"{count}",
            )
        )
    return tuple(SECTION_HEADER.parse(data, index * SECTION_HEADER.size) for index in range(there))
