"""bzip2: ``BZh``, the block size as a digit, blocks of bits; streams one after another."""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.formats.streams import Pieces, Tail, decode
from mbtool.model import Field, Finding, Hex
from mbtool.source import Source

MAGIC = b"BZh"
BLOCK, END = bytes.fromhex("314159265359"), bytes.fromhex("177245385090")
"""Either follows the digit: a block begins, or the stream is empty."""
HEAD = 10


def starts(head: bytes) -> bool:
    """Is this a stream's start? The magic alone would take plain text for one."""
    return head[:3] == MAGIC and head[3:4] in b"123456789" and head[4:HEAD] in (BLOCK, END)


def header(source: Source) -> Iterator[Field | Finding]:
    """The header's digit, and the checksum behind it: the first block's (the stream's when it is empty)."""
    data = source.exact(0, HEAD + 4, "bzip2 header")
    yield Field("magic", data[:3], 0, 3, "", data[:3])
    yield Field("level", data[3] - 0x30, 3, 1, f"blocks of {data[3] - 0x30}00000 bytes", data[3:4])
    crc = Hex(int.from_bytes(data[HEAD:], "big"))
    yield Field("block_crc" if data[4:HEAD] == BLOCK else "stream_crc", crc, HEAD, 4, "", data[HEAD:])


def open_member(source: Source, at: int) -> Pieces | None:
    """The content of the stream at ``at``, checked against its CRCs."""
    if not starts(source.read(at, HEAD)):
        return None
    from bz2 import BZ2Decompressor

    return decode(source, at, BZ2Decompressor, OSError)


def tail(source: Source, size: int, end: int | None) -> Tail:
    """Nothing: the end is not aligned to a byte, and says no size."""
    return Tail()
