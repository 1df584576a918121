"""bzImages whole: real ones beside what others say of them, each finding, damaged and hostile files."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import os
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbtool.errors import FormatError, MbtoolError
from mbtool.formats import bzimage, linux_boot
from mbtool.identify import inspect
from mbtool.model import Node, Severity
from mbtool.source import BytesSource, open_file
from tests.formats import pe_images
from tests.formats.linux_images import ENDS, FIELDS, RELEASE, kernel

PAYLOAD = gzip.compress(b"no kernel, but a stream " * 100, mtime=0)
SETUP = 5 * 512
"""Bytes of the real-mode part of a ``kernel``."""


def real(path: Path, **options: Any) -> Node:
    with open_file(path) as source:
        return inspect(source, **options)


def show(data: bytes, **options: Any) -> Node:
    return inspect(BytesSource(data, "vmlinuz"), **options)


def ids(node: Node, *, info: bool = False) -> set[str]:
    return {
        finding.id
        for part in node.walk()
        for finding in part.findings
        if info or finding.severity is not Severity.INFO
    }


@pytest.mark.real
def test_debian_kernels_agree_with_what_others_say(vmlinuz, vmlinuz_cloud, vmlinuz_rt, tool):
    for path, codec in ((vmlinuz, "xz"), (vmlinuz_cloud, "lz4"), (vmlinuz_rt, "xz")):
        node = real(path)
        assert ids(node) == set()
        release = path.name.removeprefix("vmlinuz-")
        text = str(node["kernel_version_string"])
        assert text.startswith(f"{release} (")
        libmagic = subprocess.run([tool("file"), "-b", path], capture_output=True, text=True).stdout
        assert f"bzImage, version {text}, RO-rootFS" in libmagic
        assert subprocess.run([tool("grub-file"), "--is-x86-linux", path]).returncode == 0
        assert node["version"] == 0x20F
        packed = node.find(codec)
        assert packed is not None
        assert packed.offset + packed.size <= path.stat().st_size
        details = node.find("linux-kernel")
        assert details is not None
        assert details["version"] == release
        assert text.endswith(str(details["build"]))
        info = node.find("kernel-info")
        assert info is not None
        assert info["setup_type_max"] == 0x80000009  # SETUP_RNG_SEED, which 6.1 knows
        assert [child.kind for child in node.children] == ["pe", codec, "kernel-info"]


@pytest.mark.real
def test_the_payload_is_what_xz_unpacks(vmlinuz, tool):
    """The offset and length of the header, used with another unpacker: an ELF file comes out."""
    with open_file(vmlinuz) as source:
        part = bzimage.open_payload(source)
        packed = part.read(0, part.size - 4)
        size = int.from_bytes(part.read(part.size - 4, 4), "little")
    unpacked = subprocess.run([tool("xz"), "-dc"], input=packed, capture_output=True, check=True).stdout
    assert unpacked[:4] == b"\x7fELF"
    assert len(unpacked) == size


@pytest.mark.real
def test_only_what_is_needed_is_unpacked(vmlinuz):
    packed = real(vmlinuz).find("xz")
    assert packed is not None
    (elf,) = packed.children
    notes = elf.find("xen-notes")
    assert notes is not None
    unpacked = packed["unpacked"]
    assert isinstance(unpacked, int)
    assert unpacked < notes.offset + notes.size + (4 << 20)


@pytest.mark.real
@pytest.mark.parametrize(
    ("package", "file", "text", "protocol"),
    [
        ("memtest86+", "boot/memtest86+x64.bin", "Memtest86+ v6", 0x20C),
        ("memtest86+", "boot/memtest86+ia32.bin", "Memtest86+ v6", 0x20C),
        ("ipxe", "boot/ipxe.lkrn", "1.0.0+git", 0x207),
        ("syslinux-common", "usr/lib/syslinux/memdisk", "MEMDISK", 0x203),
    ],
)
def test_programs_that_borrow_the_protocol(debian, tool, package, file, text, protocol):
    path = debian(package) / file
    node = real(path)
    assert node.kind == "bzimage"
    found = str(node["kernel_version_string"])
    assert found.startswith(text)
    libmagic = subprocess.run([tool("file"), "-b", path], capture_output=True, text=True).stdout
    assert f"bzImage, version {found}," in libmagic
    assert node["version"] == protocol
    assert ids(node) == set()
    assert subprocess.run([tool("grub-file"), "--is-x86-linux", path]).returncode == 0


@pytest.mark.real
def test_installer_kernel(debian):
    root = debian("debian-installer-12-netboot-amd64")
    path = next(root.glob("usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/linux"))
    node = real(path)
    assert ids(node) == set()
    assert node.find("xz") is not None


def test_grub_as_a_linux_kernel(tool, tmp_path):
    """GRUB's core image behind its lnxboot.img: protocol 2.03, no version string."""
    lnxboot = Path("/usr/lib/grub/i386-pc/lnxboot.img")
    if not lnxboot.exists():
        from tests.conftest import missing

        missing("GRUB's i386-pc modules")
    core = tmp_path / "core.img"
    subprocess.run([tool("grub-mkimage"), "-O", "i386-pc", "-p", "/", "-o", core, "normal"], check=True)
    path = tmp_path / "grub.lkrn"
    path.write_bytes(lnxboot.read_bytes() + core.read_bytes())
    node = real(path)
    assert (node.kind, node["version"], node["kernel_version_string"]) == ("bzimage", 0x203, "")
    assert ids(node) == set()
    assert subprocess.run([tool("grub-file"), "--is-x86-linux", path]).returncode == 0


