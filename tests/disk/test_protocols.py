"""Which protocol a kernel is started by, what goes on the disk for it, and how errors name the user's file."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.disk.boot_set import BootSet, Module, request
from mbtool.disk.protocols import Protocol, protocol_of
from mbtool.errors import InputError, RefusedError, UnsupportedError
from mbtool.source import BytesSource, open_file

MULTIBOOT1 = struct.pack("<III", 0x1BADB002, 0, -0x1BADB002 & 0xFFFFFFFF)
MULTIBOOT2 = struct.pack("<IIIIHHI", 0xE85250D6, 0, 24, -(0xE85250D6 + 24) & 0xFFFFFFFF, 0, 0, 8)
BZIMAGE = bytes(0x1FE) + b"\x55\xaa\xeb\x6aHdrS\x0f\x02"


def of(data: bytes) -> Protocol:
    return protocol_of(BytesSource(data, "k"))


def test_protocol_by_what_the_kernel_is(samples: Path) -> None:
    assert of(MULTIBOOT1) is Protocol.MULTIBOOT1
    assert of(bytes(64) + MULTIBOOT2) is Protocol.MULTIBOOT2
    assert of(MULTIBOOT1 + bytes(4) + MULTIBOOT2) is Protocol.MULTIBOOT2
    assert of(BZIMAGE) is Protocol.LINUX
    assert of(BZIMAGE + MULTIBOOT1) is Protocol.LINUX
    for name, protocol in (
        ("multiboot1/multiboot1.elf", Protocol.MULTIBOOT1),
        ("multiboot2/multiboot2.elf", Protocol.MULTIBOOT2),
        ("pvh/pvh.elf", Protocol.PVH),
    ):
        with open_file(samples / name) as source:
            assert protocol_of(source) is protocol


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        bytes(8192) + MULTIBOOT1,  # past the limit
        bytes(2) + MULTIBOOT1,
        MULTIBOOT1[:11] + b"\0",
        bytes(0x1FE) + b"\0\0\xeb\x6aHdrS",
        b"\x7fELF",
    ],
)
def test_no_kernel(data: bytes) -> None:
    with pytest.raises(UnsupportedError, match="k: a kernel of no known boot protocol; expected a bzImage"):
        of(data)


def test_a_kernel_without_any_entry_names_the_users_file(samples: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"pv-dom0\.elf: a kernel of no known boot protocol"):
        request(BootSet(samples / "pv-dom0/pv-dom0.elf"))


def test_a_refusal_names_the_users_file(tmp_path: Path) -> None:
    kernel = tmp_path / "odd.bin"
    kernel.write_bytes(struct.pack("<III", 0x1BADB002, 8, -(0x1BADB002 + 8) & 0xFFFFFFFF))
    with pytest.raises(RefusedError, match=f"^{kernel} at 0x4: unsupported flags"):
        request(BootSet(kernel))


@pytest.mark.parametrize("name", ["multiboot1/multiboot1.elf", "multiboot2/multiboot2.elf", "pvh/pvh.elf"])
def test_what_goes_on_the_disk(samples: Path, tmp_path: Path, name: str) -> None:
    """Kernel, initrd and modules in that order; a packed kernel is unpacked, modules are not."""
    kernel = tmp_path / "kernel.gz"
    kernel.write_bytes(gzip.compress((samples / name).read_bytes()))
    boot = BootSet(kernel, samples / "initrd/initrd.img", modules=(Module(kernel.with_name("m"), "text"),))
    kernel.with_name("m").write_bytes(gzip.compress(b"module"))
    disk, notes = request(boot)
    assert list(disk.files) == ["boot/kernel", "boot/initrd.img", "boot/m"]
    assert disk.files["boot/kernel"] == (samples / name).read_bytes()
    assert disk.boot is not None
    placed = {load.name: load.address for load in disk.boot.loads}
    assert placed["boot/kernel"] == 0x100000
    assert (placed["boot/initrd.img"], placed["boot/m"]) == (0x200000, 0x201000)
    assert all("BIOS only" in note for note in notes)


@pytest.mark.real
def test_linux_on_the_disk(vmlinuz_cloud: Path, samples: Path, debian: Callable[[str], Path]) -> None:
    disk, _ = request(BootSet(vmlinuz_cloud, samples / "initrd/initrd.img", cmdline="quiet"))
    assert disk.boot is not None
    assert disk.boot.protocol == "linux"
    assert list(disk.files) == [f"boot/{vmlinuz_cloud.name}", "boot/initrd.img"]
    with pytest.raises(InputError, match="a Linux kernel takes an initrd and no modules"):
        request(BootSet(vmlinuz_cloud, modules=(Module(samples / "initrd/initrd.img"),)))
    ipxe = debian("ipxe") / "boot/ipxe.lkrn"
    with pytest.raises(UnsupportedError, match=r"ipxe\.lkrn.*only a 16-bit one"):
        request(BootSet(ipxe))
