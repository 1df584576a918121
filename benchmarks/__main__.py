"""``python -m benchmarks``: mbtool beside its peers on Debian's images, as ratios of medians.

Needs the real images (``make real``), xz and readelf; virt-firmware's pe-inspect is compared when it is installed
(``pip install virt-firmware``). Exit status 1 when a target is missed.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import typer

from benchmarks.compare import Comparison, run
from mbtool.formats.bzimage import open_payload
from mbtool.source import MIB, open_file
from tests.debian import unpacked

PYTHON = sys.executable
MBTOOL = (PYTHON, "-m", "mbtool")
MEMORY_TARGET = 150 * MIB


def comparisons(work: Path) -> list[Comparison]:
    """What is compared; ``work`` takes the payload and the outputs."""
    (vmlinuz,) = unpacked("linux-image-amd64").glob("boot/vmlinuz-*")
    (xen,) = unpacked("xen-hypervisor-4.17-amd64").glob("boot/xen-*.gz")
    payload = work / "payload.xz"
    with open_file(vmlinuz) as source:
        part = open_payload(source)
        payload.write_bytes(part.read(0, part.size - 4))  # xz itself stumbles over the kernel's size word
    unpack = ("sh", "-c", f"xz -dc {payload} > {work}/vmlinux")
    imports = (PYTHON, "-c", "import typer, construct")
    found = [
        Comparison(
            "inspect --json vmlinuz / xz -dc, readelf -nl",
            (*MBTOOL, "inspect", "--json", str(vmlinuz)),
            ("sh", "-c", f"xz -dc {payload} > {work}/vmlinux && readelf -nlW {work}/vmlinux"),
            0.6,
        ),
        Comparison("inspect xen.gz / import typer, construct", (*MBTOOL, "inspect", str(xen)), imports, 1.6),
        Comparison("--help / import typer, construct", (*MBTOOL, "--help"), imports, 1.6),
        Comparison(
            "build-dom0 / xz -dc",
            (*MBTOOL, "build-dom0", "--kernel", str(vmlinuz), "-o", str(work / "dom0"), "--force"),
            unpack,
            1.3,
        ),
    ]
    if pe_inspect := shutil.which("pe-inspect", path=str(Path(PYTHON).parent)):
        found.append(
            Comparison(
                "inspect xen.gz / pe-inspect vmlinuz",
                (*MBTOOL, "inspect", str(xen)),
                (pe_inspect, str(vmlinuz)),
                0.5,
            )
        )
    return found


def main(rounds: int = 10) -> None:
    """Compare, print a line each, exit 1 when a target is missed."""
    missed = False
    with tempfile.TemporaryDirectory() as name:
        for comparison in comparisons(Path(name)):
            outcome = run(comparison, rounds)
            met = outcome.ratio <= comparison.target and outcome.peak <= MEMORY_TARGET
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
