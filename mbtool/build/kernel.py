"""From a kernel file to the ELF file in it, the way Xen gets there.

A bzImage's payload, or the file itself, is an ELF file or a compressed one. Xen unpacks it to the end before it
looks at the ELF file, into as much room as the last four bytes of the payload say.
Xen: xen/arch/x86/bzimage.c; xen/common/decompress.c, unxz.c, unlz4.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import unpack_from

from mbtool.errors import FormatError, RefusedError
from mbtool.formats import compression
from mbtool.plan.xen_versions import TABLE, XenVersion
from mbtool.source import Budget, Source

HEADER_SIZE = 0x250
"""Bytes that Xen's view of the setup header ends with."""
MIN_VERSION = 0x0208
ELF_MAGIC = b"\x7fELF"
XZ_CHECK = 7
XZ_CRC32 = b"\x01"


@dataclass(frozen=True, slots=True)
class Kernel:
    """``elf``: the kernel proper, unpacked to its end where it was compressed; ``codec`` is "" where it was not."""

    elf: Source
    bzimage: bool
    codec: str


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
    _refuse_codec(source, codec, head, version)
    assert codec is not None
    elf = compression.open_stream(payload, budget)
    elf.drain()
    if elf.damage is not None:
        raise elf.damage
    size = elf.size
    word = int.from_bytes(payload.read(payload.size - 4, 4), "little")
    if word != size & 0xFFFFFFFF:
        raise FormatError(
            "the last four bytes of the kernel's payload are not its unpacked size",
            source=payload.name,
            offset=payload.size - 4,
            expected=str(size),
            found=str(word),
            remedy="" if bzimage else "append the size to the compressed file as 32-bit little-endian number",
        )
    return Kernel(elf, bzimage, codec)


def _payload(source: Source) -> tuple[Source, bool]:
    """The payload of a bzImage, or all of any other file; setup_sects 0 is not taken as 4."""
    header = source.read(0, HEADER_SIZE)
    if not header:
        raise RefusedError("the kernel file is empty: Xen dies of a page fault before it says anything")
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


def _refuse_codec(source: Source, codec: str | None, head: bytes, version: XenVersion) -> None:
    """Streams that Xen hands on as they are, to fail as no ELF file, and xz streams that it cannot read."""
    if codec == "xz" and head[XZ_CHECK : XZ_CHECK + 1] > XZ_CRC32:
        raise RefusedError(
            "Input was encoded with settings that are not supported by this XZ decoder: its integrity check",
            source=source.name,
            expected="CRC32 or none",
            remedy="compress with xz --check=crc32",
        )
    supported = codec in version.codecs and not (codec == "lz4" and head[:2] != b"\x02\x21")
    if supported:
        return
    knows = next((row.name for row in TABLE if codec in row.codecs), "")
    raise RefusedError(
        "ELF: not an ELF binary: the kernel is neither an ELF file nor compressed in a way that this Xen unpacks",
        source=source.name,
        expected=", ".join(sorted(version.codecs)) + " (lz4: the legacy format)",
        found=codec or repr(head[:8]),
        remedy=f"Xen {knows} and newer unpack {codec}" if knows and codec not in version.codecs else "",
    )
