"""The ISO 9660 view of a disk: what makes its image a bootable CD as well.

::

    sector 16   primary volume descriptor, boot record (El Torito), terminator
           19   boot catalog
           20   path tables, directories
           …    then the disk's own BIOS boot partition and ESP

Files are those of the ESP, at the same place: each byte is stored once. UEFI firmware boots the ESP as a whole
(platform 0xef), a BIOS the stub's CD boot code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mbtool.errors import InputError
from mbtool.formats import el_torito, iso9660
from mbtool.formats.iso9660 import RECORD, SECTOR

CATALOG = iso9660.FIRST_DESCRIPTOR + 3
PATH_TABLE_L = CATALOG + 1
BIOS_SECTORS = 4
"""Virtual sectors that a BIOS loads: one of the CD's, the count that every BIOS takes."""
MAX_RECORD = 254
"""Bytes; a record's length is even and one byte."""
APPLICATION = b"MBTOOL"


@dataclass(slots=True)
class _Directory:
    """A directory of the tree; ``files`` maps a name to (sector, bytes), filled in from the ESP's extents."""

    number: int
    parent: _Directory | None
    identifier: bytes
    directories: dict[str, _Directory] = field(default_factory=dict)
    files: dict[str, tuple[int, int]] = field(default_factory=dict)
    sector: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class BootImages:
    """Sectors of what boots: ``bios`` the CD boot code, ``uefi`` the ESP; None for a firmware that cannot."""

    bios: int | None
    uefi: int | None


def sectors(paths: Mapping[str, object]) -> int:
    """Sectors that the structures take, up to and with the last directory; depends on the names alone.

    Raises InputError for a name that is too long.
    """
    directories = _tree(dict.fromkeys(paths, (0, 0)))
    return directories[-1].sector + directories[-1].size // SECTOR


