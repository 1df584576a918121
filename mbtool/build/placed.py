"""Where in memory a file that ``build-dom0`` wrote lies, by the layout.json beside it."""

from __future__ import annotations

import json
from pathlib import Path

from mbtool.errors import MbtoolError
from mbtool.record import record
from mbtool.source import read_file

MAX_LAYOUT = 16 << 20
"""Bytes of a layout.json that are read at most."""


@record
class Placed:
    """``base``: physical (PV: machine) address of the file's first byte; ``at``: offset of what is asked for."""

    base: int
    at: int = 0
    pae: bool = False
    """The page tables are those of a 32-bit kernel."""


def page_tables(file: Path) -> Placed | None:
    """The page tables of a PV dom0, None when no layout tells."""
    try:
        layout = json.loads(read_file(file.with_name("layout.json"), MAX_LAYOUT))
        return Placed(int(layout["machine"]["page_tables"]["start"], 16), 0, "eip" in layout["registers"])
    except (MbtoolError, ValueError, TypeError, KeyError, RecursionError):
        return None


def hvm_start_info(file: Path) -> Placed | None:
    """The hvm_start_info in the blob of a PVH dom0 (ebx points to it), None when no layout tells."""
    try:
        layout = json.loads(read_file(file.with_name("layout.json"), MAX_LAYOUT))
        base = next(int(blob["start"], 16) for blob in layout["load"] if blob["file"] == file.name)
        at = int(layout["registers"]["ebx"], 16) - base
    except (MbtoolError, ValueError, TypeError, KeyError, RecursionError, StopIteration):
        return None
    return Placed(base, at) if base >= 0 and at >= 0 else None
