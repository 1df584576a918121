"""Who can load it: verdicts by loader, version and firmware; rows of users; QEMU itself asked."""

from __future__ import annotations

import json
import lzma
import struct
import subprocess
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mbtool.check.boot_set import BootSet
from mbtool.check.capabilities import PREDICATES, why_not
from mbtool.check.image import Image
from mbtool.check.loader import Loader
from mbtool.check.loaders import choose, load, loaders, newest
from mbtool.check.report import check_image, check_set
from mbtool.errors import InputError
from mbtool.formats.xen_notes import XenNote
from mbtool.source import BytesSource, open_file
from tests.check.sets import XEN, packed, vmlinux, vmlinuz
from tests.cli.run import mbtool
from tests.formats.pe_images import CODE, Part
from tests.formats.pe_images import image as pe_image
from tests.formats.test_initrd import zstd

SCHEMA = json.loads((files("mbtool") / "schemas" / "can-boot.schema.json").read_text())


def reason(data: bytes | Path, loader: str) -> str:
    """Why one loader cannot start an image, "" when it can."""
    (row,) = choose(loaders(), loader)
    if isinstance(data, bytes):
        return why_not(Image("image", BytesSource(data)), row)
    with open_file(data) as source:
        return why_not(Image(str(data), source), row)


def with_size(stream: bytes, data: bytes) -> bytes:
    return stream + len(data).to_bytes(4, "little")


KERNEL = vmlinux()
ZSTD = vmlinuz(with_size(zstd(KERNEL), KERNEL))
"""A kernel as distributions pack it now."""


@pytest.mark.parametrize(
    ("loader", "can"),
    [
        ("xen-4.14:dom0-pv", False),
        ("xen-4.15:dom0-pv", True),
        ("xen-4.22:dom0-pvh", True),
        ("libxenguest-4.14:domu-pv", False),
        ("libxenguest-4.15:domu-pv", True),
        ("pvgrub-2.06", False),
        ("pvgrub-2.12", False),
        ("pvgrub-2.14", False),
        ("grub:linux:bios", True),
        ("qemu:linux", True),
        ("kexec:linux", True),
    ],
)
def test_zstd(loader: str, can: bool) -> None:
    """Xen's CHANGELOG and tools: 4.15; GRUB has no such filter (NixOS/nixpkgs issue 249357)."""
    found = reason(ZSTD, loader)
    assert (found == "") == can
    assert can or "zstd" in found or "ELF binary" in found
    assert reason(vmlinuz(), loader) == ""


@pytest.mark.parametrize(
    ("name", "can"),
    [
        (
            "multiboot1/multiboot1.elf",
            {
                "grub:multiboot:bios",
                "grub:multiboot:uefi",
                "qemu:multiboot",
                "kexec:multiboot",
                "limine:multiboot1:bios",
                "limine:multiboot1:uefi",
                "syslinux:mboot:bios",
            },
        ),
        (
            "multiboot2/multiboot2.elf",
            {
                "grub:multiboot2:bios",
                "grub:multiboot2:uefi",
                "kexec:multiboot2",
                "limine:multiboot2:bios",
                "limine:multiboot2:uefi",
            },
        ),
        ("pvh/pvh.elf", {"qemu:pvh", "xen:dom0-pvh", "libxenguest:domu-pvh"}),
        ("pv-dom0/pv-dom0.elf", {"xen:dom0-pv", "libxenguest:domu-pv", "pvgrub:domu-pv"}),
    ],
)
def test_samples(samples: Path, name: str, can: set[str]) -> None:
    """Each is made for one protocol (samples/README.md)."""
    found = set()
    with open_file(samples / name) as source:
        image = Image(name, source)
        for row in newest(loaders()):
            if not why_not(image, row):
                found.add(":".join(part for part in (row.name, row.mode, row.on) if part))
    assert found == can


