"""What loaders need of an image: predicates by name, each with the reason when it does not hold.

A predicate takes the image as one loader sees it and returns "" or why not. Those that end in ``planned`` ask the
planner; for Xen the domain builder's own steps decide.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from mbtool.check.image import Image
from mbtool.check.loaders import Loader
from mbtool.check.multiboot import (
    EFI_AMD64_ENTRY,
    EFI_BOOT_SERVICES,
    MISSES,
    addressed,
    headers,
    only_low,
    program_headers_too_far,
    tag_types,
    unpacked,
)
from mbtool.errors import FormatError, MbtoolError, RefusedError, UnsupportedError
from mbtool.formats.multiboot_search import MULTIBOOT2
from mbtool.model import STREAM_KINDS, Node
from mbtool.source import Budget, Source

if TYPE_CHECKING:
    from mbtool.check.qemu_elf import QemuElf

RELOCATABLE = 10
EM_386, EM_X86_64 = 3, 62
EFI_I386_ENTRY = 8
ET_EXEC, ET_DYN = 2, 3
EFI_APPLICATION = 10
PE_X86_64 = 0x8664
LZ4_LEGACY = b"\x02\x21"

Predicate = Callable[["Seen"], str]
PREDICATES: dict[str, Predicate] = {}


def predicate(name: str) -> Callable[[Predicate], Predicate]:
    """Makes a function a predicate that rows can name."""
    return lambda function: PREDICATES.setdefault(name, function)


class Seen:
    """An image as one loader sees it."""

    def __init__(self, image: Image, loader: Loader) -> None:
        self.image = image
        self.loader = loader

    @property
    def content(self) -> Node:
        """What is there when a stream around it is unpacked."""
        return self.image.content

    @cached_property
    def source(self) -> Source | None:
        """The bytes of ``content``, None when they cannot be had."""
        return unpacked(self.image)

    def header(self, version: int) -> Node | None:
        """The Multiboot header of a version."""
        return next((node for node in headers(self.image) if node.kind == f"multiboot{version}-header"), None)

    @property
    def is_xen(self) -> bool:
        return self.content.find("xen-hypervisor") is not None


def why_not(image: Image, loader: Loader) -> str:
    """Why a loader cannot start an image, "" when it can. Raises MbtoolError when the image cannot be read."""
    codec = image.codec
    if loader.unpacks is not None and codec and codec not in loader.unpacks:
        return f"it does not unpack {codec} files"
    seen = Seen(image, loader)
    return next((reason for name in loader.needs if (reason := PREDICATES[name](seen))), "")


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


@predicate("no-multiboot1")
def no_multiboot1(seen: Seen) -> str:
    return "it is taken for a Multiboot 1 kernel" if seen.header(1) is not None else ""


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


def _planned(seen: Seen, protocol: str) -> str:
    from mbtool.plan.protocols import Protocol, load_plan

    if seen.source is None:
        return "what is inside cannot be unpacked"
    try:
        load_plan(Protocol[protocol], seen.source, seen.image.path, "")
    except (RefusedError, FormatError, UnsupportedError) as error:
        return "" if only_low(error) else error.problem + (f": {error.found}" if error.found else "")
    except MbtoolError:
        return ""
    return ""


@predicate("multiboot1-planned")
def multiboot1_planned(seen: Seen) -> str:
    return _planned(seen, "MULTIBOOT1")


@predicate("multiboot2-planned")
def multiboot2_planned(seen: Seen) -> str:
    return _planned(seen, "MULTIBOOT2")


@predicate("linux-planned")
def linux_planned(seen: Seen) -> str:
    return _planned(seen, "LINUX")


def _flat(seen: Seen) -> bool:
    header = seen.header(1)
    return header is not None and header.get("load_addr") is not None


@predicate("elf32-or-addresses")
def elf32(seen: Seen) -> str:
    if _flat(seen) or (seen.content.kind == "elf" and seen.content.get("ei_class") == 1):
        return ""
    return "no 32-bit ELF file, and no address fields in the header"


@predicate("not-x86-64-by-multiboot1")
def not_x86_64(seen: Seen) -> str:
    if _flat(seen) or seen.content.get("e_machine") != EM_X86_64:
        return ""
    return "Cannot load x86-64 image, give a 32bit one: an ELF file for x86-64 without address fields"


@predicate("program-headers-in-search")
def program_headers(seen: Seen) -> str:
    """GRUB reads program headers from what it searched for the Multiboot header, and no further."""
    header = seen.header(1 if seen.loader.mode == "multiboot" else 2)
    end = 0 if header is None else program_headers_too_far(seen.content, header)
    return f"program header at a too high offset: they end at {end:#x}" if end else ""


@predicate("no-xen-by-multiboot1-on-uefi")
def xen_multiboot1(seen: Seen) -> str:
    if seen.loader.on == "uefi" and seen.is_xen:
        return "Xen, entered by Multiboot 1, finds none of the firmware's tables: use multiboot2"
    return ""


@predicate("xen-keeps-boot-services")
def xen_boot_services(seen: Seen) -> str:
    header = seen.header(2)
    if seen.loader.on != "uefi" or not seen.is_xen or header is None:
        return ""
    missing = {EFI_BOOT_SERVICES, EFI_AMD64_ENTRY} - tag_types(header)
    return f"Xen's header lacks tags {', '.join(map(str, sorted(missing)))}: it finds no ACPI" if missing else ""


@predicate("no-xen-without-boot-services")
def xen_without_boot_services(seen: Seen) -> str:
    if seen.loader.on == "uefi" and seen.is_xen:
        return "it leaves the boot services and ignores Xen's EFI entry: Xen finds no ACPI"
    return ""


@predicate("bzimage")
def bzimage(seen: Seen) -> str:
    content = seen.content
    if content.kind not in ("bzimage", "zimage"):
        return f"no Linux kernel image but {content.kind}: HdrS is not at 0x202"
    version = content.get("version")
    found = (version >> 8, version & 0xFF) if isinstance(version, int) else (0, 0)
    if found < seen.loader.protocol:
        least = seen.loader.protocol
        return f"boot protocol {found[0]}.{found[1]:02}, at least {least[0]}.{least[1]:02} is needed"
    return ""


@predicate("no-bzimage")
def no_bzimage(seen: Seen) -> str:
    return "it is taken for a Linux kernel" if seen.content.kind in ("bzimage", "zimage") else ""


@predicate("elf")
def elf(seen: Seen) -> str:
    return "" if seen.content.kind == "elf" else f"no ELF file but {seen.content.kind}"


@predicate("elf-executable")
def executable(seen: Seen) -> str:
    """If it is an ELF file that is loaded as one, then an executable or a shared object."""
    header = seen.header(1 if seen.loader.mode == "multiboot" else 2)
    if seen.content.kind != "elf" or header is None or addressed(header):
        return ""
    return "" if seen.content.get("e_type") in (ET_EXEC, ET_DYN) else "this ELF file is not of the right type"


@predicate("grub-elf")
def grub_elf(seen: Seen) -> str:
    """If it is an ELF file that is loaded as one: what GRUB's loader asks of its header and section headers."""
    content, header = seen.content, seen.header(1 if seen.loader.mode == "multiboot" else 2)
    if content.kind != "elf" or header is None or addressed(header) or seen.source is None:
        return ""
    from mbtool.formats.elf_file import parse_elf

    ehdr = parse_elf(seen.source).header
    if ehdr.e_machine != (EM_386 if ehdr.ei_class == 1 else EM_X86_64) or ehdr.e_version != 1:
        return "invalid arch-dependent ELF magic: e_machine does not go with the class, or e_version is not 1"
    end = ehdr.e_shoff + ehdr.e_shnum * ehdr.e_shentsize
    if ehdr.e_shnum and (not ehdr.e_shentsize or end > seen.source.size):
        return "the section headers are not in the file"
    return ""


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


