"""The verdict of check and what really happens: Debian's Xen booted in QEMU with sets good and broken.

Each broken set is a good one with one thing changed. Where check predicts a message, it must be on the console.
"""

from __future__ import annotations

import gzip
import lzma
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mbtool.check.boot_set import open_set
from mbtool.check.report import check_set
from mbtool.plan.xen_options import Mode
from tests.check.sets import TOP_2G, packed, vmlinux, vmlinuz
from tests.formats.test_initrd import zstd
from tests.oracle.made_kernel import HYPERCALL_PAGE, INIT_P2M, VIRT_BASE, XEN_VERSION
from tests.qemu import run

pytestmark = [pytest.mark.boot, pytest.mark.real]

STARTED = r"Freed \d+kB init memory"
"""Xen's last word before it leaves the CPU to dom0."""
OVER = rf"{STARTED}|Panic on CPU \d+:\n.*\n|Manual reset required|^Reboot in"
MIB = 1 << 20
KERNEL = vmlinux()


def sized(stream: bytes, data: bytes = KERNEL) -> bytes:
    """A stream with the size of what it holds behind it."""
    return stream + len(data).to_bytes(4, "little")


@dataclass(frozen=True)
class Case:
    """A set: the rule that is broken ("" for none), dom0's kernel, what Xen is told."""

    rule: str = ""
    kernel: bytes = KERNEL
    words: dict[str, Any] = field(default_factory=dict)
    mode: Mode = Mode.PV


CASES = {
    "elf": Case(),
    "bzimage-xz": Case(kernel=vmlinuz()),
    "bzimage-zstd": Case(kernel=vmlinuz(sized(zstd(KERNEL)))),
    "gzip": Case(kernel=gzip.compress(KERNEL)),
    "least-memory": Case(words={"dom0_mem": "12M"}),
    "memory": Case("DOM0-MEM", words={"dom0_mem": "4M"}),
    "memory-syntax": Case("DOM0-MEM-SYNTAX", words={"dom0_mem": "64Q"}),
    "old-protocol": Case("XEN-BZIMAGE-VERSION", vmlinuz(version=0x207)),
    "xz-sha256": Case("XEN-XZ-CHECK", vmlinuz(sized(lzma.compress(KERNEL, check=lzma.CHECK_SHA256)))),
    "lz4-frame": Case("XEN-CODEC", vmlinuz(b"\x04\x22\x4d\x18" + bytes(4096))),
    "not-elf": Case("XEN-NOT-ELF", vmlinuz(packed(b"no kernel" * 1000))),
    "cut-stream": Case("STREAM-DAMAGED", vmlinuz(sized(packed(KERNEL)[:-60]))),
    "notes-version": Case("XEN-NOTE-VERSION", vmlinux(notes={XEN_VERSION: "xen-2.0"})),
    "entry": Case("XEN-NOTE-ADDRESSES", vmlinux(notes={1: TOP_2G})),
    "p2m": Case("XEN-NOTE-ADDRESSES", vmlinux(notes={INIT_P2M: TOP_2G + 2 * MIB})),
    "hypercall-page": Case("XEN-NOTE-HYPERCALL", vmlinux(notes={HYPERCALL_PAGE: MIB})),
    "no-dom0": Case("XEN-DOM0-FEATURE", vmlinux(notes={17: 1})),
    "xens-place": Case(
        "DOM0-LAYOUT",
        vmlinux(notes={VIRT_BASE: 0xFFFF800000000000, 1: 0xFFFF800000100000}, entry=0xFFFF800000100000),
    ),
    "pvh": Case(mode=Mode.PVH),
    "pvh-no-entry": Case("XEN-PVH-ENTRY", vmlinux(notes={18: None}), mode=Mode.PVH),
    "pvh-memory": Case("DOM0-MEM", words={"dom0_mem": "3M"}, mode=Mode.PVH),
    "pvh-least-memory": Case(words={"dom0_mem": "5M"}, mode=Mode.PVH),
    "pvh-below-least-memory": Case("DOM0-MEM", words={"dom0_mem": "4M"}, mode=Mode.PVH),
    "pvh-no-iommu": Case("PVH-WITHOUT-IOMMU", words={"xen_cmdline": "iommu=off"}, mode=Mode.PVH),
    "scheduler": Case("SCHED-UNKNOWN", words={"xen_cmdline": "sched=credit3"}),
    "option": Case("XEN-OPTION-UNKNOWN", words={"xen_cmdline": "consle=com1"}),
    "value": Case("XEN-OPTION-VALUE", words={"xen_cmdline": "clocksource=pitt"}),
}


@pytest.fixture(scope="module")
def xen(tmp_path_factory: pytest.TempPathFactory, xen_gz: Path) -> Path:
    """QEMU unpacks nothing."""
    path = tmp_path_factory.mktemp("xen") / "xen"
    path.write_bytes(gzip.decompress(xen_gz.read_bytes()))
    return path


@pytest.mark.parametrize("name", CASES)
def test_verdict_and_boot_agree(tmp_path: Path, xen: Path, name: str) -> None:
    case = CASES[name]
    kernel = tmp_path / "kernel"
    kernel.write_bytes(case.kernel)
    words = {"dom0_mem": "64M", **case.words}
    words["xen_cmdline"] = f"dom0={case.mode} {words.get('xen_cmdline', '')}"
    with open_set(xen=xen, kernel=kernel, asked_mode=case.mode, **words) as boot:
        found = {problem.id: problem for problem in check_set(boot) if problem.severity != "info"}
    assert (case.rule in found) if case.rule else not found
    append = f"console=com1 com1=115200 noreboot dom0_mem={words['dom0_mem']} {words['xen_cmdline']}"
    machine = ["-machine", "q35", "-m", "256", "-kernel", str(xen), "-append", append, "-initrd", str(kernel)]
    if case.mode is Mode.PVH:
        machine += ["-cpu", "qemu64,+svm,+npt", "-device", "amd-iommu"]
    console = run(machine, until=OVER).console
    assert bool(re.search(STARTED, console)) == all(problem.severity != "error" for problem in found.values())
    if case.rule and found[case.rule].console:
        assert found[case.rule].console in console
