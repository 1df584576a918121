"""Ranges and page arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.errors import InputError
from mbtool.plan.memory import PAGE, TOP, Range, down, order_of, overlapping, pages_of, slots, up

ADDRESS = st.integers(0, TOP)


@pytest.mark.parametrize(("start", "end"), [(2, 1), (-1, 1), (0, TOP + 1), (TOP + 1, TOP + 1)])
def test_impossible_ranges_are_refused(start: int, end: int) -> None:
    with pytest.raises(InputError):
        Range(start, end)


def test_limits() -> None:
    assert Range(0, TOP).size == TOP
    assert not Range(TOP, TOP)
    assert str(Range.at(0x1000, 0x234)) == "[0x1000, 0x1234)"
    with pytest.raises(InputError):
        Range.at(TOP - 1, 2)
    with pytest.raises(InputError):
        Range(PAGE, PAGE).shifted(-PAGE - 1)
    with pytest.raises(InputError):
        up(TOP - 1, 1 << 65)


@pytest.mark.parametrize(
    ("size", "order"),
    [
        (0, 0),
        (1, 0),
        (PAGE, 0),
        (PAGE + 1, 1),
        (2 * PAGE, 1),
        (2 * PAGE + 1, 2),
        (4 << 20, 10),
        ((4 << 20) + 1, 11),
    ],
)
def test_order_of(size: int, order: int) -> None:
    assert order_of(size) == order


@pytest.mark.parametrize(
    ("start", "end", "shift", "count"),
    [(0, 1, 21, 1), (0, 1 << 21, 21, 1), (0, (1 << 21) + 1, 21, 2), ((1 << 21) - 1, (1 << 21) + 1, 21, 2),
     (TOP - 1, TOP, 39, 1), (0xFFFF_FFFF_8000_0000, 0xFFFF_FFFF_84C0_0000, 21, 38)],
)  # fmt: skip
def test_slots(start: int, end: int, shift: int, count: int) -> None:
    assert slots(Range(start, end), shift) == count


@given(ADDRESS, ADDRESS, ADDRESS, ADDRESS)
def test_overlap_is_what_a_common_byte_means(a: int, b: int, c: int, d: int) -> None:
    one, two = Range(min(a, b), max(a, b)), Range(min(c, d), max(c, d))
    common = max(one.start, two.start)
    assert one.overlaps(two) == (common in one and common in two) == two.overlaps(one)
    assert one.overlaps(two) == (overlapping([("one", one), ("two", two)]) is not None)
    assert not one.covers(two) or not two or one.overlaps(two)


@given(st.integers(0, TOP - PAGE), st.sampled_from([1 << n for n in range(40)]))
def test_rounding(value: int, align: int) -> None:
    low = down(value, align)
    assert low <= value < low + align
    assert low % align == 0
    if low + align <= TOP:
        assert up(value, align) == (low if low == value else low + align)


@given(st.integers(0, TOP - PAGE), st.integers(0, 1 << 40))
def test_pages_touched(start: int, size: int) -> None:
    size = min(size, TOP - PAGE - start)
    pages = Range.at(start, size).pages
    if size:
        assert pages.start == start // PAGE
        assert pages.stop == (start + size - 1) // PAGE + 1
    else:
        assert Range.at(start, 0).paged() == Range.at(start, 0)
    assert pages_of(size) == -(-size // PAGE)
