"""Entries of the Boot Loader Specification that systemd-boot does not show, and keys that are nearly some."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.check.report import Problem
from mbtool.check.system import check_system
from mbtool.formats import bls
from mbtool.prove.qemu import uefi_firmware
from mbtool.source import Limits
from tests.check.sets import vmlinuz
from tests.qemu import run

GOOD = "linux /vmlinuz\noptions root=/dev/sda1 ro\n"
CASES: dict[str, tuple[str, str, bool]] = {
    # name: the entry behind its title, rule and what is nearly a key, whether systemd-boot 252 shows the entry
    "good": (GOOD, "", True),
    "x64": (GOOD + "architecture X64\n", "", True),
    "fedora": (GOOD + "grub_users $grub_users\ngrub_arg --unrestricted\ngrub_class kernel\nid x\n", "", True),
    "tabs": (GOOD.replace(" /", "\t  /") + "\n\n# linux\nsort-key a\nx-vendor b\nprofile 0\n", "", True),
    "typo": (GOOD.replace("linux", "linx"), "ENTRY-HIDDEN linux", False),
    "equals": (GOOD.replace("linux ", "linux="), "ENTRY-HIDDEN linux", False),
    "capital": (GOOD.replace("linux", "Linux"), "ENTRY-HIDDEN linux", False),
    "nothing": ("", "ENTRY-HIDDEN linux, uki or efi", False),
    "value": ("linux\n", "ENTRY-HIDDEN linux, uki or efi", False),
    "arm": ("linux /gone\narchitecture aa64\n", "ENTRY-HIDDEN ", False),
    "amd": (GOOD + "architecture x86_64\n", "ENTRY-HIDDEN ", False),
    "two": (GOOD + "efi /vmlinuz\n", "ENTRY-HIDDEN ", True),
    "options": (GOOD.replace("options", "option"), "ENTRY-KEY options", True),
}


def checked(folder: Path) -> dict[str, list[Problem]]:
    found = check_system(folder, Limits())
    return {name.rpartition(": ")[2]: problems for name, problems in found if ".conf" in name}


def written(folder: Path, names: list[str]) -> Path:
    (folder / "loader" / "entries").mkdir(parents=True)
    (folder / "vmlinuz").write_bytes(vmlinuz())
    for name in names:
        (folder / "loader" / "entries" / f"{name}.conf").write_text(f"title <{name}>\n{CASES[name][0]}")
    return folder


@pytest.mark.parametrize("name", CASES)
def test_what_is_said(tmp_path: Path, name: str) -> None:
    ((title, found),) = checked(written(tmp_path, [name])).items()
    assert title == f"<{name}>"
    told = [f"{each.id} {each.evidence.expected}" for each in found]
    assert told == ([CASES[name][1]] if CASES[name][1] else [])


def test_how_bad_it_is(tmp_path: Path) -> None:
    found = checked(written(tmp_path, list(CASES)))
    weight = {name: str(found[f"<{name}>"][0].severity) for name in ("typo", "nothing", "arm", "amd", "two")}
    assert weight == {"typo": "error", "nothing": "error", "arm": "info", "amd": "warning", "two": "warning"}


def test_an_empty_file_has_a_name(tmp_path: Path) -> None:
    (written(tmp_path, []) / "loader" / "entries" / "cut.conf").write_text("")
    assert list(checked(tmp_path)) == ["cut.conf"]


def test_many_lines_that_are_none() -> None:
    assert len(bls.parse("linx /x\n" * 100_000).unknown) == bls.MAX_UNKNOWN


@pytest.mark.boot
@pytest.mark.real
def test_what_systemd_boot_shows(tmp_path: Path, debian: Callable[[str], Path]) -> None:
    esp = written(tmp_path / "esp", list(CASES))
    program = debian("systemd-boot-efi") / "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
    (esp / "EFI" / "BOOT").mkdir(parents=True)
    shutil.copy(program, esp / "EFI" / "BOOT" / "BOOTX64.EFI")
    (esp / "loader" / "loader.conf").write_text("timeout menu-force\n")
    code, variables = uefi_firmware()
    machine = ["-machine", "q35", "-m", "256", "-drive", f"if=pflash,format=raw,readonly=on,file={code}"]
    machine += ["-drive", f"if=pflash,format=raw,snapshot=on,file={variables}"]
    machine += ["-drive", f"file=fat:{esp},format=raw,snapshot=on"]
    console = run(machine, until=r"Reboot Into Firmware").console
    assert {name for name in CASES if f"<{name}>" in console} == {name for name in CASES if CASES[name][2]}
