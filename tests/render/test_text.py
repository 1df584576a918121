"""The tree as text: columns that stay columns."""

from __future__ import annotations

import io

from mbtool.model import Field, Node
from mbtool.render.style import Style
from mbtool.render.text import tree_lines


def test_fields_with_large_offsets_stay_in_columns():
    fields = (
        Field("near", 1, 0x10, 1, raw=b"\1"),
        Field("far_away", 2, 0x116190E, 1, raw=b"\2"),
        Field("before", 3, -0x1000, 1, raw=b"\3"),
        Field("derived", 4),
    )
    lines = list(tree_lines(Node("elf", 0, 1, fields), Style.of(io.StringIO()), every_field=True))
    assert [line.strip() for line in lines[1:]] == [
        "0x0010     near      1  01",
        "0x116190e  far_away  2  02",
        "-0x1000    before    3  03",
        "derived   4",
    ]
    assert len({line.index(name) for line, name in zip(lines[1:], (f.name for f in fields), strict=True)}) == 1
