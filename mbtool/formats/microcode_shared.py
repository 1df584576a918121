"""What Intel's and AMD's microcode updates have in common: dates, processor signatures, sums."""

from __future__ import annotations

import struct

from mbtool.formats.findings import Findings
from mbtool.model import Field, Finding, Severity

MAX_UPDATES = 8192
"""Updates that are shown of one file; all that Intel ever published are some hundreds."""


def full(updates: int, findings: Findings, at: int) -> bool:
    """Whether that many updates are enough; then a finding says that there are more from offset ``at`` (bytes)."""
    if updates < MAX_UPDATES:
        return False
    message = f"more than {MAX_UPDATES} updates, the rest is not shown"
    findings.add(Finding("MICROCODE-MANY", Severity.WARNING, message, offset=at))
    return True


def iso_date(date: int) -> str:
    """``0x07062024`` (month, day and year in decimal digits) as 2024-07-06."""
    return f"{date & 0xFFFF:04x}-{date >> 24:02x}-{date >> 16 & 0xFF:02x}"


def cpu_name(signature: int) -> str:
    """A processor signature (CPUID 1, EAX) in words, by the rule for CPUID leaf 1 (Intel SDM, volume 2)."""
    family, model, stepping = signature >> 8 & 0xF, signature >> 4 & 0xF, signature & 0xF
    if family in (6, 15):
        model |= signature >> 12 & 0xF0
    if family == 15:
        family += signature >> 20 & 0xFF
    return f"family {family:#x} model {model:#x} stepping {stepping}"


def dword_sum(data: bytes) -> int:
    """The sum of all little-endian 32-bit words, modulo 2**32; bytes after the last whole word are left out."""
    total = 0
    for start in range(0, len(data) & ~3, 1 << 16):
        piece = data[start : start + (1 << 16)]
        total += sum(struct.unpack(f"<{len(piece) // 4}I", piece[: len(piece) & ~3]))
    return total & 0xFFFFFFFF


def date_field(date: int, raw: bytes, offset: int) -> Field:
    """The date of an update as text."""
    return Field("date", iso_date(date), offset, len(raw), "", raw, telling=True)
