"""What QEMU's own loaders take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mbtool.check.needs.seen import Seen, flat, planned, predicate
from mbtool.model import Severity

if TYPE_CHECKING:
    from mbtool.check.needs.qemu_elf import QemuElf


SEARCHED = 8192 - 48


def _qemu_elf(seen: Seen) -> QemuElf | None:
    from mbtool.check.needs.qemu_elf import QemuElf
    from mbtool.formats.elf_file import parse_elf

    return None if seen.source is None or seen.content.kind != "elf" else QemuElf(parse_elf(seen.source))


@predicate("qemu-multiboot")
def qemu_multiboot(seen: Seen) -> str:
    """Loaded by its own ELF loader, or by the header's address fields; unknown flags do not matter.

    Of the address fields it takes none that contradict each other (hw/i386/multiboot.c, load_multiboot).
    """
    header = seen.header(1)
    if header is not None and flat(seen):
        for finding in header.findings:
            if finding.id == "MULTIBOOT-ADDRESSES" and finding.severity == Severity.ERROR:
                return f"invalid {finding.field} address: {finding.message}"
        reason = planned(seen, "MULTIBOOT1")
        return "" if reason.startswith("unsupported flags") else reason
    elf = _qemu_elf(seen)
    if elf is None:
        return "no ELF file, and no address fields in the header"
    return elf.refusal or ("" if elf.holds(elf.entry) else "the entry point lies outside of what is loaded")


@predicate("qemu-multiboot-found")
def found(seen: Seen) -> str:
    """It looks for a header that has room for all of its fields, those that the flags leave out as well."""
    header = seen.header(1)
    if header is None or header.offset < SEARCHED:
        return ""
    return f"the Multiboot header at {header.offset:#x} is not found: it looks at the first {SEARCHED:#x} bytes"


@predicate("no-multiboot1")
def no_multiboot1(seen: Seen) -> str:
    taken = seen.header(1) is not None and not found(seen)
    return "it is taken for a Multiboot 1 kernel" if taken else ""


@predicate("qemu-not-packed")
def not_packed(seen: Seen) -> str:
    """A file that is packed is taken for a kernel older than the protocol's signature."""
    codec = seen.image.codec
    return f"it does not unpack {codec} files{': ' if (cut := setup_whole(seen)) else ''}{cut}" if codec else ""


@predicate("qemu-pvh")
def qemu_pvh(seen: Seen) -> str:
    elf = _qemu_elf(seen)
    if elf is None:
        return f"no ELF file but {seen.content.kind}"
    if reason := elf.flags_refused or elf.refusal:
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
