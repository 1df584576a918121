"""The headers of ELF32 and ELF64, little-endian, parsed and built: file, program and section headers.

Source: System V ABI, "Object Files" (gABI chapters 4 and 5). Field names are the specification's; one dataclass
serves both classes, two layouts say where each field stands.
"""

from __future__ import annotations

from typing import Any

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
from mbtool.formats.wire_plain import Bytes, Int8ul, Int16ul, Int32ul, Int64ul, Struct
from mbtool.record import record

MAGIC = b"\x7fELF"
ELFCLASS32, ELFCLASS64 = 1, 2
ELFDATA2LSB, ELFDATA2MSB = 1, 2
EM_386, EM_ARM, EM_X86_64 = 3, 40, 62
PT_LOAD, PT_NOTE = 1, 4
SHT_SYMTAB, SHT_STRTAB, SHT_NOTE, SHT_NOBITS = 2, 3, 7, 8
PN_XNUM = 0xFFFF
"""``e_phnum`` of a file with more program headers than 16 bits can count: section 0's sh_info has the number."""
SHN_XINDEX = 0xFFFF
"""``e_shstrndx`` when 16 bits do not suffice: section 0's sh_link has the index."""


@record
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


@record
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


@record
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
        hex={"p_type", "p_flags", "p_offset", "p_vaddr", "p_paddr", "p_align"},
        telling={"p_type", "p_flags", "p_vaddr", "p_paddr"},
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
        hex={"sh_type", "sh_flags", "sh_addr", "sh_offset"},
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