@predicate("elf64")
def elf64(seen: Seen) -> str:
    if seen.content.kind == "elf" and seen.content.get("ei_class") == 2:
        return ""
    return elf(seen) or "a 32-bit ELF file"


@predicate("elf-notes-sound")
def notes_sound(seen: Seen) -> str:
    for finding in seen.content.findings:
        if finding.id in ("NOTE-CUT", "NOTES-CUT", "NOTES-TAIL"):
            return f"ELF Note corrupted: {finding.message}"
    return ""


def _qemu_elf(seen: Seen) -> QemuElf | None:
    from mbtool.check.qemu_elf import QemuElf
    from mbtool.formats.elf_file import parse_elf

    return None if seen.source is None or seen.content.kind != "elf" else QemuElf(parse_elf(seen.source))


@predicate("qemu-multiboot")
def qemu_multiboot(seen: Seen) -> str:
    """Loaded by its own ELF loader, or by the header's address fields; unknown flags do not matter."""
    if _flat(seen):
        reason = _planned(seen, "MULTIBOOT1")
        return "" if reason.startswith("unsupported flags") else reason
    elf = _qemu_elf(seen)
    if elf is None:
        return "no ELF file, and no address fields in the header"
    return elf.refusal or ("" if elf.holds(elf.entry) else "the entry point lies outside of what is loaded")


