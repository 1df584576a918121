"""An initrd: cpio archives end to end, each compressed or not, with zeros between them at will.

Linux: Documentation/driver-api/early-userspace/buffer-format.rst; init/initramfs.c (``unpack_to_rootfs``).
An archive alone is shown as ``cpio``, several segments as ``initrd`` with a node for each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mbtool.errors import FormatError, LimitError
from mbtool.formats.context import Context
from mbtool.formats.cpio import CRC, HEADER_SIZE, NEWC, parse_header
from mbtool.formats.cpio_walk import Archive, zeros
from mbtool.formats.initrd_contents import Contents
from mbtool.model import Field, Finding, Node, Severity
from mbtool.source import MIB, Source, StreamSource

MAX_SEGMENTS = 64
LEADING_ZEROS = MIB
"""Zeros that may stand before the first segment (bytes): more is some other kind of image."""
ODC = b"070707"
MEMBER = re.compile(rb"07070[12][0-9A-Fa-f]{104}")
"""A member's header."""


def reject(source: Source) -> str:
    """Why this is no initrd that starts with an uncompressed archive ("" when it is one)."""
    head = source.read(0, HEADER_SIZE)
    if head[:1] == b"\0":
        head = source.read(0, LEADING_ZEROS + HEADER_SIZE).lstrip(b"\0")[:HEADER_SIZE]
    if head[:6] == ODC:
        return "a cpio archive of the old portable format (070707), which Linux does not take: make it with -H newc"
    try:
        parse_header(head)
    except FormatError as error:
        return error.problem
    return ""


def inspect(source: Source, context: Context) -> Node:
    """The archive, or the initrd when there is more than one segment."""
    return _joined(source, context, [])


def behind(first: Node, source: Source, context: Context) -> Node:
    """The initrd that starts with the compression node ``first``; that node itself when nothing follows it."""
    joined = _joined(source, context, [_stream(first)])
    return joined if joined.kind == "initrd" else first


def _joined(source: Source, context: Context, segments: list[Node]) -> Node:
    """Goes on behind the segment that is known, if any, to the end of the source."""
    at = segments[0].size if segments else 0
    early = not isinstance(source, StreamSource) and not segments
    while True:
        at += zeros(source, at)
        if not source.read(at, 1):
            break
        if len(segments) == MAX_SEGMENTS:
            head = source.read(at, 16)
            segments.append(_unknown(head, source.size - at, f"more than {MAX_SEGMENTS} segments").at(at))
            break
        segment = _segment(source, at, context, early)
        early = early and segment.kind == "cpio"
        segments.append(segment)
        at += max(segment.size, 1)
    if len(segments) == 1 and segments[0].offset == 0:
        return segments[0]
    return Node("initrd", 0, source.size, _summary(segments), tuple(segments), tuple(_findings(segments)))


def _segment(source: Source, at: int, context: Context, early: bool) -> Node:
    """The segment that starts at ``at``: an archive, a compressed stream, or what is neither."""
    part = source.part(at) if at else source
    head = part.read(0, HEADER_SIZE)
    if MEMBER.match(head):
        node = _archive(part, context, early)
        if at % 4:
            text = "Linux finds an archive only at a multiple of 4"
            node = _with(node, Finding("INITRD-MISALIGNED", Severity.ERROR, text, found=f"{at:#x}"))
        return node.at(at)

    from mbtool.formats import compression

    if compression.reject(part):
        size = _next_archive(part)
        lost = ", nor what is behind it" if source.read(at + size, 1) else ""
        damaged = head[:6] in (NEWC, CRC)
        text = "a damaged cpio header" if damaged else f"Linux does not take this{lost}"
        return _unknown(head[:16], size, text).at(at)
    node = _stream(compression.inspect(part, context))
    if isinstance(source, StreamSource):  # not a file on a disk that is packed
        text = "Linux does not unpack a stream within a stream"
        node = _with(node, Finding("INITRD-NESTED", Severity.ERROR, text))
    elif not node.find("cpio"):
        node = _with(node, Finding("INITRD-NO-ARCHIVE", Severity.ERROR, "Linux finds no archive in this stream"))
    return node.at(at)


