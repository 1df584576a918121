"""ISO 9660 volumes: descriptors, directory records, and the names and modes that Rock Ridge adds.

Sources: ECMA-119 (the free text of ISO 9660), sections 8, 9 and 6.9; IEEE P1281 (SUSP) and P1282 (Rock Ridge).
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from typing import Any

from construct import Adapter, Bytes, Int8ul, Int32ub, Int32ul, Struct

from mbtool.formats.wire import Layout, choice_names, flag_names

SECTOR = 2048
FIRST_DESCRIPTOR = 16
"""Sector of the first volume descriptor: what comes before is the system's."""
IDENTIFIER = b"CD001"
BOOT_RECORD, PRIMARY, SUPPLEMENTARY, TERMINATOR = 0, 1, 2, 255
DESCRIPTORS = {
    BOOT_RECORD: "boot record",
    PRIMARY: "primary",
    SUPPLEMENTARY: "supplementary",
    3: "partition",
    TERMINATOR: "terminator",
}
DIRECTORY = 2
"""Bit 1 of a directory record's flags."""
MULTI_EXTENT = 0x80


class _Both(Adapter):  # type: ignore[misc]
    """A number recorded twice, little-endian and then big-endian; the first is what every reader takes."""

    def __init__(self, size: int) -> None:
        super().__init__(Bytes(2 * size))
        self._size = size

    def _decode(self, obj: bytes, context: Any, path: str) -> int:
        return int.from_bytes(obj[: self._size], "little")

    def _encode(self, obj: int, context: Any, path: str) -> bytes:
        return obj.to_bytes(self._size, "little") + obj.to_bytes(self._size, "big")


Both16, Both32 = _Both(2), _Both(4)


@dataclass(frozen=True, slots=True)
class DescriptorHead:
    """How every volume descriptor begins (ECMA-119, section 8.1)."""

    volume_descriptor_type: int
    standard_identifier: bytes
    volume_descriptor_version: int


HEAD = Layout(
    DescriptorHead,
    Struct(
        "volume_descriptor_type" / Int8ul, "standard_identifier" / Bytes(5), "volume_descriptor_version" / Int8ul
    ),
    telling={"volume_descriptor_type"},
    meanings={"volume_descriptor_type": choice_names(DESCRIPTORS)},
)


@dataclass(frozen=True, slots=True)
class BootRecord:
    """A boot record (section 8.2); ``boot_catalog`` (a sector) as El Torito has it."""

    volume_descriptor_type: int
    standard_identifier: bytes
    volume_descriptor_version: int
    boot_system_identifier: bytes
    boot_identifier: bytes
    boot_catalog: int


BOOT = Layout(
    BootRecord,
    Struct(
        "volume_descriptor_type" / Int8ul,
        "standard_identifier" / Bytes(5),
        "volume_descriptor_version" / Int8ul,
        "boot_system_identifier" / Bytes(32),
        "boot_identifier" / Bytes(32),
        "boot_catalog" / Int32ul,
    ),
    telling={"volume_descriptor_type", "boot_system_identifier", "boot_catalog"},
    meanings={
        "volume_descriptor_type": choice_names(DESCRIPTORS),
    },
)


@dataclass(frozen=True, slots=True)
class VolumeDescriptor:
    """A primary or supplementary volume descriptor (sections 8.4 and 8.5); locations and sizes in blocks."""

    volume_descriptor_type: int
    standard_identifier: bytes
    volume_descriptor_version: int
    volume_flags: int
    system_identifier: bytes
    volume_identifier: bytes
    unused: bytes
    volume_space_size: int
    escape_sequences: bytes
    volume_set_size: int
    volume_sequence_number: int
    logical_block_size: int
    path_table_size: int
    type_l_path_table: int
    optional_type_l_path_table: int
    type_m_path_table: int
    optional_type_m_path_table: int
    root_directory_record: bytes
    volume_set_identifier: bytes
    publisher_identifier: bytes
    data_preparer_identifier: bytes
    application_identifier: bytes
    copyright_file_identifier: bytes
    abstract_file_identifier: bytes
    bibliographic_file_identifier: bytes
    volume_creation_date_and_time: bytes
    volume_modification_date_and_time: bytes
    volume_expiration_date_and_time: bytes
    volume_effective_date_and_time: bytes
    file_structure_version: int


_DATES = ("creation", "modification", "expiration", "effective")

