"""The CRC-32 that the kernel's build appends to a bzImage, and what signing does to it.

The CRC (reflected, started with all ones, not inverted at the end: "JAMCRC") covers everything before its own four
bytes, which end the protected-mode part. A tool that signs the image afterwards writes the PE checksum and the
certificate table's place into the headers and appends the signature; taken back, the CRC must match again.
Linux: arch/x86/boot/tools/build.c (until 6.15).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mbtool.errors import FormatError
from mbtool.formats import pe_headers
from mbtool.formats.linux_boot import SetupHeader
from mbtool.model import Field, Finding, Hex, Severity
from mbtool.source import BytesSource, Source

CHECKSUM_OFFSET = 64
"""Of CheckSum in the optional header, PE32 and PE32+ alike."""
CERTIFICATE_TABLE = 4
HEAD = 0x8000
"""Bytes in which the PE headers of a kernel stand."""


class CrcState(StrEnum):
    """What the stored CRC says of the file."""

    MATCHES = "matches"
    SIGNED = "matches the file as it was before it was signed"
    ABSENT = "none stored (kernels from 6.16 on have none)"
    WRONG = "does not match"


@dataclass(frozen=True, slots=True)
class ImageCrc:
    """``offset`` (bytes) of the stored CRC, the stored value, and what the file before it gives."""

    offset: int
    stored: int
    computed: int
    state: CrcState


def check(source: Source, header: SetupHeader) -> ImageCrc | None:
    """The CRC of an image whose header tells where it ends; None when it does not, or the file is shorter."""
    if header.system_size is None or header.system_size < 4:
        return None
    at = header.setup_size + header.system_size - 4
    stored_bytes = source.read(at, 4)
    if len(stored_bytes) < 4:
        return None
    stored = int.from_bytes(stored_bytes, "little")
    head = source.read(0, min(HEAD, at))
    computed = _jamcrc(source, head, at)
    if computed == stored:
        return ImageCrc(at, stored, computed, CrcState.MATCHES)
    unsigned = _unsigned(head, source.name)
    if unsigned != head and _jamcrc(source, unsigned, at) == stored:
        return ImageCrc(at, stored, computed, CrcState.SIGNED)
    return ImageCrc(at, stored, computed, CrcState.WRONG if stored else CrcState.ABSENT)


def show(crc: ImageCrc) -> tuple[Field, list[Finding]]:
    """The CRC as a field of the image, and a finding when it does not match."""
    field = Field(
        "crc32", Hex(crc.stored), crc.offset, 4, str(crc.state), crc.stored.to_bytes(4, "little"), telling=True
    )
    if crc.state is not CrcState.WRONG:
        return field, []
    finding = Finding(
        "LINUX-CRC",
        Severity.WARNING,
        "the image's CRC-32 does not match: the file was changed after it was built, or has none",
        "crc32",
        crc.offset,
        f"{crc.computed:#010x}",
        f"{crc.stored:#010x}",
        "loaders do not check it; compare the file with its package",
    )
    return field, [finding]


def _jamcrc(source: Source, head: bytes, end: int) -> int:
    """Of ``head`` and what follows it in the file up to ``end``."""
    from zlib import crc32

    value = crc32(head)
    for piece in source.chunks(len(head), end):
        value = crc32(piece, value)
    return value ^ 0xFFFFFFFF


def _unsigned(head: bytes, name: str) -> bytes:
    """The head with the traces of signing taken back; as it is when there is no PE header."""
    if head[:2] != b"MZ":
        return head
    try:
        headers, _ = pe_headers.parse(BytesSource(head, name))
    except FormatError:
        return head
    if headers.optional is None or len(headers.directories) <= CERTIFICATE_TABLE:
        return head
    at = headers.directories_offset + 8 * CERTIFICATE_TABLE
    blank = bytearray(head)
    checksum = headers.optional_offset + CHECKSUM_OFFSET
    blank[checksum : checksum + 4] = bytes(4)
    blank[at : at + 8] = bytes(8)
    return bytes(blank[: len(head)])
