#!/usr/bin/env python3
"""Record what a real Xen hands to a PVH dom0.

    python -m tests.oracle.record_pvh --xen XEN --kernel KERNEL [--initrd INITRD] --out FILE.json

Boots Xen with ``dom0=pvh,verbose`` in QEMU (TCG, a processor with SVM and nested paging, an AMD IOMMU), stops at
dom0's first instruction and reads the registers, hvm_start_info and all that it points to as that would see them.
Writes one JSON file. Needs qemu-system-x86_64.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mbtool.build.kernel import open_kernel
from mbtool.disk import boot_set
from mbtool.disk.boot_set import BootSet
from mbtool.disk.image import plan_disk, write_disk
from mbtool.formats import xen_dom_parms, xen_versions
from mbtool.formats.dom_parms import DomParms
from mbtool.prove.qemu import drive_arguments, uefi_firmware
from mbtool.source import Budget, open_file
from tests.oracle.gdb import Gdb
from tests.oracle.guest_memory import GuestMemory
from tests.oracle.record import Boot, about, console_lines, machine, qemu, running

CPU = "qemu64,+svm,+npt"
OPTIONS = "dom0=pvh,verbose iommu=verbose"
E820 = re.compile(r"^ \[([0-9a-f]{16}), ([0-9a-f]{16})\] (\S.*)$")
TYPES = {"(usable)": 1, "(reserved)": 2, "(ACPI data)": 3, "(ACPI NVS)": 4, "(unusable)": 5}
MACHINE = re.compile(
    r" RAM map:$|^ \[[0-9a-f]{16}|ACPI: |^IOAPIC\[|Brought up|^VMX:|Unrestricted Guest|^SVM:|Nested Page Tables"
)
"""Lines that tell of the machine."""
SAMPLE = 4096
"""Bytes of each segment that are kept as a CRC-32."""

Entry = tuple[int, int, int]
"""First byte, byte behind the last, type."""


@dataclass(frozen=True, slots=True)
class PvhRecording:
    """``about``: how it was made. Blobs by name with their physical addresses; a boot that failed has none."""

    about: dict[str, Any]
    console: tuple[str, ...]
    registers: dict[str, int] = field(default_factory=dict)
    blobs: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    initrd_crc32: int | None = None
    segments: dict[int, int] = field(default_factory=dict)
    """Physical address of a segment to the CRC-32 of its head."""
    report: tuple[str, ...] = ()
    """What samples/pvh then says of itself."""

    @property
    def host_e820(self) -> tuple[Entry, ...]:
        return self._map("Xen-e820 RAM map:", "EFI RAM map:", "Multiboot-e820 RAM map:")

    @property
    def dom0_e820(self) -> tuple[Entry, ...]:
        """Empty before 4.17, which does not print it."""
        return self._map("Dom0 memory map:")

    def _map(self, *headings: str) -> tuple[Entry, ...]:
        at = next((i for i, line in enumerate(self.console) if line in headings), len(self.console))
        entries = []
        for line in self.console[at + 1 :]:
            match = E820.match(line)
            if match is None:
                break
            entries.append((int(match[1], 16), int(match[2], 16) + 1, TYPES[match[3]]))
        return tuple(entries)

    def save(self, path: Path) -> None:
        """One JSON file; nothing of the clock goes in."""
        document = {
            "about": self.about,
            "console": self.console,
            "registers": {name: hex(value) for name, value in self.registers.items()},
            "blobs": {name: [hex(at), data.hex()] for name, (at, data) in self.blobs.items()},
            "initrd_crc32": self.initrd_crc32,
            "segments": {hex(at): crc for at, crc in self.segments.items()},
            "report": self.report,
        }
        path.write_text(json.dumps(document, indent=1) + "\n")


def load(path: Path) -> PvhRecording:
    """A saved recording."""
    document = json.loads(path.read_text())
    return PvhRecording(
        document["about"],
        tuple(document["console"]),
        {name: int(value, 16) for name, value in document["registers"].items()},
        {name: (int(at, 16), bytes.fromhex(data)) for name, (at, data) in document["blobs"].items()},
        document["initrd_crc32"],
        {int(at, 16): crc for at, crc in document["segments"].items()},
        tuple(document["report"]),
    )


def pvh_parms(kernel: Path, version: str) -> DomParms:
    """What Xen ``version`` derives from a kernel file for PVH."""
    row = xen_versions.parse(version)
    with open_file(kernel) as source:
        elf = open_kernel(source, Budget(), row).elf
        return xen_dom_parms.derive(elf, hvm=True, version=row)


@contextmanager
def qemu_uefi(boot: Boot, work: Path, extra: tuple[str, ...]) -> Iterator[Path]:
    """As ``qemu``, with UEFI firmware and a disk that has Xen's EFI image."""
    disk, variables = work / "disk", work / "variables"
    parts = BootSet(boot.kernel, boot.initrd, xen_efi=boot.xen, cmdline=boot.dom0_args, xen_cmdline=boot.xen_args)
    wanted, _ = boot_set.request(parts)
    with disk.open("w+b") as file:
        write_disk(plan_disk(wanted), file.fileno())
    code, template = uefi_firmware()
    shutil.copy(template, variables)
    drives = ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={code}"]
    drives += ["-drive", f"if=pflash,format=raw,unit=1,file={variables}"]
    with running([*machine(boot), *drives, *drive_arguments(disk, "ahci"), *extra], work) as console:
        yield console


