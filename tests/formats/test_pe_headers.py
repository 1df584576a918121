"""PE headers: where fields lie, bytes to values and back, counts that lie."""

from __future__ import annotations

import struct
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.errors import FormatError
from mbtool.formats import pe, pe_headers, pe_wire
from mbtool.formats.pe_headers import PE32, PE32_PLUS, PeHeaders
from mbtool.formats.pe_wire import (
    COFF_HEADER,
    DATA_DIRECTORY,
    DOS_HEADER,
    OPTIONAL_HEADER_32,
    OPTIONAL_HEADER_64,
    SECTION_HEADER,
    DataDirectory,
)
from mbtool.formats.wire import Layout
from mbtool.source import BytesSource
from tests.formats import pe_images
from tests.formats.pe_images import Part


def test_layouts_have_the_sizes_and_offsets_of_the_format():
    assert (DOS_HEADER.size, COFF_HEADER.size, DATA_DIRECTORY.size, SECTION_HEADER.size) == (64, 20, 8, 40)
    assert (OPTIONAL_HEADER_32.size, OPTIONAL_HEADER_64.size) == (96, 112)
    assert DOS_HEADER.offsets["e_lfanew"] == (0x3C, 4)
    for layout in (OPTIONAL_HEADER_32, OPTIONAL_HEADER_64):
        assert layout.offsets["AddressOfEntryPoint"] == (16, 4)
        assert layout.offsets["SectionAlignment"] == (32, 4)
        assert layout.offsets["SizeOfImage"] == (56, 4)
        assert layout.offsets["CheckSum"] == (64, 4)
        assert layout.offsets["Subsystem"] == (68, 2)
        assert layout.offsets["DllCharacteristics"] == (70, 2)
    assert OPTIONAL_HEADER_32.offsets["BaseOfData"] == (24, 4)
    assert OPTIONAL_HEADER_32.offsets["ImageBase"] == (28, 4)
    assert OPTIONAL_HEADER_64.offsets["ImageBase"] == (24, 8)
    assert OPTIONAL_HEADER_32.offsets["NumberOfRvaAndSizes"] == (92, 4)
    assert OPTIONAL_HEADER_64.offsets["NumberOfRvaAndSizes"] == (108, 4)
    assert SECTION_HEADER.offsets["Characteristics"] == (36, 4)


LITERAL = bytes.fromhex(
    "50450000"  # PE\0\0
    "6486 0100 78563412 00000000 00000000 8000 0602"  # x86-64, 1 section, optional header of 0x80 bytes
    "0b02 02 28 00100000 00020000 00000000 e0110000 00100000"  # PE32+, entry point 0x11e0
    "000020 0000000000 00100000 00020000"  # ImageBase 0x200000, alignments 0x1000 and 0x200
    "0000 0000 0400 1100 0000 0000 00000000"  # image version 4.17
    "00300000 00040000 efbeadde 0a00 6001"  # SizeOfImage 0x3000, CheckSum, EFI application, NX_COMPAT and more
    "0000000000000000 0000000000000000 0000000000000000 0000000000000000 00000000 02000000"  # 2 directories
    "00000000 00000000 78200000 14000000"  # no exports, imports at 0x2078
    "2e74657874000000 83070000 00100000 00080000 00040000 00000000 00000000 0000 0000 20000060"  # .text
)


def test_literal_header_parses_to_its_fields_and_builds_to_its_bytes():
    headers, findings = pe_headers.parse(BytesSource(pe_images.DOS + LITERAL))
    assert not findings
    assert (headers.coff.Machine, headers.coff.TimeDateStamp) == (0x8664, 0x12345678)
    assert headers.coff.Characteristics == 0x206
    optional = headers.optional
    assert optional is not None
    assert (optional.AddressOfEntryPoint, optional.ImageBase) == (0x11E0, 0x200000)
    assert (optional.MajorImageVersion, optional.MinorImageVersion) == (4, 17)
    assert (optional.CheckSum, optional.Subsystem, optional.DllCharacteristics) == (0xDEADBEEF, 10, 0x160)
    assert headers.directories == (DataDirectory(), DataDirectory(0x2078, 20))
    (section,) = headers.sections
    assert (section.Name, section.VirtualSize, section.VirtualAddress) == (b".text\0\0\0", 0x783, 0x1000)
    assert (section.SizeOfRawData, section.PointerToRawData) == (0x800, 0x400)
    assert pe_headers.build(headers) == LITERAL


def test_pe32_has_base_of_data_and_narrow_words():
    optional = struct.pack("<HBBIIIIIIIII", 0x10B, 1, 2, 3, 4, 5, 6, 7, 0x5000, 0x400000, 0x1000, 0x200)
    optional += struct.pack("<HHHHHHIIIIHHIIIIII", *range(1, 7), 0, 0x9000, 0x400, 0, 10, 0, *range(11, 15), 0, 0)
    data = pe_images.DOS + b"PE\0\0" + struct.pack("<HHIIIHH", 0x14C, 0, 0, 0, 0, 96, 0x102) + optional
    headers, findings = pe_headers.parse(BytesSource(data))
    assert not findings
    assert headers.optional is not None
    assert (headers.optional.BaseOfData, headers.optional.ImageBase) == (0x5000, 0x400000)
    assert (headers.optional.SizeOfStackReserve, headers.optional.SizeOfHeapCommit) == (11, 14)
    assert pe_headers.build(headers) == data[64:]