@pytest.mark.parametrize("version", ENDS)
def test_sound_kernels_of_every_version(version):
    node = show(kernel(version, payload=PAYLOAD))
    assert (node.kind, node.offset, node.size) == ("bzimage", 0, len(kernel(version, payload=PAYLOAD)))
    assert ids(node) == set()
    assert node["kernel_version_string"] == RELEASE
    assert node["protected_mode_offset"] == SETUP
    shown = {field.name for field in node.fields}
    for name, (_, _, since) in FIELDS.items():
        assert (name in shown) == (since <= version)
    packed = node.find("gzip")
    if version < 0x208:
        assert packed is None
    else:
        assert packed is not None
        assert (packed.offset, packed.size) == (SETUP + 0x40, len(PAYLOAD))


def test_payload_as_a_source():
    source = BytesSource(kernel(payload=PAYLOAD), "vmlinuz")
    assert bzimage.payload_place(source) == (SETUP + 0x40, len(PAYLOAD))
    assert bzimage.open_payload(source).read(0, 1 << 20) == PAYLOAD


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (kernel(0x207), "names no payload"),
        (kernel(), "names no payload"),
        (kernel(payload=PAYLOAD, payload_length=1 << 30), "ends behind the file"),
        (kernel(payload=PAYLOAD, payload_offset=0xFFFFFFFF), "ends behind the file"),
        (kernel(payload=PAYLOAD, header=0), "no HdrS"),
        (b"", "no HdrS"),
        (kernel()[:0x220], "cut short"),
    ],
)
def test_no_payload_to_open(data, problem):
    with pytest.raises(FormatError, match=problem):
        bzimage.open_payload(BytesSource(data))


KERNEL_64, ABOVE_4G, HANDOVER_32, HANDOVER_64, FIVE, FIVE_ENABLED = 1, 2, 4, 8, 32, 64

