"""A recording of one boot: what Xen said, and what dom0's first instruction found."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent / "data"
ORACLE = DATA / "oracle"


@dataclass(frozen=True, slots=True)
class Recording:
    """``about``: how it was made. ``p2m`` may hold only the head of the table."""

    about: dict[str, Any]
    console: tuple[str, ...]
    registers: dict[str, int] = field(default_factory=dict)
    start_info: bytes = b""
    page_tables: bytes = b""
    p2m: bytes = b""

    @property
    def arrangement(self) -> tuple[str, ...]:
        """The console lines from ``Dom0 kernel:`` to ``ENTRY ADDRESS:``."""
        heads = [i for i, line in enumerate(self.console) if line.startswith((" Dom0 kernel:", " ENTRY ADDRESS:"))]
        return self.console[heads[0] : heads[-1] + 1]

    @property
    def alloc_base(self) -> int:
        return self._machine_address(" Dom0 alloc.:")

    @property
    def initrd_base(self) -> int | None:
        physical = self.arrangement[: self.arrangement.index("VIRTUAL MEMORY ARRANGEMENT:")]
        there = any(line.startswith(" Init. ramdisk:") for line in physical)
        return self._machine_address(" Init. ramdisk:") if there else None

    def _machine_address(self, label: str) -> int:
        line = next(line for line in self.arrangement if line.startswith(label))
        match = re.search(r"([0-9a-f]{16})->", line)
        assert match
        return int(match[1], 16)

    @property
    def bits(self) -> int:
        """32 for a 32-bit kernel."""
        return 32 if b"x86_32" in self.start_info[:32] else 64

    @property
    def shared_info(self) -> int:
        return self.word(40) if self.bits == 64 else self.word(36, 4)

    @property
    def pm_bits(self) -> int:
        """The power management bits of ``flags``."""
        return self.word(48 if self.bits == 64 else 40, 4) >> 8

    def word(self, offset: int, size: int = 8) -> int:
        """A little-endian number from the start_info page."""
        return int.from_bytes(self.start_info[offset : offset + size], "little")

    def save(self, stem: Path) -> None:
        """Write STEM.json, STEM.si, STEM.pt.gz and STEM.p2m.gz; nothing of the clock goes in."""
        about = {**self.about, "console": self.console}
        about["registers"] = {name: hex(value) for name, value in self.registers.items()}
        Path(f"{stem}.json").write_text(json.dumps(about, indent=1) + "\n")
        Path(f"{stem}.si").write_bytes(self.start_info)
        Path(f"{stem}.pt.gz").write_bytes(gzip.compress(self.page_tables, mtime=0))
        Path(f"{stem}.p2m.gz").write_bytes(gzip.compress(self.p2m, mtime=0))


def load(stem: Path) -> Recording:
    """A saved recording."""
    about = json.loads(Path(f"{stem}.json").read_text())
    registers = {name: int(value, 16) for name, value in about.pop("registers").items()}
    if "eflags" in registers:
        registers["rflags"] = registers.pop("eflags")
    return Recording(
        about,
        tuple(about.pop("console")),
        registers,
        Path(f"{stem}.si").read_bytes(),
        gzip.decompress(Path(f"{stem}.pt.gz").read_bytes()),
        gzip.decompress(Path(f"{stem}.p2m.gz").read_bytes()),
    )
