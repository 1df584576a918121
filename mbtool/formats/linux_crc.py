"""The CRC-32 that the kernel's build put at the end of a bzImage, and what signing does to it.

The CRC (reflected, started with all ones, not inverted at the end: "JAMCRC") covers everything before its own four
bytes, which end the protected-mode part. A tool that signs the image afterwards writes PE checksum and place of the
certificate table into the headers and appends the signature; with that taken back, the CRC must match again.

Linux: Documentation/arch/x86/boot.rst, "The Image Checksum"; arch/x86/boot/tools/build.c. From 2.6.26 on; 6.15
dropped it, with the same protocol version.
"""

from __future__ import annotations

import re
import zlib
from enum import StrEnum

from mbtool.errors import FormatError
from mbtool.formats.linux_boot import SetupHeader
from mbtool.model import Field, Finding, Hex, Severity
from mbtool.record import record
from mbtool.source import BytesSource, Source

SINCE = (2, 8)
"""Boot protocol."""
DROPPED = (6, 15)
"""Kernel release."""
LINUX = r"(\d+)\.(\d+)\S* \([^()]*\) #"
"""How the version string of a Linux kernel begins. Other programs that use the protocol have no CRC."""
HEAD = 0x8000
"""Bytes that hold the PE headers of a kernel."""


class CrcState(StrEnum):
    """What the stored CRC says of the file."""

    MATCHES = "matches"
    SIGNED = "matches the file as it was before it was signed"
    WRONG = "does not match"
    WRONG_SIGNED = "does not match, also not the file as it was before it was signed"
    ABSENT = "none"


@record
class ImageCrc:
    """``offset`` (bytes) of the stored CRC, the stored value, and what the file before it gives as it is."""

    offset: int
    stored: int
    computed: int
    state: CrcState


def check(source: Source, header: SetupHeader, version: str = "") -> ImageCrc | None:
    """The CRC of an image; None when its header does not say where it would be, or the file ends before that.

    ``version`` is the image's version string: it tells whether there should be a CRC at all.
    """
    if header.protocol < SINCE or not header.system_size:
        return None
    at = header.setup_size + header.system_size - 4
    word = source.read(at, 4)
    if len(word) < 4:
        return None
    stored = int.from_bytes(word, "little")
    head = source.read(0, min(HEAD, at))
    rest = source.part(len(head), at - len(head))
    computed = _jamcrc(head, rest)
    if computed == stored:
        return ImageCrc(at, stored, computed, CrcState.MATCHES)
    unsigned = _unsigned(head, source.name)
    if unsigned != head and _jamcrc(unsigned, rest) == stored:
        return ImageCrc(at, stored, computed, CrcState.SIGNED)
    state = CrcState.WRONG if unsigned == head else CrcState.WRONG_SIGNED
    return ImageCrc(at, stored, computed, state if _expected(version) else CrcState.ABSENT)


def _expected(version: str) -> bool:
    release = re.match(LINUX, version)
    return release is not None and (int(release[1]), int(release[2])) < DROPPED


def _jamcrc(head: bytes, rest: Source) -> int:
    """Of the head, then the rest. zlib's CRC-32 is the inverse of it, and ten times as fast as crcmod's."""
    value = zlib.crc32(head)
    for piece in rest.chunks():
        value = zlib.crc32(piece, value)
    return value ^ 0xFFFFFFFF


def _unsigned(head: bytes, name: str) -> bytes:
    """The head with the traces of signing taken back; as it is when there are none."""
    if head[:2] != b"MZ":
        return head
    from mbtool.formats import pe_headers
    from mbtool.formats.pe_digest import checksum_place
    from mbtool.formats.pe_names import CERTIFICATE_TABLE
    from mbtool.formats.pe_wire import DATA_DIRECTORY

    try:
        headers, _ = pe_headers.parse(BytesSource(head, name))
    except FormatError:
        return head
    blank = bytearray(head)
    if headers.optional is not None:
        _clear(blank, checksum_place(headers), 4)
    if len(headers.directories) > CERTIFICATE_TABLE:
        size = DATA_DIRECTORY.size
        _clear(blank, headers.directories_offset + CERTIFICATE_TABLE * size, size)
    return bytes(blank)


def _clear(data: bytearray, at: int, size: int) -> None:
    data[at : at + size] = bytes(len(data[at : at + size]))


def show(crc: ImageCrc) -> tuple[Field, list[Finding]]:
    """The CRC as a field of the image, and a finding when it is wrong."""
    if crc.state is CrcState.ABSENT:
        return Field("crc32", None, meaning="none: only Linux 2.6.26 to 6.14 is built with one"), []
    raw = crc.stored.to_bytes(4, "little")
    field = Field("crc32", Hex(crc.stored), crc.offset, 4, str(crc.state), raw, telling=True)
    if crc.state in (CrcState.MATCHES, CrcState.SIGNED):
        return field, []
    finding = Finding(
        "LINUX-CRC",
        Severity.WARNING,
        f"the image's CRC-32 {crc.state}: the file was changed after it was built",
        "crc32",
        crc.offset,
        f"{crc.computed:#010x}",
        f"{crc.stored:#010x}",
        "loaders do not look at it; compare the file with its package",
    )
    return field, [finding]
