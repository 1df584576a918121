"""What GRUB's Multiboot loaders ask beyond the specification.

GRUB: grub-core/loader/multiboot_elfxx.c, multiboot_mbi2.c, i386/multiboot_mbi.c.
"""

from __future__ import annotations

from mbtool.check.multiboot import addressed, program_headers_too_far
from mbtool.check.needs.seen import Seen, predicate
from mbtool.formats.elf_headers import EM_386, EM_X86_64, PT_LOAD

EFI_I386_ENTRY = 8
ET_EXEC, ET_DYN = 2, 3


@predicate("program-headers-in-search")
def program_headers(seen: Seen) -> str:
    """GRUB reads program headers from what it searched for the Multiboot header, and no further."""
    header = seen.header(1 if seen.loader.mode == "multiboot" else 2)
    end = 0 if header is None else program_headers_too_far(seen.content, header)
    return f"program header at a too high offset: they end at {end:#x}" if end else ""


@predicate("elf-executable")
def executable(seen: Seen) -> str:
    """If it is an ELF file that is loaded as one, then an executable or a shared object."""
    header = seen.header(1 if seen.loader.mode == "multiboot" else 2)
    if seen.content.kind != "elf" or header is None or addressed(header):
        return ""
    return "" if seen.content.get("e_type") in (ET_EXEC, ET_DYN) else "this ELF file is not of the right type"


@predicate("grub-elf")
def grub_elf(seen: Seen) -> str:
    """If it is loaded as an ELF file: what GRUB's loader asks of its headers, and where they say that bytes are."""
    content, header = seen.content, seen.header(1 if seen.loader.mode == "multiboot" else 2)
    if header is None or addressed(header) or seen.source is None:
        return ""
    if content.kind != "elf":
        known = seen.source.read(4, 1) in (b"\1", b"\2")  # it asks for the class first
        return f"invalid arch-{'in' if known else ''}dependent ELF magic: no ELF file, and no address fields"
    from mbtool.formats.elf_file import parse_elf

    elf = parse_elf(seen.source)
    ehdr = elf.header
    if ehdr.e_machine != (EM_386 if ehdr.ei_class == 1 else EM_X86_64) or ehdr.e_version != 1:
        return "invalid arch-dependent ELF magic: e_machine does not go with the class, or e_version is not 1"
    size = seen.source.size
    for phdr in elf.program_headers:
        if phdr.p_type == PT_LOAD and phdr.p_filesz and phdr.p_offset + phdr.p_filesz > size:
            return _past("a segment", phdr.p_offset, size)
    end = ehdr.e_shoff + ehdr.e_shnum * ehdr.e_shentsize
    if ehdr.e_shnum and not ehdr.e_shentsize:
        return "e_shentsize is 0"
    return _past("the section headers", ehdr.e_shoff, size) if ehdr.e_shnum and end > size else ""


def _past(what: str, offset: int, size: int) -> str:
    """GRUB's words for reading what is not in the file."""
    words = "attempt to seek outside of the file" if offset > size else "premature end of file"
    return f"{words}: {what} at {offset:#x} of {size:#x} bytes"


@predicate("grub-video-mode")
def grub_video_mode(seen: Seen) -> str:
    header = seen.header(1)
    mode = None if header is None else header.get("mode_type")
    return f"unsupported graphical mode type {mode}" if isinstance(mode, int) and mode > 1 else ""


@predicate("grub-tags")
def grub_tags(seen: Seen) -> str:
    """It knows no 32-bit EFI entry, and no tag may be unknown that is not optional."""
    header = seen.header(2)
    for tag in header.children if header else ():
        flags = tag.get("flags")
        if tag.get("type") == EFI_I386_ENTRY and isinstance(flags, int) and not flags & 1:
            return f"unsupported tag: {EFI_I386_ENTRY:#x}"
    return ""
