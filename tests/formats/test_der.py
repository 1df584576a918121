"""DER: X.690's own examples, and everything that can be wrong with a length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.errors import FormatError
from mbtool.formats import der


def element(text: str) -> der.Element:
    return der.read(bytes.fromhex(text))


@pytest.mark.parametrize(
    "text, number",
    [
        ("06 03 88 37 03", "2.999.3"),  # X.690, 8.19.5
        ("06 06 2a 86 48 86 f7 0d", "1.2.840.113549"),
        ("06 03 55 04 03", "2.5.4.3"),
        ("06 01 27", "0.39"),
        ("06 01 78", "2.40"),
    ],
)
def test_object_identifiers(text, number):
    assert der.oid(element(text)) == number


@pytest.mark.parametrize("text", ["06 00", "06 01 80", "06 02 2a 86", "02 01 2a", "06 41" + "01" * 65])
def test_damaged_object_identifiers(text):
    with pytest.raises(FormatError):
        der.oid(element(text))


@pytest.mark.parametrize(
    "text, moment",
    [
        ("17 0d" + b"910506234540Z".hex(), "1991-05-06 23:45:40Z"),
        ("17 0d" + b"491231235959Z".hex(), "2049-12-31 23:59:59Z"),
        ("17 0d" + b"500101000000Z".hex(), "1950-01-01 00:00:00Z"),
        ("18 0f" + b"20500101000000Z".hex(), "2050-01-01 00:00:00Z"),
        ("17 03" + b"abc".hex(), "abc"),
        ("17 00", ""),
    ],
)
def test_times(text, moment):
    assert der.time(element(text)) == moment


@pytest.mark.parametrize(
    "text, words",
    [
        ("1a 05 4a 6f 6e 65 73", "Jones"),  # X.690, 8.23.5
        ("0c 02 c3 a9", "\u00e9"),
        ("1e 04 00 41 20 ac", "A\u20ac"),
        ("14 01 e9", "\u00e9"),
        ("02 01 05", "05"),
    ],
)
def test_strings(text, words):
    assert der.text(element(text)) == words


@pytest.mark.parametrize(
    "text, inner, end",
    [
        ("04 00", 2, 2),
        ("04 7f" + "00" * 127, 2, 129),
        ("04 81 80" + "00" * 128, 3, 131),
        ("04 82 01 00" + "00" * 256, 4, 260),
        ("04 84 00 00 00 01 00", 6, 7),
    ],
)
def test_lengths(text, inner, end):
    found = element(text)
    assert (found.inner, found.end) == (inner, end)


@pytest.mark.parametrize(
    "text, problem",
    [
        ("", "cut short"),
        ("04", "cut short"),
        ("04 01", "past"),
        ("04 80 00 00", "1 to 4 bytes"),  # indefinite length is BER, not DER
        ("04 85 00 00 00 00 01 00", "1 to 4 bytes"),
        ("04 82 01", "1 to 4 bytes"),
        ("04 84 ff ff ff ff", "past"),
        ("1f 81 01 00", "tag number"),
    ],
)
def test_lengths_that_lie(text, problem):
    with pytest.raises(FormatError, match=problem):
        element(text)


def test_children_stay_inside_and_the_right_type_is_asked_for():
    outer = element("30 06 02 01 07 04 01 aa 02 01 09")
    assert [(child.tag, child.content) for child in outer.children()] == [(2, b"\x07"), (4, b"\xaa")]
    assert outer.child(1, der.OCTET_STRING, "x").content == b"\xaa"
    with pytest.raises(FormatError, match="missing"):
        outer.child(2, None, "third")
    with pytest.raises(FormatError, match="another type"):
        outer.child(0, der.OCTET_STRING, "first")
    with pytest.raises(FormatError, match="past"):
        list(element("30 03 02 02 07").children())


def test_number_of_children_is_bounded():
    count = der.MAX_CHILDREN
    for size, fits in ((count, True), (count + 1, False)):
        outer = der.read(b"\x30\x83" + (2 * size).to_bytes(3, "big") + b"\x05\x00" * size)
        if fits:
            assert len(list(outer.children())) == size
        else:
            with pytest.raises(FormatError, match="more than"):
                list(outer.children())


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(data):
    try:
        found = der.read(data)
        assert found.end <= len(data)
        list(found.children())
    except FormatError:
        pass
