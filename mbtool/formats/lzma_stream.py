"""LZMA alone (the format of ``lzma`` and ``xz --format=lzma``): 13 bytes of header, then the data.

Source: xz, doc/lzma-file-format.txt.
"""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.formats.streams import MAX_MEMORY, Pieces, Tail, decode
from mbtool.formats.wire import Layout
from mbtool.formats.wire_plain import Int8ul, Int32ul, Int64ul, Struct
from mbtool.model import Field, Finding
from mbtool.record import record
from mbtool.source import Source

MAGIC = b"\x5d\0"
"""No magic, but what everybody looks for: lc=3 lp=0 pb=2, and a dictionary that is a multiple of 256 bytes."""
UNKNOWN = (1 << 64) - 1
MAX_SIZE = 1 << 38
"""liblzma takes a larger size as a sign that this is something else."""


@record
class LzmaHeader:
    """``properties``: (pb * 5 + lp) * 9 + lc. Sizes in bytes; ``unpack_size`` UNKNOWN: a marker ends the data."""

    properties: int
    dict_size: int
    unpack_size: int = UNKNOWN


HEADER = Layout(
    LzmaHeader,
    Struct("properties" / Int8ul, "dict_size" / Int32ul, "unpack_size" / Int64ul),
    hex={"properties"},
    telling={"dict_size"},
    meanings={
        "properties": lambda value: f"lc={value % 9} lp={value // 9 % 5} pb={value // 45}",
        "unpack_size": lambda size: "not known: the data ends with a marker" if size == UNKNOWN else "",
    },
)


def starts(head: bytes) -> bool:
    """Is this a stream's start? As liblzma decides: a dictionary of 2**n or 2**n + 2**(n-1), a size that can be."""
    if head[:2] != MAGIC or len(head) < HEADER.size:
        return False
    value = HEADER.parse(head)
    size = value.dict_size
    rest = size & size - 1
    usual = size >= 4096 and (rest == 0 or rest * 3 == size * 2)
    return usual and (value.unpack_size == UNKNOWN or value.unpack_size < MAX_SIZE)


def header(source: Source) -> Iterator[Field | Finding]:
    """The header's fields."""
    yield from HEADER.fields(source.exact(0, HEADER.size, "LZMA header"))


def open_member(source: Source, at: int) -> Pieces | None:
    """The content; only the start of the source can be one, nothing else tells such a stream."""
    if at != 0 or not starts(source.read(at, HEADER.size)):
        return None
    import lzma

    def start() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MAX_MEMORY)

    return decode(source, at, start, lzma.LZMAError)


def tail(source: Source, size: int, end: int | None) -> Tail:
    """The size that the header gives, if any."""
    stated = HEADER.read(source, 0).unpack_size
    return Tail(uncompressed_size=None if stated == UNKNOWN else stated)
