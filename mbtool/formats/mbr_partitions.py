"""The partitions of an MBR, extended ones followed, and how an MBR goes together with a GPT."""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.formats import mbr
from mbtool.formats.partition import Partition, overlaps, placement
from mbtool.model import Field, Finding, Severity
from mbtool.source import Source

EXTENDED = (0x05, 0x0F, 0x85)
MAX_LOGICAL = 64


def protective(record: mbr.Mbr, sectors: int | None) -> Iterator[Finding]:
    covers = [entry for entry in record.partitions if entry.os_type == mbr.PROTECTIVE]
    others = [entry for entry in record.partitions if entry.os_type not in (0, mbr.PROTECTIVE)]
    if all(entry.starting_lba != 1 for entry in covers):
        yield Finding(
            "MBR-NOT-PROTECTIVE",
            Severity.WARNING,
            "no protective partition from LBA 1 on: Linux and UEFI firmware ignore the GPT",
            expected="type 0xee at LBA 1",
            found=f"at LBA {covers[0].starting_lba}" if covers else "none",
        )
    elif sectors and covers[0].size_in_lba not in (min(sectors - 1, 0xFFFFFFFF), 0xFFFFFFFF) and not others:
        yield Finding(
            "MBR-PROTECTIVE-SIZE",
            Severity.INFO,
            "the protective partition does not cover the disk",
            expected=str(min(sectors - 1, 0xFFFFFFFF)),
            found=str(covers[0].size_in_lba),
        )
    if others:
        yield Finding("MBR-HYBRID", Severity.INFO, "the MBR has partitions of its own beside the GPT")


def partitions(source: Source, record: mbr.Mbr) -> Iterator[Partition]:
    entries = [
        (number, entry.starting_lba, entry)
        for number, entry in enumerate(record.partitions, 1)
        if entry.os_type and entry.size_in_lba and entry.os_type != mbr.PROTECTIVE
    ]
    extended = [entry.starting_lba for _, _, entry in entries if entry.os_type in EXTENDED]
    entries = [item for item in entries if item[2].os_type not in EXTENDED]
    if extended:
        entries += [(number, lba, entry) for number, (lba, entry) in enumerate(_logical(source, extended[0]), 5)]
    overlapping = overlaps([(lba, lba + entry.size_in_lba) for _, lba, entry in entries])
    for (number, lba, entry), overlap in zip(entries, overlapping, strict=True):
        offset, size = lba * mbr.SECTOR, entry.size_in_lba * mbr.SECTOR
        kind = mbr.TYPES.get(entry.os_type, f"type {entry.os_type:#04x}")
        fields = (
            Field("number", number, telling=True),
            Field("type", f"{entry.os_type:#04x}", meaning=mbr.TYPES.get(entry.os_type, ""), telling=True),
            Field("active", entry.boot_indicator == 0x80, telling=entry.boot_indicator == 0x80),
            Field("starting_lba", lba),
            Field("size_in_lba", entry.size_in_lba),
        )
        findings = (*placement(offset, size, source.known_size), *overlap)
        yield Partition(number, offset, size, kind, entry.os_type == mbr.EFI_SYSTEM, False, fields, findings)


def _logical(source: Source, base: int) -> Iterator[tuple[int, mbr.MbrPartition]]:
    """The chain of an extended partition: each record has a partition, and a link counted from ``base``."""
    here, seen = base, set[int]()
    while here not in seen and len(seen) < MAX_LOGICAL:
        seen.add(here)
        sector = source.read(here * mbr.SECTOR, mbr.SECTOR)
        if len(sector) < mbr.SECTOR or sector[510:] != b"\x55\xaa":
            return
        partition, link, *_ = mbr.parse(sector).partitions
        if partition.os_type and partition.size_in_lba:
            yield here + partition.starting_lba, partition
        if link.os_type not in EXTENDED:
            return
        here = base + link.starting_lba
