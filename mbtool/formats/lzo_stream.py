"""LZO in lzop's container, as kernels use it: a header, then blocks of at most 256 KiB with their checksums.

There is no specification. Source: Linux, lib/decompress_unlzo.c; the field names are lzop's.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from struct import unpack_from

from mbtool.errors import MbtoolError, UnsupportedError
from mbtool.formats.gzip_stream import date
from mbtool.formats.streams import MAX_BLOCKS, Pieces, Tail, cut_short, damaged
from mbtool.formats.wire import Meaning, choice_names, flag_names
from mbtool.model import Field, Finding, Hex, Severity
from mbtool.record import record
from mbtool.source import Source

MAGIC = b"\x89LZO\0\r\n\x1a\n"
WIDE_VERSION = 0x0940
"""From this version on: ``version_needed``, ``level`` and ``mtime_high``."""
MAX_BLOCK = 256 * 1024
"""Largest block (bytes unpacked) that lzop makes and that Linux and Xen take (LZO_BLOCK_SIZE)."""
ADLER32_D, ADLER32_C, EXTRA_FIELD, CRC32_D, CRC32_C, FILTER, CRC32_H = 1, 2, 0x40, 0x100, 0x200, 0x800, 0x1000
FLAG_NAMES = flag_names(
    {
        0: "ADLER32_D",
        1: "ADLER32_C",
        2: "STDIN",
        3: "STDOUT",
        4: "NAME_DEFAULT",
        5: "DOSISH",
        6: "H_EXTRA_FIELD",
        7: "H_GMTDIFF",
        8: "CRC32_D",
        9: "CRC32_C",
        10: "MULTIPART",
        11: "H_FILTER",
        12: "H_CRC32",
        13: "H_PATH",
    }
)
FLAG_BITS, SYSTEM_SHIFT = 0x3FFF, 24
METHODS = {1: "LZO1X-1", 2: "LZO1X-1(15)", 3: "LZO1X-999"}


@record
class Header:
    """An lzop header: its fields, its size in bytes, and whether its checksum is right."""

    flags: int
    method: int
    fields: tuple[Field, ...]
    size: int
    sound: bool


@record
class Block:
    """A block's header: where its data starts, sizes in bytes, checksums of the unpacked data if stored."""

    start: int
    packed: int
    unpacked: int
    adler32: int | None
    crc32: int | None

    @property
    def end(self) -> int:
        """Offset behind the block."""
        return self.start + self.packed


class _Reader:
    """Takes big-endian numbers one after another from a source, and keeps them as fields."""

    def __init__(self, source: Source, at: int, what: str) -> None:
        self.source = source
        self.at = at
        self.what = what
        self.fields: list[Field] = []

    def number(self, name: str, size: int, meaning: Meaning | None = None, *, hexed: bool = False) -> int:
        raw = self.source.exact(self.at, size, self.what)
        value = Hex(int.from_bytes(raw, "big")) if hexed else int.from_bytes(raw, "big")
        self.fields.append(Field(name, value, self.at, size, meaning(value) if meaning else "", raw))
        self.at += size
        return value

    def text(self, name: str, size: int) -> None:
        raw = self.source.exact(self.at, size, self.what)
        self.fields.append(Field(name, raw.decode("latin-1"), self.at, size, "", raw, telling=bool(raw)))
        self.at += size


def _flag_words(flags: int) -> str:
    return ", ".join(filter(None, (FLAG_NAMES(flags & FLAG_BITS), f"made on system {flags >> SYSTEM_SHIFT}")))


def read_header(source: Source, at: int) -> Header:
    """The header at ``at``. Raises FormatError when it is cut short."""
    reader = _Reader(source, at + len(MAGIC), "lzop header")
    version = reader.number("version", 2, hexed=True)
    wide = version >= WIDE_VERSION
    reader.number("lib_version", 2, hexed=True)
    if wide:
        reader.number("version_needed", 2, hexed=True)
    method = reader.number("method", 1, choice_names(METHODS))
    if wide:
        reader.number("level", 1)
    flags = reader.number("flags", 4, _flag_words, hexed=True)
    if flags & FILTER:
        reader.number("filter", 4)
    reader.number("mode", 4, lambda mode: f"{mode:o}")
    reader.number("mtime_low", 4, date)
    if wide:
        reader.number("mtime_high", 4)
    reader.text("name", reader.number("name_length", 1))
    checksum = zlib.crc32 if flags & CRC32_H else zlib.adler32
    start = at + len(MAGIC)
    right = checksum(source.read(start, reader.at - start))
    sound = reader.number("header_checksum", 4, hexed=True) == right
    if flags & EXTRA_FIELD:
        extra = reader.number("extra_size", 4)
        reader.at += extra
        reader.number("extra_checksum", 4, hexed=True)
    return Header(flags, method, tuple(reader.fields), reader.at - at, sound)


