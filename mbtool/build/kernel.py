"""From a kernel file to the ELF file in it, the way Xen gets there.

A bzImage's payload, or the file itself, is an ELF file or a compressed one. Xen unpacks it to the end before it
looks at the ELF file, into as much room as the last four bytes of the payload say. Here what the builder needs of
the ELF file is read on the way: one pass, and most of the kernel is never kept.
Xen: xen/arch/x86/bzimage.c; xen/common/decompress.c, unxz.c, unlz4.c.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from struct import unpack_from

from mbtool.errors import FormatError, MbtoolError, RefusedError
from mbtool.formats import compression
from mbtool.formats.elf_file import parse_elf
from mbtool.formats.xen_dom_parms import attempt_derive
from mbtool.formats.xen_versions import TABLE, XenVersion
from mbtool.model import Field
from mbtool.plan.memory import up
from mbtool.record import record
from mbtool.source import Budget, Source

HEADER_SIZE = 0x250
"""Bytes that Xen's view of the setup header ends with."""
MIN_VERSION = 0x0208
GZIP_MAGIC = b"\x1f\x8b"
ELF_MAGIC = b"\x7fELF"
REMEMBERED = 64 * 1024
"""Reads up to this size are remembered: headers and notes."""
EXACT = ("gzip", "lz4")
"""Codecs that Xen does not unpack unless the size is right. The others know by themselves where they end."""
SPARE = 16 << 20
"""Bytes that a size may be too large by: Xen sets them aside, which any host can afford."""
MUCH = 1 << 30
"""Bytes that Xen does not find for a kernel: what it reads from the last four bytes is no size then."""
XZ_CHECKS = (0, 1)
"""None and CRC32."""
XZ_FILTERS = (("lzma2",), ("x86", "lzma2"))


@record
class Kernel:
    """``elf``: the kernel proper, found whole where it was compressed; ``codec`` is "" where it was not."""

    elf: Source
    bzimage: bool
    codec: str
    headroom: int = 0
    """Bytes in front of the file that Xen sets aside to unpack it (bzimage.c, ``bzimage_headroom``)."""


def open_kernel(source: Source, budget: Budget, version: XenVersion) -> Kernel:
    """Find and unpack the kernel proper.

    Raises RefusedError where Xen would not take it, FormatError when the payload is damaged or its size word lies,
    LimitError above the budget.
    """
    payload, bzimage = _payload(source)
    head = payload.read(0, 16)
    if head.startswith(ELF_MAGIC):
        return Kernel(payload, bzimage, "")
    codec = compression.detect(head)
    _refuse_codec(payload, codec, head, version)
    if codec == "xz":
        _refuse_xz(payload)
    assert codec is not None
    stream = compression.open_stream(payload, budget)
    elf = _Remembering(stream)
    with suppress(MbtoolError):  # whatever is wrong with it, damage to the stream comes first
        attempt_derive(parse_elf(elf), hvm=False, version=version, size=None)
    stream.forget(sys.maxsize)
    stream.drain()
    if stream.damage is not None:
        raise stream.damage
    if stream.members > 1:
        raise RefusedError(
            f"Xen unpacks the first of {stream.members} {codec} streams, and takes what follows for unpacked, too",
            source=payload.name,
            expected="one stream",
            found=str(stream.members),
            remedy=f"unpack it, and pack all of it by one run of {codec}",
        )
    size = stream.size
    word = int.from_bytes(payload.read(payload.size - 4, 4), "little")
    if word != size & 0xFFFFFFFF and (codec in EXACT or not size < word <= size + SPARE):
        raise FormatError(
            "the last four bytes of the kernel's payload are not its unpacked size",
            source=payload.name,
            offset=payload.size - 4,
            expected=str(size),
            found=str(word),
            remedy="" if bzimage else "append the size to the compressed file as 32-bit little-endian number",
        )
    room = size + (size >> 12) + 32768 + 18 if codec == "gzip" else max(size, word) + payload.size
    return Kernel(elf, bzimage, codec, up(room))


