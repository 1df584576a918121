"""Agreement with grub-file, which says yes or no: where it says no to a header, a rule says why."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.check import loaders
from mbtool.check.boot_set import BootSet
from mbtool.check.image import Image
from mbtool.check.multiboot import headers
from mbtool.check.report import check_image, check_set
from mbtool.source import BytesSource, open_file
from tests.check.sets import XEN, ids


def says(grub_file: str, kind: str, path: Path) -> bool:
    return subprocess.run([grub_file, f"--is-x86-{kind}", str(path)], capture_output=True).returncode == 0


SAMPLES = ("multiboot1/multiboot1.elf", "multiboot2/multiboot2.elf", "pvh/pvh.elf", "pv-dom0/pv-dom0.elf")


@pytest.mark.parametrize("name", SAMPLES)
def test_kinds_of_header(tool: Callable[[str], str], samples: Path, name: str) -> None:
    path = samples / name
    with open_file(path) as source:
        kinds = {node.kind for node in headers(Image(str(path), source))}
    grub_file = tool("grub-file")
    assert says(grub_file, "multiboot", path) == ("multiboot1-header" in kinds)
    assert says(grub_file, "multiboot2", path) == ("multiboot2-header" in kinds)


def test_xen_efi_has_headers_that_lead_to_no_elf_file(tool: Callable[[str], str], tmp_path: Path) -> None:
    """GRUB 2.06, given it by multiboot2 or multiboot, printed this, on a BIOS."""
    path = tmp_path / "xen.efi"
    path.write_bytes(gzip.decompress((XEN / "xen-4.14.5.efi.gz").read_bytes()))
    with open_file(path) as source:
        image = Image(str(path), source)
        kinds = {node.kind for node in headers(image)}
        found = check_set(BootSet(image, loaders=tuple(loaders.choose(loaders.loaders(), "grub:multiboot2:bios"))))
    grub_file = tool("grub-file")
    assert says(grub_file, "multiboot", path) == ("multiboot1-header" in kinds)
    assert says(grub_file, "multiboot2", path) == ("multiboot2-header" in kinds)
    (problem,) = [problem for problem in found if problem.id == "LOADER-REFUSES"]
    assert problem.console == "invalid arch-dependent ELF magic"
    assert "MULTIBOOT-REFUSED" not in ids(check_image(Image("", BytesSource(path.read_bytes()))))


@pytest.mark.parametrize(
    ("name", "kind", "magic", "at", "rule"),
    [
        ("multiboot1/multiboot1.elf", "multiboot", bytes.fromhex("02b0ad1b"), 8, "MULTIBOOT1-CHECKSUM"),
        ("multiboot2/multiboot2.elf", "multiboot2", bytes.fromhex("d65052e8"), 12, "MULTIBOOT2-CHECKSUM"),
    ],
)
def test_a_wrong_checksum(
    tool: Callable[[str], str],
    samples: Path,
    tmp_path: Path,
    name: str,
    kind: str,
    magic: bytes,
    at: int,
    rule: str,
) -> None:
    data = bytearray((samples / name).read_bytes())
    data[data.index(magic) + at] ^= 1
    path = tmp_path / "broken.elf"
    path.write_bytes(data)
    assert not says(tool("grub-file"), kind, path)
    assert ids(check_image(Image("broken", BytesSource(bytes(data))))) == {rule, "MULTIBOOT-NOT-FOUND"}


@pytest.mark.parametrize("by", [0, 1, 2, 4])
def test_where_a_flat_header_stands(tool: Callable[[str], str], tmp_path: Path, by: int) -> None:
    header = bytes.fromhex("02b0ad1b 00000100 fe4f51e4 00001000 00001000 00000000 00000000 20001000")
    data = bytes(by) + header + bytes(64)
    path = tmp_path / "flat"
    path.write_bytes(data)
    found = says(tool("grub-file"), "multiboot", path)
    assert found == (by % 4 == 0)
    if found:
        with open_file(path) as source:
            assert len(headers(Image("flat", source))) == 1


@pytest.mark.real
def test_debians_kernels(tool: Callable[[str], str], vmlinuz: Path, xen_gz: Path, tmp_path: Path) -> None:
    import gzip

    grub_file = tool("grub-file")
    assert says(grub_file, "linux", vmlinuz)
    xen = tmp_path / "xen"
    xen.write_bytes(gzip.decompress(xen_gz.read_bytes()))
    for path in (xen, vmlinuz):
        with open_file(path) as source:
            kinds = {node.kind for node in headers(Image(str(path), source))}
        assert says(grub_file, "multiboot", path) == ("multiboot1-header" in kinds)
        assert says(grub_file, "multiboot2", path) == ("multiboot2-header" in kinds)
