"""Layouts of numbers and bytes are read and built without construct: as construct would, for every layout."""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

from mbtool import formats
from mbtool.errors import FormatError
from mbtool.formats.wire import Layout
from mbtool.formats.wire_plain import Array, Bytes, Int16ub, Int16ul, Padding, Struct
from mbtool.record import record


def layouts() -> Iterator[Layout[Any]]:
    """All layouts that stand in a format's module, by themselves or in a table."""
    seen = set()
    for module in pkgutil.iter_modules(formats.__path__, "mbtool.formats."):
        for value in vars(import_module(module.name)).values():
            for layout in value.values() if isinstance(value, dict) else (value,):
                if isinstance(layout, Layout) and id(layout) not in seen:
                    seen.add(id(layout))
                    yield layout


PLAIN = [layout for layout in layouts() if isinstance(layout.struct, Struct)]


def test_most_layouts_are_plain():
    assert len(PLAIN) > 0.8 * len(list(layouts())) > 80


@pytest.mark.parametrize("layout", PLAIN, ids=lambda layout: layout.cls.__name__)
def test_as_construct_reads_and_builds(layout: Layout[Any]):
    data = os.urandom(layout.size + 5)
    construct = layout.struct.in_construct()
    assert construct.sizeof() == layout.size
    parsed = construct.parse(data[3:])
    values = layout.values(data, 3)
    assert {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()} == {
        name: parsed[name] for name in layout.offsets
    }
    assert layout.struct.build(values) == construct.build(values)
    for name in values:
        for odd in (-1, 1 << 64, b"", b"x" * 99, bytearray(b"x" * 99), None, "a", 1.5, True, (), (1, 2), [3] * 99):
            built = layout.struct.build(values | {name: odd})
            assert built is None or built == construct.build(values | {name: odd})


@record
class Pair:
    count: int
    name: bytes
    more: tuple[int, ...] = (1, 2, 3)


@pytest.mark.parametrize(
    ("pair", "name"),
    [
        (Pair(1 << 16, b"abcd"), "count"),
        (Pair(1, b"abc"), "name"),
        (Pair(1, b"abcde"), "name"),
        (Pair(1, b"abcd", (1, 2)), "more"),
        (Pair(1, b"abcd", (1, 2, 1 << 16)), "more"),
    ],
)
def test_construct_names_the_value_that_does_not_fit(pair: Pair, name: str):
    layout = Layout(Pair, Struct("count" / Int16ul, Padding(2), "name" / Bytes(4), "more" / Array(3, Int16ul)))
    whole = Pair(1, b"abcd")
    assert layout.build(whole) == b"\1\0\0\0abcd\1\0\2\0\3\0"
    assert layout.parse(layout.build(whole)) == whole
    with pytest.raises(FormatError) as caught:
        layout.build(pair)
    assert caught.value.field.endswith(name)


def test_one_byte_order():
    with pytest.raises(ValueError, match="one byte order"):
        Struct("little" / Int16ul, "big" / Int16ub)
