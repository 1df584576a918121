"""Runs of numbers that count upwards or downwards, as little-endian bytes: page-table entries, P2M entries.

All of a piece are one large integer: ``0, step, 2 * step, …`` in place, and the first value added to every place.
That takes a fifth of the time of making the numbers one by one.
"""

from __future__ import annotations

from functools import cache

PIECE = 512
"""Numbers made at a time, at most."""


@cache
def _pattern(count: int, word: int, step: int) -> tuple[int, int]:
    """1 in every place; and ``0, step, 2 * step, …``."""
    ones = sum(1 << 8 * word * i for i in range(count))
    return ones, sum(step * i << 8 * word * i for i in range(count))


def counted(first: int, count: int, *, step: int = 1, word: int = 8) -> bytes:
    """``first``, ``first + step``, …: ``count`` (at most PIECE) words of ``word`` bytes.

    Every value must be 0 or more and fit into a word.
    """
    assert count <= PIECE
    size = 8 * word
    if step < 0:
        last = (1 << size) - 1  # counting upwards, turned over: no place borrows from the next
        ones, steps = _pattern(PIECE, word, -step)
        number = last * ones - ((last - first) * ones + steps)
    else:
        ones, steps = _pattern(PIECE, word, step)
        number = first * ones + steps
    return (number & (1 << size * count) - 1).to_bytes(word * count, "little")
