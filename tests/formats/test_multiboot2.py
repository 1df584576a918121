"""The Multiboot 2 header: bytes from the specification, each direction, and damage."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.errors import FormatError
from mbtool.formats import multiboot2
from mbtool.formats.multiboot2 import Multiboot2Header
from mbtool.formats.multiboot2_header_tags import (
    OPTIONAL,
    TAG_NAMES,
    TAGS,
    Address,
    ConsoleFlags,
    EfiBootServices,
    EntryAddress,
    EntryAddressEfi32,
    EntryAddressEfi64,
    InformationRequest,
    ModuleAlign,
    PreferredFramebuffer,
    Relocatable,
)
from mbtool.formats.multiboot2_tags import MAX_TAGS, Tag, UnknownTag
from mbtool.model import Hex

# Every tag of the specification once, and one that it does not have; sizes as it states them.
TAG_LITERALS: list[tuple[str, Tag]] = [
    ("0100 0000 14000000  04000000 06000000 08000000", Tag(InformationRequest((4, 6, 8)))),
    (
        "0200 0000 18000000  00001000 ffffffff 00000000 00002000",
        Tag(Address(0x100000, 0xFFFFFFFF, 0, 0x200000)),
    ),
    ("0300 0000 0c000000  40001000", Tag(EntryAddress(0x100040))),
    ("0400 0100 0c000000  03000000", Tag(ConsoleFlags(3), OPTIONAL)),
    ("0500 0100 14000000  00040000 00030000 20000000", Tag(PreferredFramebuffer(1024, 768, 32), OPTIONAL)),
    ("0600 0000 08000000", Tag(ModuleAlign())),
    ("0700 0100 08000000", Tag(EfiBootServices(), OPTIONAL)),
    ("0800 0100 0c000000  80001000", Tag(EntryAddressEfi32(0x100080), OPTIONAL)),
    ("0900 0100 0c000000  c0001000", Tag(EntryAddressEfi64(0x1000C0), OPTIONAL)),
    (
        "0a00 0100 18000000  00002000 ffffffff 00002000 02000000",
        Tag(Relocatable(0x200000, 0xFFFFFFFF, 0x200000, 2), OPTIONAL),
    ),
    ("3412 0100 0b000000  616263", Tag(UnknownTag(0x1234, b"abc"), OPTIONAL)),
]
END = bytes.fromhex("0000 0000 08000000")


def padded(literal: str) -> bytes:
    stored = bytes.fromhex(literal)
    return stored + bytes(-len(stored) % 8)


def header(tags: bytes, architecture: int = 0, length: int | None = None) -> bytes:
    """A header around a chain, the checksum by the specification's rule."""
    length = 16 + len(tags) if length is None else length
    checksum = -(0xE85250D6 + architecture + length) & 0xFFFFFFFF
    return struct.pack("<4I", 0xE85250D6, architecture, length, checksum) + tags


FULL = header(b"".join(padded(literal) for literal, _ in TAG_LITERALS) + END)
FULL_VALUE = Multiboot2Header(tuple(tag for _, tag in TAG_LITERALS))


def ids(node: Any) -> list[str]:
    return [finding.id for part in node.walk() for finding in part.findings]


def test_layout():
    assert multiboot2.HEADER.size == 16
    assert multiboot2.HEADER.offsets["checksum"] == (12, 4)


@pytest.mark.parametrize(("literal", "tag"), TAG_LITERALS, ids=[literal[:4] for literal, _ in TAG_LITERALS])
def test_each_tag_both_ways(literal: str, tag: Tag):
    stored = header(padded(literal) + END)
    assert multiboot2.parse(stored) == Multiboot2Header((tag,))
    assert multiboot2.build(Multiboot2Header((tag,))) == stored


def test_all_tags_both_ways():
    assert multiboot2.parse(FULL) == FULL_VALUE
    assert multiboot2.build(FULL_VALUE) == FULL
    assert FULL_VALUE.find(Relocatable) == Relocatable(0x200000, 0xFFFFFFFF, 0x200000, 2)


def test_smallest_header():
    stored = bytes.fromhex("d65052e8 00000000 18000000 12afad17  0000 0000 08000000")
    assert multiboot2.parse(stored) == Multiboot2Header()
    assert multiboot2.build(Multiboot2Header()) == stored
    assert not ids(multiboot2.inspect(stored, 0))


