"""Make a disk's machine odd: a boot sector that changes what the BIOS says and does (see odd_bios.asm)."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SECTOR = 512
SETTINGS = 484
SAVED, TABLE, TABLE_SECTORS = 2046, 2030, 16
"""Sectors in the free end of the stub's partition."""

Entry = tuple[int, int, int] | tuple[int, int, int, int]
"""Start, end, type and (ACPI 3) attributes of some memory."""


@dataclass(frozen=True)
class Oddities:
    """As the fields of ``settings`` in the source; ``memory`` is the map, in the BIOS's order."""

    memory: Sequence[Entry] = ()
    answer: int = 24
    lower: int = 0
    sector: int = 0
    failures: int = 0
    no_extensions: bool = False
    carry_ends: bool = False
    rude: bool = False


def make_odd(disk: Path, odd: Oddities, nasm: str) -> None:
    """Change the disk so that the machine is odd before its boot code runs."""
    code = disk.with_name("odd.bin")
    source = Path(__file__).with_suffix(".asm")
    subprocess.run([nasm, "-f", "bin", "-w+all", "-o", code, source], check=True)
    boot = bytearray(code.read_bytes())
    struct.pack_into(
        "<5H3?",
        boot,
        SETTINGS,
        len(odd.memory),
        odd.answer,
        odd.lower,
        odd.sector,
        odd.failures,
        odd.no_extensions,
        odd.carry_ends,
        odd.rude,
    )
    table = b"".join(
        struct.pack("<QQII", start, end - start, kind, *(attributes or (1,)))
        for start, end, kind, *attributes in odd.memory
    )
    assert len(table) <= TABLE_SECTORS * SECTOR
    with disk.open("r+b") as file:
        saved = file.read(SECTOR)
        file.seek(TABLE * SECTOR)
        free = file.read((SAVED + 1 - TABLE) * SECTOR)
        assert not any(free), "the stub's partition is full"
        file.seek(TABLE * SECTOR)
        file.write(table)
        file.seek(SAVED * SECTOR)
        file.write(saved)
        file.seek(0)
        file.write(boot)
