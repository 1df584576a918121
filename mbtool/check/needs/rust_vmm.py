"""What rust-vmm's linux-loader takes, by which Cloud Hypervisor and Firecracker load kernels.

linux-loader 0.13 and 0.14: src/loader/elf/mod.rs (Elf::load, validate_header, parse_elf_note),
src/loader/bzimage/mod.rs (BzImage::load). Both monitors call it with 1 MiB as the start of high memory.
"""

from __future__ import annotations

from mbtool.check.needs.kernel import elf as any_elf
from mbtool.check.needs.seen import Seen, predicate
from mbtool.formats import elf_notes
from mbtool.formats.elf_file import ElfFile, parse_elf
from mbtool.formats.elf_headers import EHDR, ELFCLASS64, PHDR, PT_LOAD, PT_NOTE
from mbtool.formats.xen_notes import XenNote, number
from mbtool.source import MIB


def _elf(seen: Seen) -> ElfFile | None:
    return None if seen.source is None or seen.content.kind != "elf" else parse_elf(seen.source)


@predicate("rust-vmm-elf")
def rust_vmm_elf(seen: Seen) -> str:
    """A 64-bit ELF file with all of its program headers and segments, and an entry point that is not too low."""
    elf = _elf(seen)
    if elf is None or seen.content.get("ei_class") != ELFCLASS64:
        return any_elf(seen) or "a 32-bit ELF file"
    header, size, each = elf.header, elf.source.size, PHDR[ELFCLASS64].size
    if header.e_phentsize != each:
        return f"Invalid program header size: e_phentsize is {header.e_phentsize}, not {each}"
    if header.e_phoff < EHDR[ELFCLASS64].size:
        return f"Invalid program header offset: e_phoff is {header.e_phoff:#x}"
    if header.e_entry < MIB:
        return f"Invalid entry address: e_entry {header.e_entry:#x} lies below 1 MiB"
    if header.e_phoff + header.e_phnum * each > size:
        return "Unable to read program header: they are not in the file"
    loads = [phdr for phdr in elf.program_headers if phdr.p_type == PT_LOAD and phdr.p_filesz]
    if any(phdr.p_offset + phdr.p_filesz > size for phdr in loads):
        return "Unable to read kernel image: a segment reaches past the end of the file"
    return ""


@predicate("rust-vmm-pvh")
def rust_vmm_pvh(seen: Seen) -> str:
    elf = _elf(seen)
    if elf is not None and _pvh_entry(elf):
        return ""
    return "no PVH entry point (PHYS32_ENTRY note in the last segment of notes)"


@predicate("rust-vmm-entry")
def rust_vmm_entry(seen: Seen) -> str:
    """e_entry is jumped to as a physical address."""
    elf = _elf(seen)
    return "" if elf is None else _entered(elf, elf.header.e_entry)


@predicate("rust-vmm-any-entry")
def rust_vmm_any_entry(seen: Seen) -> str:
    """The PVH entry point is jumped to where there is one, else e_entry."""
    elf = _elf(seen)
    return "" if elf is None else _entered(elf, _pvh_entry(elf) or elf.header.e_entry)


@predicate("loaded-high")
def loaded_high(seen: Seen) -> str:
    return "a zImage, not a bzImage: LOADED_HIGH is not set" if seen.content.kind == "zimage" else ""


@predicate("code32-start-high")
def code32_start_high(seen: Seen) -> str:
    start = seen.content.get("code32_start")
    return f"code32_start {start:#x} lies below 1 MiB" if isinstance(start, int) and start < MIB else ""


def _pvh_entry(elf: ElfFile) -> int:
    """What the PHYS32_ENTRY note says, 0 where there is none: every segment of notes overrules those before it."""
    areas = [(phdr.p_offset, phdr.p_filesz, 4) for phdr in elf.program_headers if phdr.p_type == PT_NOTE]
    notes, _ = elf_notes.walk_all(elf.source, areas[-1:])
    return next((number(n.desc) for n in notes if n.name == "Xen" and n.type == XenNote.PHYS32_ENTRY), 0)


def _entered(elf: ElfFile, entry: int) -> str:
    for phdr in elf.program_headers:
        if phdr.p_type == PT_LOAD and phdr.p_paddr <= entry < phdr.p_paddr + phdr.p_memsz:
            return ""
    return f"the entry point {entry:#x} is taken for a physical address, and nothing is loaded there"
