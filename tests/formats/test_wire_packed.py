"""Layouts of numbers and bytes go a short way past construct: it gives what construct gives, for every layout."""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from construct import Bytes, Int16ul, Padding, Struct

from mbtool import formats
from mbtool.errors import FormatError
from mbtool.formats.wire import Layout
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


PACKED = [layout for layout in layouts() if layout._packer]


def test_most_layouts_go_the_short_way():
    assert len(PACKED) > 0.8 * len(list(layouts())) > 80


@pytest.mark.parametrize("layout", PACKED, ids=lambda layout: layout.cls.__name__)
def test_as_construct_reads_and_builds(layout: Layout[Any]):
    data = os.urandom(layout.size + 5)
    parsed = layout.struct.parse(data[3:])
    values = layout.values(data, 3)
    assert list(values.items()) == [(name, parsed[name]) for name in layout.offsets]
    assert layout._packed(layout._packer, values) == layout.struct.build(values)  # type: ignore[arg-type]
    for name in values:
        for odd in (-1, 1 << 64, b"", b"x" * 99, None, "a", 1.5, True):
            packed = layout._packed(layout._packer, values | {name: odd})  # type: ignore[arg-type]
            assert packed is None or packed == layout.struct.build(values | {name: odd})


@record
class Pair:
    count: int
    name: bytes


@pytest.mark.parametrize(
    ("pair", "name"), [(Pair(1 << 16, b"abcd"), "count"), (Pair(1, b"abc"), "name"), (Pair(1, b"abcde"), "name")]
)
def test_construct_names_the_value_that_does_not_fit(pair: Pair, name: str):
    layout = Layout(Pair, Struct("count" / Int16ul, Padding(2), "name" / Bytes(4)))
    assert layout.build(Pair(1, b"abcd")) == b"\1\0\0\0abcd"
    with pytest.raises(FormatError) as caught:
        layout.build(pair)
    assert caught.value.field.endswith(name)
