"""can-boot beside SYSLINUX itself: ISOLINUX starts small kernels, good and broken, from a CD, or says why not."""

from __future__ import annotations

import gzip
import lzma
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.check.boot_set import BootSet
from mbtool.check.image import Image
from mbtool.check.loaders import choose, loaders
from mbtool.check.report import check_set
from mbtool.source import BytesSource
from tests.check.elf_edit import ehdr
from tests.check.test_grub_verdicts import AT1, MB1, changed, header1
from tests.check.test_matrix_qemu import linux
from tests.qemu import run

pytestmark = [pytest.mark.boot, pytest.mark.real]

INVALID = "Booting kernel failed: Invalid argument"
NO_ELF = "Invalid Multiboot image: neither ELF header nor a.out kludge found"
CASES: dict[str, tuple[str, bytes, str]] = {
    # name: the row of can-boot, the file, what SYSLINUX says ("" when it starts it)
    "linux": ("linux", linux(), ""),
    "linux-1.255": ("linux", linux(version=0x1FF), ""),
    "linux-setup-sects-0": ("linux", linux(setup_sects=0), ""),
    "linux-boot-flag": ("linux", linux(boot_flag=0), INVALID),
    "linux-gzip": ("linux", gzip.compress(linux()), INVALID),
    "mb1": ("mboot", MB1, ""),
    "mb1-gzip": ("mboot", gzip.compress(MB1), ""),
    "mb1-xz": ("mboot", lzma.compress(MB1), NO_ELF),
    "mb1-checksum": ("mboot", changed(MB1, AT1 + 8, b"\0"), ""),  # an ELF file will do
    "mb1-flags": ("mboot", changed(MB1, AT1, header1(0x13)), "Unsupported Multiboot flags set: 0x10"),
    "mb1-e_machine-x86-64": ("mboot", ehdr(MB1, "e_machine", 62), ""),
    "mb1-e_machine-arm": ("mboot", ehdr(MB1, "e_machine", 183), NO_ELF),
    "mb1-ei_class": ("mboot", ehdr(MB1, "ei_class", 2), NO_ELF),
    "mb1-e_version": ("mboot", ehdr(MB1, "e_version", 0), NO_ELF),
    "mb1-e_phentsize": ("mboot", ehdr(MB1, "e_phentsize", 0), NO_ELF),
    "mb1-e_phnum": ("mboot", ehdr(MB1, "e_phnum", 0), NO_ELF),
    "mb1-e_ehsize": ("mboot", ehdr(MB1, "e_ehsize", 0), NO_ELF),
    "mb1-e_type": ("mboot", ehdr(MB1, "e_type", 1), ""),
    "mb1-e_shoff": ("mboot", ehdr(MB1, "e_shoff", 0x100000), ""),
}


@pytest.mark.parametrize("name", CASES)
def test_syslinux_says_the_same(
    tmp_path: Path, debian: Callable[[str], Path], tool: Callable[[str], str], name: str
) -> None:
    mode, data, message = CASES[name]
    disc, modules = tmp_path / "disc", debian("syslinux-common") / "usr/lib/syslinux/modules/bios"
    disc.mkdir()
    (disc / "kernel").write_bytes(data)
    shutil.copy(debian("isolinux") / "usr/lib/ISOLINUX/isolinux.bin", disc)
    for module in ("ldlinux.c32", "libcom32.c32", "mboot.c32"):
        shutil.copy(modules / module, disc)
    start = "linux /kernel" if mode == "linux" else "kernel mboot.c32\nappend /kernel"
    (disc / "isolinux.cfg").write_text(f"serial 0\ndefault it\nprompt 0\nlabel it\n{start}\n")
    eltorito = ("-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table")
    command = [tool("xorriso"), "-as", "mkisofs", "-quiet", "-o", str(tmp_path / "cd.iso"), *eltorito, str(disc)]
    subprocess.run(command, check=True, capture_output=True)
    console = run(["-m", "128", "-cdrom", str(tmp_path / "cd.iso")], until=r": end|^boot:").console
    assert (": end" in console) == (not message)
    assert message in console

    (row,) = choose(loaders(), f"syslinux:{mode}")
    found = check_set(BootSet(kernel=Image(name, BytesSource(data, name)), loaders=(row,)))
    refused = next((problem for problem in found if problem.id == "LOADER-REFUSES"), None)
    assert (refused is None) == (not message), found
    if refused is not None:
        assert refused.console
        assert refused.console in console
