"""Where an ELF file goes in physical memory, for loaders that take ``p_paddr`` at its word.

Multiboot Specification 0.6.96 and Multiboot2 Specification 2.0, "OS image format": segments go to their physical
addresses; the entry point is virtual and found through the segment that holds it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mbtool.errors import RefusedError
from mbtool.formats.elf_file import ElfFile
from mbtool.formats.elf_headers import PT_LOAD, SHT_NOBITS, SHT_SYMTAB, Phdr, Shdr
from mbtool.plan.load import Load, Part
from mbtool.plan.memory import Range
from mbtool.plan.room import HIGH, Room

MAX_SYMBOLS = 64 << 20
"""Bytes of a symbol or string table that are loaded at most."""
MAX_SECTIONS = 1024
"""Section headers handed on at most; more do not fit low memory."""


@dataclass(frozen=True, slots=True)
class ElfImage:
    """The loadable segments of the file ``name``; ``span`` covers them all where they are linked (physical)."""

    name: str
    elf: ElfFile
    segments: tuple[Phdr, ...]
    span: Range

    def loads(self, delta: int = 0) -> list[Load]:
        """The segments moved by ``delta`` bytes from where they are linked."""
        return [
            Load(
                self.name,
                phdr.p_paddr + delta,
                Part(self.name, phdr.p_offset, min(phdr.p_filesz, phdr.p_memsz)),
                max(0, phdr.p_memsz - phdr.p_filesz),
            )
            for phdr in self.segments
        ]

    @property
    def entry(self) -> int:
        """Physical address of ``e_entry`` (virtual) as linked. Raises RefusedError when no segment holds it."""
        entry = self.elf.header.e_entry
        for phdr in self.segments:
            if phdr.p_vaddr <= entry < phdr.p_vaddr + phdr.p_memsz:
                return entry - phdr.p_vaddr + phdr.p_paddr
        raise RefusedError("entry point isn't in a segment", source=self.name, field="e_entry", found=f"{entry:#x}")


def elf_image(name: str, size: int, elf: ElfFile) -> ElfImage:
    """What of the file ``name`` of ``size`` bytes is loaded. Raises RefusedError for segments no loader takes."""
    segments = tuple(phdr for phdr in elf.program_headers if phdr.p_type == PT_LOAD and phdr.p_memsz)
    if not segments:
        raise RefusedError("nothing to load in the ELF file", source=name)
    for phdr in segments:
        end = phdr.p_paddr + phdr.p_memsz
        if phdr.p_paddr < HIGH.start or end > HIGH.end:
            raise RefusedError(
                "segment lies below 1 MiB or above 4 GiB",
                source=name,
                field="p_paddr",
                expected=f"within {HIGH}",
                found=f"[{phdr.p_paddr:#x}, {end:#x})",
            )
        if phdr.p_offset + min(phdr.p_filesz, phdr.p_memsz) > size:
            raise RefusedError(
                "the file ends before its segment does",
                source=name,
                offset=phdr.p_offset,
                field="p_filesz",
                expected=f"at most {max(0, size - phdr.p_offset)} bytes",
                found=f"{phdr.p_filesz}",
            )
    start = min(phdr.p_paddr for phdr in segments)
    end = max(phdr.p_paddr + phdr.p_memsz for phdr in segments)
    return ElfImage(name, elf, segments, Range(start, end))


def symbols(image: ElfImage, size: int, room: Room, within: Range) -> tuple[tuple[Shdr, ...], list[Load]]:
    """All section headers, and the loads of the symbol table with its strings and of the section names.

    Those sections belong to no segment; their ``sh_addr`` says where they are put. Empty when the file has no
    sound section headers or more than fit the boot information.
    """
    sections = list(image.elf.section_headers())
    if not 1 < len(sections) <= MAX_SECTIONS or len(sections) != image.elf.section_count():
        return (), []
    loads = []
    for number in _wanted(sections, image.elf.header.e_shstrndx):
        section = sections[number]
        whole = section.sh_offset + section.sh_size <= size
        if section.sh_addr or not whole or not 0 < section.sh_size <= MAX_SYMBOLS:
            continue
        if section.sh_type == SHT_NOBITS or not room.largest(16, within) > section.sh_size:
            continue
        at = room.find("symbols", section.sh_size, image.name, align=16, within=within)
        loads.append(Load("symbols", at, Part(image.name, section.sh_offset, section.sh_size)))
        sections[number] = replace(section, sh_addr=at)
    return tuple(sections), loads


def _wanted(sections: list[Shdr], names: int) -> Iterable[int]:
    """Numbers of the sections that a symbol table is made of, each once."""
    wanted = {names}
    for number, section in enumerate(sections):
        if section.sh_type == SHT_SYMTAB:
            wanted |= {number, section.sh_link}
    return [number for number in sorted(wanted) if 0 < number < len(sections)]