FINDINGS = [
    ({"boot_flag": 0xAA54}, "LINUX-BOOT-FLAG"),
    ({"jump": 0x6AE9}, "LINUX-JUMP"),
    ({"jump": 0x80EB}, "LINUX-JUMP"),
    ({"jump": 0xEB | (0x268 - 0x202) << 8}, "LINUX-HEADER-LENGTH"),
    ({"jump": 0xEB | (0x26B - 0x202) << 8}, "LINUX-HEADER-LENGTH"),
    ({"jump": 0xEB | (0x26D - 0x202) << 8}, None),
    ({"version": 0x210}, None),
    ({"version": 0x20E}, None),
    ({"version": 0x105}, "LINUX-PROTOCOL"),
    ({"version": 0}, "LINUX-PROTOCOL"),
    ({"setup_sects": 63}, "LINUX-TRUNCATED"),
    ({"setup_sects": 64}, "LINUX-SETUP-SECTS"),
    ({"syssize": 0xFFFFFFFF}, "LINUX-TRUNCATED"),
    ({"syssize": 0}, "LINUX-SYSSIZE"),
    ({"payload_length": len(PAYLOAD) + 4096}, "LINUX-PAYLOAD"),
    ({"payload_offset": 0xFFFFFFF0}, "LINUX-PAYLOAD"),
    ({"payload_length": 0}, "LINUX-PAYLOAD"),
    ({"syssize": 8}, "LINUX-PAYLOAD"),
    ({"kernel_version": 0x7FF}, None),
    ({"kernel_version": 0x800}, "LINUX-VERSION-STRING"),
    ({"kernel_version": 0xFFFF}, "LINUX-VERSION-STRING"),
    ({"kernel_version": 0}, None),
    ({"xloadflags": ABOVE_4G}, "LINUX-XLOADFLAGS"),
    ({"xloadflags": KERNEL_64 | ABOVE_4G, "relocatable_kernel": 0}, "LINUX-XLOADFLAGS"),
    ({"xloadflags": KERNEL_64, "relocatable_kernel": 0}, None),
    ({"xloadflags": FIVE}, "LINUX-XLOADFLAGS"),
    ({"xloadflags": KERNEL_64 | FIVE_ENABLED}, "LINUX-XLOADFLAGS"),
    ({"xloadflags": KERNEL_64 | FIVE | FIVE_ENABLED}, None),
    ({"xloadflags": HANDOVER_32}, "LINUX-XLOADFLAGS"),
    ({"xloadflags": KERNEL_64 | HANDOVER_64, "handover_offset": 0x40}, None),
    ({"kernel_alignment": 0}, "LINUX-ALIGNMENT"),
    ({"kernel_alignment": 0x300000}, "LINUX-ALIGNMENT"),
    ({"kernel_alignment": 0, "relocatable_kernel": 0, "xloadflags": 1, "min_alignment": 0}, None),
    ({"min_alignment": 22}, "LINUX-ALIGNMENT"),
    ({"min_alignment": 255}, "LINUX-ALIGNMENT"),
    ({"pref_address": 0x1000001}, "LINUX-ALIGNMENT"),
    ({"init_size": 0x10}, "LINUX-INIT-SIZE"),
    ({"kernel_info_offset": 0x10}, "LINUX-KERNEL-INFO"),
    ({"kernel_info_offset": 0xFFFFFFFF}, "LINUX-KERNEL-INFO"),
]


@pytest.mark.parametrize(("values", "finding"), FINDINGS)
def test_each_finding_at_its_limit(values, finding):
    node = show(kernel(payload=PAYLOAD, **values))
    found = ids(node)
    assert (finding in found) if finding else (found == set())
    assert node["kernel_version_string"] is not None
    for each in node.findings:
        if each.field in FIELDS:
            assert each.offset == FIELDS[each.field][0]


@pytest.mark.parametrize(
    ("values", "finding"),
    [
        ({"version": 0x210}, "LINUX-PROTOCOL"),
        ({"version": 0x20E}, "LINUX-PROTOCOL"),
        ({"setup_sects": 0}, "LINUX-SETUP-SECTS"),
    ],
)
def test_what_is_only_worth_knowing(values, finding):
    node = show(kernel(payload=PAYLOAD, **values))
    assert {each.id for each in node.findings if each.severity is Severity.INFO} == {finding}


def test_a_cut_file_is_told_from_a_rounded_size():
    data = kernel(payload=bytes(1000))
    assert "LINUX-TRUNCATED" not in ids(show(data[:-15]))
    assert "LINUX-TRUNCATED" in ids(show(data[:-16]))


def test_what_follows_the_kernel_is_counted():
    node = show(kernel(payload=PAYLOAD) + b"tail")
    assert node["trailing_size"] == 4
    assert show(kernel(payload=PAYLOAD)).get("trailing_size") is None


def test_version_string_without_an_end():
    data = bytearray(kernel(kernel_version=0x7F0))
    data[0x9F0:0xA00] = b"x" * 16
    node = show(bytes(data))
    assert node["kernel_version_string"] == "x" * 16
    assert "LINUX-VERSION-STRING" in ids(node)


