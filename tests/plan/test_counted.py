"""Runs of numbers, beside ``struct`` packing them one by one."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.plan.counted import PIECE, counted


@given(
    st.sampled_from([4, 8]), st.sampled_from([1, -1, 4096]), st.integers(0, PIECE), st.integers(0, (1 << 64) - 1)
)
def test_as_packed_one_by_one(word: int, step: int, count: int, first: int) -> None:
    first %= 1 << 8 * word
    values = [first + step * i for i in range(count)]
    if all(0 <= value < 1 << 8 * word for value in values):
        packed = struct.pack(f"<{count}{'Q' if word == 8 else 'I'}", *values)
        assert counted(first, count, step=step, word=word) == packed


@pytest.mark.parametrize("word", [4, 8])
def test_to_the_ends(word: int) -> None:
    top = (1 << 8 * word) - 1
    code = "Q" if word == 8 else "I"
    assert counted(top - 2, 3, word=word) == struct.pack(f"<3{code}", top - 2, top - 1, top)
    assert counted(2, 3, step=-1, word=word) == struct.pack(f"<3{code}", 2, 1, 0)
    assert counted(top, PIECE, step=-1, word=word) == struct.pack(f"<{PIECE}{code}", *range(top, top - PIECE, -1))
