"""What kexec-tools takes by Multiboot, beyond the specification.

kexec-tools: kexec/arch/i386/kexec-multiboot-x86.c (multiboot_x86_probe, multiboot_x86_load), kexec-mb2-x86.c
(multiboot2_x86_probe, multiboot2_x86_load), kexec-elf-x86.c (elf_x86_any_probe); kexec/kexec-elf-exec.c
(build_elf_exec_info, load_elf_segments).
"""

from __future__ import annotations

from mbtool.check.needs.seen import Seen, flat, predicate
from mbtool.formats.elf_headers import EM_386, EM_X86_64, PT_LOAD

EM_486 = 6
PT_INTERP = 3
PAGE = 4096


@predicate("kexec-elf")
def kexec_elf(seen: Seen) -> str:
    """If it is loaded as an ELF file: for x86, without interpreter, and entered where it is loaded."""
    multiboot1 = seen.loader.mode == "multiboot"
    if seen.content.kind != "elf" or seen.source is None or (multiboot1 and flat(seen)):
        return ""
    from mbtool.formats.elf_file import parse_elf

    elf = parse_elf(seen.source)
    if elf.header.e_machine not in {EM_386, EM_486} | (set() if multiboot1 else {EM_X86_64}):
        return "an ELF file for another machine than i386" + ("" if multiboot1 else " or x86-64")
    if any(phdr.p_type == PT_INTERP for phdr in elf.program_headers):
        return "Requires an ELF interpreter"
    entry = elf.header.e_entry
    loads = [phdr for phdr in elf.program_headers if phdr.p_type == PT_LOAD]
    if any(phdr.p_paddr <= entry < phdr.p_paddr + phdr.p_memsz for phdr in loads):
        return ""
    return f"e_entry {entry:#x} is taken for a physical address, and nothing is loaded there"


@predicate("kexec-addresses")
def kexec_addresses(seen: Seen) -> str:
    """Address fields must be aligned, in order and all set: 0 for "to the end of the file" is not understood."""
    header = seen.header(1)
    if header is None or not flat(seen):
        return ""
    names = ("header_addr", "load_addr", "load_end_addr", "bss_end_addr", "entry_addr")
    values = [value if isinstance(value := header.get(name), int) else 0 for name in names]
    at, start, end, bss_end, entry = values
    if start % PAGE:
        return "multiboot load address not 4k aligned"
    if start > at:
        return "multiboot header address > load address: header_addr lies below load_addr"
    if end < start:
        return "multiboot load end address < load address"
    if bss_end < end:
        return "multiboot bss end address < load end address"
    return "" if start <= entry < end else "multiboot entry out of range"
