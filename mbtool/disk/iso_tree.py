"""The directories of a CD: ISO 9660 names and records, with the names and modes of Rock Ridge, and path tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mbtool.errors import InputError
from mbtool.formats import iso9660
from mbtool.formats.iso9660 import RECORD, SECTOR

MAX_RECORD = 254
"""Bytes; a record's length is even and one byte."""


@dataclass(slots=True)
class Directory:
    """A directory of the tree; ``files`` maps a name to (sector, bytes), filled in from the ESP's extents."""

    number: int
    parent: Directory | None
    identifier: bytes
    directories: dict[str, Directory] = field(default_factory=dict)
    files: dict[str, tuple[int, int]] = field(default_factory=dict)
    sector: int = 0
    size: int = 0


def padded(data: bytes) -> bytes:
    """Whole sectors."""
    return data.ljust(-(-len(data) // SECTOR) * SECTOR, b"\0")


def tree(extents: Mapping[str, tuple[int, int]], first: int) -> list[Directory]:
    """All directories, breadth first as path tables want them, with their places; the root is the first.

    ``extents``: path to (offset in bytes, size). The path tables start at sector ``first``, the directories follow.
    """
    root = Directory(1, None, b"\0")
    for path, (offset, size) in extents.items():
        here = root
        *parents, name = path.split("/")
        for part in parents:
            # The ESP has made sure that names which differ in case alone are one directory.
            known = next((old for old in here.directories if old.lower() == part.lower()), part)
            here = here.directories.setdefault(known, Directory(0, here, b""))
        here.files[name] = (offset // SECTOR, size)
    level, ordered = [root], []
    while level:
        ordered += level
        level = [below for directory in level for below in _named(directory)]
    for number, directory in enumerate(ordered, 1):
        directory.number = number
    next_sector = first + 2 * -(-len(path_table(ordered, "little")) // SECTOR)
    for directory in ordered:
        directory.size = len(records(directory, 0))
        directory.sector = next_sector
        next_sector += directory.size // SECTOR
    return ordered


def _named(directory: Directory) -> list[Directory]:
    """The directories in one, in the order of their identifiers, which they are given here."""
    for name, identifier in _identifiers(list(directory.directories), files=False).items():
        directory.directories[name].identifier = identifier
    return sorted(directory.directories.values(), key=lambda below: below.identifier)


def path_table(directories: list[Directory], endian: Literal["little", "big"]) -> bytes:
    """The path table (ECMA-119, section 9.4)."""
    out = b""
    for directory in directories:
        name = directory.identifier
        parent = directory.parent.number if directory.parent else 1
        out += bytes((len(name), 0)) + directory.sector.to_bytes(4, endian) + parent.to_bytes(2, endian)
        out += name + bytes(len(name) % 2)
    return out


def records(directory: Directory, mtime: int) -> bytes:
    """The records of a directory: itself, its parent, then all by identifier; whole sectors."""
    parent = directory.parent or directory
    links = 2 + len(directory.directories)
    start = b"" if directory.parent else iso9660.rock_ridge_start()
    itself = start + iso9660.rock_ridge(b"", 0o40555, links)
    above = iso9660.rock_ridge(b"", 0o40555, 2 + len(parent.directories))
    entries = [
        record(b"\0", directory.sector, directory.size, mtime, True, itself),
        record(b"\1", parent.sector, parent.size, mtime, True, above),
    ]
    named: list[tuple[bytes, bytes]] = []
    for name, below in directory.directories.items():
        extra = iso9660.rock_ridge(name.encode(), 0o40555, 2 + len(below.directories))
        named.append(
            (below.identifier, record(below.identifier, below.sector, below.size, mtime, True, extra, name))
        )
    identifiers = _identifiers(list(directory.files), files=True)
    for name, (sector, size) in directory.files.items():
        extra = iso9660.rock_ridge(name.encode(), 0o100444, 1)
        named.append((identifiers[name], record(identifiers[name], sector, size, mtime, False, extra, name)))
    entries += [entry for _, entry in sorted(named)]
    out = b""
    for entry in entries:
        if len(out) % SECTOR + len(entry) > SECTOR:  # no record crosses a sector
            out = padded(out)
        out += entry
    return padded(out)


def record(
    identifier: bytes, sector: int, size: int, mtime: int, directory: bool, system_use: bytes, name: str = ""
) -> bytes:
    """A directory record (ECMA-119, section 9.1); InputError when it is too long for ``name``'s sake."""
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
        suffix = b"." + d_characters(extension, 8) if files else b""
        end = b";1" if files else b""
        room = 31 - len(suffix)
        number, base = 0, d_characters(stem, room)
        while (identifier := base + suffix + end) in taken:
            number += 1
            tail = f"_{number}".encode()
            base = d_characters(stem, room - len(tail)) + tail
        taken.add(identifier)
        out[name] = identifier
    return out


def d_characters(text: str, size: int) -> bytes:
    """A text in the characters that ISO 9660 has for identifiers, at most ``size``."""
    return re.sub(r"[^A-Z0-9_]", "_", text.upper())[:size].encode("ascii")
