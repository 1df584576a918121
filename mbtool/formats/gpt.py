"""The GUID partition table: header, entries, the backup at the disk's end (UEFI 2.10, section 5.3)."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mbtool.errors import FormatError
from mbtool.formats.wire import Layout
from mbtool.formats.wire_plain import Bytes, Int32ul, Int64ul, Struct
from mbtool.model import Field, Finding, Node, Severity
from mbtool.source import Source

SIGNATURE = b"EFI PART"
REVISION = 0x00010000
HEADER_SIZE = 92
ENTRY_SIZE = 128
ENTRIES = 128
"""Entries of a table that mbtool writes: 16 KiB, the least that the specification asks for."""
MAX_ENTRIES = 1024
"""Entries that are looked at: no partitioning tool writes more."""

ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
BIOS_BOOT = uuid.UUID("21686148-6449-6e6f-744e-656564454649")
LINUX_DATA = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
TYPES = {
    ESP: "EFI system partition",
    BIOS_BOOT: "BIOS boot",
    LINUX_DATA: "Linux data",
    uuid.UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"): "Linux root, x86-64",
    uuid.UUID("bc13c2ff-59e6-4262-a352-b275fd6f7172"): "Linux /boot",
    uuid.UUID("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"): "Linux swap",
    uuid.UUID("e6d6d379-f507-44c2-a23c-238f2a3df928"): "Linux LVM",
    uuid.UUID("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"): "Microsoft basic data",
}


@dataclass(frozen=True, slots=True)
class GptHeader:
    """The header; all LBAs count logical blocks. Both CRCs are computed by ``build_table``, checked by ``node``."""

    signature: bytes
    revision: int
    header_size: int
    header_crc32: int
    reserved: int
    my_lba: int
    alternate_lba: int
    first_usable_lba: int
    last_usable_lba: int
    disk_guid: bytes
    partition_entry_lba: int
    number_of_partition_entries: int
    size_of_partition_entry: int
    partition_entry_array_crc32: int


def _guid_text(raw: bytes) -> str:
    guid = uuid.UUID(bytes_le=raw)
    return f"{guid}, {TYPES[guid]}" if guid in TYPES else str(guid)


HEADER = Layout(
    GptHeader,
    Struct(
        "signature" / Bytes(8),
        "revision" / Int32ul,
        "header_size" / Int32ul,
        "header_crc32" / Int32ul,
        "reserved" / Int32ul,
        "my_lba" / Int64ul,
        "alternate_lba" / Int64ul,
        "first_usable_lba" / Int64ul,
        "last_usable_lba" / Int64ul,
        "disk_guid" / Bytes(16),
        "partition_entry_lba" / Int64ul,
        "number_of_partition_entries" / Int32ul,
        "size_of_partition_entry" / Int32ul,
        "partition_entry_array_crc32" / Int32ul,
    ),
    hex={"revision", "header_crc32", "partition_entry_array_crc32"},
    telling={"disk_guid", "my_lba", "first_usable_lba", "last_usable_lba"},
    meanings={"disk_guid": _guid_text},
)


@dataclass(frozen=True, slots=True)
class GptEntry:
    """A partition: logical blocks [starting_lba, ending_lba], **both ends included**, as stored."""

    partition_type_guid: bytes
    unique_partition_guid: bytes
    starting_lba: int
    ending_lba: int
    attributes: int
    partition_name: bytes
    """72 bytes of UTF-16LE, padded with NUL."""

    @property
    def name(self) -> str:
        return self.partition_name.decode("utf-16-le", "replace").split("\0")[0]

    @property
    def sectors(self) -> int:
        return self.ending_lba - self.starting_lba + 1


ENTRY = Layout(
    GptEntry,
    Struct(
        "partition_type_guid" / Bytes(16),
        "unique_partition_guid" / Bytes(16),
        "starting_lba" / Int64ul,
        "ending_lba" / Int64ul,
        "attributes" / Int64ul,
        "partition_name" / Bytes(72),
    ),
    hex={"attributes"},
    telling={"partition_type_guid", "starting_lba", "ending_lba", "partition_name"},
    meanings={
        "partition_type_guid": _guid_text,
        "unique_partition_guid": lambda raw: str(uuid.UUID(bytes_le=raw)),
        "partition_name": lambda raw: raw.decode("utf-16-le", "replace").split("\0")[0],
    },
)


def entry(
    type_guid: uuid.UUID, unique: uuid.UUID, starting_lba: int, sectors: int, name: str, attributes: int = 0
) -> GptEntry:
    """A partition of ``sectors`` logical blocks; FormatError when the name is longer than 36 UTF-16 units."""
    raw = name.encode("utf-16-le")
    if len(raw) > 72:
        raise FormatError("partition name is too long", expected="at most 36 UTF-16 units", found=name)
    return GptEntry(
        type_guid.bytes_le,
        unique.bytes_le,
        starting_lba,
        starting_lba + sectors - 1,
        attributes,
        raw.ljust(72, b"\0"),
    )


@dataclass(frozen=True, slots=True)
class Table:
    """Both copies of a table as bytes, and where they go (logical blocks)."""

    primary: bytes
    """Header and entries, to be written from LBA 1."""
    backup: bytes
    """Entries and header, to be written from ``backup_lba`` to the disk's end."""
    backup_lba: int


