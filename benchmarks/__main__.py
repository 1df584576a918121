"""``python -m benchmarks [GROUP …]``: mbtool beside its peers on Debian's images, as ratios of medians.

Groups: inspect, disk, boot; all without an argument. Needs the real images (``make real``), the programs of
``tests/system-packages``, and for disk 5 GiB of room for temporary files; virt-firmware's pe-inspect is compared
when it is installed (``pip install virt-firmware``). Exit status 1 when a target is missed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import boot, disk, inspect
from benchmarks.compare import run
from mbtool.source import MIB

GROUPS = {"inspect": inspect.inspect, "disk": disk.disk, "boot": boot.boot}


def main(
    groups: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(GROUPS)}.")] = None, rounds: int = 10
) -> None:
    """Compare, print a line each, exit 1 when a target is missed."""
    missed = False
    for group in groups or GROUPS:
        if group not in GROUPS:
            raise typer.BadParameter(f"no group {group!r}; there are {', '.join(GROUPS)}")
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
    raise typer.Exit(int(missed))


if __name__ == "__main__":
    typer.run(main)
