"""Plans beside boots of this moment: Debian's Xen with real kernels and with kernels made to order."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.build.kernel import open_kernel
from mbtool.errors import RefusedError
from mbtool.formats import xen_dom_parms, xen_versions
from mbtool.formats.dom_parms import DomParms
from mbtool.plan import cmdline, dom0_mem, pv_dom0, xen_options
from mbtool.source import Budget, open_file
from tests.oracle import synthetic
from tests.oracle.compare import differences, plan_for
from tests.oracle.record import Boot, record, refusal

pytestmark = [pytest.mark.boot, pytest.mark.real]

XEN_4_17 = xen_versions.parse("4.17")
ODD = 1031109
"""Bytes of an initrd that is no multiple of a page."""


def parms_of(kernel: Path) -> DomParms:
    with open_file(kernel) as source:
        return xen_dom_parms.derive(open_kernel(source, Budget(), XEN_4_17).elf, version=XEN_4_17)


def compare(boot: Boot) -> list[str]:
    """Boot it; what Xen did otherwise than planned."""
    parms = parms_of(boot.kernel)
    recording = record(boot, parms.virt_entry)
    assert recording.start_info, recording.console
    initrd_len = None if boot.initrd is None else boot.initrd.stat().st_size
    xen_args = boot.xen_args.encode()
    plan = plan_for(
        recording,
        parms,
        xen_versions.parse(str(recording.about["xen"])),
        initrd_len=initrd_len,
        nr_pages=dom0_mem.compute_nr_pages(dom0_mem.parse([boot.dom0_mem]), dom0_mem.LONG_MAX),
        cmdline=cmdline.dom0_cmdline(boot.dom0_args.encode(), xen_args, XEN_4_17),
    )
    found = differences(plan, recording)
    if recording.pm_bits != xen_options.pm_bits(xen_args, plan.version):
        found.append("power management bits")
    return found


@pytest.fixture(scope="module")
def initrd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("initrd") / "initrd"
    path.write_bytes(b"\x5a" * ODD)
    return path


@pytest.fixture(scope="module")
def grub(
    tool: Callable[[str], str], debian: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """GRUB as a PV kernel: virt_base 0, initrd and P2M inside the initial mapping."""
    image = tmp_path_factory.mktemp("grub") / "grub.xen"
    modules = debian("grub-xen-bin") / "usr/lib/grub/x86_64-xen"
    command = [tool("grub-mkimage"), "-O", "x86_64-xen", "-d", str(modules), "-p", "/", "-o", str(image), "echo"]
    subprocess.run(command, check=True)
    return image


@pytest.fixture
def qemu(tool: Callable[[str], str]) -> str:
    return tool("qemu-system-x86_64")


def test_debian_kernel(qemu: str, xen_gz: Path, vmlinuz: Path, initrd: Path) -> None:
    assert compare(Boot(xen_gz, vmlinuz, initrd)) == []


def test_debian_kernel_without_initrd_and_much_memory(qemu: str, xen_gz: Path, vmlinuz: Path) -> None:
    """1.1 GiB: the P2M has a 2 MiB leaf and 4 KiB ones behind it."""
    assert compare(Boot(xen_gz, vmlinuz, dom0_mem="1126M", memory=2048, smp=2)) == []


@pytest.mark.parametrize(
    "xen_options", ["cpuidle=0", "cpufreq=none acpi=force acpi=verbose", "no-cpuidle --   extra  words "]
)
def test_xen_options_that_reach_dom0(qemu: str, xen_gz: Path, grub: Path, xen_options: str) -> None:
    assert compare(Boot(xen_gz, grub, dom0_mem="64M", xen_options=xen_options, dom0_args="a  b ")) == []


def test_cut_command_line(qemu: str, xen_gz: Path, grub: Path) -> None:
    assert compare(Boot(xen_gz, grub, dom0_mem="64M", dom0_args="x" * 1010 + " end of it, and more")) == []


@pytest.mark.parametrize("memory", ["64M", "100001K", "3G,max:4G"])
def test_grub(qemu: str, xen_gz: Path, grub: Path, initrd: Path, memory: str) -> None:
    assert compare(Boot(xen_gz, grub, initrd, dom0_mem=memory, memory=4096)) == []


@pytest.mark.parametrize("with_initrd", [False, True], ids=["alone", "initrd"])
@pytest.mark.parametrize("name", synthetic.CASES)
def test_kernels_made_to_order(
    qemu: str, xen_gz: Path, initrd: Path, tmp_path: Path, name: str, with_initrd: bool
) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(synthetic.CASES[name].image)
    memory = synthetic.CASES[name].dom0_mem
    assert compare(Boot(xen_gz, kernel, initrd if with_initrd else None, dom0_mem=memory)) == []


@pytest.mark.parametrize("name", synthetic.REFUSED)
def test_refused_kernels(qemu: str, xen_gz: Path, tmp_path: Path, name: str) -> None:
    """Xen gives up and says what the planner quotes (tests/oracle/test_golden.py)."""
    image, message = synthetic.REFUSED[name]
    (tmp_path / "kernel").write_bytes(image)
    assert message in "\n".join(refusal(Boot(xen_gz, tmp_path / "kernel")))


def least_pages(parms: DomParms, initrd_len: int) -> tuple[int, str]:
    """The smallest dom0 that the planner does not refuse, and why it refuses one page less."""
    low, high, message = 0, 1 << 20, ""
    while high - low > 1:
        middle = (low + high) // 2
        try:
            pv_dom0.plan(parms, initrd_len=initrd_len, nr_pages=middle, cmdline=b"", version=XEN_4_17)
            high = middle
        except RefusedError as error:
            low, message = middle, str(error)
    return high, message


@pytest.mark.parametrize("which", ["vmlinuz_cloud", "grub"])
def test_least_memory_to_the_page(
    qemu: str, xen_gz: Path, initrd: Path, which: str, request: pytest.FixtureRequest
) -> None:
    """Xen boots with exactly the least that the planner accepts, and panics with the message it quotes below."""
    kernel = request.getfixturevalue(which)
    pages, message = least_pages(parms_of(kernel), ODD)
    assert record(Boot(xen_gz, kernel, initrd, dom0_mem=f"{pages * 4}K"), parms_of(kernel).virt_entry).start_info
    console = refusal(Boot(xen_gz, kernel, initrd, dom0_mem=f"{(pages - 1) * 4}K"))
    panic = console[console.index("Panic on CPU 0:") + 1]
    assert message.startswith(f"{panic}: ")
