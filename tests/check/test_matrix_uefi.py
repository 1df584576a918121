"""The matrix on UEFI: Debian's xen.gz by GRUB's multiboot2, whole and without what its header asks GRUB for."""

from __future__ import annotations

import gzip
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
