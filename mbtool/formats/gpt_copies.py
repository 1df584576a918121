"""Both copies of a GUID partition table, what they differ in, and the partitions of the better one.

What Linux makes of a table is in block/partitions/efi.c.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from mbtool.errors import FormatError
from mbtool.formats import gpt, mbr
from mbtool.formats.partition import Partition, overlaps, placement
from mbtool.model import Field, Finding, Node, Severity
from mbtool.source import Source

ATTRIBUTES = {0: "required", 1: "no block IO", 2: "legacy BIOS bootable", 60: "read-only", 63: "no automount"}


@dataclass(frozen=True, slots=True)
class Copy:
    lba: int
    block: int
    header: gpt.GptHeader
    node: Node

    @property
    def damaged(self) -> bool:
        return any(finding.severity == Severity.ERROR for finding in self.node.findings)


def _copy(source: Source, lba: int, block: int) -> Copy | None:
    """The copy at ``lba``, None when there is none."""
    if source.read(lba * block, 8) != gpt.SIGNATURE:
        return None
    try:
        return Copy(lba, block, gpt.HEADER.read(source, lba * block), gpt.node(source, lba, block))
    except FormatError:  # cut short
        return None


def copies(source: Source, record: mbr.Mbr, size: int | None, findings: list[Finding]) -> list[Copy]:
    """The primary, then the backup, as far as they are there; what they lack or differ in goes to ``findings``."""
    block = gpt.sector_size(source)
    primary = _copy(source, 1, block) if block else None
    if primary is None:
        protected = any(entry.os_type == mbr.PROTECTIVE for entry in record.partitions)
        found = (_copy(source, size // block - 1, block) for block in (512, 4096) if size and protected)
        backup = next((copy for copy in found if copy), None)
        if backup is None:
            return []
        findings.append(
            Finding("GPT-PRIMARY-MISSING", Severity.ERROR, "no GPT at LBA 1, only its backup", offset=backup.block)
        )
        return [backup]
    if size is None:
        return [primary]
    last = size // block - 1
    at = primary.header.alternate_lba if primary.header.alternate_lba > 1 else last
    backup = _copy(source, at, block)
    if backup is None:
        findings.append(
            Finding(
                "GPT-BACKUP-MISSING",
                Severity.WARNING,
                f"no backup GPT at LBA {at}" + (": the disk ends before it" if at > last else ""),
                expected="EFI PART",
                found=source.read(at * block, 8).hex(),
                remedy="sgdisk -e puts one at the end of the disk",
            )
        )
        backup = _copy(source, last, block) if at != last else None
    if backup is None:
        return [primary]
    if backup.lba != last:
        findings.append(
            Finding(
                "GPT-NOT-AT-END",
                Severity.INFO,
                "the backup GPT is not in the last block: the disk grew",
                expected=f"LBA {last}",
                found=str(backup.lba),
                remedy="sgdisk -e moves it",
            )
        )
    findings += _differences(primary.header, backup.header)
    return [primary, backup]


SAME = (
    "revision",
    "first_usable_lba",
    "last_usable_lba",
    "disk_guid",
    "number_of_partition_entries",
    "size_of_partition_entry",
    "partition_entry_array_crc32",
)


def _differences(primary: gpt.GptHeader, backup: gpt.GptHeader) -> Iterator[Finding]:
    differ = [name for name in SAME if getattr(primary, name) != getattr(backup, name)]
    if backup.alternate_lba != primary.my_lba:
        differ.append("alternate_lba")
    if differ:
        yield Finding(
            "GPT-COPIES",
            Severity.WARNING,
            "the two copies of the GPT differ",
            expected="the same " + ", ".join(differ),
            remedy="sgdisk -v names the damaged one",
        )


def partitions(source: Source, copy: Copy, size: int | None) -> Iterator[Partition]:
    header, block = copy.header, copy.block
    entries = list(gpt.entries_of(source, header, block))
    overlapping = overlaps([(entry.starting_lba, entry.ending_lba + 1) for _, entry in entries])
    for (at, entry), overlap in zip(entries, overlapping, strict=True):
        number = 1 + (at - header.partition_entry_lba * block) // header.size_of_partition_entry
        guid = uuid.UUID(bytes_le=entry.partition_type_guid)
        kind = gpt.TYPES.get(guid, str(guid))
        fields = (
            Field("number", number, telling=True),
            Field("type", str(guid), meaning=gpt.TYPES.get(guid, ""), telling=True),
            Field("name", entry.name, telling=True),
            Field("unique_partition_guid", str(uuid.UUID(bytes_le=entry.unique_partition_guid))),
            Field("starting_lba", entry.starting_lba),
            Field("ending_lba", entry.ending_lba),
            Field("attributes", entry.attributes, meaning=_attributes(entry.attributes)),
        )
        usable = header.first_usable_lba <= entry.starting_lba and entry.ending_lba <= header.last_usable_lba
        findings = [*placement(entry.starting_lba * block, max(0, entry.sectors) * block, size), *overlap]
        if not usable or entry.sectors <= 0:
            findings.append(
                Finding(
                    "PARTITION-UNUSABLE",
                    Severity.ERROR,
                    "outside the blocks for partitions" if entry.sectors > 0 else "ends before it starts",
                    expected=f"within [{header.first_usable_lba}, {header.last_usable_lba}]",
                    found=f"[{entry.starting_lba}, {entry.ending_lba}]",
                )
            )
        yield Partition(
            number,
            entry.starting_lba * block,
            max(0, entry.sectors) * block,
            kind,
            guid == gpt.ESP,
            guid == gpt.BIOS_BOOT,
            fields,
            tuple(findings),
        )


def _attributes(mask: int) -> str:
    return ", ".join(ATTRIBUTES.get(bit, f"bit {bit}") for bit in range(64) if mask >> bit & 1)
