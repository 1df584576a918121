"""Memory maps and free places: they lie where memory is, aligned, never twice, and what is too big is said so."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.errors import RefusedError
from mbtool.plan.e820 import E820Entry, E820Map, joined, without
from mbtool.plan.memory import Range
from mbtool.plan.room import Room
from tests.plan.loads import GIB, MIB, QEMU_96M, usable

small = st.builds(lambda a, b: Range(min(a, b), max(a, b)), st.integers(0, 60), st.integers(0, 60))


def bytes_of(spans: Iterable[Range]) -> set[int]:
    return {address for span in spans for address in range(span.start, span.end)}


@given(st.lists(small, max_size=6), small)
def test_joined_and_without_keep_exactly_the_bytes(spans, taken):
    result = joined(spans)
    assert bytes_of(result) == bytes_of(spans)
    assert all(before.end < after.start for before, after in pairwise(result))
    assert bytes_of(without(result, taken)) == bytes_of(spans) - bytes_of([taken])


@given(st.lists(st.tuples(small, st.integers(1, 3)), max_size=6))
def test_anything_but_ram_wins_where_entries_overlap(entries):
    memory = E820Map(tuple(E820Entry(span, kind) for span, kind in entries))
    reserved = bytes_of(span for span, kind in entries if kind != 1)
    assert bytes_of(memory.usable()) == bytes_of(span for span, kind in entries if kind == 1) - reserved


def test_memory_sizes_are_those_that_grub_tells():
    assert QEMU_96M.mem_lower == 0x27F
    assert QEMU_96M.mem_upper == 0x17B80


@pytest.mark.parametrize(
    ("memory", "lower", "upper"),
    [
        (usable(), 0, 0),
        (usable((0, 0xA0000), (MIB, 15 * MIB), (16 * MIB, 64 * MIB)), 640, 14 * 1024),
        (usable((0, 0xB0000)), 640, 0),
        (usable((0, 640 << 10), (MIB, 8 * GIB)), 640, (4 * GIB - MIB) >> 10),
        (usable((MIB, 4 * MIB), (4 * MIB, 8 * MIB)), 0, 7 * 1024),
    ],
)
def test_memory_sizes(memory, lower, upper):
    assert (memory.mem_lower, memory.mem_upper) == (lower, upper)


def test_any_pc_has_low_memory_of_the_stub_and_all_above_1_mib():
    room = Room(None)
    room.take("x", Range(0x30000, 0x80000), "k")
    room.take("x", Range(MIB, 4 * GIB), "k")
    for span in (Range(0x2FFFF, 0x30000), Range(0x80000, 0x80001), Range(MIB - 1, MIB), Range.at(4 * GIB, 1)):
        with pytest.raises(RefusedError, match="no free memory where x goes"):
            Room(None).take("x", span, "k")


def test_the_highest_place_is_only_sought_on_a_known_machine():
    assert Room(None).find("x", 4096, "k", align=4096, highest=True) == MIB
    assert Room(QEMU_96M).find("x", 0x1C10, "k", align=4096, highest=True) == 0x5FDE000
    assert Room(QEMU_96M).find("x", 0x1C10, "k", align=4096) == MIB


def test_too_big_says_by_how_much():
    room = Room(QEMU_96M)
    room.take("the kernel", Range(MIB, 2 * MIB), "k")
    largest = 0x5FE0000 - 2 * MIB
    with pytest.raises(RefusedError, match=f"the thing is too big by 1 bytes; expected at most {largest} bytes"):
        room.find("the thing", largest + 1, "k")
    assert room.find("the thing", largest, "k") == 2 * MIB
    with pytest.raises(RefusedError, match="the next is too big by 5 bytes; expected at most 0 bytes"):
        room.find("the next", 5, "k")


@pytest.mark.parametrize("align", [1, 3, 4096, 5 * MIB, 1 << 33])
def test_any_number_is_an_alignment(align):
    memory = usable((MIB, 2 * MIB + 1), (7 * MIB, 19 * MIB))
    for highest in (False, True):
        try:
            at = Room(memory).find("x", MIB, "k", align=align, highest=highest)
        except RefusedError:
            assert align > 19 * MIB
        else:
            assert at % align == 0
            assert any(span.covers(Range.at(at, MIB)) for span in memory.usable())


@given(
    st.lists(small, max_size=5),
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 7), st.booleans(), small), max_size=6),
)
def test_places_are_free_aligned_and_inside(spans, wanted):
    unit = MIB
    memory = E820Map(tuple(E820Entry(Range(MIB + s.start * unit, MIB + s.end * unit)) for s in spans))
    room = Room(memory)
    taken: list[Range] = []
    for size, align, highest, inside in wanted:
        within = Range(MIB + inside.start * unit, MIB + inside.end * unit)
        try:
            at = room.find("x", size * unit, "k", align=align * unit, within=within, highest=highest)
        except RefusedError:
            assert room.largest(align * unit, within) < size * unit or size == 0
            continue
        place = Range.at(at, size * unit)
        assert within.covers(place)
        assert at % (align * unit) == 0
        assert not place or any(span.covers(place) for span in memory.usable())
        assert not any(place.overlaps(other) for other in taken)
        taken.append(place)
