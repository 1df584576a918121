"""Secure Boot: what must be signed, what can be, what nobody verifies; beside sbverify."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mbtool.check.boot_set import Firmware, open_set
from mbtool.check.image import Image
from mbtool.check.report import Problem, check_set
from mbtool.source import open_file
from tests.check.sets import XEN, ids, problems, vmlinuz
from tests.formats.pe_images import CODE, Part
from tests.formats.pe_images import image as pe_image

ASKED: dict[str, Any] = {"secure_boot": True, "firmware": Firmware.UEFI}
EFI = gzip.decompress((XEN / "xen-4.14.5.efi.gz").read_bytes())


def found(folder: Path, rule: str, **files: Any) -> list[Problem]:
    return [problem for problem in problems(folder, files, **ASKED) if problem.id == rule]


def test_only_when_asked_for(tmp_path: Path) -> None:
    files = {"xen": EFI, "kernel": vmlinuz()}
    assert not any(id_.startswith("SECURE-BOOT") for id_ in ids(problems(tmp_path, files, firmware=Firmware.UEFI)))


def test_what_is_no_program_cannot_be_verified(tmp_path: Path) -> None:
    """GRUB asks shim about Multiboot kernels, too."""
    wrong = found(tmp_path, "SECURE-BOOT-NO-PE", xen=XEN / "xen-4.18.0.gz", kernel=vmlinuz())
    assert [problem.evidence.expected for problem in wrong] == ["xen.efi", "a kernel with an EFI stub"]
    assert wrong[0].console == "error: bad shim signature."


def test_unsigned_xen(tmp_path: Path) -> None:
    (wrong,) = found(tmp_path, "SECURE-BOOT-UNSIGNED", xen=EFI)
    assert wrong.evidence.file.endswith("xen")


def test_files_that_nothing_verifies(tmp_path: Path) -> None:
    config = b"[global]\ndefault=a\n[a]\nkernel=xen_cfg\nramdisk=xen_cfg\nucode=xen_cfg\n"
    wrong = found(tmp_path, "SECURE-BOOT-UNVERIFIED-FILE", xen=EFI, xen_cfg=config, kernel=vmlinuz())
    assert [problem.evidence.field for problem in wrong] == ["", "ramdisk", "ucode"]


@pytest.mark.real
def test_debians_kernel_is_signed_and_its_xen_is_not(vmlinuz: Path, xen_efi: Path) -> None:
    with open_set(kernel=vmlinuz, **ASKED) as boot:
        assert check_set(boot) == []
    with open_set(xen=xen_efi, kernel=vmlinuz, **ASKED) as boot:
        wrong = [problem for problem in check_set(boot) if problem.id == "SECURE-BOOT-UNSIGNED"]
    assert [problem.evidence.file for problem in wrong] == [str(xen_efi)]


@pytest.mark.real
def test_an_unsigned_image_around_a_signed_kernel(tmp_path: Path, vmlinuz: Path) -> None:
    """As ukify makes it when it is given no key; sbverify: "No signature table present"."""
    image = pe_image([Part(b".text", b"\xc3", CODE), Part(b".linux", vmlinuz.read_bytes())], image_base=0x100000)
    (wrong,) = found(tmp_path, "SECURE-BOOT-UNSIGNED", kernel=image)
    assert wrong.evidence.file.endswith("kernel")


@pytest.mark.real
def test_sbverify_says_the_same(
    tool: Callable[[str], str], debian: Callable[[str], Path], vmlinuz: Path, xen_efi: Path
) -> None:
    installer = debian("debian-installer-12-netboot-amd64")
    grub = next(installer.glob("**/text/debian-installer/amd64/grubx64.efi"))
    systemd = debian("systemd-boot-efi") / "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
    signed = {}
    for path in (vmlinuz, xen_efi, grub, systemd):
        done = subprocess.run([tool("sbverify"), "--list", str(path)], capture_output=True, text=True)
        signed[path.name] = "signature 1" in done.stdout
        with open_file(path) as source:
            assert (Image(str(path), source).find("pe-signature") is not None) == signed[path.name], path
    assert set(signed.values()) == {True, False}
