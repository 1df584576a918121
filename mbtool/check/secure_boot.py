"""Secure Boot: is every program of the set signed that somebody verifies? Asked for with ``--secure-boot``."""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.check.boot_set import BootSet
from mbtool.check.image import Image
from mbtool.check.rule import Evidence, set_rule
from mbtool.errors import MbtoolError
from mbtool.formats.uki import XEN as XEN_SECTIONS
from mbtool.model import Node

VERIFIES_ALWAYS = (4, 21)
"""From here on Xen refuses a kernel that nobody verified; before, it asked shim only where there was one."""


def _pe(image: Image | None) -> Node | None:
    """The PE image that a file is, None when it is none, or cannot be read."""
    try:
        root = image.root if image else None
    except MbtoolError:
        return None
    return next((node for node in (root, *root.children) if node.kind == "pe"), None) if root else None


def _signed(pe: Node) -> bool:
    """Whether the program itself is signed: that of a kernel in one of its sections covers that kernel alone."""
    return any(node.kind == "pe-signature" for node in pe.children)


def _embedded(pe: Node | None) -> set[str]:
    """What Xen's image carries in sections of its own, and that its signature covers."""
    sections = pe.children if pe else ()
    return {str(part.get("name")) for part in sections if part.get("name") in XEN_SECTIONS}


@set_rule("SECURE-BOOT-UNSIGNED")
def unsigned(boot: BootSet) -> Iterator[Evidence]:
    """A program that firmware or shim verifies carries no signature."""
    if not boot.secure_boot:
        return
    xen, kernel = _pe(boot.xen), _pe(boot.kernel)
    told = [(boot.xen, xen, "")]
    if ".kernel" not in _embedded(xen):
        old = boot.on_xen and boot.version.release < VERIFIES_ALWAYS
        message = "Dom0 kernel image could not be verified" if old else ""
        if boot.on_xen and not old:
            message = "Refusing to boot unverified kernel with UEFI SecureBoot enabled"
        told.append((boot.kernel, kernel, message))
    for image, pe, message in told:
        if image is not None and pe is not None and not _signed(pe):
            yield Evidence(
                "carries no signature", image.path, "pe", expected="an Authenticode signature", console=message
            )


@set_rule("SECURE-BOOT-NO-PE")
def no_program(boot: BootSet) -> Iterator[Evidence]:
    """A program that has to be verified is none that can be."""
    if not boot.secure_boot:
        return
    for image in (boot.xen, boot.kernel):
        try:
            kind = image.content.kind if image else ""
        except MbtoolError:
            continue
        if image is not None and _pe(image) is None:
            yield Evidence(
                "is no EFI program, and cannot be signed so that shim verifies it",
                image.path,
                image.root.kind,
                0,
                expected="xen.efi" if image is boot.xen else "a kernel with an EFI stub",
                found=kind,
            )


@set_rule("SECURE-BOOT-UNVERIFIED-FILE")
def unverified_files(boot: BootSet) -> Iterator[Evidence]:
    """Xen's EFI loader reads files that nothing verifies."""
    if not boot.secure_boot or boot.xen_cfg is None:
        return
    path = boot.xen_cfg.name
    embedded = _embedded(_pe(boot.xen))
    if ".config" not in embedded:
        yield Evidence("the configuration, command lines in it, is verified by nothing", path)
    for key in ("ramdisk", "xsm", "ucode"):
        line = boot.xen_cfg.line(key)
        if line is not None and f".{key}" not in embedded:
            yield Evidence(
                f"{key} is read from the ESP and verified by nothing",
                path,
                offset=line.offset,
                field=key,
                found=line.value,
            )
