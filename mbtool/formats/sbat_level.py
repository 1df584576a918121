"""SbatLevel: which generations of boot programs are still started, as shim keeps them in an EFI variable.

Source: rhboot/shim, SBAT.md and SbatLevel_Variable.txt; sbat.c, ``parse_sbat_var_data``, ``verify_single_entry``.
"""

from __future__ import annotations

import re

from mbtool.errors import FormatError
from mbtool.record import record

ATTRIBUTES = 4
"""Bytes in front of a variable's content in files of efivarfs."""
SIGNATURE = b"sbat,"


@record
class SbatLevel:
    """``date`` (YYYYMMDDNN): which level it is. ``minimum``: components with their least generation."""

    date: str
    minimum: tuple[tuple[str, int], ...]

    def least(self, component: str) -> int:
        """The least generation of a component, 0 for one that is not named."""
        return next((generation for name, generation in self.minimum if name == component), 0)


def parse(data: bytes, source: str) -> SbatLevel:
    """The level of a variable's content, or of its file in efivarfs. FormatError for anything else."""
    if data[ATTRIBUTES:].startswith(SIGNATURE) and not data.startswith(SIGNATURE):
        data = data[ATTRIBUTES:]
    rows = [line.split(b",") for line in re.split(rb"[\r\n]+", data.partition(b"\0")[0]) if line]
    expected = "sbat,1,DATE first, then COMPONENT,GENERATION on each line"
    if not rows or rows[0][0] != b"sbat":
        raise FormatError("is no SbatLevel", source=source, expected=expected)
    minimum = []
    for number, row in enumerate(rows, 1):
        if len(row) < 2 or not row[0] or not re.fullmatch(rb"[0-9]{1,5}", row[1]):
            found = b",".join(row)[:60].decode("utf-8", "replace")
            raise FormatError(
                f"line {number} is none of an SbatLevel", source=source, expected=expected, found=found
            )
        minimum.append((row[0].decode("utf-8", "replace"), int(row[1])))
    date = rows[0][2].decode("utf-8", "replace") if len(rows[0]) > 2 else ""
    return SbatLevel(date, tuple(minimum))
