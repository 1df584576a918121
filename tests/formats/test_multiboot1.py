"""The Multiboot 1 header: bytes from the specification, each direction, and damage."""

from __future__ import annotations

import dataclasses
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.errors import FormatError
from mbtool.formats import multiboot1
from mbtool.formats.multiboot1 import AddressFields, Multiboot1Header, VideoFields
from mbtool.model import Hex, Severity

# The longest header: flags 0x00010007 ask for everything.
LONG = bytes.fromhex(
    "02b0ad1b"  # magic 0x1BADB002
    "07000100"  # flags: modules page-aligned, memory information, video mode, address fields
    "f74f51e4"  # checksum: 0x1BADB002 + 0x00010007 + 0xE4514FF7 = 2^32
    "00001000"  # header_addr 0x100000
    "00001000"  # load_addr
    "00801000"  # load_end_addr 0x108000
    "00001100"  # bss_end_addr 0x110000
    "30001000"  # entry_addr 0x100030
    "00000000"  # mode_type: linear graphics
    "00040000"  # width 1024
    "00030000"  # height 768
    "20000000"  # depth 32
)
LONG_VALUE = Multiboot1Header(
    0x10007,
    AddressFields(0x100000, 0x100000, 0x108000, 0x110000, 0x100030),
    VideoFields(0, 1024, 768, 32),
)
# Xen's (xen/arch/x86/boot/head.S): flags 3, nothing more.
SHORT = bytes.fromhex("02b0ad1b 03000000 fb4f52e4")


def with_flags(flags: int, *words: int) -> bytes:
    """A header's bytes, the checksum by the specification's rule."""
    return struct.pack(f"<{3 + len(words)}I", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF, *words)


def test_layout():
    assert (multiboot1.HEADER.size, multiboot1.ADDRESS_FIELDS.size, multiboot1.VIDEO_FIELDS.size) == (12, 20, 16)
    assert multiboot1.HEADER.offsets["checksum"] == (8, 4)
    assert multiboot1.HEADER.size + multiboot1.ADDRESS_FIELDS.offsets["entry_addr"][0] == 28
    assert multiboot1.VIDEO_OFFSET == 32


@pytest.mark.parametrize(("stored", "value"), [(LONG, LONG_VALUE), (SHORT, Multiboot1Header(3))])
def test_literal_both_ways(stored: bytes, value: Multiboot1Header):
    assert multiboot1.parse(stored) == value
    assert multiboot1.build(value) == stored


def test_video_fields_lie_at_32_without_address_fields_too():
    stored = with_flags(4, 0, 0, 0, 0, 0, 1, 80, 25, 0)
    assert multiboot1.parse(stored) == Multiboot1Header(4, None, VideoFields(1, 80, 25, 0))
    assert multiboot1.build(Multiboot1Header(4, None, VideoFields(1, 80, 25, 0))) == stored


def test_fields_say_where_they_are_and_what_they_mean():
    node = multiboot1.inspect(LONG, 0x1000)
    assert (node.kind, node.offset, node.size) == ("multiboot1-header", 0x1000, 48)
    places = {field.name: (field.offset, field.raw) for field in node.fields}
    assert places["flags"] == (4, LONG[4:8])
    assert places["entry_addr"] == (28, LONG[28:32])
    assert places["depth"] == (44, LONG[44:48])
    meanings = {field.name: field.meaning for field in node.fields}
    assert meanings["flags"] == "modules page-aligned, memory information, video mode, address fields"
    assert meanings["mode_type"] == "linear graphics"
    assert isinstance(node["load_addr"], Hex)
    assert node["width"] == 1024
    assert not isinstance(node["width"], Hex)


def test_wrong_checksum_says_expected_and_found():
    stored = bytearray(SHORT)
    stored[8] ^= 1
    with pytest.raises(FormatError) as caught:
        multiboot1.parse(bytes(stored), source="k", base=0x40)
    error = caught.value
    assert (error.offset, error.expected, error.found) == (0x48, "0xe4524ffb", "0xe4524ffa")
    node = multiboot1.inspect(bytes(stored), 0)
    assert [finding.id for finding in node.findings] == ["MULTIBOOT1-HEADER"]