class _Remembering(Source):
    """A stream whose small reads cost nothing the second time, even when the stream has let go of the bytes."""

    streamed = True

    def __init__(self, stream: Source) -> None:
        self.name = stream.name
        self._stream = stream
        self._reads: dict[tuple[int, int], bytes] = {}

    def read(self, offset: int, size: int) -> bytes:
        data = self._reads.get((offset, size))
        if data is None:
            data = self._stream.read(offset, size)
            if size <= REMEMBERED:
                self._reads[offset, size] = data
        return data

    @property
    def size(self) -> int:
        return self._stream.size

    @property
    def at_hand(self) -> int:
        return self._stream.at_hand

    @property
    def known_size(self) -> int | None:
        return self._stream.known_size


def _payload(source: Source) -> tuple[Source, bool]:
    """The payload of a bzImage, or all of any other file; setup_sects 0 is not taken as 4."""
    header = source.read(0, HEADER_SIZE)
    if not header:
        raise RefusedError(
            "the kernel file is empty: Xen dies of a page fault before it says anything", source=source.name
        )
    if len(header) < HEADER_SIZE or header[0x202:0x206] != b"HdrS":
        return source, False
    (version,) = unpack_from("<H", header, 0x206)
    if version < MIN_VERSION:
        raise RefusedError(
            f"Cannot load bzImage v{version >> 8}.{version & 0xFF:02} at least v2.08 is required",
            source=source.name,
        )
    payload_offset, payload_length = unpack_from("<II", header, 0x248)
    start = (header[0x1F1] + 1) * 512 + payload_offset
    if start + payload_length > source.size:
        raise FormatError(
            "the kernel's payload is cut short: Xen does not notice and reads what follows it in memory",
            source=source.name,
            offset=start,
            field="payload_length",
            expected=f"at most {max(0, source.size - start)} bytes",
            found=str(payload_length),
        )
    return source.part(start, payload_length, f"{source.name}:payload"), True


def _refuse_codec(payload: Source, codec: str | None, head: bytes, version: XenVersion) -> None:
    """Streams that Xen hands on as they are, to fail as no ELF file, if there was room for them."""
    if codec is None and head.startswith(GZIP_MAGIC):
        raise RefusedError(
            "internal error, invalid method: a gzip stream with another method than deflate",
            source=payload.name,
            expected="8 (deflate)",
            found=str(head[2]),
        )
    supported = codec in version.codecs and not (codec == "lz4" and head[:2] != b"\x02\x21")
    if supported:
        return
    word = int.from_bytes(payload.read(max(0, payload.size - 4), 4), "little")
    says = "Not enough memory to relocate the dom0 kernel image" if word >= MUCH else "ELF: not an ELF binary"
    knows = next((row.name for row in TABLE if codec in row.codecs), "")
    raise RefusedError(
        f"{says}: the kernel is neither an ELF file nor compressed in a way that this Xen unpacks",
        source=payload.name,
        expected=", ".join(sorted(version.codecs)) + " (lz4: the legacy format)",
        found=codec or repr(head[:8]),
        remedy=f"Xen {knows} and newer unpack {codec}" if knows and codec not in version.codecs else "",
    )


def _refuse_xz(payload: Source) -> None:
    """Streams with what Xen's decoder leaves out: other checks than CRC32, other filters than that for x86 code."""
    from mbtool.formats import xz_stream

    try:
        fields = {field.name: field.value for field in xz_stream.header(payload) if isinstance(field, Field)}
    except FormatError:
        return  # damage, as the stream itself will say
    if not xz_stream.headers_sound(payload):
        return  # as above: checksums come before settings
    for name, known, what in (
        ("check", XZ_CHECKS, "its integrity check"),
        ("filters", XZ_FILTERS, "its filters"),
    ):
        if name in fields and fields[name] not in known:
            raise RefusedError(
                f"Input was encoded with settings that are not supported by this XZ decoder: {what}",
                source=payload.name,
                field=name,
                expected="CRC32 or none, LZMA2 alone or behind the x86 filter",
                found=str(fields[name]),
                remedy="compress with xz --check=crc32 --x86 --lzma2",
            )
