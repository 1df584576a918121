"""Plans of PVH dom0s held against consoles that were recorded, as ``mbtool prove`` does it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mbtool.build.dom0 import Request
from mbtool.build.dom0_files import build_dom0
from mbtool.plan.xen_options import Mode
from mbtool.prove import observe
from mbtool.prove.qemu import End, Run
from mbtool.prove.target import Target, target
from mbtool.prove.verdict import Outcome, enough, judge
from tests.build.test_build_dom0 import LINUX
from tests.oracle.record_pvh import load
from tests.oracle.test_golden_pvh import PVH


def console(name: str, *, quiet: bool = False) -> str:
    """A recording's console; ``quiet``: as with Xen's usual log level."""
    lines = [*load(PVH / f"{name}.json").console, "Std. Loglevel: Errors and warnings"]
    kept = [line for line in lines if not (quiet and "Building a PVH" in line)]
    return "(XEN) Xen version 4.22.0\n" + "".join(f"(XEN) {line}\n" for line in kept)


def wanted(out: Path, **values: str) -> Target:
    """What is to be proven of a plan for the machine that was recorded."""
    build_dom0(Request(kernel=LINUX, mode=Mode.PVH, **{"dom0_mem": "512M", **values}), out)  # type: ignore[arg-type]
    (out / "disk.img").write_bytes(b"")
    return target(out, ())


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("release", ["4.17.7", "4.20.0", "4.22.0"])
def test_as_planned(tmp_path: Path, release: str, quiet: bool) -> None:
    seen = console(f"{release}-linux61-512M", quiet=quiet)
    expected = wanted(tmp_path / "dom0", xen_version=release).expected
    assert enough(seen, expected)
    verdict = judge(Run(seen, End.STOPPED), expected, 60)
    assert (verdict.outcome, verdict.differences) == (Outcome.PROVEN, [])


def test_another_release_prints_other_lines(tmp_path: Path) -> None:
    expected = wanted(tmp_path / "dom0", xen_version="4.22").expected
    verdict = judge(Run(console("4.17.7-linux61-512M"), End.STOPPED), expected, 60)
    assert verdict.outcome is Outcome.DIFFERS
    assert {pair.planned[:4] for pair in verdict.differences} == {"ELF:", "    "}


def test_a_kernel_that_xen_moves() -> None:
    seen = observe.arrangement(console("4.22.0-moved-512M"))
    assert "d0 kernel: Moving [0000000030000000, 0000000030123455] -> [000000001fe00000, 000000001ff23455]" in seen


@pytest.mark.parametrize(("dom0_mem", "memory"), [("512M", 1024), ("1G", 2048), ("3G", 4096), ("9G", 16384)])
def test_machine_is_as_large_as_planned(tmp_path: Path, dom0_mem: str, memory: int) -> None:
    assert wanted(tmp_path / "dom0", dom0_mem=dom0_mem).memory == memory
