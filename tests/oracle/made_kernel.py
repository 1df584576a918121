"""PV kernels without content: an ELF file with any segments, sections and Xen notes."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

ENTRY, HYPERCALL_PAGE, VIRT_BASE, PADDR_OFFSET, XEN_VERSION, GUEST_OS = 1, 2, 3, 4, 5, 6
PAE_MODE, FEATURES, BSD_SYMTAB, HV_START_LOW, INIT_P2M, MOD_START_PFN = 9, 10, 11, 12, 15, 16
SUPPORTED_FEATURES, PHYS32_ENTRY, PHYS32_RELOC = 17, 18, 19
PT_LOAD, PT_NOTE = 1, 4
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_NOTE = 1, 2, 3, 7
EM_386, EM_X86_64 = 3, 62
RWX = 7
CODE = 16
"""Bytes that a segment begins with. They are no code, only bytes of the file."""

Segment = tuple[int, int]
"""(p_paddr, p_memsz): a loadable segment without content."""
Notes = Mapping[int, int | str | bytes]
"""Values by the number of the note."""


@dataclass(frozen=True, slots=True)
class Section:
    """A section behind the null section; ``link``: the number of another."""

    name: str
    type: int
    data: bytes
    link: int = 0


def elf(
    bits: int, segments: Iterable[Segment], *, entry: int, notes: bytes = b"", sections: Iterable[Section] = ()
) -> bytes:
    """An ELF file of this class; ``notes`` are put into a PT_NOTE segment when there are any."""
    word, half = ("Q", 64) if bits == 64 else ("I", 52)
    phentsize, shentsize = (56, 64) if bits == 64 else (32, 40)
    loads = list(segments)
    headers = len(loads) + bool(notes)
    body = b"" if not headers else bytes(phentsize * headers)
    start = half + len(body)

    def phdr(kind: int, flags: int, paddr: int, filesz: int, memsz: int, align: int) -> bytes:
        if bits == 64:
            return struct.pack("<IIQQQQQQ", kind, flags, start, 0, paddr, filesz, memsz, align)
        return struct.pack("<8I", kind, start, 0, paddr, filesz, memsz, flags, align)

    body = b"".join(phdr(PT_LOAD, RWX, paddr, min(size, CODE), size, 4096) for paddr, size in loads)
    if notes:
        body += phdr(PT_NOTE, 4, 0, len(notes), len(notes), 4) + notes
    parts = list(sections)
    shdrs = bytes(shentsize)
    if parts:
        names = b"\0" + b"".join(part.name.encode() + b"\0" for part in parts) + b".shstrtab\0"
        parts.append(Section(".shstrtab", SHT_STRTAB, names))
        for part in parts:
            at = half + len(body)
            body += part.data.ljust(len(part.data) + 7 & ~7, b"\0")
            name = names.index(b"\0" + part.name.encode() + b"\0") + 1
            shdrs += struct.pack(
                f"<II4{word}II2{word}", name, part.type, 0, 0, at, len(part.data), part.link, 0, 4, 0
            )
        shoff, shnum = half + len(body), len(parts) + 1
        body += shdrs
    else:
        shoff = shnum = 0
    ident = bytes([0x7F, *b"ELF", bits // 32, 1, 1]).ljust(16, b"\0")
    machine = EM_X86_64 if bits == 64 else EM_386
    sizes = (half, phentsize, headers, shentsize, shnum, max(0, shnum - 1))
    return ident + struct.pack(f"<HHI3{word}I6H", 2, machine, 1, entry, half, shoff, 0, *sizes) + body


def note(kind: int, value: int | str | bytes, bits: int = 64) -> bytes:
    """One note of the owner ``Xen``."""
    if isinstance(value, int):
        desc = struct.pack("<Q" if bits == 64 else "<I", value)
    else:
        desc = value if isinstance(value, bytes) else value.encode() + b"\0"
    return struct.pack("<III4s", 4, len(desc), kind, b"Xen\0") + desc.ljust(len(desc) + 3 & ~3, b"\0")


def every_note(notes: Notes, entry: int, bits: int = 64) -> bytes:
    """``notes`` and those that every PV kernel has."""
    given: Notes = {XEN_VERSION: "xen-3.0", GUEST_OS: "linux", ENTRY: entry, **notes}
    return b"".join(note(kind, value, bits) for kind, value in given.items())


def kernel(
    segments: Iterable[Segment], notes: Notes, *, entry: int, sections: Iterable[Section] = (), bits: int = 64
) -> bytes:
    """A kernel with these segments and the notes that every PV kernel has, plus ``notes``."""
    return elf(bits, segments, entry=entry, notes=every_note(notes, entry, bits), sections=sections)


def legacy(segments: Iterable[Segment], guest: str, *, entry: int) -> bytes:
    """A kernel without notes: all it says is in a ``__xen_guest`` section."""
    guest = f"GUEST_OS=linux,XEN_VER=xen-3.0,LOADER=generic,{guest}"
    return elf(64, segments, entry=entry, sections=[Section("__xen_guest", SHT_PROGBITS, guest.encode() + b"\0")])
