"""Unified images: sections appended to an EFI program (systemd's stub, Xen), nothing of it moved in memory.

A reader of such an image takes a section's VirtualSize for the length of what is in it, so that is always exact.
Microsoft "PE Format"; UAPI.5 "Unified Kernel Image"; Xen: docs/misc/efi.pandoc, xen/common/efi/pe.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mbtool.disk.content import Content, FileSlice, Joined, size_of
from mbtool.errors import UnsupportedError
from mbtool.formats import pe_headers
from mbtool.formats.pe_wire import SectionHeader
from mbtool.source import BytesSource

PAGE = 4096
"""Sections begin on a page: Xen keeps only the frame number of their address."""
READABLE_DATA = 0x40000040
FOUR_GIB = 1 << 32


def append_sections(
    program: bytes, sections: Sequence[tuple[str, Content]], name: str
) -> tuple[Joined, dict[str, int]]:
    """The program with sections appended, and each new section's file offset (bytes).

    Where the section table has no room left, the headers grow by whole pages and the file contents of the old
    sections move up with them; their addresses stay. A signature is dropped: it would not hold any more. Raises
    FormatError when ``program`` is no PE image, UnsupportedError when the headers cannot grow or a section name or
    the image's size does not fit.
    """
    headers, _ = pe_headers.parse(BytesSource(program, name))
    optional = headers.optional
    if optional is None or not headers.sections:
        raise UnsupportedError("no EFI program that sections can be added to", source=name)
    table_end = headers.sections_offset + 40 * (len(headers.sections) + len(sections))
    first_raw = min((s.PointerToRawData for s in headers.sections if s.SizeOfRawData), default=len(program))
    shift = max(0, -(-(table_end - first_raw) // PAGE) * PAGE)
    size_of_headers = max(optional.SizeOfHeaders + shift, table_end)
    if size_of_headers > min(s.VirtualAddress for s in headers.sections):
        raise UnsupportedError("no room for more sections: the headers would reach into the first one", source=name)
    body_end = max((s.PointerToRawData + s.SizeOfRawData for s in headers.sections), default=first_raw)
    body = program[first_raw : max(body_end, first_raw)]

    moved = [
        replace(s, PointerToRawData=s.PointerToRawData + shift) if s.SizeOfRawData else s for s in headers.sections
    ]
    align = max(optional.SectionAlignment, PAGE)
    address = _up(max(s.VirtualAddress + max(s.VirtualSize, s.SizeOfRawData) for s in headers.sections), align)
    at = first_raw + shift + len(body)
    parts: list[bytes | FileSlice] = []
    offsets = {}
    added = []
    file_align = max(optional.FileAlignment, 512)
    for title, content in sections:
        encoded = title.encode("ascii", "replace")
        if len(encoded) > 8:
            raise UnsupportedError("section name is longer than 8 bytes", source=name, found=title)
        size = size_of(content)
        padding = _up(at, file_align) - at
        at += padding
        tail = _up(size, file_align) - size
        offsets[title] = at
        added.append(_section(encoded, address, size, at, size + tail))
        parts += [bytes(padding), *(content.parts if isinstance(content, Joined) else (content,)), bytes(tail)]
        at += size + tail
        address = _up(address + size, align)
    if max(at, address) >= FOUR_GIB:
        raise UnsupportedError("the image would not stay below 4 GiB", source=name)

    data_size = optional.SizeOfInitializedData + sum(s.SizeOfRawData for s in added)
    last = added[-1] if added else moved[-1]
    image_size = _up(last.VirtualAddress + max(last.VirtualSize, 1), max(optional.SectionAlignment, 1))
    directories = list(headers.directories)
    if len(directories) > 4:
        directories[4] = replace(directories[4], VirtualAddress=0, Size=0)
    grown = replace(
        headers,
        coff=replace(headers.coff, NumberOfSections=len(moved) + len(added)),
        optional=replace(
            optional,
            SizeOfInitializedData=data_size & 0xFFFFFFFF,
            SizeOfImage=max(optional.SizeOfImage, image_size),
            SizeOfHeaders=_up(size_of_headers, file_align),
            CheckSum=0,
        ),
        directories=tuple(directories),
        sections=(*moved, *added),
    )
    # What stands before the PE signature (DOS header, DOS stub) is kept as it is.
    front = program[: headers.dos.e_lfanew] + pe_headers.build(grown)
    return Joined((front.ljust(first_raw + shift, b"\0"), body, *parts)), offsets


def _section(name: bytes, address: int, size: int, offset: int, raw_size: int) -> SectionHeader:
    return SectionHeader(
        Name=name.ljust(8, b"\0"),
        VirtualSize=size,
        VirtualAddress=address,
        SizeOfRawData=raw_size,
        PointerToRawData=offset,
        PointerToRelocations=0,
        PointerToLinenumbers=0,
        NumberOfRelocations=0,
        NumberOfLinenumbers=0,
        Characteristics=READABLE_DATA,
    )


def _up(value: int, align: int) -> int:
    return -(-value // align) * align
