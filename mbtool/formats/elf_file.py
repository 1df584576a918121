"""An ELF file's headers, read from wherever the file is: a source, as little of it as possible."""

from __future__ import annotations

from typing import Any

from mbtool.errors import FormatError, UnsupportedError
from mbtool.formats.elf_headers import (
    EHDR,
    ELFCLASS64,
    ELFDATA2LSB,
    ELFDATA2MSB,
    EM_386,
    EM_X86_64,
    MAGIC,
    PHDR,
    PN_XNUM,
    SHDR,
    SHN_XINDEX,
    Ehdr,
    Phdr,
    Shdr,
)
from mbtool.formats.wire import Layout
from mbtool.model import Finding, Severity
from mbtool.record import record
from mbtool.source import Source

MAX_HEADERS = 65536
"""Program or section headers read at most; more are never seen in a boot image."""
MAX_NAMES = 1 << 20
"""Bytes read of the section name table at most."""
MAX_NAME = 256
"""Bytes of a section name at most."""


@record
class ElfFile:
    """An ELF file's headers. ``program_headers`` holds those that are really there; sections are read when asked.

    ``findings`` says what is wrong with the program header table.
    """

    source: Source
    header: Ehdr
    program_headers: tuple[Phdr, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def elf_class(self) -> int:
        """32 or 64."""
        return 64 if self.header.ei_class == ELFCLASS64 else 32

    @property
    def is_x86(self) -> bool:
        return self.header.e_machine in (EM_386, EM_X86_64)

    @property
    def headers_end(self) -> int:
        """How long (bytes) the file must be by what its headers say."""
        header = self.header
        ends = [header.e_ehsize, header.e_phoff + header.e_phnum * header.e_phentsize]
        ends += [header.e_shoff + header.e_shnum * header.e_shentsize]
        ends += [phdr.p_offset + phdr.p_filesz for phdr in self.program_headers]
        return max(ends)

    def section_count(self) -> int:
        """Number of sections; reads section 0 when the 16 bits of ``e_shnum`` do not suffice (gABI)."""
        header = self.header
        if header.e_shnum or not header.e_shoff:
            return header.e_shnum
        first = _table(self.source, SHDR[header.ei_class], header.e_shoff, header.e_shentsize, 1)
        return first[0].sh_size if first else 0

    def section_headers(self) -> tuple[Shdr, ...]:
        """The section headers that are really there, MAX_HEADERS at most; may unpack a stream to its end."""
        header = self.header
        if not header.e_shoff:
            return ()
        layout = SHDR[header.ei_class]
        return _table(self.source, layout, header.e_shoff, header.e_shentsize, self.section_count())

    def section_names(self, sections: tuple[Shdr, ...]) -> tuple[str, ...]:
        """The names of these sections, "" where the name table does not reach."""
        index = self.header.e_shstrndx
        if index == SHN_XINDEX and sections:
            index = sections[0].sh_link
        if not 0 < index < len(sections):
            return ("",) * len(sections)
        table = sections[index]
        names = self.source.read(table.sh_offset, min(table.sh_size, MAX_NAMES))
        return tuple(_string(names, section.sh_name) for section in sections)


def reject(source: Source) -> str:
    """Why this is no ELF file that mbtool reads ("" when it is one)."""
    ident = source.read(0, 64)
    if ident[:4] != MAGIC:
        return "no ELF signature at the start"
    if len(ident) < 16:
        return "the ELF identification is cut short"
    if ident[4] not in EHDR:
        return f"ELF class {ident[4]} is neither 1 (32-bit) nor 2 (64-bit)"
    if ident[5] == ELFDATA2MSB:
        return "a big-endian ELF file, x86 is little-endian"
    if ident[5] != ELFDATA2LSB:
        return f"ELF data encoding {ident[5]} is neither 1 (little-endian) nor 2 (big-endian)"
    need = EHDR[ident[4]].size
    return "" if len(ident) >= need else f"the ELF header is cut short: {len(ident)} of {need} bytes"


def parse_elf(source: Source) -> ElfFile:
    """The headers of an ELF file. Reads no section unless the number of program headers stands in one.

    Raises FormatError when it is no ELF file or its header is cut short, UnsupportedError when it is big-endian.
    """
    if reason := reject(source):
        kind = UnsupportedError if "big-endian ELF" in reason else FormatError
        raise kind(reason, source=source.name)
    ei_class = source.read(4, 1)[0]
    header = EHDR[ei_class].read(source, 0)
    count = header.e_phnum
    if count == PN_XNUM and header.e_shoff:
        first = _table(source, SHDR[ei_class], header.e_shoff, header.e_shentsize, 1)
        count = first[0].sh_info if first and first[0].sh_info else count
    phdrs = _table(source, PHDR[ei_class], header.e_phoff, header.e_phentsize, count)
    return ElfFile(source, header, phdrs, tuple(_table_findings(header, count, len(phdrs))))


def _table(source: Source, layout: Layout[Any], start: int, stride: int, count: int) -> tuple[Any, ...]:
    """The entries of a header table that are really there, ``stride`` bytes apart."""
    # a stride of 0 (Xen accepts it) repeats one entry for ever: once is all it can say
    count = min(count, MAX_HEADERS) if stride else min(count, 1)
    if stride == layout.size:
        data = source.read(start, count * stride)
        return tuple(layout.parse(data, at) for at in range(0, len(data) - stride + 1, stride))
    entries = []
    for index in range(count):
        data = source.read(start + index * stride, layout.size)
        if len(data) < layout.size:
            break
        entries.append(layout.parse(data))
    return tuple(entries)


def _table_findings(header: Ehdr, count: int, present: int) -> list[Finding]:
    findings = []
    size = PHDR[header.ei_class].size
    if count and header.e_phentsize != size:
        findings.append(
            Finding(
                "ELF-PHENTSIZE",
                Severity.ERROR,
                "program headers have an unusual size",
                field="e_phentsize",
                expected=f"{size} bytes",
                found=f"{header.e_phentsize}",
            )
        )
    if present < count:
        findings.append(
            Finding(
                "ELF-PHDRS-CUT",
                Severity.ERROR,
                "the program header table is cut short",
                field="e_phnum",
                expected=f"{count} program headers at {header.e_phoff:#x}",
                found=f"{present}",
            )
        )
    return findings


def _string(table: bytes, at: int) -> str:
    """The NUL-terminated string at ``table[at:]``."""
    return table[at : at + MAX_NAME].split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