def test_every_tag_becomes_a_node_with_its_name():
    node = multiboot2.inspect(FULL, 0x40)
    assert (node.kind, node.offset, node.size) == ("multiboot2-header", 0x40, len(FULL))
    assert not node.findings
    names = [next(field.meaning for field in child.fields if field.name == "type") for child in node.children]
    assert names == [*(TAG_NAMES[number] for number in range(1, 11)), "unknown", "end"]
    for child in node.children:
        assert child.kind == "multiboot2-tag"
        for field in child.fields:
            assert field.offset is not None
            place = child.offset + field.offset
            assert field.raw == FULL[place : place + len(field.raw)]
    request = node.children[0]
    words = next(field.meaning for field in request.fields if field.name == "mbi_tag_types")
    assert words == "basic memory information, memory map, framebuffer"
    assert isinstance(node.children[1]["load_addr"], Hex)


def test_bytes_beyond_the_specification_survive():
    stored = header(bytes.fromhex("0400 0000 10000000 01000000 aabbccdd") + END + b"tail" * 2)
    value = Multiboot2Header((Tag(ConsoleFlags(1), rest=bytes.fromhex("aabbccdd")),), rest=b"tail" * 2)
    assert multiboot2.parse(stored) == value
    assert multiboot2.build(value) == stored
    assert ids(multiboot2.inspect(stored, 0)) == ["MULTIBOOT2-TAG-LONGER"]


@pytest.mark.parametrize(
    ("tags", "problem"),
    [
        (b"", "no end tag"),
        (padded("0600 0000 08000000"), "no end tag"),
        (padded("0600 0000 00000000") + END, "smaller than its own head"),
        (padded("0600 0000 07000000") + END, "smaller than its own head"),
        (padded("0600 0000 11000000") + END, "runs past the end"),
        (padded("0600 0000 ffffffff") + END, "runs past the end"),
        (padded("0000 0000 00000000"), "end tag of a wrong size"),
        (padded("0000 0000 10000000") + END, "end tag of a wrong size"),
        (padded("0300 0000 08000000") + END, "EntryAddress is cut short"),
        (padded("0200 0000 0c000000 00000000") + END, "Address is cut short"),
        (END[:4], "no end tag"),
    ],
)
def test_damaged_chains(tags: bytes, problem: str):
    healthy = padded("0700 0100 08000000")
    stored = header(healthy + tags)
    with pytest.raises(FormatError, match=problem):
        multiboot2.parse(stored)
    node = multiboot2.inspect(stored, 0)
    assert node.children[0]["type"] == 7  # what comes before the damage is still shown
    assert any(problem in finding.message for part in node.walk() for finding in part.findings)


def test_more_tags_than_any_loader_knows():
    stored = header(padded("0600 0000 08000000") * (MAX_TAGS + 1) + END)
    with pytest.raises(FormatError, match=f"more than {MAX_TAGS} tags"):
        multiboot2.parse(stored)


@pytest.mark.parametrize("length", [0, 1, 15, 23, len(FULL) + 1, 0xFFFFFFFF])
def test_length_that_makes_no_sense_does_not_hide_the_tags(length: int):
    stored = header(FULL[16:], length=length)
    with pytest.raises(FormatError):
        multiboot2.parse(stored)
    node = multiboot2.inspect(stored, 0)
    assert "MULTIBOOT2-LENGTH" in ids(node)
    assert len(node.children) == len(TAG_LITERALS) + 1


@pytest.mark.parametrize("length", [24, len(FULL) - 8])
def test_length_that_cuts_the_chain(length: int):
    stored = header(FULL[16:], length=length)
    with pytest.raises(FormatError):
        multiboot2.parse(stored)
    assert "MULTIBOOT2-TAGS" in ids(multiboot2.inspect(stored, 0))


def test_wrong_checksum():
    stored = FULL[:12] + bytes(4) + FULL[16:]
    with pytest.raises(FormatError, match="checksum"):
        multiboot2.parse(stored)
    assert ids(multiboot2.inspect(stored, 0)) == ["MULTIBOOT2-CHECKSUM"]


def test_other_architectures_stay_numbers():
    mips = header(END, architecture=4)
    assert multiboot2.parse(mips) == Multiboot2Header(architecture=4)
    assert ids(multiboot2.inspect(mips, 0)) == ["MULTIBOOT2-ARCHITECTURE"]
    assert multiboot2.parse(header(END, architecture=77)).architecture == 77


