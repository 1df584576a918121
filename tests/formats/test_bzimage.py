"""bzImages whole: real ones, damaged ones, ones made for each protocol version."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mbtool.errors import FormatError, MbtoolError
from mbtool.formats import bzimage, linux_boot, linux_crc, linux_details, zimage
from mbtool.formats.linux_boot import SetupHeader
from mbtool.identify import inspect
from mbtool.model import Node, Severity
from mbtool.source import BytesSource, open_file


def real(path: Path, **options: Any) -> Node:
    with open_file(path) as source:
        return inspect(source, **options)


def image(version: int = 0x020F, *, payload: bytes = b"", tail: bytes = b"", **values: int) -> bytes:
    """A bzImage of one setup sector, made by hand: header at 0x1f1, payload at the protected-mode part's start."""
    end = {0x0208: 0x250, 0x020A: 0x264, 0x020F: 0x26C}.get(version, 0x26C)
    data = bytearray(0x400)
    struct.pack_into("<B", data, 0x1F1, 1)
    body = payload + tail
    struct.pack_into("<I", data, 0x1F4, -(-len(body) // 16))
    struct.pack_into("<H", data, 0x1FE, 0xAA55)
    data[0x200:0x202] = bytes((0xEB, end - 0x202))
    data[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", data, 0x206, version)
    data[0x211] = 1
    if payload:
        struct.pack_into("<II", data, 0x248, 0x10, len(payload))
        body = bytes(16) + body
        struct.pack_into("<I", data, 0x1F4, -(-len(body) // 16))
    for name, value in values.items():
        offset, size = linux_boot.SETUP_HEADER.offsets[name]
        data[0x1F1 + offset : 0x1F1 + offset + size] = value.to_bytes(size, "little")
    return bytes(data) + body + bytes(-len(body) % 16)


def ids(node: Node) -> set[str]:
    return {finding.id for part in node.walk() for finding in part.findings if finding.severity != "info"}


@pytest.mark.real
def test_debian_kernels_agree_with_what_others_say(vmlinuz, vmlinuz_cloud, vmlinuz_rt, tool):
    for path, codec in ((vmlinuz, "xz"), (vmlinuz_cloud, "lz4"), (vmlinuz_rt, "xz")):
        node = real(path)
        assert ids(node) == set()
        release = path.name.removeprefix("vmlinuz-")
        assert str(node["kernel_version_string"]).startswith(f"{release} (")
        libmagic = subprocess.run([tool("file"), "-b", path], capture_output=True, text=True).stdout
        assert f"version {str(node['kernel_version_string'])[:60]}" in libmagic
        assert subprocess.run([tool("grub-file"), "--is-x86-linux", path]).returncode == 0
        packed = node.find(codec)
        assert packed is not None
        details = node.find("linux-kernel")
        assert details is not None
        assert details["version"] == release
        crc = next(field for field in node.fields if field.name == "crc32")
        assert crc.meaning == linux_crc.CrcState.SIGNED


@pytest.mark.real
def test_only_what_is_needed_is_unpacked(vmlinuz):
    packed = real(vmlinuz).find("xz")
    assert packed is not None
    assert packed.get("unpacked") is not None
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
def test_programs_that_borrow_the_protocol(debian, package, file, text, protocol):
    node = real(debian(package) / file)
    assert node.kind == "bzimage"
    assert text in str(node["kernel_version_string"])
    assert node["version"] == protocol
    assert ids(node) == set()


def test_a_payload_is_found_and_shown():
    inner = gzip.compress(b"no kernel, but a stream" * 10)
    node = inspect(BytesSource(image(payload=inner)))
    packed = node.find("gzip")
    assert packed is not None
    assert packed.offset == 0x410
    assert bzimage.open_payload(BytesSource(image(payload=inner))).read(0, 1 << 20) == inner


def test_old_headers_have_no_payload_field():
    with pytest.raises(FormatError, match="names no payload"):
        bzimage.open_payload(BytesSource(image(0x0207)))


def test_payload_behind_the_end_is_a_finding_and_the_rest_is_shown():
    data = image(payload=lzma.compress(b"x" * 100), payload_length=1 << 20)
    node = inspect(BytesSource(data))
    assert "LINUX-PAYLOAD" in ids(node)
    assert node.find("xz") is not None
    with pytest.raises(FormatError, match="ends behind the file"):
        bzimage.open_payload(BytesSource(data))


def test_a_cut_file_is_told_from_a_rounded_size():
    data = image(payload=bytes(1000))
    assert "LINUX-TRUNCATED" not in ids(inspect(BytesSource(data)))
    assert "LINUX-TRUNCATED" not in ids(inspect(BytesSource(data[:-15])))
    assert "LINUX-TRUNCATED" in ids(inspect(BytesSource(data[:-16])))


def crc_sealed(data: bytes) -> bytes:
    """With the CRC as the kernel's build appends it, by crcmod's named definition, in the last four bytes."""
    import crcmod.predefined

    return data[:-4] + crcmod.predefined.mkCrcFun("jamcrc")(data[:-4]).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("change", "state"), [(None, linux_crc.CrcState.MATCHES), (0x300, linux_crc.CrcState.WRONG)]
)
def test_image_crc(change, state):
    data = bytearray(crc_sealed(image(payload=bytes(range(256)) * 8, tail=bytes(12))))
    if change is not None:
        data[change] ^= 1
    source = BytesSource(bytes(data))
    crc = linux_crc.check(source, linux_boot.read(source))
    assert crc is not None
    assert crc.state is state
    assert ("LINUX-CRC" in ids(inspect(source))) == (state is linux_crc.CrcState.WRONG)


def test_contradicting_xloadflags():
    assert "LINUX-XLOADFLAGS" in ids(inspect(BytesSource(image(xloadflags=2))))
    assert "LINUX-XLOADFLAGS" not in ids(inspect(BytesSource(image(xloadflags=3))))


def test_version_string_outside_the_setup():
    assert "LINUX-VERSION-POINTER" in ids(inspect(BytesSource(image(kernel_version=0xFF00))))


def test_truncation_anywhere_in_the_head_is_an_error_or_a_finding():
    data = image(payload=gzip.compress(bytes(64)))
    for size in range(0, 0x420, 3):
        try:
            node = inspect(BytesSource(data[:size]))
        except MbtoolError:
            continue
        assert any(finding.severity is Severity.ERROR for part in node.walk() for finding in part.findings)


def test_every_header_field_at_its_limits():
    plain = image(payload=gzip.compress(bytes(64)))
    for offset, size in linux_boot.SETUP_HEADER.offsets.values():
        for value in (0, 1, (1 << 8 * size) - 1, len(plain), len(plain) + 1):
            data = bytearray(plain)
            data[0x1F1 + offset : 0x1F1 + offset + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
            with contextlib.suppress(MbtoolError):
                inspect(BytesSource(bytes(data)), full=True)


def test_zimage_and_other_boot_sectors():
    old = bytearray(512 * 20)
    old[:13] = zimage.MOVE
    old[0x40:0x47] = b"Loading"
    old[0x1F1] = 4
    struct.pack_into("<H", old, 0x1F4, 0x7000)
    old[0x1FE:0x200] = b"\x55\xaa"
    node = inspect(BytesSource(bytes(old)))
    assert node.kind == "zimage"
    assert node["system_size"] == 0x70000
    assert "not that of an old Linux kernel" in zimage.reject(BytesSource(bytes(510) + b"\x55\xaa"))
    assert "no 55 aa" in zimage.reject(BytesSource(bytes(600)))


def test_details_of_a_kernel():
    banner = b"Linux version 6.1.0 (me@here) (gcc 12, GNU ld 2.40) #7 SMP Tue Nov 24 2026\n\0"
    config = b"IKCFG_ST" + gzip.compress(b"CONFIG_X86=y\n") + b"IKCFG_ED"
    data = b"Linux version %s\0" + bytes(100) + banner + bytes(50) + config
    node = linux_details.find(BytesSource(data), 0, len(data))
    assert node is not None
    assert [node[name] for name in ("version", "builder", "compiler", "build")] == [
        "6.1.0",
        "me@here",
        "gcc 12, GNU ld 2.40",
        "#7 SMP Tue Nov 24 2026",
    ]
    assert linux_details.config(BytesSource(data), 0, len(data)) == b"CONFIG_X86=y\n"
    assert linux_details.find(BytesSource(b"Linux version %s" * 10), 0, 160) is None


def test_header_round_trip():
    header = replace(SetupHeader(), setup_sects=7, loadflags=1, payload_offset=16, payload_length=99)
    data = bytes(linux_boot.START) + linux_boot.build(header)
    assert linux_boot.parse(data) == header