def test_xen_on_uefi() -> None:
    xen = XEN / "xen-4.18.0.gz"
    assert reason(xen, "grub:multiboot2:uefi") == ""
    assert "multiboot2" in reason(xen, "grub:multiboot:uefi")
    assert reason(xen, "limine:multiboot2:bios") == ""  # its ChangeLog, 12.0.0: gzip again
    import gzip

    assert "EFI" in reason(gzip.decompress(xen.read_bytes()), "limine:multiboot2:uefi")


EVERY_KEXEC = {"2.0.20", "2.0.23", "2.0.24", "2.0.25", "2.0.30", "2.0.31", "2.0.32"}


def test_what_kexec_unpacks(samples: Path) -> None:
    """kexec-tools 2.0.24 ask lzma_properties_decode, which refuses xz files' first byte; 2.0.31: zstd."""
    kernel = (samples / "multiboot2" / "multiboot2.elf").read_bytes()
    for data, versions in (
        (lzma.compress(kernel, lzma.FORMAT_XZ), {"2.0.20", "2.0.23"}),
        (lzma.compress(kernel, lzma.FORMAT_ALONE), EVERY_KEXEC),
        (zstd(kernel), {"2.0.31", "2.0.32"}),
    ):
        rows = [row for row in loaders() if row.name == "kexec" and row.mode == "multiboot2"]
        can = {v for row in rows for v in row.versions if not reason(data, f"kexec-{v}:multiboot2")}
        assert can == versions


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        (12, 0x100800, "header address > load address"),
        (16, 0x100010, "not 4k aligned"),
        (20, 0, "load end address < load address"),
        (24, 0, "bss end address < load end address"),
        (28, 0x200000, "entry out of range"),
    ],
)
def test_what_kexec_says_of_address_fields(field: int, value: int, problem: str) -> None:
    """kexec-tools, kexec-multiboot-x86.c, multiboot_x86_probe: its words."""
    magic = (0x1BADB002, 1 << 16, -0x1BAEB002 & 0xFFFFFFFF)
    header = struct.pack("<8I", *magic, 0x100000, 0x100000, 0x101000, 0x102000, 0x100020)
    sound = bytearray(header + bytes(4096 - len(header)))
    assert reason(bytes(sound), "kexec:multiboot") == ""
    struct.pack_into("<I", sound, field, value)
    if field == 12:
        struct.pack_into("<I", sound, 16, 0x101000)
    assert problem in reason(bytes(sound), "kexec:multiboot")


MONITORS = ("firecracker-1.10:elf", "firecracker-1.16:elf", "cloud-hypervisor:pvh")


@pytest.mark.parametrize(
    ("change", "can"),
    [
        ({}, (True, True, True)),
        ({"entry": 0xFFFFF}, (False, False, False)),
        ({"entry": 0x900000}, (False, True, True)),
        ({"notes": {XenNote.PHYS32_ENTRY: None}}, (True, True, False)),
    ],
)
def test_rust_vmm(change: dict[str, Any], can: tuple[bool, ...]) -> None:
    """linux-loader, src/loader/elf/mod.rs: e_entry from 1 MiB on; Firecracker has known PVH since 1.12."""
    data = vmlinux(**{"entry": 0x100000, **change})
    assert tuple(reason(data, loader) == "" for loader in MONITORS) == can


def test_rust_vmm_wants_a_sound_file() -> None:
    data = bytearray(vmlinux(entry=0x100000))
    struct.pack_into("<H", data, 54, 64)
    assert "Invalid program header size" in reason(bytes(data), "firecracker:elf")


def test_limine(samples: Path) -> None:
    """common/protos/multiboot2.c: required information that it has no tag for; elf.c: classes by machine."""
    data = bytearray((samples / "multiboot2" / "multiboot2.elf").read_bytes())
    at = data.index(struct.pack("<HHIII", 1, 0, 16, 4, 6))
    struct.pack_into("<I", data, at + 12, 10)  # APM
    assert reason(bytes(data), "limine:multiboot2:bios") == "Requested tag `10` which is not supported"
    struct.pack_into("<I", data, at + 12, 12)  # EFI64
    assert reason(bytes(data), "limine:multiboot2:bios")
    assert reason(bytes(data), "limine:multiboot2:uefi") == ""
    phoff = int.from_bytes(data[28:32], "little")
    struct.pack_into("<I", data, phoff + 20, 0xB00)  # p_memsz
    assert reason(bytes(data), "limine:multiboot2:uefi") == "elf: p_filesz > p_memsz"
    struct.pack_into("<H", data, 18, 62)
    assert "class" in reason(bytes(data), "limine:multiboot2:uefi")


