"""The matrix on UEFI: Debian's xen.gz by GRUB's multiboot2, whole and without what its header asks GRUB for; and
Debian's xen.efi by the firmware, with a xen.cfg and its files, one thing changed at a time."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mbtool.check.boot_set import Firmware, open_set
from mbtool.check.loaders import choose, loaders
from mbtool.check.report import check_set
from mbtool.prove.qemu import uefi_firmware
from tests.cli.run import mbtool
from tests.qemu import run

pytestmark = [pytest.mark.boot, pytest.mark.real]

BOOT_SERVICES = bytes.fromhex("0700 0100 08000000")
"""Multiboot 2 header tag 7, optional."""
ALIGNED = bytes.fromhex("0600 0100 08000000")
"""Tag 6, of the same size."""
SHUT_DOWN = "Hardware Dom0 halted"


@pytest.mark.parametrize("rule", ["", "XEN-NO-EFI-ENTRY"])
def test_verdict_and_boot_agree(
    tmp_path: Path, xen_gz: Path, samples: Path, tool: Callable[[str], str], rule: str
) -> None:
    assert tool("grub-mkimage")
    data = gzip.decompress(xen_gz.read_bytes())
    assert data.count(BOOT_SERVICES) == 1
    xen, kernel, disk = tmp_path / "xen.gz", samples / "pv-dom0" / "pv-dom0.elf", tmp_path / "disk.img"
    xen.write_bytes(gzip.compress(data.replace(BOOT_SERVICES, ALIGNED) if rule else data, 1))
    (loader,) = choose(loaders(), "grub:multiboot2:uefi")
    asked: dict[str, Any] = {"firmware": Firmware.UEFI, "loaders": (loader,)}
    with open_set(xen=xen, kernel=kernel, dom0_mem="64M", **asked) as boot:
        errors = {problem.id: problem for problem in check_set(boot) if problem.severity == "error"}
    assert (rule in errors) if rule else not errors

    options = "console=com1 com1=115200 noreboot dom0_mem=64M"
    built = mbtool(
        *("build-disk", "--loader", "grub", "--xen", xen, "--kernel", kernel, "--xen-cmdline", options, "-o", disk)
    )
    assert built.returncode == 0, built.stderr
    code, variables = uefi_firmware()
    machine = ["-machine", "q35", "-m", "512", "-drive", f"format=raw,file={disk}"]
    for path, how in ((code, "readonly=on"), (variables, "snapshot=on")):
        machine += ["-drive", f"if=pflash,format=raw,{how},file={path}"]
    expected = errors[rule].console if rule else SHUT_DOWN
    assert expected
    console = run(machine, until=f"{SHUT_DOWN}|{expected}").console
    assert (SHUT_DOWN in console) == (not rule)
    assert expected in console


CONFIG = """[global]
default=debian
[debian]
options=console=com1 com1=115200 noreboot dom0_mem=64M
kernel=kernel hello
ramdisk=initrd
"""
SETS = {
    # name: what is put in the place of what in xen.cfg, or the file that is left out, and the rule that is broken
    "whole": ("", "", ""),
    "no-kernel": ("kernel", "", "XEN-CFG-FILE"),
    "no-ramdisk": ("initrd", "", "XEN-CFG-FILE"),
    "key": ("kernel=", "kernal=", "XEN-CFG-NO-KERNEL"),
    "section": ("[debian]", "[debain]", "XEN-CFG-NO-KERNEL"),
    "default": ("default=", "defualt=", ""),  # then it is the first section
    "carriage-returns": ("\n", "\r\n", ""),
    "memory": ("64M", "4M", "DOM0-MEM"),
    "slash": ("kernel=kernel", "kernel=./kernel", "XEN-CFG-FILE"),
    "backslash": ("kernel=kernel", "kernel=.\\kernel", ""),
    "empty": ("ramdisk=initrd", "ramdisk=", "XEN-CFG-FILE"),
    "empty-ramdisk": ("ramdisk=initrd", "ramdisk=nothing", "XEN-CFG-FILE"),
    "empty-configuration": (CONFIG, "", "XEN-CFG-NO-KERNEL"),
    "policy": ("ramdisk=", "xsm=policy\nramdisk=", "XEN-CFG-FILE"),
}


@pytest.mark.parametrize("name", SETS)
def test_xen_cfg(tmp_path: Path, xen_efi: Path, samples: Path, name: str) -> None:
    old, new, rule = SETS[name]
    folder = tmp_path / "EFI" / "BOOT"
    folder.mkdir(parents=True)
    xen, config = folder / "BOOTX64.EFI", folder / "BOOTX64.cfg"
    xen.write_bytes(xen_efi.read_bytes())
    config.write_bytes((CONFIG.replace(old, new) if new or old == CONFIG else CONFIG).encode())
    (folder / "nothing").touch()
    for file, source in (("kernel", "pv-dom0/pv-dom0.elf"), ("initrd", "initrd/initrd.img")):
        if new or file != old:
            (folder / file).write_bytes((samples / source).read_bytes())
    with open_set(xen=xen, xen_cfg=config, firmware=Firmware.UEFI) as boot:
        errors = {problem.id: problem for problem in check_set(boot) if problem.severity == "error"}
    errors.pop("UNREADABLE" if new == "ramdisk=nothing" else "", None)
    assert set(errors) == ({rule} if rule else set())

    machine = ["-machine", "q35", "-m", "512", "-drive", f"format=raw,file=fat:rw:{tmp_path}"]
    for path, how in zip(uefi_firmware(), ("readonly=on", "snapshot=on"), strict=True):
        machine += ["-drive", f"if=pflash,format=raw,{how},file={path}"]
    expected = errors[rule].console if rule else SHUT_DOWN
    assert expected
    console = run(machine, until=f"{SHUT_DOWN}|{re.escape(expected)}").console
    assert (SHUT_DOWN in console) == (not rule)
    assert expected in console


@pytest.mark.parametrize(
    ("at", "new", "rule"),
    [
        (4, b"\x4c\x01", "EFI-PROGRAM-REFUSED"),
        (24 + 68, b"\x03\0", "EFI-PROGRAM-REFUSED"),
        (24 + 60, bytes(4), "EFI-PROGRAM-REFUSED"),
        (24 + 16, bytes(4), "PE-ENTRY"),
        (24 + 64, bytes(4), ""),
    ],
    ids=["machine", "subsystem", "headers", "entry", "checksum"],
)
def test_a_changed_header(tmp_path: Path, xen_efi: Path, samples: Path, at: int, new: bytes, rule: str) -> None:
    """A field behind the PE signature; nobody looks at the checksum."""
    data = bytearray(xen_efi.read_bytes())
    at += int.from_bytes(data[0x3C:0x40], "little")
    data[at : at + len(new)] = new
    folder = tmp_path / "EFI" / "BOOT"
    folder.mkdir(parents=True)
    xen, config = folder / "BOOTX64.EFI", folder / "BOOTX64.cfg"
    xen.write_bytes(data)
    config.write_text(CONFIG)
    for file, source in (("kernel", "pv-dom0/pv-dom0.elf"), ("initrd", "initrd/initrd.img")):
        (folder / file).write_bytes((samples / source).read_bytes())
    with open_set(xen=xen, xen_cfg=config, firmware=Firmware.UEFI) as boot:
        errors = {problem.id: problem for problem in check_set(boot) if problem.severity == "error"}
    assert set(errors) == ({rule} if rule else set())
    machine = ["-machine", "q35", "-m", "512", "-drive", f"format=raw,file=fat:rw:{tmp_path}"]
    for path, how in zip(uefi_firmware(), ("readonly=on", "snapshot=on"), strict=True):
        machine += ["-drive", f"if=pflash,format=raw,{how},file={path}"]
    gave_up = "BdsDxe: failed to (load|start) Boot0002|X64 Exception|Find image based on IP|Shell>"
    console = run(machine, until=f"{SHUT_DOWN}|{gave_up}").console
    assert (SHUT_DOWN in console) == (not rule)
    said = console[console.index("Boot0002") - 40 :]  # an empty drive is tried before
    assert all(problem.console in said for problem in errors.values())
