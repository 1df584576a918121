"""What a plan costs by itself, its files open and unpacked: milliseconds of this process, against a limit.

A plan is made of the kernel's bytes each time: headers and notes are read, the layout is computed, the structure
for the kernel is built. What is not in it: starting Python, unpacking the kernel, reading the initrd.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from mbtool.build.kernel import open_kernel
from mbtool.formats import xen_dom_parms
from mbtool.formats.xen_versions import NEWEST
from mbtool.plan import arrangement, linux_boot, machines, protocols, pv_dom0
from mbtool.plan.linux_kernel import HEAD_READ
from mbtool.plan.modules import ModuleFile
from mbtool.plan.protocols import Protocol
from mbtool.source import MIB, Budget, BytesSource, open_file
from tests.conftest import ROOT
from tests.debian import unpacked

LIMIT = 5.0
"""Milliseconds."""
ROUNDS = 50


@dataclass(frozen=True, slots=True)
class Timing:
    """``taken``: the median, milliseconds."""

    name: str
    taken: float

    @property
    def met(self) -> bool:
        return self.taken <= LIMIT


def timings() -> Iterator[Timing]:
    """Each kind of plan, for Debian's kernel and the samples, on a machine whose memory map is known."""
    for name, plan in _plans():
        plan()  # what is imported when it is first used is imported
        taken = []
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            plan()
            taken.append(time.perf_counter() - begin)
        yield Timing(name, statistics.median(taken) * 1000)


def _plans() -> Iterator[tuple[str, Callable[[], object]]]:
    memory = machines.memory_map("qemu-q35:8192M")
    initrd = ModuleFile("initrd.img", 40 * MIB)
    (vmlinuz,) = unpacked("linux-image-amd64").glob("boot/vmlinuz-*")
    with open_file(vmlinuz) as source:
        head, size = source.read(0, HEAD_READ), source.size
        elf = open_kernel(source, Budget(), NEWEST).elf
        vmlinux = BytesSource(elf.read(0, elf.size), "vmlinux")

    def dom0() -> object:
        parms = xen_dom_parms.derive(vmlinux, version=NEWEST)
        plan = pv_dom0.plan(parms, initrd_len=initrd.size, nr_pages=1 << 19, cmdline=b"x", version=NEWEST)
        return arrangement.lines(plan), pv_dom0.start_info_page(plan)

    yield "dom0: Linux, 2 GiB", dom0
    yield "linux: Linux", lambda: linux_boot.plan("vmlinuz", head, size, "x", initrd, memory)
    for protocol, sample in (
        (Protocol.MULTIBOOT1, "multiboot1/multiboot1.elf"),
        (Protocol.MULTIBOOT2, "multiboot2/multiboot2.elf"),
        (Protocol.PVH, "pvh/pvh.elf"),
    ):
        kernel = BytesSource((ROOT / "samples" / sample).read_bytes(), sample)
        load = partial(protocols.load_plan, protocol, kernel, kernel.name, "x", [initrd], memory)
        yield f"{protocol}: {sample}", load
