"""The hypervisor itself: is it Xen, can this firmware start it, was it built for the mode asked for?"""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.check.boot_set import BootSet, Firmware
from mbtool.check.image import Image
from mbtool.check.multiboot import EFI_AMD64_ENTRY, EFI_BOOT_SERVICES, addressed, headers, tag_types
from mbtool.check.rule import Evidence, set_rule
from mbtool.errors import MbtoolError
from mbtool.formats import xen_versions
from mbtool.model import Node, Severity
from mbtool.plan.xen_options import Mode


def _hypervisor(boot: BootSet) -> tuple[Image, Node] | None:
    """Xen's image and what it says of itself; None when there is none, or none that can be read."""
    if boot.xen is None:
        return None
    try:
        node = boot.xen.find("xen-hypervisor")
    except MbtoolError:
        return None
    return None if node is None else (boot.xen, node)


@set_rule("XEN-IMAGE")
def is_xen(boot: BootSet) -> Iterator[Evidence]:
    """What was given as Xen is something else."""
    if boot.xen is None or _hypervisor(boot) is not None:
        return
    try:
        kind, what = boot.xen.told
    except MbtoolError:
        return  # UNREADABLE says so
    yield Evidence("is no Xen hypervisor", boot.xen.path, kind, 0, expected="xen.gz or xen.efi", found=what)


@set_rule("XEN-EFI-ON-BIOS")
def efi_on_bios(boot: BootSet) -> Iterator[Evidence]:
    """Xen's EFI program on a machine that has no EFI."""
    found = _hypervisor(boot)
    if found is None or boot.firmware is not Firmware.BIOS:
        return
    image = found[0]
    there = headers(image)
    if image.content.kind == "pe" and not any(map(addressed, there)):
        yield Evidence(
            "an EFI program, which no BIOS loader starts",
            image.path,
            image.root.kind,
            0,
            expected="xen.gz",
            found="a PE image" + (" whose Multiboot header takes it for an ELF file" if there else ""),
            console="error: invalid arch-dependent ELF magic." if there else "error: no multiboot header found.",
        )


@set_rule("XEN-NO-EFI-ENTRY")
def elf_on_uefi(boot: BootSet) -> Iterator[Evidence]:
    """xen.gz on UEFI: only a Multiboot 2 header that asks for boot services lets it keep the firmware's tables."""
    found = _hypervisor(boot)
    if found is None or boot.firmware is not Firmware.UEFI or found[0].content.kind != "elf":
        return
    image = found[0]
    header = next((node for node in headers(image) if node.kind == "multiboot2-header"), None)
    tags = tag_types(header) if header else set()
    missing = [str(number) for number in (EFI_BOOT_SERVICES, EFI_AMD64_ENTRY) if number not in tags]
    if missing:
        yield Evidence(
            f"the Multiboot 2 header lacks tags {', '.join(missing)}" if header else "no Multiboot 2 header",
            image.path,
            header.kind if header else image.root.kind,
            header.offset if header else 0,
            expected="tags 7 (EFI boot services) and 9 (EFI amd64 entry address)",
            found=", ".join(map(str, sorted(tags))),
            console="" if header else "error: no multiboot header found.",
        )


@set_rule("XEN-MODE-NOT-BUILT")
def built_for(boot: BootSet) -> Iterator[Evidence]:
    """Xen's own configuration says that it was built without what the mode needs."""
    found = _hypervisor(boot)
    if found is None:
        return
    image, settings = found[0], boot.xen_settings
    needed = "CONFIG_PV=y" if boot.mode is Mode.PV else "CONFIG_HVM=y"
    if settings is not None and needed not in settings:
        yield Evidence(
            f"Xen was built without what a {boot.mode} dom0 needs",
            image.path,
            "xen-hypervisor/gzip/xen-config",
            expected=needed,
            found="not set",
        )


@set_rule("XEN-VERSION")
def version(boot: BootSet) -> Iterator[Evidence]:
    """What is said about dom0 is for another version than Xen's own."""
    found = _hypervisor(boot)
    if found is None:
        if boot.on_xen and boot.kernel is not None and boot.xen is None:
            yield Evidence(
                f"no Xen image is given: dom0 is checked for Xen {boot.version}",
                boot.kernel.path,
                severity=Severity.INFO,
            )
        return
    image, node = found
    told = str(node.get("version") or "")
    taken = boot.version if boot.version.known else xen_versions.NEWEST
    if not told.startswith(taken.name):
        yield Evidence(
            f"dom0 is checked for Xen {taken.name}",
            image.path,
            "xen-hypervisor",
            field="version",
            found=told or "not told",
            severity=Severity.INFO,
        )
