"""Plans beside boots of Debian's Xen with real kernels: what packagers would try."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.build.dom0 import Request, plan_dom0
from mbtool.plan import dom0_mem
from mbtool.plan.dom0_pages import decide
from mbtool.plan.host import Host
from mbtool.source import open_file
from tests.oracle.compare import differences
from tests.oracle.record import Boot, record
from tests.oracle.test_live import compare, parms_of

pytestmark = [pytest.mark.boot, pytest.mark.real]

LONG = " ".join(f"option{i}=value" for i in range(70))
"""A command line that just fits: 1018 bytes."""
NETBOOT = "usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64"


def test_cloud_kernel_with_a_long_command_line(
    tool: Callable[[str], str], xen_gz: Path, vmlinuz_cloud: Path, tmp_path: Path
) -> None:
    """And an initrd of exactly one page, on two CPUs."""
    initrd = tmp_path / "initrd"
    initrd.write_bytes(bytes(4096))
    assert tool("qemu-system-x86_64")
    boot = Boot(xen_gz, vmlinuz_cloud, initrd, dom0_args=LONG, dom0_mem="max:2G,300001K", smp=2)
    assert compare(boot) == []


@pytest.mark.parametrize(
    ("text", "memory", "smp"), [("min:100M,50%", 768, 1), ("max:3G,-64M", 1536, 2), ("", 384, 1)]
)
def test_dom0_mem_of_a_host(
    tool: Callable[[str], str], xen_gz: Path, vmlinuz_cloud: Path, text: str, memory: int, smp: int
) -> None:
    """What the host decides comes out to the page for the RAM that Xen counts, but for what it takes itself."""
    assert tool("qemu-system-x86_64")
    boot = Boot(xen_gz, vmlinuz_cloud, dom0_mem=text, memory=memory, smp=smp)
    parms = parms_of(vmlinuz_cloud)
    recording = record(boot, parms.virt_entry)
    ram = (memory << 20) - (520 << 10)  # QEMU's firmware keeps the rest
    expected = decide(dom0_mem.parse([text] if text else []), Host(ram, smp), parms, 0).nr_pages
    assert abs(recording.word(32) - expected) <= 3


def test_foretold_frames(tool: Callable[[str], str], xen_gz: Path, vmlinuz_cloud: Path, samples: Path) -> None:
    """The machine frames too: every byte of P2M and page tables without looking at the machine."""
    assert tool("qemu-system-x86_64")
    initrd = samples / "initrd" / "initrd.img"
    recording = record(Boot(xen_gz, vmlinuz_cloud, initrd), parms_of(vmlinuz_cloud).virt_entry)
    request = Request(
        vmlinuz_cloud,
        initrd,
        dom0_mem="512M",
        xen=xen_gz,
        cmdline="console=hvc0",
        e820="qemu-q35:1024M",
        predict_frames=True,
    )
    with open_file(vmlinuz_cloud) as kernel, open_file(initrd) as ramdisk, open_file(xen_gz) as xen:
        plan = plan_dom0(request, kernel, ramdisk, xen).plan
    assert (plan.alloc.start, plan.initrd and plan.initrd.start) == (recording.alloc_base, recording.initrd_base)
    (left,) = differences(plan, recording)
    assert left.startswith("start_info at 0x28: ")  # shared_info


def test_rt_kernel(tool: Callable[[str], str], xen_gz: Path, vmlinuz_rt: Path) -> None:
    """Without an initrd; Xen is given the command line for it behind its own."""
    assert tool("qemu-system-x86_64")
    boot = Boot(xen_gz, vmlinuz_rt, dom0_mem="3G", memory=4096, xen_options="acpi=force -- quiet", dom0_args="ro")
    assert compare(boot) == []


def test_installer(tool: Callable[[str], str], xen_gz: Path, debian: Callable[[str], Path]) -> None:
    """A kernel with an initrd of 40 MB."""
    assert tool("qemu-system-x86_64")
    folder = debian("debian-installer-12-netboot-amd64") / NETBOOT
    assert compare(Boot(xen_gz, folder / "linux", folder / "initrd.gz", dom0_mem="1G", memory=2048)) == []


@pytest.mark.parametrize("name", ["pv-dom0", "pv-dom0-mapped"])
@pytest.mark.parametrize("size", [1, 3 << 20])
def test_sample(
    tool: Callable[[str], str], xen_gz: Path, samples: Path, tmp_path: Path, name: str, size: int
) -> None:
    initrd = tmp_path / "initrd"
    initrd.write_bytes(bytes(size))
    assert tool("qemu-system-x86_64")
    assert compare(Boot(xen_gz, samples / "pv-dom0" / f"{name}.elf", initrd, dom0_mem="2049M", memory=3072)) == []
