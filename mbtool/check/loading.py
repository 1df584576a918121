"""Whether the loader that is to start the set starts it: what can-boot knows, as a rule."""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.check.boot_set import BootSet
from mbtool.check.image import Image
from mbtool.check.linux import efi_on_bios
from mbtool.check.loader import Loader
from mbtool.check.needs.grub import LINUX_HEADER
from mbtool.check.rule import Evidence, set_rule
from mbtool.errors import MbtoolError, UnknownFormatError
from mbtool.model import Node

NO_IMAGE = "no image of any kind"
SHORT = f"premature end of file: less than the {LINUX_HEADER} bytes of a setup header"
KERNEL_IMAGE = "KERNEL-IMAGE"
EFI_APPLICATION = 10
"""Subsystem, in a PE header."""
KERNELS = "a bzImage (HdrS at 0x202), a Multiboot or PVH kernel for x86, or an EFI program for x86-64"


def started(boot: BootSet) -> Image | None:
    """What the loader starts: Xen, where there is one, else the kernel."""
    return boot.kernel if boot.xen is None else boot.xen


@set_rule("LOADER-REFUSES")
def loader(boot: BootSet) -> Iterator[Evidence]:
    """None of the loaders asked for starts what it is to start."""
    image = started(boot)
    if image is None or not boot.loaders:
        return
    from mbtool.check.capabilities import why_not

    try:
        reasons = [(row, why_not(image, row)) for row in boot.loaders]
        kind = image.root.kind
    except UnknownFormatError:
        reasons, kind = [(row, _no_image(image, row)) for row in boot.loaders], ""
    except MbtoolError:
        return  # UNREADABLE says so
    if all(reason for _, reason in reasons):
        printed = [words for row, reason in reasons if (words := row.words_for(reason))]
        yield Evidence(
            "; ".join(f"{row}: {reason}" for row, reason in reasons),
            image.path,
            kind,
            0,
            console=printed[0] if printed else "",
        )


@set_rule(KERNEL_IMAGE)
def kernel(boot: BootSet) -> Iterator[Evidence]:
    """What was given as the kernel is something that no known loader starts on this firmware.

    Xen, or a loader that is asked for, has rules of its own.
    """
    image = boot.kernel
    if image is None or boot.on_xen or boot.loaders or any(efi_on_bios(boot)):
        return
    from mbtool.check import loaders
    from mbtool.check.capabilities import why_not

    rows = [
        row
        for row in loaders.newest(loaders.loaders())
        if not (row.on and boot.firmware) or row.on == boot.firmware
    ]
    usual = next(row for row in rows if (row.name, row.mode) == ("grub", "linux"))
    try:
        kind, what = image.told
        if kind and not all(why_not(image, row) for row in rows):
            return
        reason = why_not(image, usual) if kind else _no_image(image, usual)
        what = _what(image.content) if kind else what
    except MbtoolError:
        return  # UNREADABLE says so
    yield Evidence(
        "no loader starts this file",
        image.path,
        kind,
        0,
        expected=KERNELS,
        found=what,
        console=usual.words_for(reason),
    )


def _no_image(image: Image, row: Loader) -> str:
    """Why a loader does not take a file of no known format: GRUB first reads a whole setup header."""
    short = row.name == "grub" and row.mode == "linux" and image.source.size < LINUX_HEADER
    return SHORT if short else NO_IMAGE


def _what(content: Node) -> str:
    """What a file is, in a few words, and for which machine where it says that."""
    meanings = {field.name: field.meaning for field in content.fields}
    machine = meanings.get("Machine") or meanings.get("e_machine") or ""
    words = {"elf": "an ELF file", "pe": f"a PE file ({meanings.get('Subsystem') or 'of no kind'})"}.get(
        content.kind, content.kind
    )
    if content.kind == "pe" and content.get("Subsystem") == EFI_APPLICATION:
        words = "an EFI program"
    return f"{words} for {machine}" if machine else words
