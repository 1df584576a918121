"""Debian's kernel with one field of its setup header changed: mbtool's verdict, and whether QEMU gets it to run."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from mbtool.check.boot_set import open_set
from mbtool.check.loaders import choose, loaders
from mbtool.check.report import check_set
from mbtool.model import Severity
from tests.qemu import run

pytestmark = [pytest.mark.boot, pytest.mark.real]

RUNS = "Linux version 6.1."
LOADERS = tuple(choose(loaders(), "qemu:linux"))
ROWS: dict[str, tuple[int, str, int, str]] = {
    # offset and format of a field, what to add to it, and the rule that is broken then
    "as-it-is": (0x1FA, "<H", 0, ""),
    "root_flags": (0x1F2, "<H", 1, ""),  # signed, and no longer what was signed
    "syssize": (0x1F4, "<I", 1000, ""),  # QEMU goes by the file's size, which the PE view confirms
    "ramdisk_size": (0x21C, "<I", 4096, ""),
    "code32_start": (0x214, "<I", 0x100000, "LINUX-HOOK"),
    "kernel_alignment": (0x230, "<I", 0x100000, ""),
    "kernel_alignment-0": (0x230, "<I", -0x200000, "LINUX-ALIGNMENT"),
    "setup_data": (0x250, "<Q", 0xDEADBEEF0000, "LINUX-HOOK"),
    "init_size": (0x260, "<I", 4096, ""),
    "init_size-of-half-a-page": (0x260, "<I", 2048, "LINUX-INIT-SIZE"),
}


@pytest.mark.parametrize("name", ROWS)
def test_verdict_and_boot_agree(tmp_path: Path, vmlinuz_cloud: Path, name: str) -> None:
    at, form, more, rule = ROWS[name]
    data = bytearray(vmlinuz_cloud.read_bytes())
    struct.pack_into(form, data, at, struct.unpack_from(form, data, at)[0] + more)
    kernel = tmp_path / "kernel"
    kernel.write_bytes(data)
    with open_set(kernel=kernel, loaders=LOADERS, cmdline="console=ttyS0") as boot:
        found = check_set(boot)
    errors = {problem.id for problem in found if problem.severity is Severity.ERROR}
    assert errors == ({rule} if rule else set())
    words = "console=ttyS0 earlyprintk=ttyS0 panic=-1"
    console = run(["-m", "512", "-kernel", str(kernel), "-append", words]).console
    assert (RUNS in console and "Unable to mount root fs" in console) == (not rule), console[-2000:]
