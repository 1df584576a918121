"""A partition, whichever table it comes from, and what can be wrong with where it lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mbtool.model import Field, Finding, Severity


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition: ``size`` bytes at ``offset`` of the disk."""

    number: int
    offset: int
    size: int
    type: str
    """In words."""
    esp: bool = False
    bios_boot: bool = False
    fields: tuple[Field, ...] = ()
    findings: tuple[Finding, ...] = ()


def placement(offset: int, size: int, disk: int | None) -> Iterator[Finding]:
    """That the partition does not end on a disk of ``disk`` bytes."""
    if disk is not None and offset + size > disk:
        yield Finding(
            "PARTITION-PAST-END",
            Severity.ERROR,
            "ends past the end of the disk",
            expected=f"at most {disk} bytes",
            found=str(offset + size),
        )


def overlaps(ranges: Sequence[tuple[int, int]]) -> list[tuple[Finding, ...]]:
    """For each half-open range the finding that it begins inside an earlier one, if it does."""
    out: list[tuple[Finding, ...]] = [()] * len(ranges)
    end = 0
    for number in sorted(range(len(ranges)), key=lambda number: ranges[number]):
        start, stop = ranges[number]
        if start < end:
            out[number] = (
                Finding(
                    "PARTITION-OVERLAP",
                    Severity.ERROR,
                    "overlaps another partition",
                    expected=f"from LBA {end} on",
                    found=str(start),
                ),
            )
        end = max(end, stop)
    return out
