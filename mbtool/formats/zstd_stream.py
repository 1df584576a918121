"""zstd (RFC 8878): frames of blocks, skippable frames between them."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from mbtool.errors import LimitError, MbtoolError, UnsupportedError
from mbtool.formats.streams import MAX_BLOCKS, MAX_MEMORY, Pieces, Tail, decode, skip, skippable
from mbtool.model import Field, Finding, Hex
from mbtool.record import record
from mbtool.source import Source

MAGIC = b"\x28\xb5\x2f\xfd"
MAX_HEADER = 18
RLE = 1
"""A block type: one byte is stored, however large the block."""


@record
class FrameHeader:
    """A frame's header (3.1.1.1) of ``size`` bytes. Sizes in bytes, ``frame_content_size`` None if not stored."""

    descriptor: int
    window_size: int
    dictionary_id: int
    frame_content_size: int | None
    fields: tuple[Field, ...]
    size: int

    @property
    def content_checksum(self) -> bool:
        """Whether four bytes of XXH64 end the frame."""
        return bool(self.descriptor & 4)


def frame_header(source: Source, at: int) -> FrameHeader:
    """The frame header at ``at``. Raises FormatError when it is cut short."""
    data = source.read(at, MAX_HEADER)
    descriptor = source.exact(at, 5, "zstd frame header")[4]
    single = bool(descriptor & 0x20)
    id_size = (0, 1, 2, 4)[descriptor & 3]
    content_size = (int(single), 2, 4, 8)[descriptor >> 6]
    size = 5 + (not single) + id_size + content_size
    source.exact(at, size, "zstd frame header")
    raw = data[size - content_size : size]
    stated = int.from_bytes(raw, "little") + (256 if content_size == 2 else 0) if raw else None
    content = Field("frame_content_size", stated, at + size - content_size, content_size, "", raw)
    dictionary = data[size - content_size - id_size : size - content_size]
    dictionary_id = int.from_bytes(dictionary, "little")
    if single:
        window, stored = stated or 0, Field("window_size", stated, meaning="that of the content")
    else:
        base = 1 << 10 + (data[5] >> 3)
        window = base + base // 8 * (data[5] & 7)
        stored = Field("window_size", window, at + 5, 1, "", data[5:6], telling=True)
    checked = bool(descriptor & 4)
    flag_words = [word for word, is_set in (("single segment", single), ("content checksum", checked)) if is_set]
    fields = (
        Field("magic", Hex(int.from_bytes(MAGIC, "little")), at, 4, "", data[:4]),
        Field("frame_header_descriptor", Hex(descriptor), at + 4, 1, ", ".join(flag_words), data[4:5]),
        stored,
        *([Field("dictionary_id", dictionary_id, at + size - content_size - id_size, id_size)] if id_size else []),
        *([content] if raw else []),
    )
    return FrameHeader(descriptor, window, dictionary_id, stated, fields, size)


def header(source: Source) -> Iterator[Field | Finding]:
    """The first frame's header."""
    yield from frame_header(source, 0).fields


def open_member(source: Source, at: int) -> Pieces | None:
    """The content of the frame at ``at`` (none for a skippable one), checked against its XXH64 if it has one."""
    if source.read(at, 4) == MAGIC:
        return _frame(source, at)
    end = skippable(source, at)
    return None if end is None else skip(source, end)


def _frame(source: Source, at: int) -> Pieces:
    header = frame_header(source, at)
    if header.dictionary_id:
        raise UnsupportedError(f"needs zstd dictionary {header.dictionary_id:#x}", source=source.name, offset=at)
    if header.window_size > MAX_MEMORY:
        raise LimitError(
            "the zstd window is too large",
            source=source.name,
            offset=at,
            expected=f"at most {MAX_MEMORY} bytes",
            found=str(header.window_size),
        )
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    options = {int(zstd.DecompressionParameter.window_log_max): MAX_MEMORY.bit_length() - 1}
    yield from decode(source, at, lambda: zstd.ZstdDecompressor(options=options), zstd.ZstdError)


def tail(source: Source, size: int, end: int | None) -> Tail:
    """Where the last frame ends, found by going from block to block."""
    if end is not None:
        return Tail(end)
    at = members = blocks = 0
    total: int | None = 0
    try:
        while blocks < MAX_BLOCKS:
            behind = skippable(source, at)
            if behind is not None:
                at = behind
                blocks += 1
            elif source.read(at, 4) == MAGIC:
                frame = frame_header(source, at)
                stated = frame.frame_content_size
                total = None if total is None or stated is None else total + stated
                at, count = _blocks_end(source, at + frame.size)
                at += 4 * frame.content_checksum
                blocks += count
            else:
                return Tail(at, members, total) if at <= size else Tail()
            members += 1
    except MbtoolError:
        pass  # damage is told when it is met in unpacking
    return Tail()


def _blocks_end(source: Source, at: int) -> tuple[int, int]:
    """Offset behind the blocks (3.1.1.2) that start at ``at``, and how many they are."""
    for count in range(1, MAX_BLOCKS):
        word = int.from_bytes(source.exact(at, 3, "zstd block header"), "little")
        at += 3 + (1 if word >> 1 & 3 == RLE else word >> 3)
        if word & 1:
            return at, count
    return at, MAX_BLOCKS