def values(layout: Layout[Any], **fixed: Any) -> st.SearchStrategy[Any]:
    """Any value of a layout's dataclass, each field over all its bits."""
    drawn: dict[str, Any] = {}
    for field in fields(layout.cls):
        if field.name in fixed:
            drawn[field.name] = fixed[field.name]
        elif field.name in layout.offsets:
            size = layout.offsets[field.name][1]
            whole = st.binary(min_size=size, max_size=size)
            drawn[field.name] = whole if field.type == "bytes" else st.integers(0, (1 << 8 * size) - 1)
        else:
            drawn[field.name] = st.just(0)
    return st.builds(layout.cls, **drawn)


DOS_VALUE = DOS_HEADER.parse(pe_images.DOS)


@st.composite
def any_headers(draw):
    magic = draw(st.sampled_from([PE32, PE32_PLUS]))
    layout = OPTIONAL_HEADER_32 if magic == PE32 else OPTIONAL_HEADER_64
    directories = draw(st.lists(values(DATA_DIRECTORY), max_size=16).map(tuple))
    sections = draw(st.lists(values(SECTION_HEADER), max_size=4).map(tuple))
    size = layout.size + 8 * len(directories)
    optional = draw(values(layout, Magic=st.just(magic), NumberOfRvaAndSizes=st.just(len(directories))))
    coff = draw(values(COFF_HEADER, NumberOfSections=st.just(len(sections)), SizeOfOptionalHeader=st.just(size)))
    return PeHeaders(DOS_VALUE, coff, optional, directories, sections)


@given(any_headers())
def test_headers_survive_build_parse_build(headers):
    data = pe_headers.build(headers)
    parsed, findings = pe_headers.parse(BytesSource(pe_images.DOS + data))
    assert (parsed, findings) == (headers, [])
    assert pe_headers.build(parsed) == data


@given(values(DOS_HEADER, e_res=st.just((1, 2, 3, 4)), e_res2=st.just(tuple(range(10))), e_magic=st.just(b"MZ")))
def test_dos_header_survives_build_parse(value):
    assert DOS_HEADER.parse(DOS_HEADER.build(value)) == value


@pytest.mark.parametrize(
    "count, there, finding",
    [(0, 0, False), (1, 1, False), (16, 16, False), (17, 16, True), (0xFFFFFFFF, 16, True)],
)
def test_data_directories_are_at_most_16(count, there, finding):
    data = bytearray(pe_images.image([Part(b".text", b"\xc3")]))
    struct.pack_into("<I", data, 0x58 + 108, count)
    headers, findings = pe_headers.parse(BytesSource(bytes(data)))
    assert len(headers.directories) == there
    assert ["PE-DIRECTORIES"] * finding == [each.id for each in findings]


@pytest.mark.parametrize("size, kind", [(0, None), (111, None), (112, 0), (119, 0), (120, 1), (240, 16)])
def test_size_of_optional_header_bounds_what_is_in_it(size, kind):
    data = bytearray(pe_images.image([]))
    struct.pack_into("<H", data, 0x40 + 4 + 16, size)
    headers, findings = pe_headers.parse(BytesSource(bytes(data)))
    assert (None if headers.optional is None else len(headers.directories)) == kind
    assert bool(findings) == (size < 240)


@pytest.mark.parametrize("magic", [0, 0x107, 0x10C, 0xFFFF])
def test_unknown_optional_header_leaves_the_sections(magic):
    data = bytearray(pe_images.image([Part(b".text", b"\xc3")]))
    struct.pack_into("<H", data, 0x58, magic)
    headers, (finding,) = pe_headers.parse(BytesSource(bytes(data)))
    assert headers.optional is None
    assert len(headers.sections) == 1
    assert "0x10b" in finding.expected


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "no MZ"),
        (b"ZM" + bytes(62), "no MZ"),
        (b"MZ" + bytes(61), "cut short"),
        (struct.pack("<2s58xI", b"MZ", 0x40), "past the end"),
        (struct.pack("<2s58xI", b"MZ", 0xFFFFFFFF), "past the end"),
        (struct.pack("<2s58xI", b"MZ", 0), "no PE signature"),
        (pe_images.DOS + b"NE\0\0" + bytes(20), "no PE signature"),
        (pe_images.DOS + b"PE\0\0" + bytes(19), "COFF header is cut short"),
        (pe_images.DOS + b"PE\0\0" + bytes(20), ""),
    ],
)
def test_reject_says_why(data, reason):
    said = pe.reject(BytesSource(data))
    assert reason in said
    assert bool(said) == bool(reason)


def test_build_refuses_values_that_do_not_fit():
    headers, _ = pe_headers.parse(BytesSource(pe_images.DOS + LITERAL))
    with pytest.raises(FormatError, match="Machine"):
        pe_headers.build(replace(headers, coff=replace(headers.coff, Machine=0x10000)))


def test_long_section_names_come_from_the_string_table():
    data = bytearray(pe_images.image([Part(b"/4", b"x")]))
    table = len(data)
    struct.pack_into("<II", data, 0x40 + 4 + 8, table - 18, 1)  # one symbol of 18 bytes, then the strings
    data += struct.pack("<I", 20) + b".debug_frame\0\0\0\0"
    headers, _ = pe_headers.parse(BytesSource(bytes(data)))
    from mbtool.formats import pe_sections

    (part,) = pe_sections.sections(BytesSource(bytes(data)), headers, len(data))
    assert part.name == ".debug_frame"
    assert pe_sections.string_table(headers) == table
    assert pe_wire.SECTION_HEADER.build(part.header)[:2] == b"/4"