def test_kernels_that_are_loaded_low() -> None:
    low = bytearray(vmlinuz())
    low[0x211] &= ~1
    for loader in ("kexec:linux", "cloud-hypervisor:linux"):
        assert reason(vmlinuz(), loader) == ""
        assert "zImage" in reason(bytes(low), loader)


def test_pvgrub(tmp_path: Path, tool: Callable[[str], str]) -> None:
    """PV-GRUB 0.97: libxenguest's codecs (Makefile.common), "can only boot x86 64 kernels"; GRUB 2: xen.c, arch."""
    assert "zstd" in reason(ZSTD, "pvgrub-0.97")
    assert reason(ZSTD, "pvgrub-0.97-xen4.15") == ""
    assert reason(vmlinuz(), "pvgrub-0.97") == reason(vmlinuz(), "pvgrub-2.06") == ""
    image = tmp_path / "grub.img"
    subprocess.run([tool("grub-mkimage"), "-O", "i386-xen", "-p", "/", "-o", str(image), "normal"], check=True)
    for version in ("0.97", "2.06", "2.14"):
        assert reason(image, f"pvgrub-{version}") == "a 32-bit kernel"
    assert reason(image, "libxenguest:domu-pv") == ""


def test_boot_sectors() -> None:
    """GRUB, i386/pc/chainloader.c: 55 aa at the end of the first sector, or "invalid signature"."""
    (row,) = choose(loaders(), "grub:chainloader:bios")
    disk = bytes(510) + b"\x55\xaa" + bytes(512)
    disk = disk[:446] + b"\x80" + bytes(3) + b"\x0c" + bytes(3) + struct.pack("<II", 1, 1) + disk[462:]
    assert reason(disk, "grub:chainloader:bios") == ""
    assert "Linux kernel" in reason(vmlinuz(), "grub:chainloader:bios")
    for kernel, words in ((KERNEL, "premature end of file"), (KERNEL + bytes(512), "invalid signature")):
        assert row.words_for(reason(kernel, "grub:chainloader:bios")) == words


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, ""),
        ({"version": 0x202}, "linux: Protocols < 2.03 are not supported"),
        ({"loadflags": 0}, "linux: Kernels that load at 0x10000 are not supported"),
        ({"setup_sects": 64}, "linux: Kernel file too small for real mode code"),
    ],
)
def test_limine_loads_linux(values: dict[str, Any], words: str) -> None:
    """common/protos/linux_x86.c, its words."""
    (row,) = choose(loaders(), "limine:linux:bios")
    assert row.words_for(reason(vmlinuz(**values), "limine:linux:bios")) == words


def test_limine_takes_the_first_multiboot_magic(samples: Path) -> None:
    """common/protos/multiboot1.c: sound or not."""
    data = (samples / "multiboot1" / "multiboot1.elf").read_bytes()
    wrong = bytes.fromhex("02b0ad1b") + bytes(8)
    (row,) = choose(loaders(), "limine:multiboot1:bios")
    for image, words in (
        (data[:8] + wrong[:8] + data[16:], "Header checksum is invalid"),
        (KERNEL, "Invalid magic"),
    ):
        assert row.words_for(reason(image, "limine:multiboot1:bios")) == f"multiboot1: {words}"


def test_only_dom0() -> None:
    """libelf takes it; Xen's tools: "Kernel does not support unprivileged (DomU) operation"."""
    data = vmlinux(notes={XenNote.FEATURES: b"!dom0\0"})
    assert "unprivileged" in reason(data, "libxenguest:domu-pv")
    assert reason(data, "xen:dom0-pv") == ""


