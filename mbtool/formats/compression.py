"""Compressed streams: found by their magic, shown with their headers, opened as sources.

The content of such a node is the decompressed stream. A Linux kernel's payload carries four more bytes behind the
stream: the unpacked size (scripts/Makefile.lib, ``size_append``); gzip's own last word says the same.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from mbtool.errors import FormatError, LimitError
from mbtool.formats import codecs
from mbtool.formats.context import Context
from mbtool.model import Field, Finding, Hex, Node, Severity
from mbtool.source import MIB, Budget, Source, StreamSource

DRAIN = 4 * MIB
"""Packed streams up to this size are always unpacked to their end: it takes a few hundredths of a second."""


@dataclass(frozen=True, slots=True)
class Codec:
    """A kind of stream: its magics, its decoder, what its header says."""

    kind: str
    magics: tuple[bytes, ...]
    unpack: Callable[[Source], codecs.Pieces]
    fields: Callable[[bytes], list[Field]]


def detect(head: bytes) -> str | None:
    """The kind of stream that begins with these bytes (at least 16), None when it is none."""
    codec = _codec(head)
    return codec.kind if codec else None


def reject(source: Source) -> str:
    """Why this is no compressed stream ("" when it is one)."""
    return "" if _codec(source.read(0, 16)) else "no magic of gzip, xz, lzma, bzip2, lzo, lz4 or zstd at the start"


def open_stream(source: Source, budget: Budget) -> StreamSource:
    """The decompressed stream. FormatError when the source does not begin with a known magic."""
    codec = _codec(source.read(0, 16))
    if codec is None:
        raise FormatError(reject(source), source=source.name, offset=0)
    return StreamSource(lambda: codec.unpack(source), f"{source.name}:{codec.kind}", budget)


def inspect(source: Source, context: Context) -> Node:
    """The stream as a node, its content below it."""
    head = source.read(0, 1024)
    codec = _codec(head)
    assert codec is not None, "inspect is called for what reject lets pass"
    stream = open_stream(source, context.budget)
    child = context.inside(stream, 0)
    size = source.size
    if context.full or size <= DRAIN:
        stream.drain()
    fields = [*codec.fields(head), Field("compressed_size", size, telling=True)]
    findings = []
    if stream.damage is not None:
        limit = isinstance(stream.damage, LimitError)
        findings.append(Finding.of(stream.damage, "LIMIT" if limit else "STREAM-DAMAGED"))
    appended = source.read(size - 4, 4) if size >= 4 else b""
    word = int.from_bytes(appended, "little")
    if stream.ended:
        fields.append(Field("uncompressed_size", stream.at_hand, telling=True))
        if stream.damage is None:
            trailing = size - stream.packed
            if trailing == 4 and word == stream.at_hand & 0xFFFFFFFF:
                fields.append(_appended(word, size, appended))
            elif trailing > 0:
                fields.append(Field("trailing_bytes", trailing, stream.packed, trailing))
                if any(source.read(stream.packed, MIB)):
                    findings.append(
                        Finding(
                            "TRAILING-BYTES",
                            Severity.WARNING,
                            f"{trailing} bytes follow the stream",
                            offset=stream.packed,
                        )
                    )
    else:
        fields.append(Field("unpacked", stream.at_hand, meaning="only as far as needed", telling=True))
        if codec.kind != "gzip" and stream.at_hand <= word <= size * context.budget.limits.max_ratio:
            fields.append(_appended(word, size, appended))
    return Node(codec.kind, 0, size, tuple(fields), (child,), tuple(findings))


def _appended(word: int, size: int, raw: bytes) -> Field:
    return Field("appended_size", word, size - 4, 4, "uncompressed size, appended by the kernel's build", raw, True)


def _gzip_fields(head: bytes) -> list[Field]:
    _, method, flags, mtime, extra, system = struct.unpack_from("<HBBIBB", head.ljust(10, b"\0"))
    fields = [
        Field("CM", method, 2, 1, "deflate" if method == 8 else "unknown", head[2:3]),
        Field("FLG", Hex(flags), 3, 1, "", head[3:4]),
        Field("MTIME", mtime, 4, 4, "" if mtime else "none", head[4:8]),
        Field("XFL", extra, 8, 1, {2: "best", 4: "fastest"}.get(extra, ""), head[8:9]),
        Field("OS", system, 9, 1, {3: "Unix", 255: "unknown"}.get(system, ""), head[9:10]),
    ]
    at = 10
    if flags & 4:
        at += 2 + int.from_bytes(head[10:12], "little")
    if flags & 8 and b"\0" in head[at:]:
        raw = head[at : head.index(b"\0", at)]
        fields.append(Field("NAME", raw.decode("latin-1"), at, len(raw), "", raw, True))
    return fields


def _xz_fields(head: bytes) -> list[Field]:
    check = head[7] & 15 if len(head) > 7 else 0
    names = {0: "none", 1: "CRC32", 4: "CRC64", 10: "SHA-256"}
    fields = [Field("check", check, 7, 1, names.get(check, "unknown"), head[7:8], True)]
    filters = []
    at = 14
    if len(head) > 14 and head[12]:
        flags = head[13]
        known = {4: "x86 BCJ", 0x21: "LZMA2", 3: "delta"}
        for _ in range((flags & 3) + 1):
            if at + 2 > len(head):
                break
            filters.append(known.get(head[at], f"{head[at]:#x}"))
            at += 2 + head[at + 1]
        fields.append(Field("filters", tuple(filters), 14, None, "", b"", True))
    return fields


def _lzma_fields(head: bytes) -> list[Field]:
    size = int.from_bytes(head[5:13], "little")
    return [
        Field("dictionary_size", int.from_bytes(head[1:5], "little"), 1, 4, "bytes", head[1:5]),
        Field("stored_size", None if size == 0xFFFFFFFFFFFFFFFF else size, 5, 8, "", head[5:13]),
    ]


def _lzo_fields(head: bytes) -> list[Field]:
    try:
        _, values = codecs.lzop_header(head)
    except FormatError:
        return []
    return [Field(name, value) for name, value in values.items()]


def _lz4_fields(head: bytes) -> list[Field]:
    legacy = head[:4] == codecs.LZ4_LEGACY
    return [Field("format", "legacy" if legacy else "frame", 0, 4, "", head[:4], True)]


def _bzip2_fields(head: bytes) -> list[Field]:
    level = head[3] - 0x30 if len(head) > 3 else 0
    return [Field("block_size", level * 100_000, 3, 1, "bytes", head[3:4])]


def _nothing(head: bytes) -> list[Field]:
    return []


CODECS = (
    Codec("gzip", (b"\x1f\x8b\x08",), codecs.gzip, _gzip_fields),
    Codec("xz", (b"\xfd7zXZ\0",), codecs.xz, _xz_fields),
    Codec("bzip2", (b"BZh",), codecs.bzip2, _bzip2_fields),
    Codec("lzo", (codecs.LZOP,), codecs.lzo, _lzo_fields),
    Codec("lz4", (codecs.LZ4_LEGACY, codecs.LZ4_FRAME), codecs.lz4, _lz4_fields),
    Codec("zstd", (b"\x28\xb5\x2f\xfd",), codecs.zstd, _nothing),
    Codec("lzma", (b"\x5d\0\0",), codecs.lzma, _lzma_fields),
)


def _codec(head: bytes) -> Codec | None:
    return next((codec for codec in CODECS if head.startswith(codec.magics)), None)
