"""Compressed streams: found by their magic, shown with what header and tail say, opened as sources.

The content of such a node is the decompressed stream. A Linux kernel's payload carries four more bytes behind the
stream: its uncompressed size (scripts/Makefile.lib, ``size_append``); gzip's own last word says the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import cast

from mbtool.errors import FormatError, LimitError, MbtoolError, UnsupportedError
from mbtool.formats.context import Context
from mbtool.formats.streams import AT_ONCE, Codec, MemberStream, Tail
from mbtool.model import Field, Finding, Node, Severity
from mbtool.record import record
from mbtool.source import MIB, Budget, Source

HEAD = 16
"""Bytes that ``detect`` needs."""
NEARLY = 512 * 1024
"""When no more packed bytes than these are left after the content was looked at, they are unpacked too."""


def _magic(*magics: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(magics)


def _module(name: str) -> Callable[[bytes], bool]:
    """For a magic so short that the codec's own ``starts`` has to confirm it."""
    return lambda head: import_module(f"mbtool.formats.{name}_stream").starts(head)


@record
class Signature:
    """A kind of stream and the tests, from the quickest on, that its first bytes pass."""

    kind: str
    tests: tuple[Callable[[bytes], bool], ...]


SIGNATURES = (
    Signature("gzip", (_magic(b"\x1f\x8b\x08"),)),
    Signature("xz", (_magic(b"\xfd7zXZ\0"),)),
    Signature("bzip2", (_magic(b"BZh"), _module("bzip2"))),
    Signature("lzo", (_magic(b"\x89LZO\0\r\n\x1a\n"),)),
    Signature("lz4", (_magic(b"\x02\x21\x4c\x18", b"\x04\x22\x4d\x18"),)),
    Signature("zstd", (_magic(b"\x28\xb5\x2f\xfd"),)),
    Signature("lzma", (_magic(b"\x5d\0"), _module("lzma"))),
)


def detect(head: bytes) -> str | None:
    """The kind of stream that begins with these bytes (HEAD of them or more), None when it is none."""
    return next((one.kind for one in SIGNATURES if all(test(head) for test in one.tests)), None)


def reject(source: Source) -> str:
    """Why this is no compressed stream ("" when it is one)."""
    return "" if detect(source.read(0, HEAD)) else "no gzip, xz, lzma, bzip2, lzo, lz4 or zstd magic at the start"


def open_stream(source: Source, budget: Budget) -> MemberStream:
    """The decompressed stream, all members of it; unpacked only as far as it is read.

    When it has ``ended``, ``packed`` is the offset behind the last member (what follows is no part of it) and
    ``damage`` the reason why it is not whole, if it is not. Raises FormatError for what is no compressed stream.
    """
    return _open(source, budget)[2]


def _open(source: Source, budget: Budget) -> tuple[str, Codec, MemberStream]:
    kind = detect(source.read(0, HEAD))
    if kind is None:
        raise FormatError(reject(source), source=source.name, offset=0)
    codec = cast(Codec, import_module(f"mbtool.formats.{kind}_stream"))
    return kind, codec, MemberStream(source, codec.open_member, f"{source.name}:{kind}", budget)


def inspect(source: Source, context: Context) -> Node:
    """The stream as a node, its content as the child.

    It is unpacked to the end when it is small, when the context asks for everything or when little is left; else
    only as far as the content's own format reads it, and the field ``unpacked`` says how far that was.
    """
    kind, codec, stream = _open(source, context.budget)
    known = source.known_size
    if known is not None and known <= AT_ONCE:
        stream.drain()
    children: tuple[Node, ...] = (context.inside(stream, 0),) if stream.read(0, 1) else ()
    if context.full or (known is not None and known - stream.packed <= NEARLY):
        stream.forget(sys.maxsize)
        stream.drain()
        children = tuple(_sized(child, stream.size) for child in children)
    size = source.size if context.full or known is not None else stream.packed

    fields, findings = _header(codec, source, stream)
    tail = _tail(codec, source, size, stream)
    fields += tail.fields
    more, problems = _sizes(source, size, stream, tail)
    if stream.damage is not None:
        problems.append(_damage(stream.damage))
    return Node(kind, 0, size, (*fields, *more), children, (*findings, *problems))


