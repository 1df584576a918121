"""Errors: one line each, absent parts left out."""

from __future__ import annotations

import pytest

from mbtool import errors
from mbtool.errors import FormatError, MbtoolError, UnknownFormatError


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ({}, "is bad"),
        ({"source": "f"}, "f: is bad"),
        ({"offset": 0}, "at 0x0: is bad"),
        ({"source": "f", "offset": 31}, "f at 0x1f: is bad"),
        ({"field": "hdr.magic"}, "hdr.magic: is bad"),
        ({"expected": "1"}, "is bad; expected 1"),
        ({"found": "2"}, "is bad; found 2"),
        ({"expected": "1", "found": "2"}, "is bad; expected 1, found 2"),
        ({"remedy": "mend it"}, "is bad (mend it)"),
        (
            {"source": "f", "offset": 1, "field": "x", "expected": "1", "found": "2", "remedy": "mend it"},
            "f at 0x1: x: is bad; expected 1, found 2 (mend it)",
        ),
    ],
)
def test_one_line(parts: dict[str, object], line: str):
    assert str(MbtoolError("is bad", **parts)) == line  # type: ignore[arg-type]


def test_one_family():
    family = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert len(family) == 7
    assert all(issubclass(kind, MbtoolError) for kind in family)
    assert issubclass(UnknownFormatError, FormatError)


def test_unknown_format_keeps_the_reasons():
    error = UnknownFormatError("f", (("elf", "no magic"), ("pe", "no MZ")))
    assert str(error) == "f: unknown format"
    assert error.reasons == (("elf", "no magic"), ("pe", "no MZ"))