def record_pvh(
    boot: Boot,
    entry: int,
    segments: Iterable[tuple[int, int]] = (),
    *,
    probe: bool = False,
    uefi: bool = False,
) -> PvhRecording:
    """Boot and read. ``entry``: dom0's first instruction; ``segments``: (address, size) of what to look for.

    A boot in which Xen panics gives a recording with nothing but the console. ``probe``: the kernel is samples/pvh,
    and goes on to its report. ``uefi``: by UEFI firmware from a disk, where Xen is its EFI image.
    """
    with tempfile.TemporaryDirectory(prefix="mbtool-record-") as folder:
        work = Path(folder)
        socket, ram = work / "gdb", work / "ram"
        backend = f"memory-backend-file,id=ram,size={boot.memory}M,mem-path={ram},share=on"
        extra = ("-object", backend, "-machine", "memory-backend=ram", "-device", "amd-iommu")
        server = ("-S", "-gdb", f"unix:{socket},server=on,wait=off")
        start = qemu_uefi if uefi else qemu
        with start(boot, work, (*extra, *server)) as console, Gdb(socket) as gdb:
            gdb.ask("qSupported")
            try:
                gdb.run_to(entry, boot.timeout)
            except (EOFError, OSError) as error:  # QEMU ended: Xen panicked
                if isinstance(error, TimeoutError):
                    raise
                return PvhRecording(_about(boot, console), _console(console))
            registers = gdb.registers()
            with GuestMemory(ram, entry) as memory:
                blobs, crc = _blobs(memory, registers["rbx"])
                heads = {at: zlib.crc32(memory.read(at, min(size, SAMPLE))) for at, size in segments}
            report = _report(console, gdb, entry, boot.timeout) if probe else ()
        how = _about(boot, console)
        if uefi:
            words = f"mbtool build-disk --xen {boot.xen.name} --kernel {boot.kernel.name} …, booted by OVMF"
            how |= {"command": words, "uefi": True, "kernel": boot.kernel.name}
        return PvhRecording(how, _console(console), registers, blobs, crc, heads, report)


def _console(console: Path) -> tuple[str, ...]:
    """Of Xen's lines those that tell of the machine, and all from where it builds dom0 on."""
    lines = console_lines(console, "")
    begin = next((i for i, line in enumerate(lines) if "Building a PVH Dom0" in line), 0)
    machine = [line for line in lines[:begin] if MACHINE.search(line)]
    end = next((i for i, line in enumerate(lines) if i > begin and line.startswith("Initial low mem")), len(lines))
    return (*machine, *lines[begin:end])


