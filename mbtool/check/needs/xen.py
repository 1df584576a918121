"""Xen as what is loaded, and as the loader of dom0 and of guests."""

from __future__ import annotations

from mbtool.check.multiboot import EFI_AMD64_ENTRY, EFI_BOOT_SERVICES, tag_types
from mbtool.check.needs.kernel import bzimage
from mbtool.check.needs.seen import Seen, predicate
from mbtool.errors import FormatError, RefusedError
from mbtool.formats.elf_headers import ELFCLASS32
from mbtool.model import STREAM_KINDS

LZ4_LEGACY = b"\x02\x21"


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


@predicate("xen-dom0-pv")
def xen_dom0_pv(seen: Seen) -> str:
    return _dom0(seen, hvm=False)


@predicate("xen-dom0-pvh")
def xen_dom0_pvh(seen: Seen) -> str:
    return _dom0(seen, hvm=True)


def _dom0(seen: Seen, *, hvm: bool) -> str:
    """What Xen's builder says of the kernel, before memory plays a part."""
    from mbtool.formats import xen_dom_parms, xen_versions
    from mbtool.formats.elf_file import parse_elf
    from mbtool.plan import pvh

    version = xen_versions.parse(seen.loader.version)
    try:
        kernel = parse_elf(seen.image.dom0_kernel(version).elf)
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


@predicate("xen-64-bit")
def xen_64_bit(seen: Seen) -> str:
    node = seen.content.find("elf")
    return "a 32-bit kernel" if node is not None and node.get("ei_class") == ELFCLASS32 else ""


@predicate("xen-domu")
def xen_domu(seen: Seen) -> str:
    """The kernel does not require to be dom0. What cannot be unpacked, others tell of."""
    from mbtool.formats import xen_dom_parms, xen_versions
    from mbtool.formats.elf_file import parse_elf
    from mbtool.formats.xen_notes import FEAT_DOM0

    version = (
        xen_versions.parse(seen.loader.version) if seen.loader.name == "libxenguest" else xen_versions.TABLE[-1]
    )
    hvm = seen.loader.mode == "domu-pvh"
    try:
        kernel = parse_elf(seen.image.dom0_kernel(version).elf)
        parms = xen_dom_parms.derive(kernel.source, kernel, hvm=hvm, version=version)
    except (RefusedError, FormatError):
        return ""
    required = parms.f_required >> FEAT_DOM0 & 1
    return "Kernel does not support unprivileged (DomU) operation: it requires the feature dom0" if required else ""
