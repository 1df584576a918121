"""SBAT levels: Debian's programs, whose sections objcopy shows, at levels that do and do not revoke them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.check.revocation import level, levels
from mbtool.errors import MbtoolError
from mbtool.formats import sbat_level
from tests.cli.run import mbtool

LEVEL = b"sbat,1,2025021800\nshim,4\ngrub,5\n"


def test_the_variable_and_its_file() -> None:
    for data in (LEVEL, b"\x06\0\0\0" + LEVEL, LEVEL.replace(b"\n", b"\r\n") + b"\0\0", LEVEL.rstrip()):
        found = sbat_level.parse(data, "x")
        assert found == sbat_level.SbatLevel("2025021800", (("sbat", 1), ("shim", 4), ("grub", 5)))
    assert (found.least("grub"), found.least("grub.debian")) == (5, 0)


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 9, b"grub,5\n", b"sbat", b"sbat,x\n", b"sbat,1\n,2\n", b"sbat,1\ngrub,999999"]
)
def test_what_is_no_level(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "level").write_bytes(data)
    with pytest.raises(MbtoolError):
        level(str(tmp_path / "level"))


def test_published_levels() -> None:
    assert list(levels()) == sorted(levels())
    assert level("latest").date == max(levels())
    assert level("2024010900").least("grub.debian") == 4
    with pytest.raises(MbtoolError, match="date"):
        level("2024010901")


@pytest.fixture
def grub_efi(debian: Callable[[str], Path]) -> Path:
    """Debian's signed GRUB."""
    return next(debian("debian-installer-12-netboot-amd64").rglob("text/*/amd64/grubx64.efi"))


def section(tool: Callable[[str], str], path: Path, work: Path) -> dict[str, int]:
    """Components and generations of the .sbat section, by objcopy."""
    out = work / "sbat"
    subprocess.run([tool("objcopy"), "-O", "binary", "--only-section=.sbat", path, out], check=True)
    rows = [line.split(",") for line in out.read_text().strip(" \0\n").splitlines()]
    return {row[0]: int(row[1]) for row in rows}


@pytest.mark.real
def test_debians_grub(tool: Callable[[str], str], grub_efi: Path, tmp_path: Path) -> None:
    components = section(tool, grub_efi, tmp_path)
    assert "grub" in components
    assert mbtool("check", "--sbat-level", "latest", grub_efi).returncode == 0
    for component, generation in components.items():
        for least, status in ((generation, 0), (generation + 1, 1)):
            rows = f"{component},{least}\n" if component != "sbat" else ""
            first = f"sbat,{least if component == 'sbat' else 1},2099010100\n"
            (tmp_path / "level").write_text(first + rows)
            done = mbtool("check", "--sbat-level", tmp_path / "level", grub_efi)
            assert done.returncode == status, (component, done.stdout)
            assert ("[SBAT-REVOKED]" in done.stdout) == bool(status)


@pytest.mark.real
def test_programs_on_a_disk(tool: Callable[[str], str], grub_efi: Path, tmp_path: Path) -> None:
    disk = tmp_path / "esp.img"
    subprocess.run([tool("mkfs.fat"), "-C", disk, "32768"], check=True, capture_output=True)
    subprocess.run([tool("mcopy"), "-i", disk, grub_efi, "::/"], check=True, capture_output=True)
    assert mbtool("check", "--sbat-level", "latest", "--secure-boot", disk).returncode == 0
    (tmp_path / "level").write_text("sbat,1,2099010100\ngrub,99\n")
    done = mbtool("check", "--sbat-level", tmp_path / "level", disk)
    assert done.returncode == 1
    assert "[SBAT-REVOKED]" in done.stdout
