"""SBAT: the table of shim's own documentation, round trips, lines that shim refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.errors import FormatError
from mbtool.formats import sbat
from mbtool.formats.sbat import SbatEntry
from mbtool.model import Severity

LITERAL = (
    b"sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n"
    b"grub,1,Free Software Foundation,grub,2.04,https://www.gnu.org/software/grub/\n"
)
SBAT = SbatEntry("sbat", 1, "SBAT Version", "sbat", "1", "https://github.com/rhboot/shim/blob/main/SBAT.md")
GRUB = SbatEntry("grub", 1, "Free Software Foundation", "grub", "2.04", "https://www.gnu.org/software/grub/")


def test_literal_table():
    assert sbat.parse(LITERAL) == (SBAT, GRUB)
    assert sbat.build([SBAT, GRUB]) == LITERAL


def test_nodes_lie_where_their_lines_lie():
    node = sbat.inspect(LITERAL + b"\0" * 100)
    assert node["components"] == ("sbat,1", "grub,1")
    assert not node.findings
    for child, line in zip(node.children, LITERAL.splitlines(), strict=True):
        assert LITERAL[child.offset : child.offset + child.size] == line
        for field in child.fields:
            assert field.offset is not None
            assert line[field.offset : field.offset + len(field.raw)] == field.raw
    assert node.children[1]["vendor_version"] == "2.04"


@pytest.mark.parametrize(
    "data",
    [
        LITERAL.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + LITERAL,
        b"\n\n" + LITERAL + b"\0garbage\n",
        LITERAL.rstrip(),
    ],
)
def test_line_ends_and_byte_order_mark(data):
    assert sbat.parse(data) == (SBAT, GRUB)
    assert not sbat.inspect(data).findings


@pytest.mark.parametrize(
    "line, field",
    [
        (b"memtest86+,1,Memtest86+,6.0,https://example.org", ""),  # five columns, as memtest86+ 6.10 has it
        (b"a", ""),
        (b"a,1,b,c,,e", "vendor_version"),
        (b",1,b,c,d,e", "component_name"),
        (b"a,0,b,c,d,e", "component_generation"),
        (b"a,-1,b,c,d,e", "component_generation"),
        (b"a,x,b,c,d,e", "component_generation"),
        (b"a,1234567890,b,c,d,e", "component_generation"),
        (b"a,\xd9\xa1,b,c,d,e", "component_generation"),
    ],
)
def test_lines_that_shim_refuses(line, field):
    with pytest.raises(FormatError) as caught:
        sbat.parse_line(line)
    assert caught.value.field == field
    node = sbat.inspect(LITERAL + line + b"\n")
    assert [finding.id for finding in node.children[2].findings] == ["SBAT-LINE"]
    assert len(node.children) == 3
    assert node.children[2].findings[0].severity is Severity.WARNING


@pytest.mark.parametrize(
    "data, found", [(b"", "nothing"), (b"\0" * 8, "nothing"), (LITERAL.split(b"\n")[1], "grub")]
)
def test_first_line_is_sbats_own(data, found):
    (finding,) = sbat.inspect(data).findings
    assert (finding.id, finding.found) == ("SBAT-FIRST", found)


cells = st.text(st.characters(exclude_characters=",\r\n\0", codec="utf-8"), min_size=1, max_size=12)


@given(st.lists(st.builds(SbatEntry, cells, st.integers(1, 999_999_999), cells, cells, cells, cells), max_size=5))
def test_tables_survive_build_parse_build(entries):
    if entries and entries[0].component_name.startswith("\ufeff"):
        return  # a byte order mark is not part of the first name
    data = sbat.build(entries)
    assert sbat.parse(data) == tuple(entries)
    assert sbat.build(sbat.parse(data)) == data


@pytest.mark.parametrize("text", ["", "a,b", "a\nb", "a\rb", "a\0b"])
def test_values_that_would_break_the_table_are_refused(text):
    with pytest.raises(FormatError):
        sbat.build([SbatEntry(text, 1, "a", "b", "c", "d")])


@given(st.binary(max_size=200))
def test_any_bytes_are_shown(data):
    sbat.inspect(data)


def test_length_is_bounded():
    node = sbat.inspect(b"a,1,b,c,d,e\n" * 100_000)
    assert len(node.children) == sbat.MAX_ENTRIES
    assert "SBAT-LONG" in [finding.id for finding in node.findings]