def build(
    extents: Mapping[str, tuple[int, int]], boot: BootImages, *, size: int, label: str, mtime: int
) -> tuple[int, bytes]:
    """The structures of a CD of ``size`` bytes: (offset in bytes, content).

    ``extents``: path to (offset on the disk, size), offsets at multiples of 2048 bytes; ``mtime``: seconds since
    1970, for every date. Raises InputError when a name is too long or nothing boots.
    """
    directories = _tree(extents)
    table_l, table_m = _path_table(directories, "little"), _path_table(directories, "big")
    table_sectors = -(-len(table_l) // SECTOR)
    out = [
        _volume(directories[0], len(table_l), table_sectors, size, label, mtime),
        iso9660.BOOT.build(
            iso9660.BootRecord(
                iso9660.BOOT_RECORD,
                iso9660.IDENTIFIER,
                1,
                el_torito.SYSTEM_IDENTIFIER.ljust(32, b"\0"),
                bytes(32),
                CATALOG,
            )
        ),
        iso9660.HEAD.build(iso9660.DescriptorHead(iso9660.TERMINATOR, iso9660.IDENTIFIER, 1)),
        _catalog(boot),
        table_l,
        table_m,
    ]
    content = b"".join(_padded(part) for part in out)
    content += b"".join(_directory(directory, mtime) for directory in directories)
    return iso9660.FIRST_DESCRIPTOR * SECTOR, content


def _padded(data: bytes) -> bytes:
    return data.ljust(-(-len(data) // SECTOR) * SECTOR, b"\0")


def _catalog(boot: BootImages) -> bytes:
    entries = []
    if boot.bios is not None:
        entries.append((el_torito.X86, el_torito.no_emulation(boot.bios, BIOS_SECTORS)))
    if boot.uefi is not None:
        entries.append((el_torito.UEFI, el_torito.no_emulation(boot.uefi, el_torito.TO_THE_END)))
    if not entries:
        raise InputError("nothing on it boots from a CD", expected="a BIOS loader or EFI/BOOT/BOOTX64.EFI")
    return el_torito.build(entries)


def _volume(root: _Directory, table: int, table_sectors: int, size: int, label: str, mtime: int) -> bytes:
    date = iso9660.date_17(mtime)
    return iso9660.VOLUME.build(
        iso9660.VolumeDescriptor(
            volume_descriptor_type=iso9660.PRIMARY,
            standard_identifier=iso9660.IDENTIFIER,
            volume_descriptor_version=1,
            volume_flags=0,
            system_identifier=b" " * 32,
            volume_identifier=_d_characters(label, 32).ljust(32),
            unused=bytes(8),
            volume_space_size=size // SECTOR,
            escape_sequences=bytes(32),
            volume_set_size=1,
            volume_sequence_number=1,
            logical_block_size=SECTOR,
            path_table_size=table,
            type_l_path_table=PATH_TABLE_L,
            optional_type_l_path_table=0,
            type_m_path_table=PATH_TABLE_L + table_sectors,
            optional_type_m_path_table=0,
            root_directory_record=_record(b"\0", root.sector, root.size, mtime, True, b""),
            volume_set_identifier=b" " * 128,
            publisher_identifier=b" " * 128,
            data_preparer_identifier=b" " * 128,
            application_identifier=APPLICATION.ljust(128),
            copyright_file_identifier=b" " * 37,
            abstract_file_identifier=b" " * 37,
            bibliographic_file_identifier=b" " * 37,
            volume_creation_date_and_time=date,
            volume_modification_date_and_time=date,
            volume_expiration_date_and_time=iso9660.NO_DATE,
            volume_effective_date_and_time=iso9660.NO_DATE,
            file_structure_version=1,
        )
    )


def _tree(extents: Mapping[str, tuple[int, int]]) -> list[_Directory]:
    """All directories, breadth first as the path table wants them, with their places; the root is the first."""
    root = _Directory(1, None, b"\0")
    for path, (offset, size) in extents.items():
        here = root
        *parents, name = path.split("/")
        for part in parents:
            # The ESP has made sure that names which differ in case alone are one directory.
            known = next((old for old in here.directories if old.lower() == part.lower()), part)
            here = here.directories.setdefault(known, _Directory(0, here, b""))
        here.files[name] = (offset // SECTOR, size)
    level, ordered = [root], []
    while level:
        ordered += level
        level = [below for directory in level for below in _named(directory)]
    for number, directory in enumerate(ordered, 1):
        directory.number = number
    next_sector = PATH_TABLE_L + 2 * -(-len(_path_table(ordered, "little")) // SECTOR)
    for directory in ordered:
        directory.size = len(_directory(directory, 0))
        directory.sector = next_sector
        next_sector += directory.size // SECTOR
    return ordered


def _named(directory: _Directory) -> list[_Directory]:
    """The directories in one, in the order of their identifiers, which they are given here."""
    for name, identifier in _identifiers(list(directory.directories), files=False).items():
        directory.directories[name].identifier = identifier
    return sorted(directory.directories.values(), key=lambda below: below.identifier)


def _path_table(directories: list[_Directory], endian: Literal["little", "big"]) -> bytes:
    """The path table (ECMA-119, section 9.4)."""
    out = b""
    for directory in directories:
        name = directory.identifier
        parent = directory.parent.number if directory.parent else 1
        out += bytes((len(name), 0)) + directory.sector.to_bytes(4, endian) + parent.to_bytes(2, endian)
        out += name + bytes(len(name) % 2)
    return out


def _directory(directory: _Directory, mtime: int) -> bytes:
    """The records of a directory: itself, its parent, then all by identifier; whole sectors."""
    parent = directory.parent or directory
    links = 2 + len(directory.directories)
    start = b"" if directory.parent else iso9660.rock_ridge_start()
    itself = start + iso9660.rock_ridge(b"", 0o40555, links)
    above = iso9660.rock_ridge(b"", 0o40555, 2 + len(parent.directories))
    records = [
        _record(b"\0", directory.sector, directory.size, mtime, True, itself),
        _record(b"\1", parent.sector, parent.size, mtime, True, above),
    ]
    named: list[tuple[bytes, bytes]] = []
    for name, below in directory.directories.items():
        extra = iso9660.rock_ridge(name.encode(), 0o40555, 2 + len(below.directories))
        named.append(
            (below.identifier, _record(below.identifier, below.sector, below.size, mtime, True, extra, name))
        )
    identifiers = _identifiers(list(directory.files), files=True)
    for name, (sector, size) in directory.files.items():
        extra = iso9660.rock_ridge(name.encode(), 0o100444, 1)
        named.append((identifiers[name], _record(identifiers[name], sector, size, mtime, False, extra, name)))
    records += [record for _, record in sorted(named)]
    out = b""
    for record in records:
        if len(out) % SECTOR + len(record) > SECTOR:  # no record crosses a sector
            out = _padded(out)
        out += record
    return _padded(out)


def _record(
    identifier: bytes, sector: int, size: int, mtime: int, directory: bool, system_use: bytes, name: str = ""
) -> bytes:
    body = identifier + bytes(1 - len(identifier) % 2) + system_use
    length = RECORD.size + len(body)
    length += length % 2
    if length > MAX_RECORD:
        raise InputError("name too long for a CD", source=name, expected="at most about 140 bytes")
    head = iso9660.DirectoryRecord(
        length_of_directory_record=length,
        extended_attribute_record_length=0,
        location_of_extent=sector,
        data_length=size,
        recording_date_and_time=iso9660.date_7(mtime),
        file_flags=iso9660.DIRECTORY if directory else 0,
        file_unit_size=0,
        interleave_gap_size=0,
        volume_sequence_number=1,
        length_of_file_identifier=len(identifier),
    )
    return (RECORD.build(head) + body).ljust(length, b"\0")


def _identifiers(names: list[str], *, files: bool) -> dict[str, bytes]:
    """Identifiers for names in one directory, of the few characters that ISO 9660 has, each once (section 7)."""
    taken: set[bytes] = set()
    out = {}
    for name in sorted(names):
        stem, dot, extension = name.rpartition(".") if files else (name, "", "")
        if not dot:
            stem, extension = name, ""
        suffix = b"." + _d_characters(extension, 8) if files else b""
        end = b";1" if files else b""
        room = 31 - len(suffix)
        number, base = 0, _d_characters(stem, room)
        while (identifier := base + suffix + end) in taken:
            number += 1
            tail = f"_{number}".encode()
            base = _d_characters(stem, room - len(tail)) + tail
        taken.add(identifier)
        out[name] = identifier
    return out


def _d_characters(text: str, size: int) -> bytes:
    return re.sub(r"[^A-Z0-9_]", "_", text.upper())[:size].encode("ascii")
