"""A plan for a known machine, carried out to the letter there: the kernel runs, and finds what the plan says.

tests/data/launcher/launcher.asm puts every load where the plan has it and enters the kernel with the registers that
it names, at all three entries.
"""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.plan import linux_boot, machines
from mbtool.plan.linux_boot import LinuxPlan
from mbtool.plan.linux_kernel import HEAD_READ
from mbtool.plan.load import Part
from mbtool.plan.modules import ModuleFile
from tests import qemu
from tests.conftest import ROOT

pytestmark = [pytest.mark.boot, pytest.mark.real]

LAUNCHER = ROOT / "tests/data/launcher/launcher.asm"
PLACE = "0xb000000"
"""Where the launcher and its module are: free in these plans."""
MACHINE = "qemu-q35:512M"


def bundle(plan: LinuxPlan, bits: int, files: dict[str, Path]) -> bytes:
    """The launcher's module for a plan."""
    parts = []
    for load in plan.load_plan.loads:
        data = load.content
        if isinstance(data, Part):
            data = files[data.file].read_bytes()[data.offset : data.offset + data.size]
        parts.append((load.address, data, load.zero))
    entry, pointer = plan.load_plan.registers.eip, plan.load_plan.registers.esi
    if bits == 64:
        assert plan.long_mode_entry
        entry, pointer = plan.long_mode_entry.rip, plan.long_mode_entry.rsi
    if bits == 16:
        real = plan.real_mode_entry
        entry, pointer = real.cs << 16 | real.ip, real.segment << 16 | real.sp
        # instead of the page: the kernel's own real-mode code, with the page's setup header in it
        page = parts[0][1]
        code = bytearray(files[plan.kernel.name].read_bytes()[: plan.kernel.header.setup_size])
        end = plan.kernel.header.end
        code[0x1F1:end] = page[0x1F1:end]
        parts[0] = (plan.params_at, bytes(code), 0)
    head = struct.pack("<4I", bits, entry, pointer, len(parts))
    content = b""
    start = len(head) + 16 * len(parts)
    for address, data, zero in parts:
        head += struct.pack("<4I", address, start + len(content), len(data), zero)
        content += data
    return head + content


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_linux(samples: Path, vmlinuz_cloud: Path, tmp_path: Path, tool: Callable[[str], str], bits: int) -> None:
    initrd = samples / "initrd/initrd.img"
    head = vmlinuz_cloud.read_bytes()[:HEAD_READ]
    sizes = {path.name: path.stat().st_size for path in (vmlinuz_cloud, initrd)}
    memory = machines.memory_map(MACHINE)
    line = "console=ttyS0 earlyprintk=serial panic=-1 nokaslr"
    module = ModuleFile(initrd.name, sizes[initrd.name])
    plan = linux_boot.plan(vmlinuz_cloud.name, head, sizes[vmlinuz_cloud.name], line, module, memory)
    files = {vmlinuz_cloud.name: vmlinuz_cloud, initrd.name: initrd}
    (tmp_path / "plan.bin").write_bytes(bundle(plan, bits, files))
    subprocess.run([tool("nasm"), "-f", "elf32", "-o", tmp_path / "launcher.o", LAUNCHER], check=True)
    launcher = tmp_path / "launcher.elf"
    command: list[str | Path] = [
        tool("ld"),
        "-m",
        "elf_i386",
        "-Ttext",
        PLACE,
        "-o",
        launcher,
        tmp_path / "launcher.o",
    ]
    subprocess.run(command, check=True)
    args = ["-machine", "q35", "-m", "512", "-kernel", str(launcher), "-initrd", str(tmp_path / "plan.bin")]
    boot = qemu.run(args)
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
