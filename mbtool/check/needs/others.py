"""What Limine and SYSLINUX' mboot.c32 ask beyond the specification.

Limine: common/protos/multiboot1.c (multiboot1_load), multiboot2.c (multiboot2_load),
common/lib/elf.c (elf_bits, elf32_load_elsewhere, elf64_load_elsewhere). SYSLINUX: com32/mboot/map.c (map_image).
"""

from __future__ import annotations

from struct import unpack_from

from mbtool.check.multiboot import MISSES, addressed
from mbtool.check.needs.multiboot import multiboot1, multiboot1_planned
from mbtool.check.needs.seen import Seen, flat, predicate
from mbtool.formats.elf_headers import EHDR, ELFCLASS32, EM_386, EM_X86_64, PHDR, PT_LOAD

EM_486 = 6
LIMINE_SEARCHED, MULTIBOOT1_HEADER = 8192, 48
MULTIBOOT1_MAGIC = (0x1BADB002).to_bytes(4, "little")
ET_EXEC, ET_DYN = 2, 3
INFORMATION_REQUEST = 1
LIMINE_GIVES = {1, 2, 3, 4, 6, 8, 9, 13, 14, 15, 16, 21}
LIMINE_GIVES_ON_UEFI = {11, 12, 17, 19, 20}


@predicate("limine-tags")
def limine_tags(seen: Seen) -> str:
    """All information that the header requires is of a kind that it knows."""
    header = seen.header(2)
    gives = LIMINE_GIVES | (LIMINE_GIVES_ON_UEFI if seen.loader.on == "uefi" else set())
    for tag in header.children if header else ():
        flags, types = tag.get("flags"), tag.get("mbi_tag_types")
        if tag.get("type") != INFORMATION_REQUEST or not isinstance(flags, int) or flags & 1:
            continue
        for wanted in types if isinstance(types, (list, tuple)) else ():
            if isinstance(wanted, int) and wanted not in gives:
                return f"Requested tag `{wanted}` which is not supported"
    return ""


@predicate("limine-elf")
def limine_elf(seen: Seen) -> str:
    """If it is loaded as an ELF file: its class is taken from its machine, and no segment is cut short."""
    content, header = seen.content, seen.header(1 if seen.loader.mode == "multiboot1" else 2)
    if content.kind != "elf" or header is None or addressed(header) or seen.source is None:
        return ""
    from mbtool.formats.elf_file import parse_elf

    elf = parse_elf(seen.source)
    if elf.header.e_machine != (EM_386 if elf.header.ei_class == ELFCLASS32 else EM_X86_64):
        return "e_machine does not go with the ELF file's class"
    if elf.header.e_type not in (ET_EXEC, ET_DYN):
        return "elf: ELF file not of type ET_EXEC nor ET_DYN"
    loads = [phdr for phdr in elf.program_headers if phdr.p_type == PT_LOAD and phdr.p_memsz]
    return "elf: p_filesz > p_memsz" if any(phdr.p_filesz > phdr.p_memsz for phdr in loads) else ""


@predicate("limine-multiboot1-found")
def limine_found(seen: Seen) -> str:
    """The first aligned magic number in 8 KiB is taken, if the file goes on for a whole header behind it."""
    if seen.source is None:
        return ""
    data = seen.source.read(0, LIMINE_SEARCHED + MULTIBOOT1_HEADER)
    last = min(LIMINE_SEARCHED, len(data) - MULTIBOOT1_HEADER)
    at = next((at for at in range(0, last + 1, 4) if data[at : at + 4] == MULTIBOOT1_MAGIC), None)
    if at is None:
        return "Invalid magic: no Multiboot 1 header in the first 8 KiB"
    return "" if sum(unpack_from("<3I", data, at)) % 2**32 == 0 else f"Header checksum is invalid, at {at:#x}"


@predicate("mboot-header")
def mboot_header(seen: Seen) -> str:
    """A header, if only one that others miss: ELF files are loaded by their own headers all the same."""
    missed = any(each.id in MISSES and each.id.startswith("MULTIBOOT1") for each in seen.content.findings)
    return "" if missed and seen.content.kind == "elf" else multiboot1(seen)


@predicate("mboot-planned")
def mboot_planned(seen: Seen) -> str:
    return multiboot1_planned(seen) if seen.header(1) is not None else ""


@predicate("mboot-elf")
def mboot_elf(seen: Seen) -> str:
    """A sound 32-bit ELF file, which goes before address fields, or address fields."""
    if flat(seen):
        return ""
    why = "neither ELF header nor a.out kludge found: "
    if seen.content.kind != "elf" or seen.content.get("ei_class") != ELFCLASS32 or seen.source is None:
        return why + "no 32-bit ELF file, and no address fields in the header"
    from mbtool.formats.elf_file import parse_elf

    header = parse_elf(seen.source).header
    if header.e_machine not in (EM_386, EM_486, EM_X86_64) or header.e_version != 1:
        return why + "an ELF file for another machine than x86, or of another version than 1"
    if header.e_ehsize < EHDR[ELFCLASS32].size or header.e_phentsize < PHDR[ELFCLASS32].size or not header.e_phnum:
        return why + "e_ehsize, e_phentsize or e_phnum is too small"
    end = header.e_phoff + header.e_phentsize * header.e_phnum
    return why + "the program headers are not in the file" if end > seen.source.size else ""
