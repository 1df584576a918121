"""gzip (RFC 1952): header, optional parts, deflate data, CRC32 and size; members one after another."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator

from mbtool.errors import FormatError
from mbtool.formats.streams import Pieces, Tail, decode
from mbtool.formats.wire import Layout, choice_names, flag_names
from mbtool.formats.wire_plain import Bytes, Int8ul, Int32ul, Struct
from mbtool.model import Field, Finding, Severity
from mbtool.record import record
from mbtool.source import Source

MAGIC = b"\x1f\x8b\x08"
"""ID1, ID2 and the only compression method there is."""
FHCRC, FEXTRA, FNAME, FCOMMENT = 2, 4, 8, 16
MAX_TEXT = 4096
"""Bytes of a name or comment that are looked at."""


@record
class GzipHeader:
    """The fixed part of a member's header. ``mtime`` in seconds since 1970, 0 when unknown."""

    flg: int = 0
    mtime: int = 0
    xfl: int = 0
    os: int = 255
    cm: int = 8


@record
class GzipTrailer:
    """What follows a member's data: CRC32 of the content and its size modulo 2**32."""

    crc32: int
    isize: int


def date(seconds: int) -> str:
    """A time in seconds since 1970 in words, "" for 0, which stands for unknown."""
    if not seconds:
        return ""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return "no date"


HEADER = Layout(
    GzipHeader,
    Struct("id" / Bytes(2), "cm" / Int8ul, "flg" / Int8ul, "mtime" / Int32ul, "xfl" / Int8ul, "os" / Int8ul),
    hex={"flg"},
    meanings={
        "cm": choice_names({8: "deflate"}),
        "flg": flag_names({0: "FTEXT", 1: "FHCRC", 2: "FEXTRA", 3: "FNAME", 4: "FCOMMENT"}),
        "mtime": date,
        "xfl": choice_names({2: "best compression", 4: "fastest"}, ""),
        "os": choice_names({0: "FAT", 3: "Unix", 7: "Macintosh", 10: "TOPS-20", 11: "NTFS", 255: "unknown"}),
    },
    computed={"id": lambda header: MAGIC[:2]},
)
TRAILER = Layout(
    GzipTrailer,
    Struct("crc32" / Int32ul, "isize" / Int32ul),
    hex={"crc32"},
    meanings={"isize": lambda size: "uncompressed size of the last member, modulo 2**32"},
)


def header(source: Source) -> Iterator[Field | Finding]:
    """All fields of the first member's header."""
    data = source.exact(0, HEADER.size, "gzip header")
    yield from HEADER.fields(data)
    flags = data[3]
    at = HEADER.size
    if flags & FEXTRA:
        raw = source.exact(at, 2, "gzip extra field")
        size = int.from_bytes(raw, "little")
        yield Field("xlen", size, at, 2, "", raw)
        raw = source.exact(at + 2, size, "gzip extra field")
        yield Field("extra", raw, at + 2, size, "", raw)
        at += 2 + size
    for flag, name in ((FNAME, "name"), (FCOMMENT, "comment")):
        if flags & flag:
            raw, found, _ = source.read(at, MAX_TEXT).partition(b"\0")
            if not found:
                raise FormatError(f"gzip {name} does not end", source=source.name, offset=at)
            yield Field(name, raw.decode("latin-1"), at, len(raw) + 1, "", raw + found, telling=flag == FNAME)
            at += len(raw) + 1
    if flags & FHCRC:
        raw = source.exact(at, 2, "gzip header CRC")
        yield Field("crc16", int.from_bytes(raw, "little"), at, 2, "", raw)
    if flags >> 5:
        yield Finding("GZIP-RESERVED-FLAGS", Severity.ERROR, "reserved flags are set", "flg", 3)


class Inflate:
    """zlib's decompressor for one gzip member, in the standard library's common form."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._zlib.decompress(data or self._zlib.unconsumed_tail, max_length)


def open_member(source: Source, at: int) -> Pieces | None:
    """The content of the member at ``at``, checked against its CRC32 and size."""
    return decode(source, at, Inflate, zlib.error) if source.read(at, len(MAGIC)) == MAGIC else None


def tail(source: Source, size: int, end: int | None) -> Tail:
    """The last member's trailer, taken to be the last 8 bytes when the stream's end is not known."""
    at = (size if end is None else end) - TRAILER.size
    if at < HEADER.size:
        return Tail()
    return Tail(fields=TRAILER.fields(source.read(at, TRAILER.size), base=at))
