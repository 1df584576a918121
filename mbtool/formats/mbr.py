"""The master boot record: boot code and the table of four partitions (UEFI 2.10, section 5.2)."""

from __future__ import annotations

from dataclasses import dataclass

from construct import Bytes, Const, Int8ul, Int16ul, Int32ul, Struct

from mbtool.formats.wire import Layout, choice_names
from mbtool.model import Field, Finding, Hex, Node, Severity
from mbtool.source import Source

SECTOR = 512
"""Bytes; the table is in the first sector, whatever the medium's sector size."""
TABLE = 0x1BE
BOOT_CODE = 440
"""Bytes of boot code before the disk signature."""
PROTECTIVE = 0xEE
EFI_SYSTEM = 0xEF

TYPES = {
    0x00: "empty",
    0x01: "FAT12",
    0x04: "FAT16 under 32 MiB",
    0x05: "extended",
    0x06: "FAT16",
    0x07: "NTFS or exFAT",
    0x0B: "FAT32",
    0x0C: "FAT32, LBA",
    0x0E: "FAT16, LBA",
    0x0F: "extended, LBA",
    0x17: "hidden NTFS or ISO 9660",
    0x82: "Linux swap",
    0x83: "Linux",
    0x8E: "Linux LVM",
    0xA5: "FreeBSD",
    0xCD: "ISO 9660 hybrid",
    EFI_SYSTEM: "EFI system partition",
    PROTECTIVE: "GPT protective",
    0xFD: "Linux RAID",
}


@dataclass(frozen=True, slots=True)
class MbrPartition:
    """One entry of the table: ``starting_lba`` and ``size_in_lba`` count logical blocks; CHS is kept as stored."""

    boot_indicator: int
    starting_chs: bytes
    os_type: int
    ending_chs: bytes
    starting_lba: int
    size_in_lba: int


PARTITION = Layout(
    MbrPartition,
    Struct(
        "boot_indicator" / Int8ul,
        "starting_chs" / Bytes(3),
        "os_type" / Int8ul,
        "ending_chs" / Bytes(3),
        "starting_lba" / Int32ul,
        "size_in_lba" / Int32ul,
    ),
    hex={"boot_indicator", "os_type"},
    telling={"os_type", "starting_lba", "size_in_lba"},
    meanings={
        "boot_indicator": choice_names({0: "", 0x80: "active"}, "invalid"),
        "os_type": choice_names(TYPES),
    },
)


@dataclass(frozen=True, slots=True)
class Mbr:
    """A master boot record: 440 bytes of code, the disk signature, four partitions."""

    boot_code: bytes
    unique_mbr_disk_signature: int
    unknown: int
    partitions: tuple[MbrPartition, ...]


_HEAD = Struct("boot_code" / Bytes(BOOT_CODE), "signature" / Int32ul, "unknown" / Int16ul)
_END = Const(b"\x55\xaa")
EMPTY = MbrPartition(0, bytes(3), 0, bytes(3), 0, 0)


def parse(sector: bytes) -> Mbr:
    """The record in the first 512 bytes of a disk; ``reject`` says whether it is one."""
    head = _HEAD.parse(sector[:TABLE])
    return Mbr(
        head.boot_code,
        head.signature,
        head.unknown,
        tuple(PARTITION.parse(sector, TABLE + 16 * number) for number in range(4)),
    )


def build(mbr: Mbr) -> bytes:
    """The 512 bytes of the record; fewer than four partitions leave the rest empty."""
    entries = (*mbr.partitions, EMPTY, EMPTY, EMPTY, EMPTY)[:4]
    head: bytes = _HEAD.build(
        {
            "boot_code": mbr.boot_code.ljust(BOOT_CODE, b"\0"),
            "signature": mbr.unique_mbr_disk_signature,
            "unknown": mbr.unknown,
        }
    )
    return head + b"".join(PARTITION.build(entry) for entry in entries) + bytes(_END.build(None))


def protective(sectors: int, boot_code: bytes = b"", disk_signature: int = 0) -> Mbr:
    """The protective record of a GPT disk of ``sectors`` logical blocks (UEFI 2.10, section 5.2.3)."""
    cover = MbrPartition(0, b"\x00\x02\x00", PROTECTIVE, b"\xff\xff\xff", 1, min(sectors - 1, 0xFFFFFFFF))
    return Mbr(boot_code, disk_signature, 0, (cover,))


def reject(source: Source) -> str:
    """Why this is no disk with a partition table: the signature, or entries that make no sense."""
    sector = source.read(0, SECTOR)
    if len(sector) < SECTOR or sector[510:] != b"\x55\xaa":
        return "no 55 aa at 0x1fe"
    mbr = parse(sector)
    if any(entry.boot_indicator not in (0, 0x80) for entry in mbr.partitions):
        return "55 aa at 0x1fe, but a partition's boot indicator is neither 00 nor 80"
    if not any(entry.os_type and entry.size_in_lba for entry in mbr.partitions):
        return "55 aa at 0x1fe, but no partition in the table"
    return ""


def node(source: Source) -> Node:
    """The record as a node ``mbr`` with a child ``mbr-partition`` per used entry."""
    sector = source.read(0, SECTOR)
    mbr = parse(sector)
    code = mbr.boot_code
    fields = (
        Field("boot_code", code.rstrip(b"\0")[:16], 0, BOOT_CODE, "" if any(code) else "none", code),
        Field(
            "unique_mbr_disk_signature", Hex(mbr.unique_mbr_disk_signature), BOOT_CODE, 4, "", sector[440:444], True
        ),
        Field("unknown", Hex(mbr.unknown), 444, 2, "", sector[444:446]),
        Field("signature", Hex(0xAA55), 510, 2, "", sector[510:]),
    )
    children = []
    size = source.known_size
    for number, entry in enumerate(mbr.partitions):
        if entry.os_type == 0 and entry.size_in_lba == 0:
            continue
        at = TABLE + 16 * number
        problems: tuple[Finding, ...] = ()
        end = (entry.starting_lba + entry.size_in_lba) * SECTOR
        if entry.os_type != PROTECTIVE and size is not None and end > size:
            problems = (
                Finding(
                    "MBR-PAST-END",
                    Severity.ERROR,
                    f"partition {number + 1} ends past the end of the disk",
                    "size_in_lba",
                    12,
                    f"at most {size} bytes",
                    f"{end}",
                ),
            )
        children.append(Node("mbr-partition", at, 16, PARTITION.fields(sector, at, base=-at), (), problems))
    return Node("mbr", 0, SECTOR, fields, tuple(children))
