"""lz4: the frame format, and the legacy one that kernels and initrds use.

Source: lz4, doc/lz4_Frame_format.md, also its section "Legacy frame"; Linux: lib/decompress_unlz4.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.errors import MbtoolError, UnsupportedError
from mbtool.formats.streams import MAX_BLOCKS, Pieces, Tail, cut_short, damaged, decode, skip, skippable
from mbtool.model import Field, Finding, Hex
from mbtool.source import MIB, Source

LEGACY, FRAME = b"\x02\x21\x4c\x18", b"\x04\x22\x4d\x18"
LEGACY_BLOCK = 8 * MIB
"""Unpacked size of every block of a legacy stream but the last."""
MAX_PACKED = LEGACY_BLOCK + LEGACY_BLOCK // 255 + 16
"""Packed size of a legacy block that does not shrink at all (LZ4_COMPRESSBOUND)."""
DICT_ID, CONTENT_CHECKSUM, CONTENT_SIZE, BLOCK_CHECKSUM, INDEPENDENT, VERSION = 1, 4, 8, 0x10, 0x20, 0xC0
FLAG_NAMES = {
    INDEPENDENT: "independent blocks",
    BLOCK_CHECKSUM: "block checksums",
    CONTENT_SIZE: "content size",
    CONTENT_CHECKSUM: "content checksum",
    DICT_ID: "dictionary",
}


def header(source: Source) -> Iterator[Field | Finding]:
    """What the first frame or legacy stream says of itself."""
    data = source.read(0, 19)
    magic = Hex(int.from_bytes(data[:4], "little"))
    legacy = data[:4] == LEGACY
    yield Field("magic", magic, 0, 4, "", data[:4])
    yield Field("format", "legacy" if legacy else "frame", telling=True)
    if legacy:
        yield Field("first_block_size", int.from_bytes(data[4:8], "little"), 4, 4, "packed", data[4:8])
        return
    flags, descriptor = source.exact(4, 2, "lz4 frame descriptor")
    words = ", ".join(name for bit, name in FLAG_NAMES.items() if flags & bit)
    yield Field("FLG", Hex(flags), 4, 1, f"version {flags >> 6}{', ' if words else ''}{words}", data[4:5])
    size = 1 << 8 + 2 * (descriptor >> 4 & 7)
    yield Field("block_max_size", size, 5, 1, "", data[5:6], telling=True)
    at = 6
    for flag, name, length in ((CONTENT_SIZE, "content_size", 8), (DICT_ID, "dictionary_id", 4)):
        if flags & flag:
            raw = source.exact(at, length, "lz4 frame descriptor")
            yield Field(name, int.from_bytes(raw, "little"), at, length, "", raw)
            at += length
    raw = source.exact(at, 1, "lz4 frame descriptor")
    yield Field("header_checksum", Hex(raw[0]), at, 1, "", raw)


def open_member(source: Source, at: int) -> Pieces | None:
    """The content of the frame or legacy stream at ``at``; none for a skippable frame."""
    head = source.read(at, 5)
    if head[:4] == LEGACY:
        return _legacy(source, at)
    if head[:4] == FRAME:
        return _frame(source, at, head)
    end = skippable(source, at)
    return None if end is None else skip(source, end)


def _frame(source: Source, at: int, head: bytes) -> Pieces:
    if len(head) == 5 and head[4] & (VERSION | DICT_ID) == 0x40 | DICT_ID:
        raise UnsupportedError("needs an lz4 dictionary", source=source.name, offset=at)
    from lz4.frame import LZ4FrameDecompressor

    yield from decode(source, at, LZ4FrameDecompressor, RuntimeError)


def _legacy(source: Source, at: int) -> Pieces:
    from lz4.block import LZ4BlockError, decompress

    at += 4
    while size := _block_size(source, at):
        block = source.read(at + 4, size)
        if len(block) < size:
            raise cut_short(source, at)
        try:
            piece = decompress(block, uncompressed_size=LEGACY_BLOCK)
        except LZ4BlockError as error:
            raise damaged(source, at, str(error)) from error
        at += 4 + size
        for start in range(0, len(piece), MIB):  # so that what is made ahead of the reader is not 16 blocks
            yield piece[start : start + MIB], at
    yield b"", at


def _block_size(source: Source, at: int) -> int:
    """Packed size of the legacy block whose size is stored at ``at``; 0 when there is none.

    Nothing marks the end. The size that a kernel's build appends looks like a block's, but nothing follows it;
    the magic of a further stream is larger than any block.
    """
    head = source.read(at, 5)
    size = int.from_bytes(head[:4], "little")
    return size if len(head) == 5 and size <= MAX_PACKED else 0


def tail(source: Source, size: int, end: int | None) -> Tail:
    """Where the last legacy stream ends, found by going from block to block."""
    if end is not None:
        return Tail(end)
    at = members = blocks = 0
    try:
        while source.read(at, 4) == LEGACY:
            at += 4
            members += 1
            while block := _block_size(source, at):
                at += 4 + block
                blocks += 1
                if blocks == MAX_BLOCKS:
                    return Tail()
    except MbtoolError:
        return Tail()
    other = source.read(at, 4) == FRAME or skippable(source, at) is not None
    return Tail() if other or at > size else Tail(at, members)
