"""Record the memory maps of the machines that ship: python -m tests.plan.record_machines [NAME...]

A BIOS machine boots the Multiboot 1 sample, which prints the map that INT 15h gave QEMU's loader. A UEFI machine
boots Debian's cloud kernel under OVMF, which prints the map that its EFI stub made of the firmware's. What is
written down is read from the console here, by rules of its own, not with the code that it tests.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests import qemu
from tests.conftest import ROOT
from tests.debian import unpacked
from tests.samples.report import ranges, report

FOLDER = ROOT / "mbtool/plan/machines"
SAMPLE = "samples/multiboot1/multiboot1.elf"
OVMF = "/usr/share/OVMF/OVMF_CODE_4M.fd"
WORDS = {1: "usable", 2: "reserved", 3: "ACPI data", 4: "ACPI NVS"}
MACHINES = {
    **{f"qemu-pc:{mib}M": ("pc", mib, False) for mib in (512, 1024, 4096)},
    **{f"qemu-q35:{mib}M": ("q35", mib, False) for mib in (512, 1024, 2048, 4096, 8192)},
    **{f"qemu-q35-uefi:{mib}M": ("q35", mib, True) for mib in (1024, 8192)},
}
"""Name: QEMU's machine, MiB of memory, whether its firmware is UEFI."""

Entry = tuple[int, int, str]
"""Start, size, type in words."""


def options(name: str) -> list[str]:
    """What of QEMU's command line makes the machine."""
    machine, mib, uefi = MACHINES[name]
    firmware = ["-drive", f"if=pflash,format=raw,readonly=on,file={OVMF}"] if uefi else []
    return ["-machine", machine, "-m", str(mib), *firmware]


def record(name: str) -> list[Entry]:
    """Boot the machine and read its map off the console."""
    if not MACHINES[name][2]:
        values = report(qemu.run([*options(name), "-kernel", str(ROOT / SAMPLE)]).console, "mb1")
        found = ranges(values, "mmap", "base_addr", "length")
        return [(start, end - start, WORDS[kind]) for start, end, kind in found]
    (kernel,) = unpacked("linux-image-cloud-amd64").glob("boot/vmlinuz-*")
    boot = [*options(name), "-kernel", str(kernel), "-append", "console=ttyS0 earlyprintk=serial"]
    console = qemu.run(boot, until="^.*NX .*protection").console
    lines = re.findall(r"BIOS-e820: \[mem 0x(\w+)-0x(\w+)\] (.*)", console)
    return [(int(first, 16), int(last, 16) + 1 - int(first, 16), words.strip()) for first, last, words in lines]


def read(name: str) -> list[Entry]:
    """What is on file."""
    lines = path(name).read_text().splitlines()
    entries = (line.split(maxsplit=2) for line in lines if not line.startswith("#"))
    return [(int(start, 16), int(size, 16), words) for start, size, words in entries]


def path(name: str) -> Path:
    return FOLDER / f"{name.replace(':', '-')}.map"


def main(names: list[str]) -> None:
    version = subprocess.run([qemu.QEMU, "--version"], check=True, capture_output=True, text=True).stdout
    for name in names or MACHINES:
        kernel = "Debian's cloud kernel" if MACHINES[name][2] else SAMPLE
        head = (
            f"# {version.splitlines()[0]}\n# qemu-system-x86_64 -accel tcg -nographic -nic none"
            f" {' '.join(options(name))} -kernel {kernel}\n"
        )
        body = "".join(f"{start:#018x} {size:#018x} {words}\n" for start, size, words in record(name))
        path(name).write_text(head + body)
        print(name, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
