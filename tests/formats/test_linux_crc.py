"""The image CRC, against crcmod's definition of it, and after signing."""

from __future__ import annotations

import shutil
import struct
import subprocess

import crcmod.predefined
import pytest

from mbtool.formats import linux_boot, linux_crc
from mbtool.formats.linux_crc import CrcState, ImageCrc
from mbtool.identify import inspect
from mbtool.source import BytesSource, open_file
from tests.formats.linux_images import kernel

PAYLOAD = bytes(range(256)) * 256
JAMCRC = crcmod.predefined.mkCrcFun("jamcrc")


def check(data: bytes, version: str = "6.1.0-test (root@here) #1 SMP") -> ImageCrc | None:
    source = BytesSource(data, "vmlinuz")
    return linux_crc.check(source, linux_boot.read(source), version)


def state(data: bytes, version: str = "6.1.0-test (root@here) #1 SMP") -> CrcState | None:
    crc = check(data, version)
    return None if crc is None else crc.state


def test_check_value_of_the_definition():
    """CRC-32/JAMCRC of "123456789", from the catalogue of parametrised CRC algorithms."""
    assert JAMCRC(b"123456789") == 0x340BC6D9
    assert linux_crc._jamcrc(b"1234", BytesSource(b"56789")) == 0x340BC6D9


def test_crc_by_another_implementation():
    data = kernel(payload=PAYLOAD)
    data = data[:-4] + JAMCRC(data[:-4]).to_bytes(4, "little")
    assert check(data) == ImageCrc(len(data) - 4, JAMCRC(data[:-4]), JAMCRC(data[:-4]), CrcState.MATCHES)
    assert JAMCRC(data) == 0  # boot.rst: of the whole file it is always 0


def test_behind_the_kernel_anything_may_follow():
    assert state(kernel(payload=PAYLOAD) + b"more") is CrcState.MATCHES


@pytest.mark.parametrize("place", [0, 0x1F2, 0xA00, 0x4000, -5, -4, -1])
def test_any_change_is_seen(place):
    data = bytearray(kernel(payload=PAYLOAD))
    data[place] ^= 1
    assert state(bytes(data)) is CrcState.WRONG
    node = inspect(BytesSource(bytes(data)))
    (finding,) = (finding for finding in node.findings if finding.id == "LINUX-CRC")
    assert finding.field == "crc32"
    assert finding.offset == len(data) - 4


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2.6.26 (root@here) #1 SMP", CrcState.WRONG),
        ("6.14.11-300.fc42.x86_64 (mockbuild@x) #1 SMP PREEMPT_DYNAMIC", CrcState.WRONG),
        ("6.15.0 (root@here) #1 SMP", CrcState.ABSENT),
        ("7.0.0-rc1 (root@here) #1", CrcState.ABSENT),
        ("Memtest86+ v6.10", CrcState.ABSENT),
        ("", CrcState.ABSENT),
    ],
)
def test_who_should_have_one(version, expected):
    data = bytearray(kernel(payload=PAYLOAD, release=version))
    data[-1] ^= 1
    assert state(bytes(data), version) is expected
    node = inspect(BytesSource(bytes(data)))
    assert ("LINUX-CRC" in {finding.id for finding in node.findings}) == (expected is CrcState.WRONG)


@pytest.mark.parametrize(
    "data",
    [
        kernel(0x207),  # older than the CRC
        kernel(syssize=0),
        kernel()[:-1],
        kernel(syssize=0xFFFFFFFF),
        kernel()[:0x26C],
    ],
)
def test_no_place_for_one(data):
    assert check(data) is None


def pe_kernel(
    checksum: int = 0, table: tuple[int, int] = (0, 0), magic: int = 0x20B, directories: int = 6
) -> bytearray:
    """A kernel with the PE headers that an EFI stub has: e_lfanew 0x40, optional header at 0x58."""
    data = bytearray(kernel(payload=PAYLOAD, seal=False))
    data[:2] = b"MZ"
    struct.pack_into("<I", data, 0x3C, 0x40)
    fixed = 112 if magic == 0x20B else 96
    struct.pack_into("<4sHHIIIHH", data, 0x40, b"PE\0\0", 0x8664, 0, 0, 0, 0, fixed + 8 * directories, 0x206)
    struct.pack_into("<H", data, 0x58, magic)
    struct.pack_into("<I", data, 0x58 + fixed - 4, directories)
    data[-4:] = JAMCRC(bytes(data[:-4])).to_bytes(4, "little")
    struct.pack_into("<I", data, 0x58 + 64, checksum)
    if directories > 4:
        struct.pack_into("<II", data, 0x58 + fixed + 4 * 8, *table)
    return data


@pytest.mark.parametrize("magic", [0x10B, 0x20B])
def test_signed_after_it_was_made(magic):
    assert state(bytes(pe_kernel(magic=magic))) is CrcState.MATCHES
    signed = pe_kernel(0x12345, (0x20000, 0x5C0), magic) + b"\xc0\x05\0\0" + bytes(0x5BC)
    crc = check(bytes(signed))
    assert crc is not None
    assert crc.state is CrcState.SIGNED
    assert crc.stored != crc.computed
    field, findings = linux_crc.show(crc)
    assert field.meaning == "matches the file as it was before it was signed"
    assert not findings
    signed[0x4000] ^= 1
    assert state(bytes(signed)) is CrcState.WRONG_SIGNED


def test_signed_with_headers_that_end_early():
    assert state(bytes(pe_kernel(0x12345, directories=4))) is CrcState.SIGNED
    cut = pe_kernel(0x12345)
    struct.pack_into("<I", cut, 0x3C, 0x7FF8)  # the optional header would end behind what is looked at
    cut[0x7FF8:0x8000] = b"PE\0\0\x64\x86\0\0"
    assert state(bytes(cut)) is CrcState.WRONG


@pytest.mark.real
def test_debian_signed_its_kernels_afterwards(vmlinuz, vmlinuz_cloud, vmlinuz_rt, debian):
    (installer,) = debian("debian-installer-12-netboot-amd64").glob(
        "usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/linux"
    )
    for path in (vmlinuz, vmlinuz_cloud, vmlinuz_rt, installer):
        with open_file(path) as source:
            crc = linux_crc.check(source, linux_boot.read(source))
        assert crc is not None
        assert crc.state is CrcState.SIGNED


@pytest.mark.real
def test_without_its_signature_a_debian_kernel_has_its_crc(vmlinuz, tmp_path, tool):
    """What sbattach takes away is, but for the PE checksum that it writes, what the kernel's build made."""
    path = tmp_path / "vmlinuz"
    shutil.copy(vmlinuz, path)
    subprocess.run([tool("sbattach"), "--remove", path], check=True, capture_output=True)
    data = bytearray(path.read_bytes())
    pe = struct.unpack_from("<I", data, 0x3C)[0]
    data[pe + 0x58 : pe + 0x5C] = bytes(4)
    source = BytesSource(bytes(data))
    header = linux_boot.read(source)
    assert header.system_size is not None
    assert JAMCRC(bytes(data[: header.setup_size + header.system_size])) == 0
    crc = linux_crc.check(source, header)
    assert crc is not None
    assert crc.state is CrcState.MATCHES
