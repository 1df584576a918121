"""PVH plans beside recordings of real boots: where kernels stay and where Xen moves them, before and after 4.19."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mbtool.errors import RefusedError
from mbtool.formats import xen_dom_parms, xen_versions
from mbtool.plan import cmdline, dom0_mem, xen_options
from mbtool.plan.pvh_dom0 import PvhPlan
from mbtool.source import BytesSource
from tests.conftest import ROOT
from tests.oracle import synthetic
from tests.oracle.compare_pvh import differences, plan_for
from tests.oracle.record_pvh import PvhRecording, load
from tests.oracle.recording import ORACLE
from tests.oracle.test_golden import LINUX, skeleton
from tests.samples.report import ranges

PVH = ORACLE / "pvh"
NAMES = sorted(path.stem for path in PVH.glob("*.json"))
ODD = 1031109
INITRD = b"\x5a" * ODD


def kernel(name: str) -> bytes:
    """The kernel of a recording: in its name behind the version."""
    kind = name.split("-", 1)[1]
    if kind.startswith("linux61-"):
        return skeleton(LINUX)
    if kind.startswith("probe-"):
        return (ROOT / "samples/pvh/pvh.elf").read_bytes()
    return synthetic.PVH_CASES[kind.rpartition("-")[0]]


def planned(name: str, recording: PvhRecording) -> PvhPlan:
    version = xen_versions.parse(str(recording.about["xen"]))
    xen_args = str(recording.about["xen_args"]).encode()
    mem = dom0_mem.parse(xen_options.dom0_mem(xen_args))
    strings = recording.blobs.get("initrd_cmdline")
    dom0_args = str(recording.about["dom0_args"])
    if recording.about.get("uefi") and version.efi_keeps_name:
        dom0_args = f"{recording.about['kernel']} {dom0_args}"
    return plan_for(
        recording,
        xen_dom_parms.derive(BytesSource(kernel(name)), hvm=True, version=version),
        version,
        initrd_len=recording.about["initrd_size"],
        nr_pages=dom0_mem.compute_nr_pages(mem, dom0_mem.LONG_MAX),
        cmdline=cmdline.dom0_cmdline(dom0_args.encode(), xen_args, version),
        initrd_cmdline=strings[1] if strings else None,
    )


@pytest.mark.parametrize("name", [name for name in NAMES if "fixed" not in name])
def test_recording_is_reproduced(name: str) -> None:
    recording = load(PVH / f"{name}.json")
    plan = planned(name, recording)
    initrd = INITRD if recording.about["initrd_size"] == ODD else None
    assert differences(plan, recording, initrd) == []


@pytest.mark.parametrize("name", [name for name in NAMES if "probe" in name])
def test_probe_saw_the_planned_memory_map(name: str) -> None:
    recording = load(PVH / f"{name}.json")
    values = dict(line.removeprefix("pvh: ").split("=", 1) for line in recording.report[:-1])
    seen = ranges(values, "e820", "addr", "size")
    assert seen
    entries = planned(name, recording).memory_map
    assert seen == [(entry.range.start, entry.range.end, entry.type) for entry in entries]


@pytest.mark.parametrize("name", [name for name in NAMES if "fixed" in name])
def test_refusal_quotes_what_xen_said(name: str) -> None:
    recording = load(PVH / f"{name}.json")
    assert not recording.blobs
    with pytest.raises(RefusedError) as caught:
        planned(name, recording)
    said = next(line for line in recording.console if str(caught.value).startswith(line))
    assert len(said) > len("Failed to load kernel:")


def test_acpi_over_the_kernel_is_found() -> None:
    """Xen moved the kernel to the very end of memory, and put its tables over it."""
    recording = load(PVH / "4.22.0-moved-top-512M.json")
    plan = planned("4.22.0-moved-top-512M", recording)
    assert [finding.id for finding in plan.findings] == ["PVH-OVERWRITTEN"]
    assert recording.blobs["rsdp"][0] in plan.kernel


@pytest.mark.parametrize("part", ["registers", "start_info", "xsdt", "madt", "cmdline", "console", "initrd"])
def test_comparison_sees_a_single_difference(part: str) -> None:
    name = "4.20.0-linux61-512M"
    recording = load(PVH / f"{name}.json")
    plan = planned(name, recording)
    if part == "registers":
        recording = replace(recording, registers={**recording.registers, "rsi": 1})
    elif part == "console":
        lines = [line.replace("60f26, ", "60f27, ") for line in recording.console]
        recording = replace(recording, console=tuple(lines))
    elif part == "initrd":
        recording = replace(recording, initrd_crc32=1)
    else:
        at, data = recording.blobs[part]
        spoiled = {**recording.blobs, part: (at, data[:-1] + bytes([data[-1] ^ 1]))}
        recording = replace(recording, blobs=spoiled)
    assert len(differences(plan, recording, INITRD)) == 1


def test_recordings_name_their_command() -> None:
    for name in NAMES:
        document = json.loads((PVH / f"{name}.json").read_text())
        assert document["about"]["command"].startswith(("qemu-system-x86_64", "mbtool build-disk"))
