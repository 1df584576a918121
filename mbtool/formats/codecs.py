"""Decoders: each turns a source into (piece, packed) pairs, never more than PIECE bytes at once.

``packed`` counts the packed bytes consumed so far. A decoder stops at what is not its stream (trailing bytes) and
raises FormatError at what is damaged. Codec libraries are imported where they are used: an image needs one or two.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from mbtool.errors import FormatError, LimitError
from mbtool.source import MIB, Source

PIECE = MIB
"""Most bytes handed on at once, so that a bomb is noticed early."""
SLICE = 256 * 1024
"""Packed bytes read at once."""
MAX_DICTIONARY = 512 * MIB
"""Memory that a stream may ask a decoder for."""

MAX_WINDOW_LOG = MAX_DICTIONARY.bit_length() - 1

Pieces = Iterator[tuple[bytes, int]]


def _damage(source: Source, offset: int, kind: str, why: object) -> FormatError:
    return FormatError(f"{kind} stream is damaged: {why}", source=source.name, offset=offset)


def _members(
    source: Source,
    kind: str,
    start: Callable[[], Any],
    errors: tuple[type[Exception], ...],
    is_next: Callable[[bytes], bool],
    pad: int = 1,
) -> Pieces:
    """Streams one after the other, through decoder objects as the standard library's.

    ``is_next`` tells from its first bytes whether another member follows; zeros in multiples of ``pad`` bytes
    between members are passed over when ``pad`` is above 1 (xz).
    """
    at = 0
    while True:
        decoder = start()
        pending = b""
        while not decoder.eof:
            if decoder.needs_input and not pending:
                pending = source.read(at, SLICE)
                if not pending:
                    raise FormatError(f"{kind} stream is cut short", source=source.name, offset=at)
                at += len(pending)
            try:
                piece = decoder.decompress(pending, PIECE)
            except errors as error:
                if "emory" in str(error):
                    raise LimitError(f"{kind} stream asks for too much memory", source=source.name) from error
                raise _damage(source, at - len(pending), kind, error) from error
            pending = b""
            if piece:
                yield piece, at - (len(decoder.unused_data or b"") if decoder.eof else 0)
        at -= len(decoder.unused_data or b"")  # lz4's is None when there is none
        yield b"", at
        head = source.read(at, 64)
        if pad > 1:
            zeros = len(head) - len(head.lstrip(b"\0"))
            if zeros and zeros % pad == 0 and is_next(head[zeros:]):
                at += zeros
                head = head[zeros:]
        if not is_next(head):
            return


class _Gzip:
    """zlib's decoder with the interface of the standard library's others."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._decoder.unconsumed_tail

    def decompress(self, data: bytes, size: int) -> bytes:
        return self._decoder.decompress(self._decoder.unconsumed_tail or data, size)


def gzip(source: Source) -> Pieces:
    return _members(source, "gzip", _Gzip, (zlib.error,), lambda head: head[:3] == b"\x1f\x8b\x08")


def xz(source: Source) -> Pieces:
    import lzma

    def start() -> Any:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_DICTIONARY)

    return _members(source, "xz", start, (lzma.LZMAError,), lambda head: head[:6] == b"\xfd7zXZ\0", 4)


def lzma(source: Source) -> Pieces:
    import lzma

    def start() -> Any:
        return lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MAX_DICTIONARY)

    return _members(source, "lzma", start, (lzma.LZMAError,), lambda head: False)


def bzip2(source: Source) -> Pieces:
    from bz2 import BZ2Decompressor

    return _members(source, "bzip2", BZ2Decompressor, (OSError, ValueError), lambda head: head[:3] == b"BZh")


def zstd(source: Source) -> Pieces:
    """Frames and skippable frames (RFC 8878); a window above MAX_DICTIONARY is refused."""
    import sys

    if sys.version_info >= (3, 14):
        from compression import zstd as library
    else:
        from backports import zstd as library

    options = {int(library.DecompressionParameter.window_log_max): MAX_WINDOW_LOG}

    def start() -> Any:
        return library.ZstdDecompressor(options=options)

    return _members(source, "zstd", start, (library.ZstdError,), _is_zstd)


def _is_zstd(head: bytes) -> bool:
    return head[:4] == b"\x28\xb5\x2f\xfd" or (
        head[:1] >= b"\x50" and head[:1] <= b"\x5f" and head[1:4] == b"\x2a\x4d\x18"
    )


LZ4_LEGACY = b"\x02\x21\x4c\x18"
LZ4_FRAME = b"\x04\x22\x4d\x18"
LZ4_BLOCK = 8 * MIB
"""Unpacked size of every block but the last of a legacy stream (lz4's own tool, lib/decompress_unlz4.c)."""


def lz4(source: Source) -> Pieces:
    """Legacy or framed lz4, whichever stands at the start."""
    return _lz4_legacy(source) if source.read(0, 4) == LZ4_LEGACY else _lz4_frame(source)


