"""The disk boots in another emulator, v86, and on BIOSes of another family: Bochs's, old and new."""

from __future__ import annotations

import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.disk.boot_set import BootSet, Module, request
from tests import npm
from tests.conftest import missing
from tests.debian import Missing
from tests.disk.boots import memory_of, modules_of, write
from tests.samples.report import number, report

pytestmark = [pytest.mark.boot, pytest.mark.real]

MIB = 1 << 20
MODULE = bytes(range(256)) * 1300 + b"odd"
SEABIOS = "/usr/share/seabios"
BIOSES = {
    "SeaBIOS": "bios.bin",
    "Bochs": "usr/share/bochs/BIOS-bochs-latest",
    "Bochs of old": "usr/share/bochs/BIOS-bochs-legacy",
}


@pytest.fixture
def boot(tool: Callable[[str], str], debian: Callable[[str], Path]) -> Callable[[str, Path, str], str]:
    """``boot(bios, disk, until)``: what a machine in v86 says on its serial port."""
    node = tool("node")
    try:
        package = npm.unpacked("v86@0.5.462")
    except Missing as error:
        missing(str(error))

    def run(name: str, disk: Path, until: str) -> str:
        if name == "SeaBIOS":
            bios, vga = Path(SEABIOS) / BIOSES[name], Path(SEABIOS) / "vgabios-stdvga.bin"
        else:
            bios = debian("bochsbios") / BIOSES[name]
            vga = debian("vgabios") / "usr/share/vgabios/vgabios.bin"
        command = [node, str(Path(__file__).with_name("v86.mjs"))]
        command += [str(word) for word in (package, bios, vga, disk, until, 60)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
        return done.stdout.replace("\r", "")

    return run


@pytest.mark.parametrize(("bios", "tag"), [("SeaBIOS", "mb1"), ("Bochs", "mb2"), ("Bochs of old", "mb1")])
def test_samples(samples: Path, tmp_path: Path, boot: Callable[[str, Path, str], str], bios: str, tag: str) -> None:
    name = "multiboot1" if tag == "mb1" else "multiboot2"
    (tmp_path / "module.bin").write_bytes(MODULE)
    wanted, _ = request(BootSet(samples / name / f"{name}.elf", modules=[Module(tmp_path / "module.bin", "text")]))
    values = report(boot(bios, write(wanted, tmp_path), f"{tag}: end"), tag)
    text = "module.bin text" if tag == "mb1" else "text"
    assert modules_of(values, tag) == [(2 * MIB, 2 * MIB + len(MODULE), text, zlib.crc32(MODULE))]
    memory = memory_of(values, tag)
    assert 63 * MIB < sum(span.size for span in memory.usable()) <= 64 * MIB
    if tag == "mb1":
        assert number(values, "mem_upper") == memory.mem_upper
        assert number(values, "mem_lower") == 639  # what INT 12h says; Bochs's map has 636


@pytest.mark.parametrize("bios", BIOSES)
def test_a_cd(samples: Path, tmp_path: Path, boot: Callable[[str, Path, str], str], bios: str) -> None:
    (tmp_path / "module.bin").write_bytes(MODULE)
    kernel = samples / "multiboot1/multiboot1.elf"
    wanted, _ = request(BootSet(kernel, modules=[Module(tmp_path / "module.bin", "text")], format="iso"))
    disk = write(wanted, tmp_path).rename(tmp_path / "disk.iso")
    values = report(boot(bios, disk, "mb1: end"), "mb1")
    assert modules_of(values, "mb1") == [(2 * MIB, 2 * MIB + len(MODULE), "module.bin text", zlib.crc32(MODULE))]


def test_a_refusal(samples: Path, tmp_path: Path, boot: Callable[[str, Path, str], str]) -> None:
    (tmp_path / "big").write_bytes(bytes(63 * MIB))
    wanted, _ = request(BootSet(samples / "multiboot1/multiboot1.elf", modules=[Module(tmp_path / "big")]))
    words = "error: not enough memory below 4 GiB: boot/big: needs 0x00200000 to 0x04100000"
    assert words in boot("SeaBIOS", write(wanted, tmp_path), words)