def test_loaded_low_is_a_zimage():
    node = show(kernel(0x202, loadflags=0))
    assert node.kind == "zimage"
    assert ids(node) == set()
    large = show(kernel(0x202, loadflags=0, syssize=0x8001) + bytes(0x80010))
    assert "LINUX-SYSSIZE" in ids(large)
    assert "LINUX-SYSSIZE" not in ids(show(kernel(0x202, loadflags=0, syssize=0x8000) + bytes(0x80000)))


def test_kernel_info_lies_in_the_protected_mode_part():
    info = b"LToP" + struct.pack("<III", 16, 16, 0x80000009)
    node = show(kernel(payload=PAYLOAD + info, payload_length=len(PAYLOAD), kernel_info_offset=0x40 + len(PAYLOAD)))
    found = node.find("kernel-info")
    assert found is not None
    assert (found.offset, found.size) == (SETUP + 0x40 + len(PAYLOAD), 16)
    assert found["setup_type_max"] == 0x80000009


def test_a_broken_pe_side_does_not_hide_the_kernel():
    """MZ at 0 and headers that are nonsense: no pe node, or one with findings, and the payload as ever."""
    pe = bytearray(kernel(payload=PAYLOAD))
    pe[:2] = b"MZ"
    for e_lfanew in (0, 0x40, 0x80, len(pe) - 2, len(pe), 0xFFFFFFFF):
        pe[0x3C:0x40] = e_lfanew.to_bytes(4, "little")
        pe[0x80:0x98] = b"PE\0\0" + b"\xff" * 20
        node = show(bytes(pe))
        assert node.kind == "bzimage"
        assert node.find("gzip") is not None


def test_not_a_bzimage():
    assert bzimage.reject(BytesSource(b"")) == "no HdrS at 0x202"
    assert bzimage.reject(BytesSource(bytes(4096))) == "no HdrS at 0x202"
    assert bzimage.reject(BytesSource(kernel()[:0x26B])) == "HdrS at 0x202, but the setup header is cut short"
    assert bzimage.reject(BytesSource(kernel()[:0x26C])) == ""
    assert bzimage.reject(BytesSource(pe_images.image([]))) == "no HdrS at 0x202"


def test_damage_inside_the_payload_is_a_finding_on_it():
    data = bytearray(kernel(payload=lzma.compress(os.urandom(5000)), seal=False))
    data[SETUP + 0x40 + 2000] ^= 0xFF
    node = show(bytes(data), full=True)
    packed = node.find("xz")
    assert packed is not None
    assert any(finding.severity is Severity.ERROR for part in packed.walk() for finding in part.findings)


def test_truncation_anywhere_is_an_error_or_a_finding():
    data = kernel(payload=PAYLOAD)
    for size in range(len(data) - 16):
        try:
            node = show(data[:size])
        except MbtoolError:
            continue
        assert any(finding.severity is Severity.ERROR for part in node.walk() for finding in part.findings)


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_at_its_limits(name):
    data = kernel(payload=PAYLOAD)
    _, size, _ = FIELDS[name]
    for value in (0, 1, len(data) - 1, len(data), len(data) + 1, (1 << 8 * size) // 2, (1 << 8 * size) - 1):
        with contextlib.suppress(MbtoolError):
            values: dict[str, Any] = {name: value & (1 << 8 * size) - 1}
            show(kernel(payload=PAYLOAD, **values), full=True)


@given(st.binary(min_size=0x26C - 0x1F1, max_size=0x26C - 0x1F1))
@settings(max_examples=200)
def test_any_header_is_shown_or_refused(junk):
    data = bytearray(kernel(payload=PAYLOAD))
    data[0x1F1:0x26C] = junk
    data[0x202:0x206] = b"HdrS"
    source = BytesSource(bytes(data))
    if bzimage.reject(source):
        return
    node = inspect(source)
    assert node.kind in ("bzimage", "zimage")
    header = linux_boot.read(source)
    assert linux_boot.build(header) == bytes(data[0x1F1 : header.end])
