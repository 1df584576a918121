"""What QEMU's own loader of ELF files takes, which is not what GRUB takes.

It goes by physical addresses, trusts e_phnum but not e_phentsize, needs no sections, and looks for a note by its
number, whoever owns it. QEMU: include/hw/elf_ops.h (glue(load_elf, SZ), get_elf_note_type); hw/i386/x86.c
(load_elfboot, read_pvh_start_addr).
"""

from __future__ import annotations

from collections.abc import Sequence

from mbtool.formats import elf_notes
from mbtool.formats.elf_file import ElfFile
from mbtool.formats.elf_headers import PHDR, PT_LOAD, PT_NOTE, Phdr
from mbtool.formats.xen_notes import XenNote, number

PF_X = 1
MULTIBOOT_FLAGS = 0x10004


class QemuElf:
    """An ELF file as QEMU sees it. ``elf``: its headers as they are."""

    def __init__(self, elf: ElfFile) -> None:
        self._elf = elf
        header, layout = elf.header, PHDR[elf.header.ei_class]
        data = elf.source.read(header.e_phoff, header.e_phnum * layout.size)
        self._whole = len(data) == header.e_phnum * layout.size
        self._phdrs: Sequence[Phdr] = (
            [layout.parse(data, at) for at in range(0, len(data), layout.size)] if self._whole else []
        )

    @property
    def flags_refused(self) -> str:
        """Its way to PVH takes two bits of e_flags for those of a Multiboot header."""
        flags = self._elf.header.e_flags
        return f"elfboot unsupported flags = {flags:x}: e_flags" if flags & MULTIBOOT_FLAGS else ""

    @property
    def refusal(self) -> str:
        """Why it is not loaded, "" when it is."""
        size = self._elf.source.size
        if not self._elf.is_x86:
            return "an ELF file for another machine than x86"
        if not self._whole or not self._phdrs:
            return "the program headers are not in the file"
        for phdr in self._phdrs:
            if phdr.p_type in (PT_LOAD, PT_NOTE) and phdr.p_filesz and phdr.p_offset + phdr.p_filesz > size:
                return "a segment reaches past the end of the file"
        return "" if any(phdr.p_type == PT_LOAD and phdr.p_memsz for phdr in self._phdrs) else "nothing to load"

    def holds(self, address: int) -> bool:
        """Whether bytes of the file are loaded at a physical address."""
        return any(
            phdr.p_type == PT_LOAD and phdr.p_paddr <= address < phdr.p_paddr + min(phdr.p_filesz, phdr.p_memsz)
            for phdr in self._phdrs
        )

    @property
    def entry(self) -> int:
        """Physical address of e_entry, which is taken for one where no executable segment holds it."""
        entry = self._elf.header.e_entry
        for phdr in self._phdrs:
            inside = phdr.p_vaddr <= entry < phdr.p_vaddr + phdr.p_filesz
            if phdr.p_type == PT_LOAD and inside and phdr.p_flags & PF_X and phdr.p_paddr != phdr.p_vaddr:
                return entry - phdr.p_vaddr + phdr.p_paddr
        return entry

    @property
    def pvh_entry(self) -> int:
        """What the PHYS32_ENTRY note says, 0 where there is none."""
        areas = [(phdr.p_offset, phdr.p_filesz, phdr.p_align) for phdr in self._phdrs if phdr.p_type == PT_NOTE]
        notes, _ = elf_notes.walk_all(self._elf.source, areas)
        return next((number(note.desc) for note in notes if note.type == XenNote.PHYS32_ENTRY), 0)
