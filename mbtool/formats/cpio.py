"""The cpio archives that an initramfs is made of: "newc" (070701) and "crc" (070702): header, build.

An archive is a run of members, each a header of 110 bytes (a magic and 13 numbers in hexadecimal digits), a name
that ends in NUL and a body, name and body each padded to 4 bytes; the member ``TRAILER!!!`` ends it. Sources:
Linux Documentation/driver-api/early-userspace/buffer-format.rst, init/initramfs.c and cpio(5).
"""

from __future__ import annotations

import binascii
import stat
import struct
from collections.abc import Iterable
from dataclasses import astuple, dataclass

from mbtool.errors import FormatError

NEWC = b"070701"
CRC = b"070702"
HEADER_SIZE = 110
TRAILER = b"TRAILER!!!"
PATH_MAX = 4096
"""Linux skips members with longer names or link targets."""

_NUMBERS = struct.Struct(">13I")


@dataclass(frozen=True, slots=True)
class Header:
    """A member's header, as stored; sizes in bytes. ``c_namesize`` counts the NUL at the name's end."""

    c_magic: bytes
    c_ino: int
    c_mode: int
    c_uid: int
    c_gid: int
    c_nlink: int
    c_mtime: int
    c_filesize: int
    c_maj: int
    c_min: int
    c_rmaj: int
    c_rmin: int
    c_namesize: int
    c_chksum: int
    """Sum of the body's bytes in the "crc" format, else 0."""


def parse_header(data: bytes) -> Header:
    """The header in the first 110 bytes; FormatError when it is not one."""
    if data[:6] not in (NEWC, CRC):
        raise FormatError("no cpio magic", field="c_magic", expected="070701 or 070702", found=repr(data[:6])[2:-1])
    if len(data) < HEADER_SIZE:
        raise FormatError("cpio header is cut short", expected=f"{HEADER_SIZE} bytes", found=f"{len(data)}")
    try:
        return Header(data[:6], *_NUMBERS.unpack(binascii.unhexlify(data[6:HEADER_SIZE])))
    except binascii.Error as error:
        raise FormatError("cpio header has something other than hexadecimal digits") from error


def build_header(header: Header) -> bytes:
    """The 110 bytes of a header; FormatError when a number takes more than 32 bits."""
    magic, *numbers = astuple(header)
    try:
        return bytes(magic) + binascii.hexlify(_NUMBERS.pack(*numbers)).upper()
    except struct.error as error:
        raise FormatError("a number of the cpio header does not fit in 32 bits", field="Header") from error


def build_member(header: Header, name_field: bytes, data: bytes) -> bytes:
    """A member with its padding; the sizes are those of what is given, whatever the header says."""
    sized = (*astuple(header)[:7], len(data), *astuple(header)[8:12], len(name_field), header.c_chksum)
    head = build_header(Header(*sized)) + name_field
    return _padded(_padded(head) + data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


@dataclass(frozen=True, slots=True)
class Member:
    """A member to be built: ``mode`` as in ``st_mode`` (type included), ``mtime`` in seconds since 1970.

    Members with the same ``ino`` are hard links of one file when ``nlink`` says how many there are; one of them
    carries the data. By default each has an inode of its own. Directories come before what is in them.
    """

    name: str | bytes
    data: bytes = b""
    mode: int = stat.S_IFREG | 0o644
    mtime: int = 0
    uid: int = 0
    gid: int = 0
    ino: int | None = None
    nlink: int | None = None
    rdev: tuple[int, int] = (0, 0)


def build_cpio(members: Iterable[Member], *, crc: bool = False, block: int = 512) -> bytes:
    """An archive with its trailer, padded to a multiple of ``block`` bytes; the same members give the same bytes.

    Inodes are numbered by order from 1. Raises FormatError for what the format cannot hold.
    """
    parts = []
    for number, member in enumerate(members, 1):
        name = member.name.encode() if isinstance(member.name, str) else member.name
        if not name or b"\0" in name or name == TRAILER or len(name) >= PATH_MAX:
            raise FormatError("not a name for a cpio member", field="Member.name", found=repr(member.name))
        header = Header(
            c_magic=CRC if crc else NEWC,
            c_ino=number if member.ino is None else member.ino,
            c_mode=member.mode,
            c_uid=member.uid,
            c_gid=member.gid,
            c_nlink=(2 if stat.S_ISDIR(member.mode) else 1) if member.nlink is None else member.nlink,
            c_mtime=member.mtime,
            c_filesize=len(member.data),
            c_maj=0,
            c_min=0,
            c_rmaj=member.rdev[0],
            c_rmin=member.rdev[1],
            c_namesize=len(name) + 1,
            c_chksum=sum(member.data) & 0xFFFFFFFF if crc and stat.S_ISREG(member.mode) else 0,
        )
        parts.append(build_member(header, name + b"\0", member.data))
    last = Header(CRC if crc else NEWC, 0, 0, 0, 0, 1, *[0] * 8)
    parts.append(build_member(last, TRAILER + b"\0", b""))
    archive = b"".join(parts)
    return archive + bytes(-len(archive) % block)