def _tail(codec: Codec, source: Source, size: int, stream: MemberStream) -> Tail:
    """What is known of the stream's end: from unpacking it, or else from looking at it."""
    if stream.damage is not None:
        return Tail()
    if not stream.ended:
        return codec.tail(source, size, None)
    fields = codec.tail(source, size, stream.packed).fields
    return Tail(stream.packed, stream.members, stream.size, fields)


def _sized(child: Node, size: int) -> Node:
    """Content of unknown format is as large as the stream turned out to be."""
    return replace(child, size=size) if child.kind == "data" else child


def _header(codec: Codec, source: Source, stream: MemberStream) -> tuple[list[Field], list[Finding]]:
    """What the header says; what is wrong with it, unless the stream's own damage says so already."""
    fields, findings = [], []
    try:
        for part in codec.header(source):
            if isinstance(part, Field):
                fields.append(part)
            else:
                findings.append(part)
    except MbtoolError as error:
        if stream.damage is None:
            findings.append(_damage(error))
    return fields, findings


def _damage(error: MbtoolError) -> Finding:
    if isinstance(error, LimitError):
        return Finding.of(error, "LIMIT")
    return Finding.of(error, "UNSUPPORTED" if isinstance(error, UnsupportedError) else "STREAM-DAMAGED")


def _sizes(source: Source, size: int, stream: MemberStream, tail: Tail) -> tuple[list[Field], list[Finding]]:
    """How many members, how large they are packed and unpacked, and what follows them."""
    members, unpacked = tail.members, tail.uncompressed_size
    rest = 0 if tail.end is None else size - tail.end
    fields = [] if members is None else [Field("members", members, telling=members > 1)]
    fields.append(Field("compressed_size", size - rest, telling=True))
    findings = []
    if rest:
        word = source.read(size - 4, 4)
        value = int.from_bytes(word, "little")
        if rest == 4 and any(word):
            fields.append(_appended(value, size - 4, word, "" if unpacked is not None else ", not verified"))
            if unpacked is not None and value != unpacked & 0xFFFFFFFF:
                findings.append(_lying(value, unpacked, size - 4))
            unpacked = value if unpacked is None else unpacked
        else:
            at = size - rest
            fields.append(Field("trailing_bytes", rest, at, rest, "", source.read(at, HEAD)))
            findings.append(_trailing(source, at, rest))
    if unpacked is not None:
        fields.append(Field("uncompressed_size", unpacked, telling=True))
    if stream.damage is not None or not stream.ended:
        meaning = "before the damage" if stream.damage else "only as far as was needed"
        fields.append(Field("unpacked", stream.at_hand, meaning=meaning, telling=True))
    return fields, findings


def _appended(value: int, at: int, raw: bytes, remark: str) -> Field:
    meaning = f"uncompressed size modulo 2**32, as a kernel's build appends it{remark}"
    return Field("appended_size", value, at, 4, meaning, raw)


def _lying(value: int, unpacked: int, at: int) -> Finding:
    return Finding(
        "APPENDED-SIZE",
        Severity.WARNING,
        "the four bytes behind the stream are not its size, which Linux and Xen take them for",
        "appended_size",
        at,
        expected=str(unpacked & 0xFFFFFFFF),
        found=str(value),
    )


def _trailing(source: Source, at: int, rest: int) -> Finding:
    head = source.read(at, HEAD)
    if not any(source.read(at, MIB)):
        return Finding("PADDING", Severity.INFO, f"{rest} bytes follow the stream, zeros", "trailing_bytes", at)
    found = detect(head) or head.hex(" ")
    return Finding(
        "TRAILING-BYTES", Severity.WARNING, f"{rest} bytes follow the stream", "trailing_bytes", at, found=found
    )
