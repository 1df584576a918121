"""How address spaces are drawn: bands without overlap, and pictures whose labels never meet."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from mbtool.model import Node
from mbtool.plan.memory import TOP, Range
from mbtool.plan.outline import AddressSpace, EntryState, Outline, Region, Use, ground
from mbtool.render import svg
from mbtool.render.chart import chart_lines
from mbtool.render.memory_map import MAX_REGIONS, lay_out
from mbtool.render.style import Style
from tests.plan.loads import MIB, QEMU_96M

SVG = "{http://www.w3.org/2000/svg}"


def region(start: int, end: int, name: str = "x", use: Use = Use.KERNEL) -> Region:
    return Region(name, use, Range(start, end))


def bands(space: AddressSpace) -> list[tuple[int, int, str, Use | None, Use | None]]:
    drawn = lay_out(space).bands
    return [(band.range.start, band.range.end, band.name, band.use, band.ground) for band in drawn]


def outline(*spaces: AddressSpace, title: str = "title") -> Outline:
    return Outline("linux", title, spaces, (EntryState("32-bit", {"eip": 0}),), Node("n", 0, 0))


# ---- bands ---------------------------------------------------------------------------------------------------


def test_regions_lie_on_the_ground_and_breaks_are_in_between():
    usable = Region("usable", Use.RAM, Range(0x1000, 0x5000))
    space = AddressSpace("s", (region(0x2000, 0x3000, "k"), region(0x8000, 0x9000, "m")), (usable,), "nothing")
    assert bands(space) == [
        (0x1000, 0x2000, "usable", Use.RAM, Use.RAM),
        (0x2000, 0x3000, "k", Use.KERNEL, Use.RAM),
        (0x3000, 0x5000, "usable", Use.RAM, Use.RAM),
        (0x5000, 0x8000, "nothing", None, None),
        (0x8000, 0x9000, "m", Use.KERNEL, None),
    ]


def test_the_smaller_of_two_regions_is_seen():
    space = AddressSpace(
        "s", (region(0, 0x9000, "all"), region(0x3000, 0x4000, "in"), region(0x3800, 0x3900, "deep"))
    )
    assert [(start, end, name) for start, end, name, _, _ in bands(space)] == [
        (0, 0x3000, "all"),
        (0x3000, 0x3800, "in"),
        (0x3800, 0x3900, "deep"),
        (0x3900, 0x4000, "in"),
        (0x4000, 0x9000, "all"),
    ]


def test_less_than_a_page_between_others_is_padding():
    usable = Region("usable", Use.RAM, Range(0, 0x9C00))
    odd = Region("reserved", Use.RESERVED, Range(0x9C00, 0xA000))  # small, but all of it
    space = AddressSpace(
        "s", (region(0x1000, 0x1FFF), region(0x2000, 0x2001), region(0x2010, 0x3000)), (usable, odd)
    )
    drawn = lay_out(space).bands
    assert [(band.range.start, band.padding) for band in drawn] == [
        (0, False),
        (0x1000, False),
        (0x1FFF, True),
        (0x2000, False),
        (0x2001, True),
        (0x2010, False),
        (0x3000, False),
        (0x9C00, False),
    ]
    assert len(list(chart_lines(space, Style()))) == 1 + 6
    without_ground = AddressSpace("s", (region(0, 16), region(32, 48), region(0x2000, 0x2001)))
    assert [band.padding for band in lay_out(without_ground).bands] == [False, True, False, False, False]


def test_in_overlapping_maps_what_is_not_ram_wins():
    entries = (region(0, 0x9000, "usable", Use.RAM), region(0x3000, 0x4000, "reserved", Use.RESERVED))
    assert [name for _, _, name, _, _ in bands(AddressSpace("s", (), entries))] == ["usable", "reserved", "usable"]
    assert ground(QEMU_96M)[0].use is Use.RAM
    assert ground(None) == ()


def test_only_the_largest_of_many_are_drawn():
    many = tuple(region(n << 20, (n << 20) + 0x1000 + n) for n in range(MAX_REGIONS + 7))
    drawn = lay_out(AddressSpace("s", many))
    assert drawn.omitted == 7
    assert drawn.bands[0].range.start == 7 << 20
    assert "7 smaller ones are not shown" in list(chart_lines(AddressSpace("s", many), Style()))[-1]


RANGES = st.tuples(st.integers(0, 64), st.integers(0, 64)).map(lambda pair: Range(min(pair) << 40, max(pair) << 40))
REGIONS = st.lists(
    st.builds(Region, st.sampled_from(["a", "b" * 99, "<&\"'\x00é\udcff"]), st.sampled_from(Use), RANGES),
    max_size=12,
).map(tuple)
SPACES = st.builds(AddressSpace, st.just("space"), REGIONS, REGIONS, st.sampled_from(["", "no memory"]))


@settings(deadline=None)
@given(SPACES)
def test_bands_neither_overlap_nor_leave_anything_out(space):
    drawn = lay_out(space).bands
    assert all(before.range.end == after.range.start for before, after in pairwise(drawn))
    assert all(band.range for band in drawn)
    covered = [item.range for item in (*space.regions, *space.ground) if item.range]
    for band in drawn:
        assert (band.use is not None) == any(span.covers(band.range) for span in covered)
        assert 0 <= band.weight <= 1
    for span in covered:
        assert drawn[0].range.start <= span.start and span.end <= drawn[-1].range.end


# ---- terminal ------------------------------------------------------------------------------------------------


def test_chart_line_by_line():
    space = AddressSpace(
        "physical memory",
        (region(0x1000, 0x2000, "boot\x1b[2J", Use.INFO), region(MIB, 2 * MIB, "kernel")),
        (Region("usable", Use.RAM, Range(0, 0x2000)),),
        "no memory",
    )
    assert list(chart_lines(space, Style(unicode=False))) == [
        "physical memory",
        "  0x000000 0x001000  .....                   4096 B  usable",
        "  0x001000 0x002000  #####                   4096 B  boot\\x1b[2J",
        "                     :                   1016.0 KiB  no memory",
        "  0x100000 0x200000  #########              1.0 MiB  kernel",
    ]


# ---- pictures ------------------------------------------------------------------------------------------------


def texts(root: ET.Element) -> list[tuple[float, float, str, str]]:
    """(x, y, class, text) of each text, sorted by column."""
    found = []
    for text in root.iter(f"{SVG}text"):
        x, y = float(text.get("x", "0")), float(text.get("y", "0"))
        found.append((x, y, text.get("class", ""), "".join(text.itertext())))
    return found


def check_picture(drawn: str, columns: int) -> None:
    """What makes a picture legible: texts apart, within its width, every label behind its bar."""
    root = ET.fromstring(drawn)
    assert root.get("width") == "800"
    height = float(root.get("height", "0"))
    places = [item for item in texts(root) if item[2] not in ("title", "space")]
    rows: dict[float, list[float]] = {}
    for x, y, _, _ in places:
        rows.setdefault(x, []).append(y)
        assert 0 < x < 800 and 0 < y < height
    for ys in rows.values():
        assert all(after - before >= 12 for before, after in pairwise(sorted(ys)))  # of 11 and 12 px
    for x, _, kind, text in places:
        width = 6.7 * len(text)
        assert (x - width > 0) if kind == "address" else (kind == "small" or x + width < 800 + 13)
    assert len([item for item in texts(root) if item[2] == "space"]) == columns


@settings(deadline=None)
@given(st.lists(SPACES, min_size=1, max_size=2), st.text())
def test_labels_never_meet_whatever_is_drawn(spaces, title):
    drawn = svg.draw(outline(*spaces, title=title))
    assert drawn.isascii()
    check_picture(drawn, len(spaces))


def test_nothing_of_a_name_is_markup_and_nothing_refers_outside():
    space = AddressSpace("s", (region(0, TOP, '<script>&"\x01\x7f'),))
    drawn = svg.draw(outline(space, title="</title><script>alert(1)</script>"))
    assert "<script" not in drawn
    assert set(re.findall(r"url\(([^)]*)\)|\b(?:href|src)=", drawn)) <= {"#spare", "#reserved", ""}
    assert re.findall(r"https?://[^\"]*", drawn) == ["http://www.w3.org/2000/svg"]
    labels = [text for _, _, _, text in texts(ET.fromstring(drawn))]
    assert '<script>&"\\x01\\x7f16.0 EiB' in labels


def test_the_same_plan_gives_the_same_picture():
    space = AddressSpace("s", (region(0x1000, 0x2000),), ground(QEMU_96M))
    assert svg.draw(outline(space)) == svg.draw(outline(space))
