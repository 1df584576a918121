"""What all compressed streams have in common: members one after another, unpacked in bounded pieces.

A codec's module (``gzip_stream`` and its like) offers what ``Codec`` lists. Codec libraries are imported where they
are used: an image needs one or two.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from mbtool.ahead import ahead
from mbtool.errors import FormatError, LimitError, MbtoolError
from mbtool.model import Field, Finding
from mbtool.record import record
from mbtool.source import MIB, STEP, Budget, Source, StreamSource

PIECE = 2 * STEP
"""Most bytes unpacked at once, so that a bomb is stopped early, and little more than asked for is unpacked."""
FIRST, SLICE = 4096, 256 * 1024
"""Packed bytes read at once: at a member's start (it may be tiny, and one of many), later."""
MAX_MEMORY = 1024 * MIB
"""Most that a stream's dictionary or window may take."""
AT_ONCE = 2 * MIB
"""A source up to this size is unpacked whole before its content is looked at: that takes milliseconds."""
MAX_BLOCKS = 32768
"""Blocks that are looked at to find a stream's end without unpacking."""
SKIP = 0x184D2A50
"""Magic of a skippable frame, of zstd and lz4 alike; its low four bits are free (RFC 8878, 3.1.2)."""

Pieces = Iterator[tuple[bytes, int]]
"""Decompressed bytes, and the offset up to which the packed bytes were used. The last one has the exact end."""


@record
class Tail:
    """What can be told of a stream's end without unpacking: each None when it cannot.

    ``end``: offset behind the last member; ``uncompressed_size``: of all members together, both in bytes.
    """

    end: int | None = None
    members: int | None = None
    uncompressed_size: int | None = None
    fields: tuple[Field, ...] = ()


class Codec(Protocol):
    """The module of one kind of compressed stream."""

    def header(self, source: Source) -> Iterator[Field | Finding]:
        """What the first member's header says. Raises FormatError when it is cut short or makes no sense."""
        ...

    def open_member(self, source: Source, at: int) -> Pieces | None:
        """The content of the member at offset ``at``; None when there is none.

        The pieces raise FormatError where the member is damaged, LimitError when it asks for too much memory,
        UnsupportedError for what mbtool cannot unpack.
        """
        ...

    def tail(self, source: Source, size: int, end: int | None) -> Tail:
        """What the end of a source of ``size`` bytes says; ``end`` is that of the stream when it was found."""
        ...


class MemberStream(StreamSource):
    """All members of a compressed source as one stream. ``members``: how many have been unpacked whole."""

    def __init__(
        self, source: Source, open_member: Callable[[Source, int], Pieces | None], name: str, budget: Budget
    ) -> None:
        # The generator must not refer to the stream, which holds it: what is unpacked would then stay in memory
        # until the garbage collector comes by.
        self._whole = [0]
        super().__init__(partial(_unpack_all, source, open_member, self._whole), name, budget)

    @property
    def members(self) -> int:
        return self._whole[0]


def _unpack_all(source: Source, open_member: Callable[[Source, int], Pieces | None], whole: list[int]) -> Pieces:
    """The pieces of all members; ``whole[0]`` becomes the number of those that were unpacked whole."""
    known = source.known_size
    apart = not source.streamed and known is not None and known > AT_ONCE  # a stream has one reader at a time
    at = count = 0
    while (member := open_member(source, at)) is not None:
        for piece, packed in ahead(member) if apart else member:
            at = packed
            yield piece, at
        count += 1
        whole[0] = max(whole[0], count)


class Decoder(Protocol):
    """A decompressor object as those of the standard library."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def decode(source: Source, at: int, start: Callable[[], Decoder], broken: type[Exception]) -> Pieces:
    """One member through a decoder made by ``start``, which raises ``broken`` for damaged data.

    A decoder that fails keeps back what it has unpacked in that call, which may be all of a small image whose
    checksum is wrong. So the member is then unpacked once more, and from the packed bytes that failed on byte by
    byte.
    """
    good = 0
    careful = sys.maxsize  # the packed offset from which on to go byte by byte
    while True:
        decoder = start()
        chunk, packed, done, size = at, at, 0, FIRST
        try:
            while not decoder.eof:
                data = b""
                if decoder.needs_input:
                    chunk = packed
                    data = source.read(chunk, min(size, careful - chunk) if chunk < careful else 1)
                    if not data:
                        raise cut_short(source, chunk)
                    packed += len(data)
                    size = min(2 * size, SLICE)
                piece = decoder.decompress(data, PIECE)
                done += len(piece)
                if done > good:
                    yield piece[good - done :], packed
                    good = done
            yield b"", packed - len(decoder.unused_data or b"")  # lz4's is None when there is none
            return
        except MemoryError as error:
            raise LimitError("unpacking takes more memory than there is", source=source.name, offset=at) from error
        except broken as error:
            # liblzma and zstd have no error class of its own for it, but both say "memory".
            if "memory" in str(error).lower():
                raise LimitError(
                    f"unpacking takes more than {MAX_MEMORY // MIB} MiB of memory", source=source.name, offset=at
                ) from error
            if careful < sys.maxsize:
                raise damaged(source, chunk, str(error)) from error
            careful = chunk


def damaged(source: Source, at: int, why: str) -> FormatError:
    """The error for packed bytes that make no sense, met at (or before) offset ``at``."""
    return FormatError(f"the compressed data is damaged: {why}", source=source.name, offset=at)


def cut_short(source: Source, at: int) -> MbtoolError:
    """The error for packed bytes that end too early: that of the source itself when it was cut short."""
    return source.damage or FormatError("the compressed data is cut short", source=source.name, offset=at)


def skippable(source: Source, at: int) -> int | None:
    """The offset behind the skippable frame at ``at`` (it may be cut short); None when there is none."""
    head = source.read(at, 8)
    if len(head) < 8 or int.from_bytes(head[:4], "little") & ~0xF != SKIP:
        return None
    return at + 8 + int.from_bytes(head[4:], "little")


def skip(source: Source, end: int) -> Pieces:
    """A skippable frame as a member without content."""
    if not source.read(end - 1, 1):
        raise cut_short(source, end)
    yield b"", end