VOLUME = Layout(
    VolumeDescriptor,
    Struct(
        "volume_descriptor_type" / Int8ul,
        "standard_identifier" / Bytes(5),
        "volume_descriptor_version" / Int8ul,
        "volume_flags" / Int8ul,
        "system_identifier" / Bytes(32),
        "volume_identifier" / Bytes(32),
        "unused" / Bytes(8),
        "volume_space_size" / Both32,
        "escape_sequences" / Bytes(32),
        "volume_set_size" / Both16,
        "volume_sequence_number" / Both16,
        "logical_block_size" / Both16,
        "path_table_size" / Both32,
        "type_l_path_table" / Int32ul,
        "optional_type_l_path_table" / Int32ul,
        "type_m_path_table" / Int32ub,
        "optional_type_m_path_table" / Int32ub,
        "root_directory_record" / Bytes(34),
        "volume_set_identifier" / Bytes(128),
        "publisher_identifier" / Bytes(128),
        "data_preparer_identifier" / Bytes(128),
        "application_identifier" / Bytes(128),
        "copyright_file_identifier" / Bytes(37),
        "abstract_file_identifier" / Bytes(37),
        "bibliographic_file_identifier" / Bytes(37),
        "volume_creation_date_and_time" / Bytes(17),
        "volume_modification_date_and_time" / Bytes(17),
        "volume_expiration_date_and_time" / Bytes(17),
        "volume_effective_date_and_time" / Bytes(17),
        "file_structure_version" / Int8ul,
    ),
    hex={"volume_flags"},
    telling={"volume_descriptor_type", "volume_identifier", "volume_space_size", "volume_creation_date_and_time"},
    meanings={
        "volume_descriptor_type": choice_names(DESCRIPTORS),
        **{f"volume_{name}_date_and_time": lambda raw: date_text(raw) for name in _DATES},
    },
)


@dataclass(frozen=True, slots=True)
class DirectoryRecord:
    """The fixed part of a directory record (section 9.1); the name and the system's own bytes follow."""

    length_of_directory_record: int
    extended_attribute_record_length: int
    location_of_extent: int
    data_length: int
    recording_date_and_time: bytes
    file_flags: int
    file_unit_size: int
    interleave_gap_size: int
    volume_sequence_number: int
    length_of_file_identifier: int


RECORD = Layout(
    DirectoryRecord,
    Struct(
        "length_of_directory_record" / Int8ul,
        "extended_attribute_record_length" / Int8ul,
        "location_of_extent" / Both32,
        "data_length" / Both32,
        "recording_date_and_time" / Bytes(7),
        "file_flags" / Int8ul,
        "file_unit_size" / Int8ul,
        "interleave_gap_size" / Int8ul,
        "volume_sequence_number" / Both16,
        "length_of_file_identifier" / Int8ul,
    ),
    hex={"file_flags"},
    telling={"location_of_extent", "data_length"},
    meanings={"file_flags": flag_names({0: "hidden", 1: "directory", 7: "not the last extent"})},
)

# ---- dates: of descriptors as 17 digits and a zone (8.4.26.1), of records as 7 bytes (9.1.5); always UTC here


def date_17(seconds: int) -> bytes:
    """A moment, in seconds since 1970, for a volume descriptor."""
    t = time.gmtime(seconds)
    return time.strftime("%Y%m%d%H%M%S00", t).encode("ascii") + b"\0"


NO_DATE = b"0" * 16 + b"\0"


def date_7(seconds: int) -> bytes:
    """A moment, in seconds since 1970, for a directory record: 1900 to 2155."""
    t = time.gmtime(seconds)
    return bytes((min(t.tm_year - 1900, 255), t.tm_mon, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, 0))


def date_text(raw: bytes) -> str:
    """A descriptor's date in words, "" when it is not given."""
    digits = raw[:16].decode("ascii", "replace")
    if not digits.isdecimal() or not int(digits):
        return ""
    minutes = int.from_bytes(raw[16:], "little", signed=True) * 15
    zone = f" UTC{minutes // 60:+d}:{minutes % 60:02d}" if minutes else " UTC"
    d = digits
    return f"{d[:4]}-{d[4:6]}-{d[6:8]} {d[8:10]}:{d[10:12]}:{d[12:14]}{zone}"


# ---- Rock Ridge: entries of the System Use field, each two letters, length, version, data


def rock_ridge_start() -> bytes:
    """What the root's first record says: System Use Sharing begins here (SP), with Rock Ridge in it (ER)."""
    name = b"RRIP_1991A"
    return b"SP\x07\x01\xbe\xef\0" + b"ER" + bytes((8 + len(name), 1, len(name), 0, 0, 1)) + name


def rock_ridge(name: bytes, mode: int, links: int) -> bytes:
    """POSIX mode (PX) and, unless empty, name (NM) of a record; the file belongs to root."""
    fields = (mode, links, 0, 0)
    out = b"PX\x24\x01" + b"".join(struct.pack("<I", field) + struct.pack(">I", field) for field in fields)
    return out + (b"NM" + bytes((5 + len(name), 1, 0)) + name if name else b"")


def rock_ridge_name(system_use: bytes) -> bytes | None:
    """The name that NM entries give, or None; a name continued elsewhere is given as far as it is here."""
    name, at, found = b"", 0, False
    while at + 4 <= len(system_use) and (size := system_use[at + 2]) >= 4:
        if system_use[at : at + 2] == b"NM" and size >= 5 and not system_use[at + 4] & 6:
            name += system_use[at + 5 : at + size]
            found = True
        at += size
    return name if found else None
