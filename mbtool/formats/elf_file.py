"""ELF32 and ELF64, little-endian: file header, program headers, section headers, each parsed and built.

Source: System V ABI, "Object Files" (gABI chapters 4 and 5). Field names are the specification's; one dataclass
serves both classes, two layouts say where each field stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from construct import Bytes, Int8ul, Int16ul, Int32ul, Int64ul, Struct

from mbtool.errors import FormatError, UnsupportedError
from mbtool.formats.elf_names import (
    DATA_NAMES,
    MACHINE_NAMES,
    PHDR_FLAG_NAMES,
    PHDR_TYPE_NAMES,
    SHDR_FLAG_NAMES,
    SHDR_TYPE_NAMES,
    TYPE_NAMES,
)
from mbtool.formats.wire import Layout, choice_names, flag_names
from mbtool.model import Finding, Severity
from mbtool.source import Source

MAGIC = b"\x7fELF"
ELFCLASS32, ELFCLASS64 = 1, 2
ELFDATA2LSB, ELFDATA2MSB = 1, 2
EM_386, EM_X86_64 = 3, 62
PT_LOAD, PT_NOTE = 1, 4
SHT_SYMTAB, SHT_STRTAB, SHT_NOTE, SHT_NOBITS = 2, 3, 7, 8
PN_XNUM = 0xFFFF
"""``e_phnum`` of a file with more program headers than 16 bits can count: section 0's sh_info has the number."""
SHN_XINDEX = 0xFFFF
MAX_HEADERS = 65536
"""Program or section headers read at most; more are never seen in a boot image."""
MAX_NAMES = 1 << 20
"""Bytes read of the section name table at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ehdr:
    """``Elf32_Ehdr`` (52 bytes) or ``Elf64_Ehdr`` (64 bytes); offsets and sizes in bytes."""

    ei_mag: bytes = MAGIC
    ei_class: int = ELFCLASS64
    ei_data: int = ELFDATA2LSB
    ei_version: int = 1
    ei_osabi: int = 0
    ei_abiversion: int = 0
    ei_pad: bytes = bytes(7)
    e_type: int = 2
    e_machine: int = EM_X86_64
    e_version: int = 1
    e_entry: int = 0
    e_phoff: int = 0
    e_shoff: int = 0
    e_flags: int = 0
    e_ehsize: int = 64
    e_phentsize: int = 56
    e_phnum: int = 0
    e_shentsize: int = 64
    e_shnum: int = 0
    e_shstrndx: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Phdr:
    """``Elf32_Phdr`` (32 bytes) or ``Elf64_Phdr`` (56 bytes): a segment."""

    p_type: int = PT_LOAD
    p_flags: int = 0
    p_offset: int = 0
    p_vaddr: int = 0
    p_paddr: int = 0
    p_filesz: int = 0
    p_memsz: int = 0
    p_align: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shdr:
    """``Elf32_Shdr`` (40 bytes) or ``Elf64_Shdr`` (64 bytes): a section."""

    sh_name: int = 0
    sh_type: int = 0
    sh_flags: int = 0
    sh_addr: int = 0
    sh_offset: int = 0
    sh_size: int = 0
    sh_link: int = 0
    sh_info: int = 0
    sh_addralign: int = 0
    sh_entsize: int = 0


def _ehdr(word: Any) -> Layout[Ehdr]:
    struct = Struct(
        "ei_mag" / Bytes(4),
        "ei_class" / Int8ul,
        "ei_data" / Int8ul,
        "ei_version" / Int8ul,
        "ei_osabi" / Int8ul,
        "ei_abiversion" / Int8ul,
        "ei_pad" / Bytes(7),
        "e_type" / Int16ul,
        "e_machine" / Int16ul,
        "e_version" / Int32ul,
        "e_entry" / word,
        "e_phoff" / word,
        "e_shoff" / word,
        "e_flags" / Int32ul,
        "e_ehsize" / Int16ul,
        "e_phentsize" / Int16ul,
        "e_phnum" / Int16ul,
        "e_shentsize" / Int16ul,
        "e_shnum" / Int16ul,
        "e_shstrndx" / Int16ul,
    )
    return Layout(
        Ehdr,
        struct,
        hex={"e_entry", "e_phoff", "e_shoff", "e_flags"},
        telling={"ei_class", "e_type", "e_machine", "e_entry"},
        meanings={
            "ei_class": choice_names({ELFCLASS32: "ELF32", ELFCLASS64: "ELF64"}),
            "ei_data": choice_names(DATA_NAMES),
            "e_type": choice_names(TYPE_NAMES),
            "e_machine": choice_names(MACHINE_NAMES),
        },
    )


def _phdr(struct: Any) -> Layout[Phdr]:
    return Layout(
        Phdr,
        struct,
        hex={"p_offset", "p_vaddr", "p_paddr", "p_align", "p_flags"},
        telling={"p_type", "p_flags", "p_vaddr", "p_paddr", "p_memsz"},
        meanings={"p_type": choice_names(PHDR_TYPE_NAMES), "p_flags": flag_names(PHDR_FLAG_NAMES)},
    )


def _shdr(word: Any) -> Layout[Shdr]:
    struct = Struct(
        "sh_name" / Int32ul,
        "sh_type" / Int32ul,
        "sh_flags" / word,
        "sh_addr" / word,
        "sh_offset" / word,
        "sh_size" / word,
        "sh_link" / Int32ul,
        "sh_info" / Int32ul,
        "sh_addralign" / word,
        "sh_entsize" / word,
    )
    return Layout(
        Shdr,
        struct,
        hex={"sh_flags", "sh_addr", "sh_offset"},
        telling={"sh_type", "sh_addr"},
        meanings={"sh_type": choice_names(SHDR_TYPE_NAMES), "sh_flags": flag_names(SHDR_FLAG_NAMES)},
    )


EHDR = {ELFCLASS32: _ehdr(Int32ul), ELFCLASS64: _ehdr(Int64ul)}
"""File header layout by ``ei_class``."""
PHDR = {
    ELFCLASS32: _phdr(
        Struct(
            "p_type" / Int32ul,
            "p_offset" / Int32ul,
            "p_vaddr" / Int32ul,
            "p_paddr" / Int32ul,
            "p_filesz" / Int32ul,
            "p_memsz" / Int32ul,
            "p_flags" / Int32ul,
            "p_align" / Int32ul,
        )
    ),
    ELFCLASS64: _phdr(
        Struct(
            "p_type" / Int32ul,
            "p_flags" / Int32ul,
            "p_offset" / Int64ul,
            "p_vaddr" / Int64ul,
            "p_paddr" / Int64ul,
            "p_filesz" / Int64ul,
            "p_memsz" / Int64ul,
            "p_align" / Int64ul,
        )
    ),
}
"""Program header layout by ``ei_class``: the flags stand in different places."""
SHDR = {ELFCLASS32: _shdr(Int32ul), ELFCLASS64: _shdr(Int64ul)}
"""Section header layout by ``ei_class``."""


@dataclass(frozen=True, slots=True)
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
        if index >= len(sections) or sections[index].sh_type != SHT_STRTAB:
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
    end = table.find(b"\0", at)
    return table[at : end if end >= 0 else len(table)].decode("utf-8", "backslashreplace")
