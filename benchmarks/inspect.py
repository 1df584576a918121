"""Looking at images and planning, beside unpacking them and importing the libraries."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.compare import MBTOOL, Comparison
from mbtool.formats.bzimage import open_payload
from mbtool.source import open_file
from tests.debian import unpacked

PYTHON = sys.executable


def inspect(work: Path) -> list[Comparison]:
    """``work`` takes the payload and the outputs."""
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
