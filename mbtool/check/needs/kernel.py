"""Linux kernels, ELF files and EFI programs, whatever loads them."""

from __future__ import annotations

from mbtool.check.needs.seen import Seen, planned, predicate
from mbtool.check.pe_loader import refusals

EFI_APPLICATION = 10
SECTOR = 512
PE_X86_64, EFI_BYTE_CODE = 0x8664, 0xEBC


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


@predicate("linux-16-bit-entry")
def sixteen_bit_entry(seen: Seen) -> str:
    """The kernel's 16-bit code begins with a jump over the setup header, and calls a hook if one is set."""
    content = seen.content
    if any(finding.id in ("LINUX-JUMP", "LINUX-HEADER-LENGTH") for finding in content.findings):
        return "its 16-bit code begins with a jump that does not lead behind the setup header"
    return (
        "realmode_swtch names a hook that the loader does not bring along" if content.get("realmode_swtch") else ""
    )


@predicate("no-bzimage")
def no_bzimage(seen: Seen) -> str:
    return "it is taken for a Linux kernel" if seen.content.kind in ("bzimage", "zimage") else ""


@predicate("linux-planned")
def linux_planned(seen: Seen) -> str:
    return planned(seen, "LINUX")


@predicate("elf")
def elf(seen: Seen) -> str:
    return "" if seen.content.kind == "elf" else f"no ELF file but {seen.content.kind}"


@predicate("elf-notes-sound")
def notes_sound(seen: Seen) -> str:
    for finding in seen.content.findings:
        if finding.id in ("NOTE-CUT", "NOTES-CUT", "NOTES-TAIL"):
            return f"ELF Note corrupted: {finding.message}"
    return ""


@predicate("efi-program")
def efi_program(seen: Seen) -> str:
    content = seen.content
    place = next((node for node in (content, *content.children) if node.kind == "pe"), None)
    if place is None:
        return "no EFI program: it is no PE image" + (" (no EFI stub)" if content.kind == "bzimage" else "")
    if place.get("Subsystem") != EFI_APPLICATION:
        return "a PE image, but no EFI application"
    if place.get("Machine") == EFI_BYTE_CODE:
        return "EFI byte code, for which the firmware needs an interpreter"
    if place.get("Machine") != PE_X86_64:
        return "an EFI program for another machine than x86-64"
    told = next(refusals(place, seen.image.source.size), None)
    return f"firmware does not load it: {told.field} is {told.found}, not {told.expected}" if told else ""


@predicate("boot-sector")
def boot_sector(seen: Seen) -> str:
    """The first 512 bytes are a boot sector, and not that of a Linux kernel, which has none that boots."""
    head = seen.image.source.read(0, SECTOR)
    if len(head) < SECTOR:
        return f"no boot sector: shorter than {SECTOR} bytes"
    if head[-2:] != b"\x55\xaa":
        return "no boot sector: 55 aa is not at its end"
    bzimage = seen.image.root.kind in ("bzimage", "zimage")
    return "a Linux kernel: its boot sector starts no kernel" if bzimage else ""


@predicate("boot-flag")
def boot_flag(seen: Seen) -> str:
    flag = seen.image.source.read(SECTOR - 2, 2)
    return "" if flag == b"\x55\xaa" else f"boot_flag is {flag.hex(' ')}, not 55 aa"
