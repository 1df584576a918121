"""Multiboot headers, as loaders look for them and take them."""

from __future__ import annotations

from mbtool.check.multiboot import EFI_BOOT_SERVICES, MISSES, tag_types
from mbtool.check.needs.seen import Seen, flat, planned, predicate
from mbtool.formats.elf_headers import EM_X86_64
from mbtool.formats.multiboot_search import MULTIBOOT2

RELOCATABLE = 10


def _multiboot(seen: Seen, version: int) -> str:
    if seen.header(version) is not None:
        return ""
    for finding in seen.content.findings:
        if finding.id in MISSES and finding.id.startswith(f"MULTIBOOT{version}"):
            return f"{finding.message} (expected {finding.expected}, found {finding.found})"
    return f"no Multiboot {version} header"


@predicate("multiboot1")
def multiboot1(seen: Seen) -> str:
    return _multiboot(seen, 1)


@predicate("multiboot1-whole")
def whole(seen: Seen) -> str:
    """The fields behind the magic ones are where the loader looks for the header, too."""
    header = seen.header(1)
    cut = next((each for each in header.findings if each.id == "MULTIBOOT1-PAST-LIMIT"), None) if header else None
    return f"{cut.message} (expected {cut.expected}, found {cut.found})" if cut else ""


@predicate("multiboot2")
def multiboot2(seen: Seen) -> str:
    return _multiboot(seen, 2)


@predicate("multiboot2-first-magic-sound")
def first_magic(seen: Seen) -> str:
    """Takes the first aligned magic number, and gives up when that one's checksum is wrong."""
    data = b"" if seen.source is None else seen.source.read(0, MULTIBOOT2.limit)
    for at in MULTIBOOT2.candidates(data):
        if MULTIBOOT2.placed(at):
            return (
                "" if at == MULTIBOOT2.first(data) else f"the magic number at {at:#x} has no sound header behind it"
            )
    return ""


@predicate("multiboot2-relocatable")
def relocatable(seen: Seen) -> str:
    """kexec-tools 2.0.20 follow a null pointer where there is none (kexec-mb2-x86.c, multiboot2_x86_load)."""
    header = seen.header(2)
    return "" if header and RELOCATABLE in tag_types(header) else "the header has no relocatable tag (type 10)"


@predicate("boot-services-not-required")
def boot_services_optional(seen: Seen) -> str:
    header = seen.header(2)
    for tag in header.children if header else ():
        flags = tag.get("flags")
        if tag.get("type") == EFI_BOOT_SERVICES and isinstance(flags, int) and not flags & 1:
            return "the header requires EFI boot services, which it does not keep"
    return ""


@predicate("multiboot1-planned")
def multiboot1_planned(seen: Seen) -> str:
    return planned(seen, "MULTIBOOT1")


@predicate("multiboot2-planned")
def multiboot2_planned(seen: Seen) -> str:
    return planned(seen, "MULTIBOOT2")


@predicate("elf32-or-addresses")
def elf32(seen: Seen) -> str:
    if flat(seen) or (seen.content.kind == "elf" and seen.content.get("ei_class") == 1):
        return ""
    return "no 32-bit ELF file, and no address fields in the header"


@predicate("not-x86-64-by-multiboot1")
def not_x86_64(seen: Seen) -> str:
    if flat(seen) or seen.content.get("e_machine") != EM_X86_64:
        return ""
    return "Cannot load x86-64 image, give a 32bit one: an ELF file for x86-64 without address fields"
