"""Small PE images laid out by hand with struct, field by field as the PE format's tables list them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

DOS = struct.pack("<2s58xI", b"MZ", 0x40)
HEADERS = 0x400
FILE_ALIGN, SECTION_ALIGN = 0x200, 0x1000
CODE, DATA, DISCARDABLE = 0x60000020, 0x40000040, 0x42000040


@dataclass
class Part:
    name: bytes
    content: bytes
    characteristics: int = DATA


def optional_64(
    *,
    entry: int = 0x1000,
    image_base: int = 0,
    size_of_image: int = 0,
    checksum: int = 0,
    directories: int = 16,
) -> bytes:
    """PE32+ optional header without data directories: 112 bytes."""
    return struct.pack(
        "<HBBIIIIIQIIHHHHHHIIIIHHQQQQII",
        *(0x20B, 2, 40, 0x200, 0x400, 0, entry, 0x1000),
        *(image_base, SECTION_ALIGN, FILE_ALIGN),
        *(0, 0, 1, 2, 0, 0, 0),
        *(size_of_image, HEADERS, checksum),
        *(10, 0x100, 0, 0, 0, 0, 0, directories),
    )


def image(
    parts: list[Part],
    *,
    image_base: int = 0,
    directories: dict[int, tuple[int, int]] | None = None,
    tail: bytes = b"",
) -> bytes:
    """A PE32+ image: sections at RVA 0x1000, 0x2000, ... and in the file from 0x400 on, each padded to 0x200."""
    table = body = b""
    rva = SECTION_ALIGN
    for part in parts:
        stored = part.content + bytes(-len(part.content) % FILE_ALIGN)
        place = HEADERS + len(body)
        table += struct.pack(
            "<8sIIIIIIHHI",
            *(part.name, len(part.content), rva, len(stored), place, 0, 0, 0, 0, part.characteristics),
        )
        body += stored
        rva += -(-len(part.content) // SECTION_ALIGN) * SECTION_ALIGN
    entries = [(directories or {}).get(index, (0, 0)) for index in range(16)]
    coff = struct.pack("<HHIIIHH", 0x8664, len(parts), 0, 0, 0, 112 + 16 * 8, 0x206)
    optional = optional_64(image_base=image_base, size_of_image=rva)
    head = DOS + b"PE\0\0" + coff + optional + b"".join(struct.pack("<II", *entry) for entry in entries) + table
    assert len(head) <= HEADERS
    return head.ljust(HEADERS, b"\0") + body + tail


def rva_of(parts: list[Part], index: int) -> int:
    """The RVA at which ``image`` puts a section."""
    return SECTION_ALIGN + sum(-(-len(part.content) // SECTION_ALIGN) * SECTION_ALIGN for part in parts[:index])