def build_table(entries: Sequence[GptEntry], disk_guid: uuid.UUID, sectors: int, sector_size: int = 512) -> Table:
    """The table of a disk of ``sectors`` logical blocks, CRCs computed.

    Raises FormatError when an entry lies outside the usable blocks or overlaps another.
    """
    array = b"".join(ENTRY.build(item) for item in entries).ljust(ENTRIES * ENTRY_SIZE, b"\0")
    array_sectors = -(-len(array) // sector_size)
    primary = GptHeader(
        SIGNATURE,
        REVISION,
        HEADER_SIZE,
        0,
        0,
        1,
        sectors - 1,
        2 + array_sectors,
        sectors - 2 - array_sectors,
        disk_guid.bytes_le,
        2,
        ENTRIES,
        ENTRY_SIZE,
        zlib.crc32(array),
    )
    end = primary.first_usable_lba
    for item in sorted(entries, key=lambda item: item.starting_lba):
        if not end <= item.starting_lba <= item.ending_lba <= primary.last_usable_lba:
            raise FormatError(
                f"partition {item.name!r} overlaps another or lies outside the usable blocks",
                expected=f"within [{end}, {primary.last_usable_lba}]",
                found=f"[{item.starting_lba}, {item.ending_lba}]",
            )
        end = item.ending_lba + 1
    backup_lba = primary.last_usable_lba + 1
    backup = replace(primary, my_lba=sectors - 1, alternate_lba=1, partition_entry_lba=backup_lba)
    padded = array.ljust(array_sectors * sector_size, b"\0")
    return Table(
        _sealed(primary).ljust(sector_size, b"\0") + padded,
        padded + _sealed(backup).ljust(sector_size, b"\0"),
        backup_lba,
    )


def _sealed(header: GptHeader) -> bytes:
    """The header's bytes with its own CRC in place (computed with the CRC field zero)."""
    crc = zlib.crc32(HEADER.build(replace(header, header_crc32=0)))
    return HEADER.build(replace(header, header_crc32=crc))


def sector_size(source: Source) -> int:
    """Logical block size (512 or 4096 bytes) at which a primary header stands, 0 when there is none."""
    return next((size for size in (512, 4096) if source.read(size, 8) == SIGNATURE), 0)


def entries_of(source: Source, header: GptHeader, block: int) -> Iterator[tuple[int, GptEntry]]:
    """The used entries with their byte offsets; at most MAX_ENTRIES are looked at."""
    step = header.size_of_partition_entry
    if step < ENTRY_SIZE:
        return
    for number in range(min(header.number_of_partition_entries, MAX_ENTRIES)):
        at = header.partition_entry_lba * block + number * step
        data = source.read(at, ENTRY_SIZE)
        if len(data) < ENTRY_SIZE:
            return
        if any(data[:16]):
            yield at, ENTRY.parse(data)


def node(source: Source, lba: int, block: int) -> Node:
    """The header at ``lba`` as a node ``gpt`` (``block`` bytes a logical block); FormatError when cut short."""
    at = lba * block
    header = HEADER.read(source, at)
    findings = list(_findings(source, header, lba, block))
    fields = HEADER.fields(source.read(at, HEADER_SIZE))
    used = len(list(entries_of(source, header, block)))
    return Node("gpt", at, block, (*fields, Field("partitions", used, telling=True)), (), tuple(findings))


def _findings(source: Source, header: GptHeader, lba: int, block: int) -> Iterator[Finding]:
    if header.signature != SIGNATURE:
        yield Finding("GPT-SIGNATURE", Severity.ERROR, "no GPT header here", "signature", 0, "EFI PART")
        return
    if not HEADER_SIZE <= header.header_size <= block:
        yield Finding(
            "GPT-HEADER-SIZE",
            Severity.ERROR,
            "header size makes no sense",
            "header_size",
            12,
            f"{HEADER_SIZE} to {block}",
            str(header.header_size),
        )
        return
    raw = bytearray(source.read(lba * block, header.header_size))
    raw[16:20] = bytes(4)
    if (crc := zlib.crc32(raw)) != header.header_crc32:
        yield Finding(
            "GPT-HEADER-CRC",
            Severity.ERROR,
            "the header's checksum does not match",
            "header_crc32",
            16,
            f"{crc:#010x}",
            f"{header.header_crc32:#010x}",
        )
    if header.my_lba != lba:
        yield Finding("GPT-MY-LBA", Severity.ERROR, "stands elsewhere", "my_lba", 24, str(lba), str(header.my_lba))
    size = header.number_of_partition_entries * header.size_of_partition_entry
    if size > MAX_ENTRIES * ENTRY_SIZE:
        yield Finding(
            "GPT-ENTRIES",
            Severity.WARNING,
            f"{size} bytes of entries: not checked",
            "number_of_partition_entries",
            80,
        )
        return
    array = source.read(header.partition_entry_lba * block, size)
    if len(array) < size or zlib.crc32(array) != header.partition_entry_array_crc32:
        yield Finding(
            "GPT-ENTRIES-CRC",
            Severity.ERROR,
            "the checksum of the entries does not match",
            "partition_entry_array_crc32",
            88,
            f"{zlib.crc32(array):#010x}",
            f"{header.partition_entry_array_crc32:#010x}",
        )