def header(source: Source) -> Iterator[Field | Finding]:
    """The first member's header, and its block size."""
    parsed = read_header(source, 0)
    yield Field("magic", MAGIC, 0, len(MAGIC), "", MAGIC)
    yield from parsed.fields
    if not parsed.sound:
        yield Finding(
            "LZO-HEADER-CHECKSUM",
            Severity.WARNING,
            "the header's checksum is wrong",
            "header_checksum",
            remedy="Linux and Xen do not look at it, lzop refuses the file",
        )
    block = read_block(source, parsed.size, parsed.flags)
    if block:
        yield Field("block_size", block.unpacked, parsed.size, 4, "of the first block, unpacked")


def read_block(source: Source, at: int, flags: int) -> Block | None:
    """The header of the block at ``at``; None for the end mark. Raises FormatError when it makes no sense."""
    words = unpack_from(">6I", source.read(at, 24).ljust(24, b"\0"))
    unpacked, packed = words[:2]
    source.exact(at, 8 if unpacked else 4, "lzop block")
    if unpacked == 0:
        return None
    if not 0 < packed <= unpacked:
        raise damaged(source, at, f"a block of {unpacked} bytes cannot be packed in {packed}")
    if unpacked > MAX_BLOCK:
        raise UnsupportedError(
            "an lzop block is too large, also for Linux and Xen",
            source=source.name,
            offset=at,
            expected=f"at most {MAX_BLOCK} bytes",
            found=str(unpacked),
        )
    stored = [name for bit, name in ((ADLER32_D, "adler32"), (CRC32_D, "crc32")) if flags & bit]
    sums = dict(zip(stored, words[2:], strict=False))
    count = 2 + len(stored)
    if packed < unpacked:  # a block that is stored as it is has no second set of checksums
        count += bool(flags & ADLER32_C) + bool(flags & CRC32_C)
    return Block(at + 4 * count, packed, unpacked, sums.get("adler32"), sums.get("crc32"))


def open_member(source: Source, at: int) -> Pieces | None:
    """The content of the member at ``at``, checked against the checksums of its blocks."""
    return _unpack(source, at) if source.read(at, len(MAGIC)) == MAGIC else None


def _unpack(source: Source, at: int) -> Pieces:
    from lzallright import LZOCompressor, LZOError

    head = read_header(source, at)
    if head.method not in METHODS or head.flags & FILTER:
        what = f"method {head.method}" if head.method not in METHODS else "a filter"
        raise UnsupportedError(f"lzop with {what}", source=source.name, offset=at)
    at += head.size
    while block := read_block(source, at, head.flags):
        data = source.read(block.start, block.packed)
        if len(data) < block.packed:
            raise cut_short(source, block.start)
        if block.packed < block.unpacked:
            try:
                data = LZOCompressor.decompress(data, block.unpacked)
            except LZOError as error:
                raise damaged(source, at, str(error.args[0])) from error
        yield data[: block.unpacked], block.end
        if len(data) != block.unpacked:
            raise damaged(source, at, f"a block of {block.unpacked} bytes unpacks to {len(data)}")
        if block.adler32 not in (None, zlib.adler32(data)) or block.crc32 not in (None, zlib.crc32(data)):
            raise damaged(source, at, "a block's checksum is wrong")
        at = block.end
    yield b"", at + 4


def tail(source: Source, size: int, end: int | None) -> Tail:
    """Where the last member ends and what all unpack to, found by going from block to block."""
    if end is not None:
        return Tail(end)
    at = members = blocks = total = 0
    try:
        while source.read(at, len(MAGIC)) == MAGIC:
            head = read_header(source, at)
            at += head.size
            while block := read_block(source, at, head.flags):
                at = block.end
                total += block.unpacked
                blocks += 1
                if blocks == MAX_BLOCKS:
                    return Tail()
            at += 4
            members += 1
    except MbtoolError:
        return Tail()
    return Tail(at, members, total) if at <= size else Tail()