def _stream(node: Node) -> Node:
    """A compression node that ends where its stream does, if that is known."""
    trailing = next((field for field in node.fields if field.name == "trailing_bytes"), None)
    size = trailing.offset if trailing and trailing.offset else node.size
    fields = (replace(field, value=size) if field.name == "compressed_size" else field for field in node.fields)
    return replace(
        node,
        size=size,
        fields=tuple(field for field in fields if field.name != "trailing_bytes"),
        findings=tuple(finding for finding in node.findings if finding.id != "TRAILING-BYTES"),
    )


def _with(node: Node, finding: Finding) -> Node:
    return replace(node, findings=(*node.findings, finding))


def _archive(source: Source, context: Context, early: bool) -> Node:
    """The archive at the start of a source, with the zeros that follow it."""
    archive = Archive(source)
    contents = Contents(source, context, early=early)
    magic = source.read(0, 6)
    limit: tuple[Finding, ...] = ()
    try:
        for entry in archive:
            contents.add(entry)
    except LimitError as error:
        archive.end = source.size
        limit = (Finding.of(error, "LIMIT"),)
    padding = zeros(source, archive.end)
    name = "newc" if magic == NEWC else "crc"
    fields = (
        Field("format", name, 0, 6, "" if magic == NEWC else "Linux takes it from 5.19 on", magic, telling=True),
        Field("uncompressed_size", archive.end + padding),
        *contents.fields(),
        Field("padding", padding, archive.end, padding, "zero bytes behind the archive"),
    )
    children = contents.children()
    findings = (*archive.findings.all(), *contents.findings.all(), *limit)
    return Node("cpio", 0, archive.end + padding, fields, children, findings)


def _next_archive(source: Source) -> int:
    """Where the next archive starts in what is not known, or the end of the source."""
    at = 0
    while piece := source.read(at, MIB):
        for match in MEMBER.finditer(piece):
            if (at + match.start()) % 4 == 0:
                return at + match.start()
        if len(piece) < MIB:
            return at + len(piece)
        at += MIB - HEADER_SIZE
        source.forget(at)
    return at


def _unknown(head: bytes, size: int, message: str) -> Node:
    """A stretch that is no segment; ``head`` is its start."""
    finding = Finding(
        "INITRD-JUNK",
        Severity.WARNING,
        message,
        offset=0,
        expected="a cpio archive (070701, 070702) or a compressed one",
        found=head.hex(),
    )
    return Node("data", 0, size, (Field("head", head, 0, len(head), "", head, telling=True),), (), (finding,))


def _summary(segments: Sequence[Node]) -> tuple[Field, ...]:
    """The whole initrd in a few fields; of several init programs, the last is the one that stays."""
    archives = [node for segment in segments for node in segment.walk() if node.kind == "cpio"]
    fields = [
        Field("segments", tuple(segment.kind for segment in segments), telling=True),
        Field("entries", sum(_number(node, "entries") for node in archives), telling=True),
        Field("uncompressed_size", sum(_number(node, "uncompressed_size") for node in archives), telling=True),
    ]
    inits = [field for node in archives for field in node.fields if field.name == "init" and field.value]
    last = next((field for field in reversed(inits) if field.value == "/init"), inits[-1] if inits else None)
    return (*fields, last or Field("init", None, telling=True))


def _number(node: Node, name: str) -> int:
    value = node.get(name)
    return value if isinstance(value, int) else 0


def _findings(segments: Sequence[Node]) -> Iterator[Finding]:
    """What only the segments together can show."""
    archives = [node for segment in segments for node in segment.walk() if node.kind == "cpio"]
    if archives and all(node.find("microcode") for node in archives) and len(archives) == len(segments):
        yield Finding(
            "INITRD-ONLY-MICROCODE", Severity.INFO, "nothing but microcode: made to stand before an initrd"
        )
    elif not any(node.get("init") for node in archives):
        yield Finding(
            "INITRD-NO-INIT",
            Severity.WARNING,
            "no segment holds an init program: Linux mounts a root file system itself",
            expected="/init",
        )