@pytest.mark.parametrize(("bss", "told"), [(0, False), (4096, True)])
def test_an_entry_point_in_zeros(samples: Path, bss: int, told: bool) -> None:
    """multiboot1.elf has p_filesz 2848 and p_memsz 7136 (readelf -l)."""
    data = bytearray((samples / "multiboot1" / "multiboot1.elf").read_bytes())
    entry = int.from_bytes(data[24:28], "little") + bss
    data[24:28] = entry.to_bytes(4, "little")
    found = [p for p in check_image(Image("kernel", BytesSource(bytes(data)))) if p.id == "MULTIBOOT-ENTRY-ZEROS"]
    assert [p.severity for p in found] == ["warning"] * told
    assert all(p.evidence.found == f"{entry:#x}" for p in found)


@pytest.mark.parametrize(
    ("machine", "subsystem", "why"),
    [
        (0x8664, 10, ""),
        (0xAA64, 10, "an EFI program for another machine than x86-64"),
        (0xEBC, 10, "EFI byte code, for which the firmware needs an interpreter"),
        (0x8664, 11, "a PE image, but no EFI application"),
        (0x8664, 3, "a PE image, but no EFI application"),
        (0x14C, 3, "a PE image, but no EFI application"),
    ],
    ids=["EFI", "EFI for ARM64", "EFI byte code", "EFI driver", "Windows", "32-bit Windows"],
)
def test_pe_files_that_are_no_efi_program(machine: int, subsystem: int, why: str) -> None:
    """As firmware's LoadImage and StartImage see it; the launchers in Python's wheels are Windows programs."""
    data = bytearray(pe_image([Part(b".text", b"\xc3", CODE)]))
    data[0x44:0x46] = machine.to_bytes(2, "little")
    data[0x40 + 24 + 68 : 0x40 + 24 + 70] = subsystem.to_bytes(2, "little")
    assert reason(bytes(data), "grub:chainloader:uefi") == why


@pytest.mark.parametrize(
    ("machine", "subsystem", "found"),
    [
        (0xAA64, 10, "an EFI program for Arm64"),
        (0x5064, 10, "an EFI program for RISC-V 64"),
        (0x8664, 3, "a PE file (Windows console) for x86-64"),
    ],
)
def test_a_kernel_that_is_none_is_named(machine: int, subsystem: int, found: str) -> None:
    data = bytearray(pe_image([Part(b".text", b"\xc3", CODE)]))
    data[0x44:0x46] = machine.to_bytes(2, "little")
    data[0x40 + 24 + 68 : 0x40 + 24 + 70] = subsystem.to_bytes(2, "little")
    problems = check_set(BootSet(kernel=Image("kernel", BytesSource(bytes(data)))))
    assert [each.evidence.found for each in problems if each.id == "KERNEL-IMAGE"] == [found]


BASE = 0x100000


def kludge(*addresses: int) -> bytes:
    """A flat Multiboot 1 image of 64 bytes: header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr."""
    flags = 0x10003
    header = struct.pack("<8I", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF, *addresses)
    return header + bytes(64 - len(header))


@pytest.mark.parametrize(
    ("addresses", "refused"),
    [
        ((BASE, BASE, 0, 0), ""),
        ((BASE, BASE, BASE + 64, BASE + 4096), ""),
        ((BASE, BASE + 16, 0, 0), "invalid load_addr address"),
        ((BASE, BASE, BASE + 64, BASE + 40), "invalid bss_end_addr address"),
        ((BASE, BASE, 0, BASE + 40), "invalid bss_end_addr address"),
        ((BASE, BASE, BASE - 16, 0), "invalid load_end_addr address"),
    ],
)
def test_address_fields_that_contradict_each_other(addresses: tuple[int, ...], refused: str) -> None:
    """Each with what QEMU 7.2 says, "" where it goes on."""
    image = kludge(*addresses, BASE + 32)
    assert reason(image, "qemu:multiboot").partition(":")[0] == refused
    errors = {
        problem.id for problem in check_image(Image("kernel", BytesSource(image))) if problem.severity == "error"
    }
    assert bool(errors) == bool(refused)


