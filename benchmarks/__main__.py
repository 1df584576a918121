"""``python -m benchmarks [GROUP …]``: mbtool beside its peers on Debian's images, as ratios; plans by themselves.

Groups: plan, inspect, check, disk, boot, pagetables; all without an argument. Needs the real images (``make
real``), the programs of ``tests/system-packages``, and 5 GiB of room for temporary files; pe-inspect is compared
where virt-firmware is installed (``pip install virt-firmware``). Exit status 1 when a target is missed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import boot, check, disk, inspect, pagetables, plan
from benchmarks.compare import run
from mbtool.source import MIB

GROUPS = {
    "inspect": inspect.inspect,
    "check": check.check,
    "disk": disk.disk,
    "boot": boot.boot,
    "pagetables": pagetables.pagetables,
}
NAMES = ("plan", *GROUPS)


def main(
    groups: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(NAMES)}.")] = None, rounds: int = 10
) -> None:
    """Measure, print a line each, exit 1 when a target is missed."""
    for group in groups or NAMES:
        if group not in NAMES:
            raise typer.BadParameter(f"no group {group!r}; there are {', '.join(NAMES)}")
    met = [plans() if group == "plan" else compared(group, rounds) for group in groups or NAMES]
    raise typer.Exit(int(not all(met)))


def compared(group: str, rounds: int) -> bool:
    """Compare and print a line each; whether every target is met."""
    missed = False
    with tempfile.TemporaryDirectory() as name:
        for comparison in GROUPS[group](Path(name)):
            outcome = run(comparison, rounds)
            met = outcome.ratio <= comparison.target and outcome.peak <= comparison.memory
            missed |= not met
            print(
                f"{comparison.name:48} {outcome.ratio:5.2f} (target {comparison.target:.2f})"
                f"  {outcome.ours * 1000:5.0f} / {outcome.theirs * 1000:.0f} ms"
                f"  peak {outcome.peak / MIB:.0f} MiB  {'' if met else 'MISSED'}",
                flush=True,
            )
    return not missed


def plans() -> bool:
    """Time plans and print a line each; whether every one is made in time."""
    missed = False
    for timing in plan.timings():
        missed |= not timing.met
        words = "" if timing.met else "MISSED"
        print(f"{timing.name:48} {timing.taken:5.2f} ms (limit {plan.LIMIT:.0f})  {words}", flush=True)
    return not missed


if __name__ == "__main__":
    typer.run(main)
