"""Page tables and P2M beside as many zero bytes: the environment of large dom0s, written in constant memory.

    python -m benchmarks.pagetables tables|zeros GIB OUTPUT

writes both for a dom0 of that many GiB, whose kernel wants its P2M inside the initial mapping (more tables than any
other), or as many zero bytes without any hash. Both start the same program.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

from benchmarks.compare import Comparison
from mbtool.build.output import write_file
from mbtool.plan import p2m, page_tables
from mbtool.plan.memory import PAGE
from mbtool.plan.pv_dom0 import Plan
from mbtool.source import MIB
from tests.plan.kernels import kernel, planned

VIRT_BASE = 0xFFFF_8800_0000_0000
SIZES = {64: 10, 1024: 2}
"""GiB, and how many rounds of writing so much are enough."""
MEMORY = 64 * MIB


def plan_of(gib: int) -> Plan:
    return planned(kernel(virt_base=VIRT_BASE, p2m_base=None), nr_pages=gib << 18)


def size_of(plan: Plan) -> int:
    return plan.space.nr_pt_frames * PAGE + 8 * plan.nr_pages


def pagetables(work: Path) -> list[Comparison]:
    """``work`` takes the outputs."""
    return [
        Comparison(
            f"page tables, P2M of {gib} GiB / {size_of(plan_of(gib)) / MIB:.0f} MiB of zeros",
            (sys.executable, "-m", "benchmarks.pagetables", "tables", str(gib), str(work / "tables")),
            (sys.executable, "-m", "benchmarks.pagetables", "zeros", str(gib), str(work / "zeros")),
            2.0,
            MEMORY,
            settle=True,
            rounds=rounds,
        )
        for gib, rounds in SIZES.items()
    ]


def main(what: str, gib: int, output: Path) -> None:
    plan = plan_of(gib)
    if what == "tables":
        write_file(output, itertools.chain(page_tables.frames(plan), p2m.blocks(plan)), force=True)
        return
    zeros = bytes(MIB)
    with output.open("wb", buffering=0) as file:
        for left in range(size_of(plan), 0, -MIB):
            file.write(zeros[:left])
        os.fsync(file.fileno())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
