"""Plain Linux on UEFI and BIOS from one disk: the unified image as others read it, each file on the disk once."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mbtool.build.disk import build_disk
from mbtool.disk.boot_set import BootSet, Module
from mbtool.errors import InputError, MbtoolError, UnsupportedError
from tests.cli.run import mbtool
from tests.conftest import ROOT
from tests.disk.test_pe_append import sections

INITRD = ROOT / "samples" / "initrd" / "initrd.img"
CMDLINE = "console=ttyS0 grüß=1"


@pytest.fixture(scope="session")
def stub(debian) -> Path:
    return Path(debian("systemd-boot-efi")) / "usr/lib/systemd/boot/efi/linuxx64.efi.stub"


@pytest.fixture
def disk(tmp_path: Path, vmlinuz_cloud: Path, stub: Path) -> Path:
    boot = BootSet(kernel=vmlinuz_cloud, initrd=INITRD, efi_stub=stub, cmdline=CMDLINE)
    build_disk(boot, tmp_path / "disk.img", force=False)
    return tmp_path / "disk.img"


@pytest.fixture
def uki(disk: Path, tool) -> Path:
    """The image that UEFI starts, as mtools reads it from the disk."""
    path = disk.with_name("uki.efi")
    subprocess.run([tool("mcopy"), "-i", f"{disk}@@1M", "::EFI/BOOT/BOOTX64.EFI", path], check=True)
    return path


@pytest.mark.real
def test_objdump_reads_every_section_back(uki: Path, tool, vmlinuz_cloud: Path) -> None:
    found = sections(uki, tool("objdump"))
    data = uki.read_bytes()
    release = vmlinuz_cloud.name.removeprefix("vmlinuz-")
    for name, content in {
        ".linux": vmlinuz_cloud.read_bytes(),
        ".initrd": INITRD.read_bytes(),
        ".cmdline": CMDLINE.encode(),
        ".uname": release.encode(),
    }.items():
        size, _, offset = found[name]
        assert data[offset : offset + size] == content
    size, _, offset = found[".osrel"]
    assert f'PRETTY_NAME="Linux {release}"' in data[offset : offset + size].decode()
    assert list(found)[-1] == ".linux"


@pytest.mark.real
def test_it_can_be_signed_and_verified(uki: Path, tool, tmp_path: Path) -> None:
    key, certificate, signed = tmp_path / "key.pem", tmp_path / "cert.pem", tmp_path / "signed.efi"
    request = [tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test"]
    subprocess.run([*request, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    sign = [tool("sbsign"), "--key", key, "--cert", certificate, "--output", signed, uki]
    done = subprocess.run(sign, check=True, capture_output=True, text=True)
    assert "warning" not in done.stderr
    subprocess.run([tool("sbverify"), "--cert", certificate, signed], check=True, capture_output=True)


@pytest.mark.real
def test_every_file_is_there_once_and_the_stub_reads_it_in_the_image(disk: Path, vmlinuz_cloud: Path) -> None:
    data = disk.read_bytes()
    for path in (vmlinuz_cloud, INITRD):
        assert data.count(path.read_bytes()) == 1
    document = json.loads(mbtool("inspect", "--json", disk).stdout)
    items = [node["fields"] for node in _walk(document["images"][0]["root"]) if node["kind"] == "load-item"]
    inside = [item for item in items if "BOOTX64.EFI" in str(item["file"]["value"])]
    assert len(inside) == 2
    assert all(item["matches"]["value"] for item in items)


def _walk(node: Any) -> Iterator[Any]:
    yield node
    for child in node["children"]:
        yield from _walk(child)


@pytest.mark.real
def test_os_release_is_taken_as_it_is(tmp_path: Path, vmlinuz_cloud: Path, stub: Path, tool) -> None:
    (tmp_path / "os-release").write_text("ID=example\n")
    options: list[str | Path] = [
        "--kernel",
        vmlinuz_cloud,
        "--efi-stub",
        stub,
        "--os-release",
        tmp_path / "os-release",
    ]
    done = mbtool("build-disk", *options, "--verify-reproducible", "-o", tmp_path / "disk.img")
    assert (done.returncode, done.stderr) == (0, "")
    assert "BIOS only" not in done.stdout
    assert (tmp_path / "disk.img").read_bytes().count(b"ID=example\n") == 1


@pytest.mark.real
@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"efi_stub": INITRD}, InputError, "is no EFI program"),
        ({"efi_stub": "kernel"}, InputError, "is a kernel already"),
        ({"efi_stub": "xen"}, InputError, "linuxx64.efi.stub"),
        ({"kernel": ROOT / "samples/multiboot1/multiboot1.elf"}, InputError, "Multiboot 1 kernel"),
        ({"xen": "xen"}, InputError, "for Linux alone"),
        ({"modules": [Module(INITRD)]}, InputError, "no modules"),
        ({"os_release": Path("/dev/null")}, MbtoolError, "/dev/null"),
        ({"kernel": "memdisk"}, UnsupportedError, "CONFIG_EFI_STUB"),
    ],
)
def test_refusals(
    tmp_path: Path, vmlinuz_cloud: Path, stub: Path, xen_gz: Path, debian, given, error, words
) -> None:
    real = {
        "kernel": vmlinuz_cloud,
        "xen": xen_gz,
        "memdisk": debian("syslinux-common") / "usr/lib/syslinux/memdisk",
    }
    given = {key: real[value] if isinstance(value, str) else value for key, value in given.items()}
    with pytest.raises(error, match=words):
        build_disk(
            BootSet(**{"kernel": vmlinuz_cloud, "efi_stub": stub, **given}), tmp_path / "disk.img", force=False
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.boot
@pytest.mark.real
def test_it_boots_on_both_firmwares(tmp_path: Path, tool, vmlinuz_cloud: Path, stub: Path) -> None:
    """One disk, one kernel and one initrd on it: started through the UKI and by the boot stub."""
    tool("qemu-system-x86_64")
    options: list[str | Path] = [
        "--kernel",
        vmlinuz_cloud,
        "--initrd",
        INITRD,
        "--efi-stub",
        stub,
        "--cmdline",
        "console=ttyS0 word=42",
    ]
    assert mbtool("build-disk", *options, "-o", tmp_path / "disk.img").returncode == 0
    expect = ["--expect", r"Command line: .*word=42", "--expect", "Power down"]
    done = mbtool("prove", "--firmware", "both", "--timeout", "300", *expect, tmp_path / "disk.img")
    assert (done.returncode, done.stdout.count("proven: ")) == (0, 2), done.stdout
