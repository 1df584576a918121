"""What GRUB's loaders ask beyond the specification.

GRUB: grub-core/loader/multiboot_elfxx.c, multiboot_mbi2.c, i386/multiboot_mbi.c, i386/linux.c, efi/linux.c,
kern/elfXX.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mbtool.check.multiboot import addressed, program_headers_too_far
from mbtool.check.needs.kernel import bzimage, efi_program, linux_planned
from mbtool.check.needs.seen import Seen, predicate
from mbtool.formats.elf_headers import EM_386, EM_X86_64, PN_XNUM, PT_LOAD, SHN_XINDEX, Shdr
from mbtool.formats.multiboot_search import MULTIBOOT1, MULTIBOOT2

if TYPE_CHECKING:
    from mbtool.formats.elf_file import ElfFile

EFI_I386_ENTRY = 8
ET_EXEC, ET_DYN = 2, 3
LINUX_HEADER = 0x268
"""Bytes of GRUB's struct linux_i386_kernel_header, which ends with handover_offset."""
LORESERVE = 0xFF00
PE32_PLUS = 0x20B
COUNTS = (
    # what, its field, the value that sends to a field of section 0, and what is too large here and too small there
    ("number of section header table entries", "e_shnum", 0, "sh_size", LORESERVE),
    ("section header table index", "e_shstrndx", SHN_XINDEX, "sh_link", LORESERVE),
    ("number of program header table entries", "e_phnum", PN_XNUM, "sh_info", PN_XNUM),
)


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
    elf = _elf(seen)
    if elf is None:
        return _no_elf(seen)
    ehdr, size = elf.header, elf.source.size
    if reason := _segments(elf):
        return reason
    if ehdr.e_shnum and not ehdr.e_shentsize:
        return "e_shentsize is 0"
    past = ehdr.e_shnum and ehdr.e_shoff + ehdr.e_shnum * ehdr.e_shentsize > size
    return _past("the section headers", ehdr.e_shoff, size) if past else ""


@predicate("grub-elf-2.12")
def grub_elf_2_12(seen: Seen) -> str:
    """The same since 2.12, which reads numbers that 16 bits cannot hold from section 0, and wants them so large.

    A file without sections, or whose tables are not in it, is refused.
    """
    elf = _elf(seen)
    if elf is None:
        return _no_elf(seen)
    ehdr, size = elf.header, elf.source.size
    if reason := _counts(elf, MULTIBOOT1.limit if seen.loader.mode == "multiboot" else MULTIBOOT2.limit):
        return reason
    end = ehdr.e_phoff + len(elf.program_headers) * ehdr.e_phentsize
    if elf.findings or end > size:
        return f"program header at a too high offset: {ehdr.e_phoff:#x} of {size:#x} bytes"
    if reason := program_headers(seen) or _segments(elf):
        return reason
    if not ehdr.e_shentsize:
        return "e_shentsize is 0"
    if ehdr.e_shoff + elf.section_count() * ehdr.e_shentsize > size:
        return f"ELF section header region is larger than the file size: at {ehdr.e_shoff:#x} of {size:#x} bytes"
    return ""


def _elf(seen: Seen) -> ElfFile | None:
    """The ELF file that is loaded as one and is of the right class and machine."""
    header = seen.header(1 if seen.loader.mode == "multiboot" else 2)
    if seen.content.kind != "elf" or header is None or addressed(header) or seen.source is None:
        return None
    from mbtool.formats.elf_file import parse_elf

    elf = parse_elf(seen.source)
    ehdr = elf.header
    right = ehdr.e_machine == (EM_386 if ehdr.ei_class == 1 else EM_X86_64) and ehdr.e_version == 1
    return elf if right else None


def _no_elf(seen: Seen) -> str:
    """Why there is no such file, "" when it need not be one."""
    header = seen.header(1 if seen.loader.mode == "multiboot" else 2)
    if header is None or addressed(header) or seen.source is None:
        return ""
    if seen.content.kind == "elf":
        return "invalid arch-dependent ELF magic: e_machine does not go with the class, or e_version is not 1"
    known = seen.source.read(4, 1) in (b"\1", b"\2")  # it asks for the class first
    return f"invalid arch-{'in' if known else ''}dependent ELF magic: no ELF file, and no address fields"


def _counts(elf: ElfFile, searched: int) -> str:
    """What grub_elfXX_get_shnum, _shstrndx and _phnum refuse. They look for section 0 in what was searched."""
    ehdr = elf.header
    there = ehdr.e_shoff + ehdr.e_shentsize <= searched
    first = (*(elf.section_headers()[:1] if there else ()), Shdr())[0]
    for what, name, elsewhere, field, least in COUNTS:
        value, more = getattr(ehdr, name), getattr(first, field)
        if value != elsewhere:
            if value >= least:
                return f"invalid {what} in {name}: {value}"
        elif not ehdr.e_shoff:
            return f"invalid section header table offset in e_shoff: 0, and {name} is {value}"
        elif more < least:
            return f"invalid {what} in {field}: {more}, and {name} is {value}"
    return ""


def _segments(elf: ElfFile) -> str:
    for phdr in elf.program_headers:
        if phdr.p_type == PT_LOAD and phdr.p_filesz and phdr.p_offset + phdr.p_filesz > elf.source.size:
            return _past("a segment", phdr.p_offset, elf.source.size)
    return ""


def _past(what: str, offset: int, size: int) -> str:
    """GRUB's words for reading what is not in the file."""
    words = "attempt to seek outside of the file" if offset > size else "premature end of file"
    return f"{words}: {what} at {offset:#x} of {size:#x} bytes"


@predicate("grub-linux-header")
def grub_linux_header(seen: Seen) -> str:
    """The linux command reads a whole setup header before it looks at any of it."""
    short = seen.source is not None and seen.source.size < LINUX_HEADER
    return f"premature end of file: less than the {LINUX_HEADER} bytes of a setup header" if short else ""


@predicate("grub-linux-on-uefi")
def grub_linux_on_uefi(seen: Seen) -> str:
    """GRUB 2.12 and later hand an EFI program of image version 1 or later to the firmware (loader/efi/linux.c).

    Linux has version 1 since 5.8; Xen has one, too. Anything else goes the way that it goes on a BIOS.
    """
    content = seen.content
    pe = next((node for node in (content, *content.children) if node.kind == "pe"), None)
    version = None if pe is None else pe.get("MajorImageVersion")
    if pe is not None and pe.get("Magic") == PE32_PLUS and isinstance(version, int) and version >= 1:
        return efi_program(seen)
    return bzimage(seen) or linux_planned(seen)


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