@predicate("qemu-pvh")
def qemu_pvh(seen: Seen) -> str:
    elf = _qemu_elf(seen)
    if elf is None:
        return f"no ELF file but {seen.content.kind}"
    if reason := elf.refusal:
        return reason
    if not elf.pvh_entry:
        return "no PVH entry point (PHYS32_ENTRY note in a note segment)"
    return "" if elf.holds(elf.pvh_entry) else "the PVH entry point lies outside of what is loaded"


@predicate("setup-whole")
def setup_whole(seen: Seen) -> str:
    """The file holds all setup sectors that it says it has."""
    sectors = seen.image.source.read(0x1F1, 1) or b"\0"
    size = (sectors[0] + 1 if sectors[0] else 5) * 512
    return "" if seen.image.source.size >= size else f"the file ends before its {size} bytes of setup code do"


@predicate("pvh-entry")
def pvh_entry(seen: Seen) -> str:
    notes = seen.content.find("xen-notes")
    if notes is not None and notes.get("PHYS32_ENTRY") is not None:
        return ""
    return "no PVH entry point (PHYS32_ENTRY note)"


@predicate("efi-program")
def efi_program(seen: Seen) -> str:
    content = seen.content
    place = next((node for node in (content, *content.children) if node.kind == "pe"), None)
    if place is None:
        return "no EFI program: it is no PE image" + (" (no EFI stub)" if content.kind == "bzimage" else "")
    if place.get("Machine") != PE_X86_64:
        return "an EFI program for another machine than x86-64"
    return "" if place.get("Subsystem") == EFI_APPLICATION else "a PE image, but no EFI application"


@predicate("xen-dom0-pv")
def xen_dom0_pv(seen: Seen) -> str:
    return _dom0(seen, hvm=False)


@predicate("xen-dom0-pvh")
def xen_dom0_pvh(seen: Seen) -> str:
    return _dom0(seen, hvm=True)


def _dom0(seen: Seen, *, hvm: bool) -> str:
    """What Xen's builder says of the kernel, before memory plays a part."""
    from mbtool.build.kernel import open_kernel
    from mbtool.formats import xen_dom_parms, xen_versions
    from mbtool.formats.elf_file import parse_elf
    from mbtool.plan import pvh

    version = xen_versions.parse(seen.loader.version)
    try:
        kernel = parse_elf(open_kernel(seen.image.source, Budget(seen.image.limits), version).elf)
        try:
            xen_dom_parms.derive(kernel.source, kernel, hvm=hvm, version=version)
        except RefusedError as error:
            note = hvm and pvh.entry_point(kernel) is None
            return "no PVH entry point (PHYS32_ENTRY note)" if note else error.problem
    except (RefusedError, FormatError) as error:
        return error.problem
    return ""


@predicate("xen-elf")
def xen_elf(seen: Seen) -> str:
    """An ELF file, or a bzImage new enough to have one inside."""
    return "" if seen.content.kind == "elf" else bzimage(seen)


@predicate("xen-payload")
def xen_payload(seen: Seen) -> str:
    """The bzImage's payload is packed in a way that it unpacks."""
    inside = next((node for node in seen.content.children if node.kind in STREAM_KINDS), None)
    if seen.content.kind == "elf" or inside is None:
        return ""
    if inside.kind not in seen.loader.payloads:
        return f"it does not unpack {inside.kind} payloads, only {', '.join(seen.loader.payloads)}"
    magic = seen.image.source.read(inside.offset, 2)
    return "it unpacks lz4 in the legacy format only" if inside.kind == "lz4" and magic != LZ4_LEGACY else ""


@predicate("xen-notes-pv")
def xen_notes_pv(seen: Seen) -> str:
    return _guest(seen, "pv")


@predicate("xen-notes-pvh")
def xen_notes_pvh(seen: Seen) -> str:
    return _guest(seen, "pvh")


def _guest(seen: Seen, mode: str) -> str:
    """What libelf makes of the notes."""
    node = seen.content.find("dom-parms")
    if node is None:
        return "no notes for Xen"
    field = next(field for field in node.fields if field.name == mode)
    return "" if field.value else field.meaning