def test_wrong_magic():
    with pytest.raises(FormatError, match="magic"):
        multiboot1.parse(b"\0" * 48)


def test_build_refuses_what_the_flags_do_not_announce():
    with pytest.raises(FormatError, match="bit 16"):
        multiboot1.build(Multiboot1Header(0x10003))
    with pytest.raises(FormatError, match="bit 2"):
        multiboot1.build(Multiboot1Header(3, None, VideoFields(0, 0, 0, 0)))
    with pytest.raises(FormatError):
        multiboot1.build(Multiboot1Header(1 << 32))


@pytest.mark.parametrize("stored", [LONG, SHORT])
def test_cut_at_every_byte(stored: bytes):
    for size in range(len(stored)):
        with pytest.raises(FormatError):
            multiboot1.parse(stored[:size])
        if size >= 12:
            node = multiboot1.inspect(stored[:size], 0)
            assert node["flags"] == 0x10007
            assert any(finding.severity is Severity.ERROR for finding in node.findings)


def test_required_flags_that_nobody_knows():
    node = multiboot1.inspect(with_flags(0x8003), 0)
    assert [finding.id for finding in node.findings] == ["MULTIBOOT1-UNKNOWN-FLAGS"]
    assert not multiboot1.inspect(with_flags(0x8000_0003), 0).findings  # upper half: loaders may pass over them


@pytest.mark.parametrize(("offset", "past"), [(0, False), (8192 - 48, False), (8192 - 44, True), (8192 - 12, True)])
def test_header_wholly_within_the_limit(offset: int, past: bool):
    node = multiboot1.inspect(with_flags(4, *[0] * 9), offset)
    assert ("MULTIBOOT1-PAST-LIMIT" in [finding.id for finding in node.findings]) is past


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, None),
        ({"load_end_addr": 0, "bss_end_addr": 0}, None),
        ({"load_addr": 0x100004}, "load_addr lies above header_addr"),
        ({"header_addr": 0x100200}, "before the start of the file"),
        ({"load_end_addr": 0xFFFFF}, "load_end_addr lies below"),
        ({"load_end_addr": 0x100101}, "the file ends before"),
        ({"load_end_addr": 0x100100, "bss_end_addr": 0x1000FF}, "bss_end_addr lies below"),
        ({"entry_addr": 0xFFFFF}, "entry point lies outside"),
        ({"entry_addr": 0x110000}, "entry point lies outside"),
    ],
)
def test_addresses_that_cannot_be(fields: dict[str, int], problem: str | None):
    assert LONG_VALUE.addresses
    addresses = dataclasses.replace(LONG_VALUE.addresses, **{"load_end_addr": 0x100100, **fields})
    stored = multiboot1.build(dataclasses.replace(LONG_VALUE, addresses=addresses))
    messages = [finding.message for finding in multiboot1.inspect(stored, 0, file_size=0x100).findings]
    if problem is None:
        assert not messages
    else:
        assert any(problem in message for message in messages)


u32 = st.integers(0, 0xFFFFFFFF)


@st.composite
def headers(draw: st.DrawFn) -> Multiboot1Header:
    flags = draw(u32)
    return Multiboot1Header(
        flags,
        AddressFields(*draw(st.tuples(u32, u32, u32, u32, u32))) if flags >> 16 & 1 else None,
        VideoFields(*draw(st.tuples(u32, u32, u32, u32))) if flags >> 2 & 1 else None,
    )


@given(headers())
def test_any_header_survives(header: Multiboot1Header):
    stored = multiboot1.build(header)
    assert sum(struct.unpack("<3I", stored[:12])) % 2**32 == 0
    assert multiboot1.parse(stored) == header
    assert multiboot1.build(multiboot1.parse(stored)) == stored


@given(st.binary(min_size=12, max_size=60), st.integers(0, 9000), st.none() | st.integers(0, 9000))
def test_inspect_takes_any_bytes(data: bytes, offset: int, file_size: int | None):
    node = multiboot1.inspect(data, offset, file_size)
    assert node.size <= len(data)
