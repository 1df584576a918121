"""A gzip file that unpacks to itself, put together from the rules of deflate (RFC 1951).

Two commands of five bytes each: ``literal(n)`` is a stored block of the n bytes that follow, ``repeat(n)`` a block
with fixed codes that copies the last n bytes. The idea of printing each pair of commands with the other is
R. Cox, "Zip Files All The Way Down".
"""

from __future__ import annotations

import zlib
from struct import pack

HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
CODES = {9: (263, 0), 10: (264, 0), 4: (258, 0), 11: (265, 1)}
"""Length of a copy: its symbol and how many extra bits follow, all 0 (RFC 1951, 3.2.5)."""
DISTANCES = {15: (7, 2, 2), 18: (8, 3, 1), 20: (8, 3, 3)}
"""Distance: its symbol, number of extra bits, their value."""


def literal(size: int) -> bytes:
    return pack("<BHH", 0, size, ~size & 0xFFFF)


def repeat(size: int) -> bytes:
    """Two copies of half the size each; the last bits of the five bytes begin the stored block that follows."""
    bits = "010"  # not the last block, fixed codes (01, low bit first)
    symbol, extra, value = DISTANCES[size]
    for length in (11, 4) if size == 15 else (size // 2, size // 2):
        code, zeros = CODES[length]
        bits += f"{code - 256:07b}" + "0" * zeros + f"{symbol:05b}" + f"{value:0{extra}b}"[::-1]
    bits += "0000000"  # end of block
    assert 37 < len(bits) <= 40
    return int(bits[::-1], 2).to_bytes(5, "little")


def attempt(crc: int) -> bytes:
    """The file with this CRC in it, right or not."""
    size = 0
    while True:
        trailer = b"\x01\0\0\xff\xff" + pack("<II", crc, size)
        l0, l5, l15, l18, l20 = (literal(n) for n in (0, 5, 15, 18, 20))
        r15, r18, r20 = repeat(15), repeat(18), repeat(20)
        whole = b"".join(
            (
                HEADER,
                *(l15, HEADER, l15, r15, l5, r15, l5, l5),
                *(l20, r15, l5, l5, l20, r20),
                *(l20, r20, l20, r20, l20, r20),
                *(l20, r20, l0, l0, l18, r20),
                *(l0, l0, l18, r18, trailer, r18, trailer),
            )
        )
        if size == len(whole):
            return whole
        size = len(whole)


def quine() -> bytes:
    """The file whose CRC is its own. The CRC is an affine map of the 32 bits written in it: solve for them."""
    constant = zlib.crc32(attempt(0))
    rows = [0] * 32  # bit 32 of a row is its right-hand side
    for column in range(32):
        image = zlib.crc32(attempt(1 << column)) ^ constant ^ 1 << column
        for row in range(32):
            rows[row] |= (image >> row & 1) << column
    for row in range(32):
        rows[row] |= (constant >> row & 1) << 32
    solved: list[int] = []
    for column in range(32):
        pivot = next(row for row in rows if row >> column & 1)
        rows = [row ^ pivot if row >> column & 1 else row for row in rows if row is not pivot]
        solved = [row ^ pivot if row >> column & 1 else row for row in solved] + [pivot]
    return attempt(sum((row >> 32 & 1) << column for column, row in enumerate(solved)))