def _lz4_frame(source: Source) -> Pieces:
    from lz4.frame import LZ4FrameDecompressor

    return _members(
        source, "lz4", LZ4FrameDecompressor, (RuntimeError, EOFError), lambda head: head[:4] == LZ4_FRAME
    )


def _lz4_legacy(source: Source) -> Pieces:
    """Blocks of a packed size and as many bytes, up to what cannot be a block; the magic may come again.

    There is no end mark. The kernel's build appends the unpacked size, which looks like a block's size: fewer bytes
    follow it than it says.
    """
    from lz4.block import LZ4BlockError, decompress

    at = 4
    while True:
        head = source.read(at, 4)
        if head == LZ4_LEGACY:
            at += 4
            continue
        size = int.from_bytes(head, "little")
        # A block that does not shrink grows by 1 in 255 and 16 at most (LZ4_COMPRESSBOUND).
        if len(head) < 4 or not 0 < size <= LZ4_BLOCK + LZ4_BLOCK // 255 + 16:
            return
        block = source.read(at + 4, size)
        if len(block) < size:
            if source.read(at + 4, 1):
                raise FormatError("lz4 stream is cut short", source=source.name, offset=at)
            return
        try:
            piece = decompress(block, uncompressed_size=LZ4_BLOCK)
        except LZ4BlockError as error:
            raise _damage(source, at, "lz4", error) from error
        at += 4 + size
        for start in range(0, len(piece), PIECE):
            yield piece[start : start + PIECE], at


LZOP = b"\x89LZO\x00\r\n\x1a\n"
LZOP_BLOCK = 64 * MIB
"""Largest block that lzop itself would read."""
F_ADLER32_D, F_ADLER32_C, F_EXTRA, F_CRC32_D, F_CRC32_C, F_FILTER = 1, 2, 0x40, 0x100, 0x200, 0x800


def lzop_header(head: bytes) -> tuple[int, dict[str, Any]]:
    """Size (bytes) and fields of an lzop header (Linux: lib/decompress_unlzo.c). FormatError when cut short."""
    try:
        version, lib_version = struct.unpack_from(">HH", head, 9)
        at = 13
        fields: dict[str, Any] = {"version": version, "lib_version": lib_version}
        if version >= 0x940:
            (fields["version_needed"],) = struct.unpack_from(">H", head, at)
            at += 2
        fields["method"] = head[at]
        at += 1
        if version >= 0x940:
            fields["level"] = head[at]
            at += 1
        (flags,) = struct.unpack_from(">I", head, at)
        fields["flags"] = flags
        at += 4
        if flags & F_FILTER:
            at += 4
        fields["mode"], fields["mtime"] = struct.unpack_from(">II", head, at)
        at += 8
        if version >= 0x940:
            at += 4  # upper half of the time
        length = head[at]
        fields["name"] = head[at + 1 : at + 1 + length].decode("latin-1")
        at += 1 + length
        struct.unpack_from(">I", head, at)
        at += 4
        if flags & F_EXTRA:
            (extra,) = struct.unpack_from(">I", head, at)
            at += 8 + min(extra, 1 << 16)
    except (struct.error, IndexError) as error:
        raise FormatError("lzop header is cut short", offset=len(head)) from error
    return at, fields


def lzo(source: Source) -> Pieces:
    from lzallright import LZOCompressor

    head = source.read(0, 1024)
    at, fields = lzop_header(head)
    flags = fields["flags"]
    while True:
        word = source.read(at, 4)
        if word == b"\0\0\0\0":
            yield b"", at + 4
            return
        sizes = source.read(at, 8)
        if len(sizes) < 8:
            raise FormatError("lzo stream is cut short", source=source.name, offset=at)
        unpacked, packed = struct.unpack(">II", sizes)
        if unpacked > LZOP_BLOCK or packed > unpacked:
            raise _damage(source, at, "lzo", "a block's sizes make no sense")
        at += 8
        checks = [name for bit, name in ((F_ADLER32_D, "adler"), (F_CRC32_D, "crc")) if flags & bit]
        sums = dict(
            zip(
                checks,
                struct.unpack(f">{len(checks)}I", source.exact(at, 4 * len(checks), "lzop block")),
                strict=True,
            )
        )
        at += 4 * len(checks)
        if packed < unpacked:
            at += 4 * (bool(flags & F_ADLER32_C) + bool(flags & F_CRC32_C))
        block = source.exact(at, packed, "lzop block")
        piece = block
        if packed < unpacked:
            try:
                piece = LZOCompressor.decompress(block, unpacked)
            except Exception as error:  # the library's error class differs between its versions
                raise _damage(source, at, "lzo", error) from error
        if len(piece) != unpacked:
            raise _damage(source, at, "lzo", f"a block unpacks to {len(piece)} bytes, not {unpacked}")
        actual = {"adler": zlib.adler32(piece), "crc": zlib.crc32(piece)}
        if any(actual[name] != stored for name, stored in sums.items()):
            raise _damage(source, at, "lzo", "a block's checksum does not match")
        at += packed
        for start in range(0, len(piece), PIECE):
            yield piece[start : start + PIECE], at