@pytest.mark.parametrize("ends", [(0, 0), (BASE + 64, 0), (BASE + 64, BASE + 4096), (0, BASE + 4096)])
def test_an_entry_point_outside_of_a_flat_image(ends: tuple[int, int]) -> None:
    """Loaders do not look: the machine runs whatever lies there."""
    last = (ends[1] or BASE + 64) - 1
    for entry, outside in ((BASE, False), (last, False), (last + 1, True), (BASE - 1, True)):
        found = check_image(Image("kernel", BytesSource(kludge(BASE, BASE, *ends, entry))))
        assert [problem.id for problem in found if problem.id == "MULTIBOOT-ENTRY"] == ["MULTIBOOT-ENTRY"] * outside


@pytest.mark.parametrize(("entry", "outside"), [(BASE, False), (BASE + 0x200, True)])
def test_an_entry_tag_outside_of_a_flat_image(entry: int, outside: bool) -> None:
    tags = struct.pack("<HHI4I", 2, 0, 24, BASE, BASE, 0, 0) + struct.pack("<HHII4x", 3, 0, 12, entry)
    length = 16 + len(tags) + 8
    header = struct.pack("<4I", 0xE85250D6, 0, length, -(0xE85250D6 + length) & 0xFFFFFFFF)
    image = header + tags + struct.pack("<HHI", 0, 0, 8) + bytes(256)
    found = [problem.id for problem in check_image(Image("kernel", BytesSource(image)))]
    assert found == ["MULTIBOOT-ENTRY"] * outside


def test_headers_where_loaders_do_not_look(samples: Path) -> None:
    data = (samples / "multiboot1" / "multiboot1.elf").read_bytes()
    at = data.index(bytes.fromhex("02b0ad1b"))
    broken = data[: at + 8] + b"\0" + data[at + 9 :]
    assert "checksum" in reason(broken, "grub:multiboot:bios")


def test_program_headers_far_away(samples: Path) -> None:
    """GRUB: "program header at a too high offset"."""
    data = bytearray((samples / "multiboot1" / "multiboot1.elf").read_bytes())
    phoff, count = int.from_bytes(data[28:32], "little"), int.from_bytes(data[44:46], "little")
    table = data[phoff : phoff + 32 * count]
    data += bytes(max(0, 8192 - len(data))) + table
    data[28:32] = (len(data) - len(table)).to_bytes(4, "little")
    assert "program header at a too high offset" in reason(bytes(data), "grub:multiboot:bios")
    assert reason(bytes(data), "qemu:multiboot") == ""


@pytest.mark.real
def test_debians_images(vmlinuz: Path, xen_efi: Path) -> None:
    for loader in ("grub:chainloader:uefi", "systemd-boot", "xen-4.14:dom0-pv", "xen-4.17:dom0-pvh"):
        assert reason(vmlinuz, loader) == ""
    assert reason(xen_efi, "grub:chainloader:uefi") == ""
    assert "no ELF file" in reason(xen_efi, "grub:multiboot2:bios")


