"""The plan for a kernel with a PVH entry point, started by a boot loader: where it goes, ``hvm_start_info``, entry.

::

    | 0x30000 hvm_start_info, modules, strings, memory map | 1 MiB … kernel … | modules, each on a page |

Xen: docs/misc/pvh.pandoc ("x86/HVM direct boot ABI"), xen/include/public/arch-x86/hvm/start_info.h, elfnote.h
(PHYS32_ENTRY). The loader builds version 1, which has the memory map: there is no hypervisor to ask for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mbtool.errors import RefusedError, UnsupportedError
from mbtool.formats import elf_notes, hvm_start_info
from mbtool.formats.elf_file import ElfFile
from mbtool.formats.elf_headers import PT_NOTE, SHT_NOTE
from mbtool.formats.elf_notes import Note
from mbtool.formats.hvm_start_info import HVM_START_INFO, MEMMAP_ENTRY, MEMMAP_POINTER, MODLIST_ENTRY
from mbtool.formats.multiboot_shared import bytes_of
from mbtool.formats.xen_notes import XenNote, number
from mbtool.plan.e820 import E820Map
from mbtool.plan.elf_load import elf_image
from mbtool.plan.load import MAP_MAX, Load, LoadPlan, MachinePatch, MachineValue, MapShape, Registers
from mbtool.plan.memory import PAGE, up
from mbtool.plan.modules import ModuleFile, Placed, behind, place
from mbtool.plan.room import LOW, Room

INFO_SIZE = hvm_start_info.size_of(1)
RSDP = HVM_START_INFO.offsets["rsdp_paddr"][0]
MEMMAP_ENTRIES = HVM_START_INFO.size + MEMMAP_POINTER.offsets["memmap_entries"][0]


def entry_point(elf: ElfFile) -> int | None:
    """The physical address in the PHYS32_ENTRY note, None when there is none.

    Note sections are looked at in files without note segments.
    """
    segments = [(p.p_offset, p.p_filesz, p.p_align) for p in elf.program_headers if p.p_type == PT_NOTE]
    found = _phys32_entry(elf, segments)
    if found is not None or segments:
        return found
    sections = [(s.sh_offset, s.sh_size, s.sh_addralign) for s in elf.section_headers() if s.sh_type == SHT_NOTE]
    return _phys32_entry(elf, sections)


def _phys32_entry(elf: ElfFile, areas: list[elf_notes.Area]) -> int | None:
    notes, _ = elf_notes.walk_all(elf.source, areas)
    return next((number(note.desc) for note in notes if _is_entry(elf, note)), None)


def _is_entry(elf: ElfFile, note: Note) -> bool:
    return note.type == XenNote.PHYS32_ENTRY and elf_notes.for_xen(elf.source, note)


def plan(
    kernel: str,
    size: int,
    elf: ElfFile,
    cmdline: str,
    modules: Sequence[ModuleFile] = (),
    memory: E820Map | None = None,
    rsdp: int = 0,
) -> LoadPlan:
    """What to load for the ELF file ``kernel`` of ``size`` bytes, entered at its PHYS32_ENTRY.

    Without ``memory`` the plan is for any PC, and the stub fills in the memory map and the RSDP's address; with it
    ``rsdp`` is that address. Raises UnsupportedError for a kernel without the note, RefusedError for one that
    cannot be put where it is linked, or modules that do not fit below 4 GiB. Linux takes the first module for its
    initrd.
    """
    entry = entry_point(elf)
    if entry is None:
        raise UnsupportedError("no PHYS32_ENTRY note: the kernel has no PVH entry point", source=kernel)
    room = Room(memory)
    image = elf_image(kernel, size, elf)
    if entry not in image.span:
        raise RefusedError(
            "the PVH entry point lies outside of what is loaded",
            source=kernel,
            field="PHYS32_ENTRY",
            expected=f"in {image.span}",
            found=f"{entry:#x}",
        )
    room.take("the kernel", image.span, kernel)
    placed = place(modules, behind(image.span.end), room, kernel)
    loads = [*image.loads(), *(item.load for item in placed)]
    blob = _Blob(cmdline, placed, memory, rsdp)
    growth = 0 if memory else MEMMAP_ENTRY.size * MAP_MAX
    at = room.find("the start info", len(blob.build(0)) + growth, kernel, align=PAGE, within=LOW)
    content = blob.build(at)
    first = Load("start info", at, content, growth)
    registers = Registers(entry, ebx=at)
    if memory:
        return LoadPlan("pvh", (first, *loads), registers)
    patches = (
        MachinePatch(at + MEMMAP_ENTRIES, MachineValue.MAP_ENTRIES),
        MachinePatch(at + RSDP, MachineValue.RSDP),
    )
    return LoadPlan("pvh", (first, *loads), registers, MapShape.PVH, at + len(content), patches)


@dataclass(frozen=True, slots=True)
class _Blob:
    """hvm_start_info and all that it points at; the memory map comes last, so that it can grow."""

    cmdline: str
    modules: Sequence[Placed]
    memory: E820Map | None
    rsdp: int

    def build(self, address: int) -> bytes:
        """Its bytes for physical ``address``."""
        strings_at = address + INFO_SIZE + MODLIST_ENTRY.size * len(self.modules)
        strings = bytes_of(self.cmdline, "cmdline")
        modlist = b""
        for placed in self.modules:
            text = placed.module.cmdline
            text_at = strings_at + len(strings) if text else 0
            modlist += MODLIST_ENTRY.build(hvm_start_info.ModlistEntry(placed.start, placed.module.size, text_at))
            strings += bytes_of(text, "cmdline") if text else b""
        memmap_at = up(strings_at + len(strings), 8)
        entries = self.memory.entries if self.memory else ()
        info = hvm_start_info.HvmStartInfo(
            magic=hvm_start_info.XEN_HVM_START_MAGIC_VALUE,
            version=1,
            flags=0,
            nr_modules=len(self.modules),
            modlist_paddr=address + INFO_SIZE if self.modules else 0,
            cmdline_paddr=strings_at,
            rsdp_paddr=self.rsdp,
        )
        pointer = hvm_start_info.MemmapPointer(memmap_at, len(entries), 0)
        head = hvm_start_info.build(info, pointer) + modlist + strings
        memmap = b"".join(
            MEMMAP_ENTRY.build(hvm_start_info.MemmapEntry(entry.range.start, entry.range.size, entry.type))
            for entry in entries
        )
        return head.ljust(memmap_at - address, b"\0") + memmap
