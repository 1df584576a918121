"""PVH plans beside boots of this moment: Debian's Xen with real kernels, GRUB and the probe."""

from __future__ import annotations

import subprocess
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mbtool.build.dom0 import Request
from mbtool.build.dom0_pvh import plan_pvh
from mbtool.build.kernel import open_kernel
from mbtool.errors import RefusedError
from mbtool.formats import xen_versions
from mbtool.plan import cmdline, dom0_mem, xen_options
from mbtool.plan.memory import pages_of
from mbtool.plan.pvh_dom0 import PvhPlan
from mbtool.plan.xen_options import Mode
from mbtool.source import Budget, open_file
from tests.oracle import synthetic
from tests.oracle.compare_pvh import differences, plan_for
from tests.oracle.record import Boot
from tests.oracle.record_pvh import CPU, OPTIONS, SAMPLE, PvhRecording, pvh_parms, record_pvh
from tests.samples.report import ranges

pytestmark = [pytest.mark.boot, pytest.mark.real]

XEN = xen_versions.parse("4.17.7")
ODD = 1031109
"""Bytes of an initrd that is no multiple of a page."""


@pytest.fixture(scope="module")
def initrd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("initrd") / "initrd"
    path.write_bytes(b"\x5a" * ODD)
    return path


@pytest.fixture(scope="module")
def grub(
    tool: Callable[[str], str], debian: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """GRUB as a PVH kernel: ELF32, so words are of 4 bytes."""
    image = tmp_path_factory.mktemp("grub") / "grub.pvh"
    modules = debian("grub-xen-bin") / "usr/lib/grub/i386-xen_pvh"
    command = [tool("grub-mkimage"), "-O", "i386-xen_pvh", "-d", str(modules), "-p", "/", "-o", str(image), "echo"]
    subprocess.run(command, check=True)
    return image


@pytest.fixture
def boot(tool: Callable[[str], str], xen_gz: Path) -> Callable[..., Boot]:
    """A boot of Debian's Xen with a PVH dom0."""
    tool("qemu-system-x86_64")

    def make(kernel: Path, initrd: Path | None = None, **values: object) -> Boot:
        given: dict[str, object] = {"xen_options": OPTIONS, "cpu": CPU, "initrd_string": "its string", **values}
        return Boot(xen_gz, kernel, initrd, **given)  # type: ignore[arg-type]

    return make


def planned(boot: Boot, recording: PvhRecording) -> PvhPlan:
    string = f"initrd {boot.initrd_string}".rstrip(" ")  # the file's name in the directory where QEMU runs
    return plan_for(
        recording,
        pvh_parms(boot.kernel, str(XEN)),
        XEN,
        initrd_len=None if boot.initrd is None else boot.initrd.stat().st_size,
        nr_pages=dom0_mem.compute_nr_pages(
            dom0_mem.parse(xen_options.dom0_mem(boot.xen_args.encode())), dom0_mem.LONG_MAX
        ),
        cmdline=cmdline.dom0_cmdline(boot.dom0_args.encode(), boot.xen_args.encode(), XEN),
        initrd_cmdline=string.encode(),
    )


def compare(boot: Boot) -> list[str]:
    """Boot it; what Xen did otherwise than planned. The segments of the kernel must be where the plan says, too."""
    parms = pvh_parms(boot.kernel, str(XEN))
    assert parms.phys_entry is not None
    filled = [segment for segment in parms.segments if segment.p_filesz]
    recording = record_pvh(boot, parms.phys_entry, [(s.p_paddr, s.p_filesz) for s in filled])
    assert recording.blobs, recording.console
    with open_file(boot.kernel) as source:
        elf = open_kernel(source, Budget(), XEN).elf
        heads = {s.p_paddr: zlib.crc32(elf.read(s.p_offset, min(s.p_filesz, SAMPLE))) for s in filled}
    found = differences(planned(boot, recording), recording, boot.initrd.read_bytes() if boot.initrd else None)
    return found + [f"segment at {at:#x}" for at, crc in heads.items() if recording.segments[at] != crc]


def test_debian_kernel(boot: Callable[..., Boot], vmlinuz: Path, initrd: Path) -> None:
    assert compare(boot(vmlinuz, initrd)) == []


def test_cloud_kernel_two_vcpus_and_no_initrd(boot: Callable[..., Boot], vmlinuz_cloud: Path) -> None:
    assert compare(boot(vmlinuz_cloud, dom0_mem="1G", memory=2048, smp=2)) == []


def test_grub(boot: Callable[..., Boot], grub: Path, initrd: Path) -> None:
    assert compare(boot(grub, initrd, dom0_mem="100001K", dom0_args="two  blanks ")) == []


def test_long_command_line_on_a_large_machine(boot: Callable[..., Boot], grub: Path) -> None:
    """Memory above the hole at 2 GiB; a command line longer than Xen's buffer."""
    words = "x" * 1010 + " end of it, and more"
    options = f"{OPTIONS} acpi=force dom0_max_vcpus=3"
    assert compare(boot(grub, dom0_mem="3G", memory=4096, dom0_args=words, xen_options=options)) == []


def test_probe_reports_the_plan(boot: Callable[..., Boot], samples: Path, initrd: Path) -> None:
    """What a kernel itself is told, its memory map among it."""
    this = boot(samples / "pvh/pvh.elf", initrd, dom0_mem="128M", dom0_args="any words")
    entry = pvh_parms(this.kernel, str(XEN)).phys_entry
    assert entry is not None
    recording = record_pvh(this, entry, probe=True)
    plan = planned(this, recording)
    assert differences(plan, recording, initrd.read_bytes()) == []
    values = dict(line.removeprefix("pvh: ").split("=", 1) for line in recording.report[:-1])
    entries = [(entry.range.start, entry.range.end, entry.type) for entry in plan.memory_map]
    assert ranges(values, "e820", "addr", "size") == entries
    assert values["cmdline.string"] == "any words"
    assert values["modlist[0].cmdline.string"] == "initrd its string"
    assert int(values["cr0"], 16) == plan.registers["cr0"]


def test_what_a_host_gives(boot: Callable[..., Boot], xen_gz: Path, samples: Path) -> None:
    """As the probe is told: RAM, and what became its ACPI tables."""
    this = boot(samples / "pvh/pvh.elf", dom0_mem="50%")
    entry = pvh_parms(this.kernel, str(XEN)).phys_entry
    assert entry is not None
    recording = record_pvh(this, entry, probe=True)
    values = dict(line.removeprefix("pvh: ").split("=", 1) for line in recording.report[:-1])
    given = sum(end - start for start, end, kind in ranges(values, "e820", "addr", "size") if kind in (1, 3))
    request = Request(this.kernel, mode=Mode.PVH, dom0_mem="50%", xen=xen_gz, e820="qemu-q35:1024M")
    with open_file(this.kernel) as kernel, open_file(xen_gz) as xen:
        plan = plan_pvh(request, kernel, None, xen).plan
    assert abs(plan.nr_pages - pages_of(given)) <= 5


def test_uefi_machine(boot: Callable[..., Boot], samples: Path, initrd: Path, xen_efi: Path) -> None:
    """Memory in many pieces, ACPI tables of their own areas, an XSDT: nothing of it is known but from Xen's log."""
    this = replace(boot(samples / "pvh/pvh.elf", initrd), xen=xen_efi, initrd_string="")
    entry = pvh_parms(this.kernel, str(XEN)).phys_entry
    assert entry is not None
    recording = record_pvh(this, entry, uefi=True)
    plan = planned(this, recording)
    assert differences(plan, recording, initrd.read_bytes()) == []
    assert len(plan.memory_map) > 12
    assert plan.host.acpi.has_xsdt


def test_refusal(boot: Callable[..., Boot], tmp_path: Path) -> None:
    """Linked where dom0 has no memory: Xen's words are those that the plan quotes."""
    kernel = tmp_path / "kernel"
    kernel.write_bytes(synthetic.PVH_CASES["fixed"])
    this = boot(kernel)
    recording = record_pvh(this, 0x3000_0000)
    assert not recording.blobs
    with pytest.raises(RefusedError) as caught:
        planned(this, recording)
    assert any(str(caught.value).startswith(line) for line in recording.console if line.startswith("Failed to"))