@pytest.mark.parametrize(("offset", "past"), [(0, False), (32768 - 24, False), (32768 - 16, True)])
def test_header_wholly_within_the_limit(offset: int, past: bool):
    node = multiboot2.inspect(header(END), offset)
    assert ("MULTIBOOT2-PAST-LIMIT" in ids(node)) is past


def test_unknown_tag_that_is_required():
    assert ids(multiboot2.inspect(header(padded("3412 0000 08000000") + END), 0)) == ["MULTIBOOT2-UNKNOWN-TAG"]


ADDRESS_TAG = struct.pack("<HHI4I", 2, 0, 24, 0x100010, 0x100000, 0x100100, 0x100200)
ENTRY_TAG = padded("0300 0000 0c000000  40001000")


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        (ADDRESS_TAG + ENTRY_TAG, []),
        (ADDRESS_TAG, ["MULTIBOOT-ENTRY"]),
        (struct.pack("<HHI4I", 2, 0, 24, 0x100010, 0x100011, 0, 0) + ENTRY_TAG, ["MULTIBOOT-ADDRESSES"]),
        (struct.pack("<HHI4I", 2, 0, 24, 0x100010, 0xFFFFFFFF, 0, 0) + ENTRY_TAG, []),
        (struct.pack("<HHI4I", 2, 0, 24, 0x100011, 0x100000, 0, 0) + ENTRY_TAG, ["MULTIBOOT-ADDRESSES"]),
        (struct.pack("<HHI4I", 2, 0, 24, 0x100010, 0x100000, 0x100101, 0) + ENTRY_TAG, ["MULTIBOOT-ADDRESSES"]),
    ],
)
def test_addresses_that_cannot_be(tags: bytes, found: list[str]):
    assert ids(multiboot2.inspect(header(tags + END), 0x10, file_size=0x100)) == found


def test_build_refuses_foreign_values():
    with pytest.raises(FormatError, match="no tag of this chain"):
        multiboot2.build(Multiboot2Header((Tag("text"),)))
    with pytest.raises(FormatError):
        multiboot2.build(Multiboot2Header((Tag(EntryAddress(1 << 32)),)))
    with pytest.raises(FormatError):
        multiboot2.build(Multiboot2Header((Tag(InformationRequest((-1,))),)))


u16, u32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
values = st.one_of(
    st.builds(InformationRequest, st.lists(u32, max_size=9).map(tuple)),
    st.builds(Address, u32, u32, u32, u32),
    st.builds(EntryAddress, u32),
    st.builds(EntryAddressEfi32, u32),
    st.builds(EntryAddressEfi64, u32),
    st.builds(ConsoleFlags, u32),
    st.builds(PreferredFramebuffer, u32, u32, u32),
    st.just(ModuleAlign()),
    st.just(EfiBootServices()),
    st.builds(Relocatable, u32, u32, u32, u32),
    st.builds(UnknownTag, st.integers(11, 0xFFFF), st.binary(max_size=20)),
)
headers = st.builds(
    Multiboot2Header, st.lists(st.builds(Tag, values, u16), max_size=8).map(tuple), u32, st.binary(max_size=9)
)


@given(headers)
def test_any_header_survives(value: Multiboot2Header):
    stored = multiboot2.build(value)
    assert sum(struct.unpack("<4I", stored[:16])) % 2**32 == 0
    assert struct.unpack_from("<I", stored, 8) == (len(stored),)
    assert multiboot2.parse(stored) == value
    assert multiboot2.build(multiboot2.parse(stored)) == stored


@given(st.binary(max_size=200))
def test_any_chain_is_shown_or_refused(data: bytes):
    stored = header(data)
    node = multiboot2.inspect(stored, 0)
    assert node.size <= len(stored)
    try:
        value = multiboot2.parse(stored)
    except FormatError:
        return
    assert multiboot2.parse(multiboot2.build(value)) == value


def test_cut_at_every_byte():
    for size in range(len(FULL)):
        with pytest.raises(FormatError):
            multiboot2.parse(FULL[:size])
        if size >= 16:
            assert ids(multiboot2.inspect(FULL[:size], 0))


@pytest.mark.parametrize("number", [0, 1, 7, 8, 9, 12, len(FULL), len(FULL) + 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_every_size_lies(number: int):
    walk = TAGS.walk(FULL, 16)
    for at, _ in walk.heads:
        stored = FULL[: at + 4] + struct.pack("<I", number) + FULL[at + 8 :]
        multiboot2.inspect(stored, 0)
        try:
            value = multiboot2.parse(stored)
        except FormatError:
            continue
        assert dataclasses.is_dataclass(value)
