"""EFI programs: what firmware with memory protection, shim and Secure Boot make of them."""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.check.boot_set import BootSet, Firmware
from mbtool.check.image import Image, Place
from mbtool.check.multiboot import addressed, headers
from mbtool.check.pe_loader import GIVES_UP, refusals
from mbtool.check.rule import Evidence, image_rule, set_rule
from mbtool.errors import MbtoolError
from mbtool.model import Node, Severity

MACHINE_I386 = 0x14C
WANTED = (("Machine", 0x8664, "x86-64"), ("Subsystem", 10, "application"))
"""What 64-bit firmware starts."""
NX_COMPAT = 0x0100
MEM_DISCARDABLE = 0x02000000
WRITE_EXECUTE = 0x80000000 | 0x20000000


@image_rule("PE-NX-WRITABLE-CODE")
def nx_but_writable(image: Image) -> Iterator[Evidence]:
    """The program says that it can live with memory protection, and has a section that cannot."""
    place = _pe(image)
    if place is None or not _number(place.node, "DllCharacteristics") & NX_COMPAT:
        return
    for child in place.node.children:
        mask = _mask(child)
        if child.kind == "pe-section" and mask & WRITE_EXECUTE == WRITE_EXECUTE:
            yield Evidence(
                f"NX_COMPAT is set, but section {child.get('name')!s} is writable and executable",
                image.path,
                f"{place.path}/{child.kind}",
                place.start + child.offset,
                "Characteristics",
                found=f"{mask:#x}",
            )


@set_rule("EFI-PROGRAM-REFUSED")
def refused(boot: BootSet) -> Iterator[Evidence]:
    """What UEFI is to start is a program for another machine, or no application."""
    if boot.firmware is not Firmware.UEFI:
        return
    image = boot.xen or boot.kernel
    try:
        place = None if image is None or image.content.kind != "pe" else _pe(image)
    except MbtoolError:
        return  # UNREADABLE says so
    if image is None or place is None or any(map(addressed, headers(image))):
        return
    for name, wanted, words in WANTED:
        value = _number(place.node, name)
        if value != wanted:
            narrow = (name, value) == ("Machine", MACHINE_I386) and boot.xen is None  # Xen is for 64 bits alone
            yield Evidence(
                "a program for 32-bit firmware" if narrow else "no EFI application for x86-64",
                image.path,
                place.path,
                place.start + next((field.offset or 0 for field in place.node.fields if field.name == name), 0),
                name,
                expected=f"{wanted:#x} ({words})",
                found=f"{value:#x}",
                console=GIVES_UP,
                severity=Severity.WARNING if narrow else None,
            )
    for told in refusals(place.node, image.source.size):
        yield Evidence(
            "the firmware does not load it, or it cannot run where it is loaded",
            image.path,
            place.path,
            place.start + next((field.offset or 0 for field in place.node.fields if field.name == told.field), 0),
            told.field,
            expected=told.expected,
            found=told.found,
            console=told.console,
        )


@image_rule("XEN-RELOC-DISCARDABLE")
def xen_relocations(image: Image) -> Iterator[Evidence]:
    """Xen reads its .reloc section at run time, and some loaders do not load it."""
    place = _pe(image)
    if place is None or place.node.find("xen-hypervisor") is None:
        return
    for child in place.node.children:
        if child.get("name") == ".reloc" and _mask(child) & MEM_DISCARDABLE:
            yield Evidence(
                "Xen's .reloc section may be left out by the loader, and Xen reads it",
                image.path,
                f"{place.path}/{child.kind}",
                place.start + child.offset,
                "Characteristics",
                expected="without MEM_DISCARDABLE (0x2000000)",
                found=f"{_mask(child):#x}",
            )


def _pe(image: Image) -> Place | None:
    """The PE image that the file is, not one inside it."""
    place = image.place("pe")
    return place if place is not None and place.path.count("/") <= 1 else None


def _mask(section: Node) -> int:
    return _number(section, "Characteristics")


def _number(node: Node, name: str) -> int:
    value = node.get(name)
    return value if isinstance(value, int) else 0