@pytest.mark.parametrize("name", ["multiboot2/multiboot2.elf", "pv-dom0/pv-dom0.elf"])
def test_qemu_says_no_as_well(tool: Callable[[str], str], samples: Path, name: str) -> None:
    command = [tool("qemu-system-x86_64"), "-display", "none", "-serial", "none", "-kernel", str(samples / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "without PVH ELF Note" in done.stderr
    assert all(reason(samples / name, f"qemu:{mode}") for mode in ("linux", "multiboot", "pvh"))


@pytest.mark.real
def test_qemu_wants_a_32_bit_kernel(
    tool: Callable[[str], str], debian: Callable[[str], Path], tmp_path: Path
) -> None:
    import gzip

    (packed_kernel,) = debian("gnumach-image-1-486").glob("boot/gnumach-*.gz")
    kernel = tmp_path / "gnumach"
    kernel.write_bytes(gzip.decompress(packed_kernel.read_bytes()))
    command = [tool("qemu-system-x86_64"), "-display", "none", "-serial", "none", "-kernel", str(kernel)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    message = done.stderr.strip().partition(": ")[2].rstrip(".")
    assert message == "Cannot load x86-64 image, give a 32bit one"
    assert reason(kernel, "qemu:multiboot").startswith(message)
    assert reason(kernel, "grub:multiboot:bios") == ""


def test_the_table() -> None:
    used = {need for row in loaders() for need in row.needs}
    assert used == set(PREDICATES)
    assert len({str(row) for row in newest(loaders())}) == len(newest(loaders()))


def test_choosing() -> None:
    assert [str(row) for row in choose(loaders(), "grub:multiboot2")] == [
        "grub-2.14:multiboot2:bios",
        "grub-2.14:multiboot2:uefi",
    ]
    assert {row.version for row in choose(loaders(), "libxenguest-4.14")} == {"4.14"}
    assert {row.version for row in choose(loaders(), "libxenguest")} == {"4.22"}
    wrong = ("lilo", "grub-0.97", "grub:bzimage", "", "xen-", "grub-x", "xen-4.17:dom0-pv:uefi", "xen-4.13.9")
    for text in wrong:
        with pytest.raises(InputError) as caught:
            choose(loaders(), text)
        assert len(str(caught.value)) < 300
        assert "can-boot --list" in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "held"),
    [
        ("xen-4.17.7:dom0-pv", "4.17"),
        ("xen-4.17.7+dfsg-1:dom0-pv", "4.17"),
        ("xen-4.99:dom0-pv", "4.22"),
        ("qemu-10.0:linux", "7.2"),
        ("grub-2.06-13+deb12u1:linux:bios", "2.06"),
        ("grub-2.11:multiboot:bios", "2.06"),
        ("grub-2.13:multiboot:bios", "2.12"),
        ("kexec-2.0.26:linux", "2.0.25"),
        ("libxenguest-4.16:domu-pv", "4.15"),
        ("pvgrub-0.97-xen4.14", "0.97"),
        ("pvgrub-0.97-xen4.18", "0.97-xen4.15"),
        ("systemd-boot-257.3", "252"),
    ],
)
def test_a_version_belongs_to_the_last_one_before_it(asked: str, held: str) -> None:
    assert [row.version for row in choose(loaders(), asked)] == [held]


def test_rows_of_users_have_their_place_among_versions(tmp_path: Path) -> None:
    """In whatever order: an older row of the same way is not the newest."""
    path = tmp_path / "mine.toml"
    path.write_text(ROW.replace('"mine"', '"qemu"').replace('["1"]', '["9.2", "6.2"]'))
    known = (*loaders(), *load(path))
    for asked, held in (("", "9.2"), ("-8.0", "7.2"), ("-7.0", "6.2"), ("-10.0", "9.2"), ("-9.2.1", "9.2")):
        assert [row.version for row in choose(known, f"qemu{asked}:multiboot")] == [held]
    with pytest.raises(InputError, match=r"qemu-6\.2 or later"):
        choose(known, "qemu-6.1:multiboot")


def test_the_list_for_programs() -> None:
    document = json.loads(mbtool("can-boot", "--list", "--json").stdout)
    schema = json.loads((files("mbtool") / "schemas" / "loaders.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(document)
    names = [row["loader"] for row in document["loaders"]]
    assert names == [line.split()[0] for line in mbtool("can-boot", "--list").stdout.splitlines()]
    for row in document["loaders"]:
        assert choose(loaders(), f"{row['loader']}")[-1].version == row["versions"][-1]


def test_the_list(tmp_path: Path) -> None:
    """What it says is what can be asked for."""
    path = tmp_path / "mine.toml"
    path.write_text(ROW)
    lines = mbtool("can-boot", "--list", "--loaders", path).stdout.splitlines()
    assert lines[-1].split() == ["mine:multiboot", "1", "my", "loader"]
    for line in lines[:-1]:
        assert len(choose(loaders(), line.split()[0])) >= 1
    done = mbtool("can-boot")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--list" in done.stderr


@pytest.mark.parametrize(
    ("options", "contradict"),
    [
        (("--loader", "grub:linux:uefi", "--firmware", "bios"), True),
        (("--loader", "syslinux", "--firmware", "uefi"), True),
        (("--loader", "xen:dom0-pv", "--mode", "pvh"), True),
        (("--loader", "grub:linux", "--firmware", "bios"), False),
        (("--loader", "qemu:linux", "--firmware", "bios", "--mode", "pv"), False),
        (("--loader", "xen", "--mode", "pv"), False),
    ],
)
def test_a_loader_for_other_firmware(tmp_path: Path, options: tuple[str, ...], contradict: bool) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(vmlinuz())
    done = mbtool("check", "--kernel", kernel, *options)
    assert done.returncode == (2 if contradict else 0)
    assert ("contradict each other" in done.stderr) == contradict


ROW = """
[[loader]]
name = "mine"
versions = ["1"]
mode = "multiboot"
title = "my loader"
unpacks = ["zstd"]
says = { "no Multiboot 1 header" = "I want Multiboot" }
needs = ["multiboot1", "elf32-or-addresses"]
sources = ["mine.c"]
"""


def test_rows_of_users(tmp_path: Path, samples: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(ROW)
    (row,) = load(path)
    assert isinstance(row, Loader)
    kernel = samples / "multiboot1" / "multiboot1.elf"
    done = mbtool("can-boot", kernel, "--loaders", path, "--loader", "mine-1:multiboot")
    assert (done.returncode, done.stdout) == (0, "yes  mine-1:multiboot\n")
    done = mbtool("can-boot", samples / "pvh" / "pvh.elf", "--loaders", path, "--loader", "mine", "--json")
    assert json.loads(done.stdout)["loaders"][0]["console"] == "I want Multiboot"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('needs = ["multiboot1"', 'needs = ["multiboot3"'),
        ('name = "mine"', 'name = ""'),
        ('name = "mine"', "name = 3"),
        ('sources = ["mine.c"]', ""),
        ('mode = "multiboot"', 'mode = "multiboot"\nfirmware = ["coreboot"]'),
        ('mode = "multiboot"', 'mode = "multiboot"\nprotocol = "two"'),
        ('mode = "multiboot"', 'mode = "multiboot"\nother = "x"'),
        ('"I want Multiboot"', "3"),
        ("[[loader]]", "[loader]"),
        ("[[loader]]", "[[lodaer]]"),
        ("[[loader]]", "]["),
    ],
)
def test_nonsense_in_rows_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(ROW.replace(old, new))
    with pytest.raises(InputError) as caught:
        load(path)
    assert "mine.toml" in str(caught.value)


def test_command_line(tmp_path: Path, samples: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(ZSTD)
    done = mbtool("can-boot", kernel, "--loader", "pvgrub", "--loader", "xen:dom0-pv", "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    assert [row["can_boot"] for row in document["loaders"]] == [False, True]
    said = json.loads(mbtool("can-boot", kernel, "--loader", "grub:multiboot:bios", "--json").stdout)["loaders"]
    assert [row["console"] for row in said] == ["no multiboot header found"]  # GRUB 2.06
    everything = mbtool("can-boot", kernel)
    assert everything.returncode == 0
    assert "no   pvgrub-2.14:domu-pv" in everything.stdout
    assert "grub-core/io" in mbtool("can-boot", kernel, "--sources").stdout
    assert mbtool("can-boot", kernel, "--loader", "lilo").returncode == 2
    assert mbtool("can-boot", tmp_path / "gone").returncode == 2
    assert mbtool("can-boot", "-", stdin=lzma.compress(b"nothing")).returncode == 1


def test_packed_alone() -> None:
    """A vmlinux packed with xz: what only some unpack."""
    data = packed(KERNEL)
    assert reason(data, "xen:dom0-pv") == ""
    assert reason(data, "qemu:pvh") == "it does not unpack xz files"
