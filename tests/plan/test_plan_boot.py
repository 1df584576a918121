"""A plan for a known machine, carried out to the letter there: the kernel runs, and finds what the plan says.

tests/data/launcher/launcher.asm puts every load where the plan has it and enters the kernel with the registers that
it names: the samples, which report what they find, and Linux at all three entries.
"""

from __future__ import annotations

import re
import struct
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mbtool.plan import linux_boot, machines, protocols
from mbtool.plan.linux_boot import LinuxPlan
from mbtool.plan.linux_kernel import HEAD_READ
from mbtool.plan.load import LoadPlan, Part
from mbtool.plan.modules import ModuleFile
from mbtool.plan.outline_load import content_at
from mbtool.plan.protocols import Protocol
from mbtool.source import open_file
from tests import qemu
from tests.conftest import ROOT
from tests.samples.report import number, ranges, raw, report

pytestmark = pytest.mark.boot

LAUNCHER = ROOT / "tests/data/launcher/launcher.asm"
PLACE = "0xb000000"
"""Where the launcher and its module are: free in these plans."""
MACHINE = "qemu-q35:512M"


def bundle(plan: LoadPlan, files: dict[str, Path], entry: tuple[int, int, int] | None = None) -> bytes:
    """The launcher's module for a plan; ``entry``: mode, entry and pointer, when it is not the 32-bit one."""
    state = plan.registers
    mode, start, pointer = entry or (32, state.eip, state.esi)
    head = struct.pack("<7I", mode, start, pointer, state.eax, state.ebx, state.esp, len(plan.loads))
    content = b""
    begin = len(head) + 16 * len(plan.loads)
    for load in plan.loads:
        data = load.content
        if isinstance(data, Part):
            data = files[data.file].read_bytes()[data.offset : data.offset + data.size]
        head += struct.pack("<4I", load.address, begin + len(content), len(data), load.zero)
        content += data
    return head + content


def with_real_mode(plan: LinuxPlan, kernel: bytes) -> LoadPlan:
    """For the 16-bit entry: instead of the page the kernel's real-mode code, with the page's setup header in it."""
    header = plan.kernel.header
    page = content_at(plan.load_plan, plan.params_at)
    code = bytearray(kernel[: header.setup_size])
    code[0x1F1 : header.end] = page[0x1F1 : header.end]
    loads = tuple(
        replace(load, content=bytes(code)) if load.address == plan.params_at else load
        for load in plan.load_plan.loads
    )
    return replace(plan.load_plan, loads=loads)


@pytest.fixture
def launch(tmp_path: Path, tool: Callable[[str], str]) -> Callable[[bytes], qemu.Boot]:
    """``launch(module)``: boot MACHINE with the launcher, which carries out what the module says."""

    def boot(module: bytes) -> qemu.Boot:
        (tmp_path / "plan.bin").write_bytes(module)
        launcher, code = tmp_path / "launcher.elf", tmp_path / "launcher.o"
        subprocess.run([tool("nasm"), "-f", "elf32", "-o", code, LAUNCHER], check=True)
        linked: list[str | Path] = [tool("ld"), "-m", "elf_i386", "-Ttext", PLACE, "-o", launcher, code]
        subprocess.run(linked, check=True)
        args = ["-machine", "q35", "-m", "512", "-kernel", str(launcher), "-initrd", str(tmp_path / "plan.bin")]
        return qemu.run(args)

    return boot


@pytest.mark.parametrize(
    ("protocol", "name", "tag"),
    [
        (Protocol.MULTIBOOT1, "multiboot1/multiboot1.elf", "mb1"),
        (Protocol.MULTIBOOT2, "multiboot2/multiboot2.elf", "mb2"),
        (Protocol.PVH, "pvh/pvh.elf", "pvh"),
    ],
)
def test_samples(
    samples: Path, launch: Callable[[bytes], qemu.Boot], protocol: Protocol, name: str, tag: str
) -> None:
    kernel, module = samples / name, samples / "initrd/initrd.img"
    memory = machines.memory_map(MACHINE)
    modules = [ModuleFile(module.name, module.stat().st_size, "two")]
    with open_file(kernel) as source:
        plan = protocols.load_plan(protocol, source, kernel.name, "one", modules, memory)
    console = launch(bundle(plan, {kernel.name: kernel, module.name: module})).console
    values = report(console, tag)
    assert (number(values, "eax"), number(values, "ebx")) == (plan.registers.eax, plan.registers.ebx)
    (first, *_) = (load for load in plan.loads if load.name == kernel.name)
    assert number(values, "image") == first.address
    told = raw(values)
    assert len(told) > 40
    assert content_at(plan, plan.registers.ebx).startswith(told)
    assert f"{zlib.crc32(module.read_bytes()):#010x}" in {
        value for key, value in values.items() if key.endswith("crc32")
    }
    array = ("memmap", "addr", "size") if protocol is Protocol.PVH else ("mmap", "base_addr", "length")
    assert ranges(values, *array) == [(entry.range.start, entry.range.end, entry.type) for entry in memory.entries]


@pytest.mark.real
@pytest.mark.parametrize("bits", [16, 32, 64])
def test_linux(samples: Path, vmlinuz_cloud: Path, launch: Callable[[bytes], qemu.Boot], bits: int) -> None:
    initrd = samples / "initrd/initrd.img"
    kernel = vmlinuz_cloud.read_bytes()
    memory = machines.memory_map(MACHINE)
    line = "console=ttyS0 earlyprintk=serial panic=-1 nokaslr"
    module = ModuleFile(initrd.name, initrd.stat().st_size)
    plan = linux_boot.plan(vmlinuz_cloud.name, kernel[:HEAD_READ], len(kernel), line, module, memory)
    files = {vmlinuz_cloud.name: vmlinuz_cloud, initrd.name: initrd}
    load_plan, entry = plan.load_plan, None
    if bits == 64:
        assert plan.long_mode_entry
        entry = (64, plan.long_mode_entry.rip, plan.long_mode_entry.rsi)
    elif bits == 16:
        real = plan.real_mode_entry
        load_plan = with_real_mode(plan, kernel)
        entry = (16, real.cs << 16 | real.ip, real.segment << 16 | real.sp)
    boot = launch(bundle(load_plan, files, entry))
    assert boot.exit == 0  # the initrd's init powered off
    console = boot.console
    assert f"Command line: {line}\n" in console
    found = re.findall(r"BIOS-e820: \[mem 0x(\w+)-0x(\w+)\]", console)
    assert [(int(start, 16), int(last, 16) + 1) for start, last in found] == [
        (entry.range.start, entry.range.end) for entry in memory.entries
    ]
    ramdisk = re.search(r"RAMDISK: \[mem 0x(\w+)-0x(\w+)\]", console)
    assert ramdisk and plan.initrd
    pages = plan.initrd.paged()
    assert (int(ramdisk[1], 16), int(ramdisk[2], 16) + 1) == (pages.start, pages.end)
