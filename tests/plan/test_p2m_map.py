"""The tables for a P2M outside the initial mapping. Frame counts marked (boot) were read from real boots."""

from __future__ import annotations

import pytest

from mbtool.plan.memory import PAGE, Range
from mbtool.plan.p2m_map import LEAF_FLAGS, PSE, TABLE_FLAGS, Hook, map_p2m
from tests.plan.kernels import MIB, SLOT_1, TOP_2G

INITIAL = Range(TOP_2G, TOP_2G + 8 * MIB)
GIB = 1 << 30


@pytest.mark.parametrize(
    ("pages", "frames"),
    [
        (65536, 131),  # (boot) 128 leaves, three tables
        (131072, 259),  # (boot)
        (204800, 403),  # (boot)
        (262144, 514),  # (boot) one 2 MiB leaf, two tables
        (262145, 512 + 1 + 3),
        (1, 4),
        (512, 4),
        (513, 5),
        (4 * 262144, 4 * 512 + 2),
    ],
)
def test_frames(pages: int, frames: int) -> None:
    mapped = map_p2m(Range.at(SLOT_1, pages * 8), INITIAL, 2048, gigabyte_pages=True)
    assert mapped.frames == frames
    assert mapped.hooks == (Hook(39, SLOT_1, TABLE_FLAGS),)


def test_gigabyte_pages() -> None:
    p2m = Range.at(SLOT_1, GIB + 2 * MIB)
    assert map_p2m(p2m, INITIAL, 0, gigabyte_pages=True).frames == 1 + 512 * 512 + 1 + 512
    assert map_p2m(p2m, INITIAL, 0, gigabyte_pages=False).frames == 1 + 1 + 512 * 512 + 1 + 512
    short = Range.at(SLOT_1, GIB - 8)
    assert map_p2m(short, INITIAL, 0, gigabyte_pages=True).frames == 2 + 511 * 512 + 1 + 512


def test_unaligned_base_takes_small_pages_up_to_the_boundary() -> None:
    mapped = map_p2m(Range.at(SLOT_1 + 2 * MIB - PAGE, 2 * MIB + PAGE), INITIAL, 0, gigabyte_pages=True)
    assert mapped.frames == 3 + 1 + 512  # L3, L2, L1, one page; one large page in the next slot
    inside = map_p2m(Range(SLOT_1 + 1, SLOT_1 + PAGE + 1), INITIAL, 0, gigabyte_pages=True)
    assert inside.frames == 3 + 2


def test_several_l3() -> None:
    """Over a 512 GiB boundary: a second L3."""
    mapped = map_p2m(Range(2 * SLOT_1 - 2 * MIB, 2 * SLOT_1 + 2 * MIB), INITIAL, 0, gigabyte_pages=True)
    assert mapped.frames == 2 * (2 + 512)
    assert [hook.va for hook in mapped.hooks] == [SLOT_1, 2 * SLOT_1]


def test_shared_tables() -> None:
    """Where the initial mapping has a table, only the entry in it is new. All three were compared with boots."""
    below = map_p2m(Range.at(TOP_2G - 4 * GIB, 2 * MIB), INITIAL, 0, gigabyte_pages=False)
    assert below.hooks == (Hook(30, TOP_2G - 4 * GIB, TABLE_FLAGS),)
    assert below.frames == 1 + 512
    beside = map_p2m(Range.at(TOP_2G + 16 * MIB, 2 * MIB + 8), INITIAL, 0, gigabyte_pages=False)
    assert beside.hooks == (
        Hook(21, TOP_2G + 16 * MIB, LEAF_FLAGS | PSE),
        Hook(21, TOP_2G + 18 * MIB, TABLE_FLAGS),
    )
    assert beside.frames == 512 + 2
    initial = Range(TOP_2G + MIB, TOP_2G + 8 * MIB)
    same_l1 = map_p2m(Range.at(TOP_2G, 2 * PAGE), initial, 0, gigabyte_pages=False)
    assert same_l1.hooks == (Hook(12, TOP_2G, LEAF_FLAGS), Hook(12, TOP_2G + PAGE, LEAF_FLAGS))
    assert same_l1.frames == 2


def test_pages_needed() -> None:
    """What is owned, the P2M's pages and three more, once more for each table that is already taken."""
    assert map_p2m(Range.at(SLOT_1, 8), INITIAL, 1024, gigabyte_pages=False).pages_needed == 1024 + 1 + 3
    assert map_p2m(Range.at(SLOT_1, 2 * PAGE), INITIAL, 1024, gigabyte_pages=False).pages_needed == 1024 + 3 + 2 + 3
