"""What QEMU's own loaders take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mbtool.check.needs.seen import Seen, flat, planned, predicate

if TYPE_CHECKING:
    from mbtool.check.needs.qemu_elf import QemuElf


def _qemu_elf(seen: Seen) -> QemuElf | None:
    from mbtool.check.needs.qemu_elf import QemuElf
    from mbtool.formats.elf_file import parse_elf

    return None if seen.source is None or seen.content.kind != "elf" else QemuElf(parse_elf(seen.source))


@predicate("qemu-multiboot")
def qemu_multiboot(seen: Seen) -> str:
    """Loaded by its own ELF loader, or by the header's address fields; unknown flags do not matter."""
    if flat(seen):
        reason = planned(seen, "MULTIBOOT1")
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