def _report(console: Path, gdb: Gdb, entry: int, seconds: float) -> tuple[str, ...]:
    """The probe's lines, once it has said the last."""
    gdb.go_on(entry)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        lines = re.findall(r"^(pvh: .*?)\r?$", console.read_text(errors="replace"), re.MULTILINE)
        if lines and lines[-1] == "pvh: end":
            return tuple(lines)
        time.sleep(0.2)
    raise TimeoutError(f"no report within {seconds} s")


def _about(boot: Boot, console: Path) -> dict[str, object]:
    return about(boot, console, ("-device", "amd-iommu"))


def _blobs(memory: GuestMemory, start_info: int) -> tuple[dict[str, tuple[int, bytes]], int | None]:
    """hvm_start_info, the module list, the strings and Xen's ACPI tables; the CRC-32 of the initrd."""
    info = memory.read(start_info, 56)
    nr_modules, modlist, cmdline, rsdp = struct.unpack_from("<IQQQ", info, 12)
    blobs = {"start_info": (start_info, info)}
    crc = None
    if cmdline:
        blobs["cmdline"] = cmdline, _string(memory, cmdline)
    if nr_modules:
        module = memory.read(modlist, 32)
        blobs["modlist"] = modlist, module
        paddr, size, string = struct.unpack_from("<QQQ", module)
        crc = zlib.crc32(memory.read(paddr, size))
        if string:
            blobs["initrd_cmdline"] = string, _string(memory, string)
    root = memory.read(rsdp, 36)
    blobs["rsdp"] = rsdp, root
    (xsdt,) = struct.unpack_from("<Q", root, 24)
    blobs["xsdt"] = xsdt, _table(memory, xsdt)
    (madt,) = struct.unpack_from("<Q", blobs["xsdt"][1], 36)
    blobs["madt"] = madt, _table(memory, madt)
    return blobs, crc


def _string(memory: GuestMemory, at: int) -> bytes:
    """A string without its NUL."""
    return memory.read(at, 1 << 16).partition(b"\0")[0]


def _table(memory: GuestMemory, at: int) -> bytes:
    (length,) = struct.unpack("<I", memory.read(at + 4, 4))
    return memory.read(at, length)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # what is not given keeps Boot's default
    )
    parser.add_argument("--xen", type=Path, required=True)
    parser.add_argument("--kernel", type=Path, required=True)
    parser.add_argument("--initrd", type=Path)
    parser.add_argument("--initrd-string")
    parser.add_argument("--dom0-mem", help="Xen's dom0_mem= ('' for none)")
    parser.add_argument("--xen-options", help="more of Xen's command line", default="")
    parser.add_argument("--dom0-args")
    parser.add_argument("--memory", type=int, help="MiB")
    parser.add_argument("--smp", type=int)
    parser.add_argument("--xen-version", help="to derive the entry point for", default="4.22")
    parser.add_argument("--entry", type=lambda text: int(text, 0), help="where dom0 begins, if Xen moves it")
    parser.add_argument("--probe", action="store_true", help="the kernel is samples/pvh: record its report too")
    parser.add_argument("--uefi", action="store_true", help="boot a disk by OVMF; XEN is its EFI image")
    parser.add_argument("--out", type=Path, required=True)
    args = vars(parser.parse_args())
    out, version = args.pop("out"), args.pop("xen_version")
    parms = pvh_parms(args["kernel"], version)
    entry = args.pop("entry", parms.phys_entry)
    assert entry is not None
    how = {name: args.pop(name, False) for name in ("probe", "uefi")}
    args["xen_options"] = f"{OPTIONS} {args['xen_options']}".strip()
    recording = record_pvh(Boot(**args, cpu=CPU), entry, **how)
    recording.save(out)
    print("\n".join(recording.console[-24:]))
    sys.exit(0 if recording.blobs else 1)


if __name__ == "__main__":
    main()
