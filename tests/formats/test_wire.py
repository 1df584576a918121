"""Layouts: one declaration parses, builds and shows a structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from construct import Array, Bytes, Const, Int8ul, Int16ul, Int32ul, Padding, Struct
from hypothesis import given
from hypothesis import strategies as st

from mbtool.errors import FormatError
from mbtool.formats.wire import Layout, choice_names, flag_names
from mbtool.model import Field, Hex
from mbtool.source import BytesSource


@dataclass(frozen=True, slots=True)
class Header:
    flags: int
    load_addr: int
    words: tuple[int, ...]
    tail: bytes = b""


LAYOUT = Layout(
    Header,
    Struct(
        "magic" / Bytes(2),
        Padding(2),
        "flags" / Int16ul,
        "load_addr" / Int32ul,
        "words" / Array(2, Int8ul),
        "checksum" / Int32ul,
    ),
    hex={"flags", "load_addr", "checksum"},
    telling={"load_addr"},
    meanings={"flags": flag_names({0: "PAGE_ALIGN", 2: "VIDEO"})},
    computed={
        "magic": lambda header: b"HI",
        "checksum": lambda header: -header.flags & 0xFFFFFFFF,
    },
    beyond={"tail"},
)
STORED = (
    b"HI\0\0"  # magic, padding
    b"\x05\0"  # flags: bits 0 and 2
    b"\0\0\x10\0"  # load_addr: 1 MiB
    b"\x07\x08"  # words
    b"\xfb\xff\xff\xff"  # checksum: -5
)


def test_sizes_and_offsets():
    assert LAYOUT.size == 16
    assert LAYOUT.offsets == {
        "magic": (0, 2),
        "flags": (4, 2),
        "load_addr": (6, 4),
        "words": (10, 2),
        "checksum": (12, 4),
    }


def test_both_directions():
    value = Header(5, 0x100000, (7, 8))
    assert LAYOUT.parse(STORED) == value
    assert LAYOUT.build(value) == STORED
    assert LAYOUT.parse(b"..." + STORED + b"...", 3, beyond={"tail": b"x"}) == Header(5, 0x100000, (7, 8), b"x")
    assert LAYOUT.read(BytesSource(b"." + STORED), 1) == value


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.tuples(*[st.integers(0, 255)] * 2))
def test_round_trip(flags: int, load_addr: int, words: tuple[int, ...]):
    stored = LAYOUT.build(Header(flags, load_addr, words))
    assert LAYOUT.parse(stored) == Header(flags, load_addr, words)
    assert LAYOUT.build(LAYOUT.parse(stored)) == stored


def test_fields_know_where_they_are():
    fields = LAYOUT.fields(b".." + STORED, 2, base=100)
    assert [(field.name, field.offset, field.size) for field in fields] == [
        ("magic", 102, 2),
        ("flags", 106, 2),
        ("load_addr", 108, 4),
        ("words", 112, 2),
        ("checksum", 114, 4),
    ]
    by_name = {field.name: field for field in fields}
    assert by_name["flags"] == Field("flags", 5, 106, 2, "PAGE_ALIGN, VIDEO", b"\x05\0")
    assert by_name["load_addr"].telling
    assert by_name["words"].value == (7, 8)
    assert type(by_name["flags"].value) is type(by_name["checksum"].value) is Hex
    assert by_name["magic"].raw == b"HI"


@pytest.mark.parametrize("size", range(16))
def test_cut_short_at_every_byte(size: int):
    for act in (LAYOUT.parse, LAYOUT.fields):
        with pytest.raises(FormatError, match="cut short") as error:
            act(STORED[:size])
        assert (error.value.offset, error.value.expected, error.value.found) == (0, "16 bytes", str(size))
    with pytest.raises(FormatError) as error:
        LAYOUT.read(BytesSource(bytes(7) + STORED[:size], "file"), 7)
    assert (error.value.source, error.value.offset) == ("file", 7)


def test_computed_fields_are_verified():
    with pytest.raises(FormatError) as error:
        LAYOUT.parse(STORED[:12] + b"\0\0\0\0", source="f", base=0x20)
    assert str(error.value) == "f at 0x2c: Header.checksum: is wrong; expected 0xfffffffb, found 0x0"
    with pytest.raises(FormatError) as error:
        LAYOUT.parse(b"HO" + STORED[2:])
    assert str(error.value) == "at 0x0: Header.magic: is wrong; expected 48 49, found 48 4f"
    assert len(list(LAYOUT.mismatches(Header(1, 0, (0, 0)), LAYOUT.values(STORED)))) == 1


@pytest.mark.parametrize(
    "value", [Header(0x10000, 0, (0, 0)), Header(-1, 0, (0, 0)), Header(0, 0, (0, 256)), Header(0, 0, (0,))]
)
def test_what_does_not_fit_is_not_built(value: Header):
    with pytest.raises(FormatError) as error:
        LAYOUT.build(value)
    assert error.value.field.startswith("Header.")


def test_wrong_constant_is_a_format_error():
    @dataclass(frozen=True)
    class Fixed:
        magic: bytes

    layout = Layout(Fixed, Struct("magic" / Const(b"AB")))
    with pytest.raises(FormatError) as error:
        layout.parse(b"AC", base=5)
    assert error.value.offset == 5
    assert "magic" in error.value.field


@pytest.mark.parametrize("wrong", [{"hex": {"nothing"}}, {"telling": {"nothing"}}, {"beyond": {"nothing"}}, {}])
def test_layout_must_fit_its_dataclass(wrong: dict[str, Any]):
    @dataclass(frozen=True)
    class Pair:
        a: int
        b: int

    struct = Struct("a" / Int8ul, "b" / Int8ul) if wrong else Struct("a" / Int8ul)
    with pytest.raises(AssertionError):
        Layout(Pair, struct, **wrong)


def test_words():
    assert flag_names({1: "one"})(0b1010) == "one, bit 3"
    assert flag_names({})(0) == ""
    assert choice_names({1: "one"})(1) == "one"
    assert choice_names({1: "one"})(2) == "unknown"
    assert choice_names({1: "one"}, "")(2) == ""
