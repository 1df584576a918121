"""EFI programs: what firmware with memory protection, shim and Secure Boot make of them."""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.check.image import Image, Place
from mbtool.check.rule import Evidence, image_rule
from mbtool.model import Node

NX_COMPAT = 0x0100
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


@image_rule("XEN-RELOC-DISCARDABLE")
def xen_relocations(image: Image) -> Iterator[Evidence]:
    """Xen reads its .reloc section at run time, and some loaders do not load it."""
    place = _pe(image)
    if place is None or place.node.find("xen-hypervisor") is None:
        return
    for child in place.node.children:
        if any(finding.id == "PE-RELOC-DISCARDABLE" for finding in child.findings):
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
