"""The partition tables of a disk: the MBR, both copies of a GPT, and which of them counts."""

from __future__ import annotations

from dataclasses import dataclass

from mbtool.formats import gpt_copies, mbr, mbr_partitions
from mbtool.formats.partition import Partition
from mbtool.model import Finding, Node, Severity
from mbtool.source import Source


@dataclass(frozen=True, slots=True)
class Tables:
    """All that the tables say; ``findings`` are those about the disk as a whole."""

    scheme: str
    block: int
    """Bytes of a logical block."""
    nodes: tuple[Node, ...]
    backup: tuple[Node, ...]
    partitions: tuple[Partition, ...]
    findings: tuple[Finding, ...]


def read(source: Source) -> Tables:
    """The tables of a disk that ``mbr.reject`` or ``gpt.sector_size`` says is one; damage becomes findings."""
    record = mbr.parse(source.read(0, mbr.SECTOR).ljust(mbr.SECTOR, b"\0"))
    size = source.known_size
    findings: list[Finding] = []
    copies = gpt_copies.copies(source, record, size, findings)
    if copies:
        block = copies[0].block
        findings += mbr_partitions.protective(record, size // block if size is not None else None)
        good = next((copy for copy in copies if not copy.damaged), copies[0])
        partitions = tuple(gpt_copies.partitions(source, good, size))
        primary = tuple(copy.node for copy in copies if copy.lba == 1)
        backup = tuple(copy.node for copy in copies if copy.lba != 1)
        return Tables("GPT", block, (mbr.node(source), *primary), backup, partitions, tuple(findings))
    if any(entry.os_type == mbr.PROTECTIVE for entry in record.partitions):
        findings.append(
            Finding("GPT-MISSING", Severity.ERROR, "a protective MBR, but no GPT at either end of the disk")
        )
    partitions = tuple(mbr_partitions.partitions(source, record))
    return Tables("MBR", mbr.SECTOR, (mbr.node(source),), (), partitions, tuple(findings))
