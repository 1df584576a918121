"""xz: stream header, blocks with their filters, index, footer; streams one after another, zeros between them.

Source: xz, doc/xz-file-format.txt, version 1.2.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

from mbtool.errors import FormatError
from mbtool.formats.streams import MAX_MEMORY, Pieces, Tail, decode
from mbtool.formats.wire import Layout, choice_names
from mbtool.formats.wire_plain import Bytes, Int8ul, Int32ul, Struct
from mbtool.model import Field, Finding
from mbtool.record import record
from mbtool.source import MIB, Source

MAGIC, FOOTER_MAGIC = b"\xfd7zXZ\0", b"YZ"
MAX_INDEX = MIB
"""An index larger than this (some 100000 blocks) is not read."""
MAX_FILTERS = 4
CHECKS = {0: "none", 1: "CRC32", 4: "CRC64", 10: "SHA-256"}
FILTERS = {
    0x03: "delta",
    0x04: "x86",
    0x05: "powerpc",
    0x06: "ia64",
    0x07: "arm",
    0x08: "armthumb",
    0x09: "sparc",
    0x0A: "arm64",
    0x0B: "riscv",
    0x21: "lzma2",
}
LZMA2 = 0x21


@record
class StreamHeader:
    """The 12 bytes at a stream's start. ``check``: what guards the content of a block."""

    check: int
    reserved: int = 0


@record
class StreamFooter:
    """The 12 bytes at a stream's end. The index in front of it takes (``backward_size`` + 1) * 4 bytes."""

    backward_size: int
    check: int
    reserved: int = 0


HEADER = Layout(
    StreamHeader,
    Struct("magic" / Bytes(6), "reserved" / Int8ul, "check" / Int8ul, "crc32" / Int32ul),
    hex={"crc32"},
    telling={"check"},
    meanings={"check": choice_names(CHECKS)},
    computed={
        "magic": lambda header: MAGIC,
        "crc32": lambda header: zlib.crc32(bytes((header.reserved, header.check))),
    },
)
FOOTER = Layout(
    StreamFooter,
    Struct("crc32" / Int32ul, "backward_size" / Int32ul, "reserved" / Int8ul, "check" / Int8ul, "magic" / Bytes(2)),
    hex={"crc32"},
    computed={
        "crc32": lambda footer: zlib.crc32(
            footer.backward_size.to_bytes(4, "little") + bytes((footer.reserved, footer.check))
        ),
        "magic": lambda footer: FOOTER_MAGIC,
    },
)


def number(data: bytes, at: int) -> tuple[int, int]:
    """The number of 1 to 9 bytes at ``data[at:]`` and the offset behind it (1.2, "Multibyte Integers")."""
    value = 0
    for index, byte in enumerate(data[at : at + 9]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise FormatError("a number does not end", offset=at)


def header(source: Source) -> Iterator[Field | Finding]:
    """The stream header's fields, and the first block's filters and dictionary size."""
    yield from HEADER.fields(source.exact(0, HEADER.size, "xz stream header"))
    start = HEADER.size
    size = 4 * (source.exact(start, 1, "xz block header")[0] + 1)
    if size > 4:  # else the index follows: the stream is empty
        yield from _block_fields(source.exact(start, size, "xz block header"), start)


def headers_sound(source: Source) -> bool:
    """Whether the checksums of the stream header and of the first block's header are right (2.1.1.3, 3.1.7)."""
    head = source.read(0, HEADER.size + 1)
    if len(head) <= HEADER.size:
        return False
    block = source.read(HEADER.size, 4 * (head[-1] + 1))
    checked = [(head[6:8], head[8:12]), *([(block[:-4], block[-4:])] if head[-1] else [])]
    return all(zlib.crc32(data) == int.from_bytes(crc, "little") for data, crc in checked)


def _block_fields(data: bytes, base: int) -> Iterator[Field]:
    """What a block header (3.1) at offset ``base`` says of its content."""
    at = 2
    for flag, name in ((0x40, "block_compressed_size"), (0x80, "block_uncompressed_size")):
        if data[1] & flag:
            value, end = number(data, at)
            yield Field(name, value, base + at, end - at, "", data[at:end])
            at = end
    start, names, dictionary = at, [], None
    for _ in range((data[1] & MAX_FILTERS - 1) + 1):
        code, at = number(data, at)
        size, at = number(data, at)
        names.append(FILTERS.get(code, f"{code:#x}"))
        if code == LZMA2 and size == 1 and at < len(data):
            bits = data[at] & 0x3F
            value = min((2 | bits & 1) << bits // 2 + 11, 0xFFFFFFFF)
            dictionary = Field("dict_size", value, base + at, 1, "", data[at : at + 1], telling=True)
        at += size
    meaning = "x86 branch filter, then LZMA2" if names == ["x86", "lzma2"] else ""
    raw = data[start:at]
    yield Field("filters", tuple(names), base + start, len(raw), meaning, raw, telling=True)
    if dictionary:
        yield dictionary


def open_member(source: Source, at: int) -> Pieces | None:
    """The content of the stream at ``at``, or behind the stream padding there (2.2: a multiple of four zeros)."""
    if at and source.read(at, 4) == bytes(4):
        at = _padding_end(source, at)
    if source.read(at, len(MAGIC)) != MAGIC:
        return None
    lzma = _library()
    return decode(source, at, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_MEMORY), lzma.LZMAError)


def _library() -> ModuleType:
    """Python's lzma module, or lzma_mt, which is the same with a liblzma of its own: one that is a quarter faster.

    Python's uses that of the system, and before 5.6 liblzma decodes in C alone.
    """
    try:
        return import_module("lzma_mt")
    except ImportError:
        return import_module("lzma")


def _padding_end(source: Source, at: int) -> int:
    for piece in source.chunks(at):
        if rest := piece.lstrip(b"\0"):
            return at + (len(piece) - len(rest)) // 4 * 4
        at += len(piece)
    return at


def tail(source: Source, size: int, end: int | None) -> Tail:
    """Footer and index of the last stream; in a kernel's payload four more bytes follow it.

    The uncompressed size is told when there is one stream only.
    """
    for behind in (0, 4) if end is None else (size - end,):
        stop = size - behind
        at = stop - FOOTER.size
        raw = source.read(at, FOOTER.size)
        if at < HEADER.size or raw[-2:] != FOOTER_MAGIC:
            continue
        try:
            footer = FOOTER.parse(raw, source=source.name, base=at)
            start, count, total = _index(source, at, 4 * (footer.backward_size + 1))
        except FormatError:
            continue
        fields = (
            Field("blocks", count),
            FOOTER.field("backward_size", footer.backward_size, raw[4:8], at + 4),
        )
        return Tail(stop, 1, total, fields) if start == 0 else Tail(stop, None, None, fields)
    return Tail()


def _index(source: Source, footer: int, size: int) -> tuple[int, int, int]:
    """(start of the stream, number of blocks, their uncompressed size) from the index (4) before ``footer``."""
    if size > min(MAX_INDEX, footer):
        raise FormatError("the index is too large", source=source.name, offset=footer)
    data = source.exact(footer - size, size, "xz index")
    if data[0] or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise FormatError("the index is damaged", source=source.name, offset=footer - size)
    count, at = number(data, 1)
    packed = total = 0
    for _ in range(min(count, size // 2)):
        unpadded, at = number(data, at)
        uncompressed, at = number(data, at)
        packed += unpadded + 3 & ~3
        total += uncompressed
    return footer - size - packed - HEADER.size, count, total
