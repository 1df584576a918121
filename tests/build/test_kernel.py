"""From a kernel file to the ELF file in it, as Xen does it, with its refusals."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import sys

import pytest

from mbtool.build.kernel import open_kernel
from mbtool.errors import FormatError, LimitError, MbtoolError, RefusedError
from mbtool.formats import xen_versions
from mbtool.source import Budget, BytesSource, Limits
from tests.oracle.made_kernel import VIRT_BASE, kernel

ELF = kernel([(0x100000, 0x1000)], {VIRT_BASE: 0}, entry=0x100000) + bytes(5000)
WORD = struct.pack("<I", len(ELF))
XZ = lzma.compress(ELF, check=lzma.CHECK_CRC32) + WORD
NEWEST = xen_versions.NEWEST


def bzimage(payload: bytes, *, setup_sects: int = 4, version: int = 0x20F, length: int | None = None) -> bytes:
    """As much of a bzImage as Xen looks at: the payload 64 bytes into the protected-mode part."""
    header = bytearray((setup_sects + 1) * 512 + 64)
    header[0x1F1] = setup_sects
    header[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", header, 0x206, version)
    struct.pack_into("<II", header, 0x248, 64, len(payload) if length is None else length)
    return bytes(header) + payload


def unpack(image: bytes, version: str = "4.22", limits: Limits | None = None) -> bytes:
    opened = open_kernel(BytesSource(image), Budget(limits or Limits()), xen_versions.parse(version))
    return opened.elf.read(0, len(image) * 100)


def zstd(data: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd as codec
    else:
        from backports import zstd as codec
    return bytes(codec.compress(data))


def lz4_legacy(data: bytes) -> bytes:
    import lz4.block

    block: bytes = lz4.block.compress(data, store_size=False)
    return struct.pack("<II", 0x184C2102, len(block)) + block


@pytest.mark.parametrize(
    "payload",
    [ELF, XZ, gzip.compress(ELF), bz2.compress(ELF) + WORD, lzma.compress(ELF, lzma.FORMAT_ALONE) + WORD,
     zstd(ELF) + WORD, lz4_legacy(ELF) + WORD, lzma.compress(ELF, check=lzma.CHECK_NONE) + WORD],
    ids=["elf", "xz", "gzip", "bzip2", "lzma", "zstd", "lz4", "xz-unchecked"],
)  # fmt: skip
def test_payloads(payload: bytes) -> None:
    assert unpack(payload) == ELF
    assert unpack(bzimage(payload)) == ELF
    assert unpack(bzimage(payload) + b"a signature") == ELF, "what follows the payload is ignored"


def test_setup_sects_zero_is_zero() -> None:
    """Xen reads the payload behind one sector, other loaders behind five."""
    assert unpack(bzimage(XZ, setup_sects=1)) == ELF
    with pytest.raises(RefusedError):
        unpack(bzimage(XZ)[:0x1F1] + b"\0" + bzimage(XZ)[0x1F2:])


@pytest.mark.parametrize("version", [0x0200, 0x0207])
def test_old_protocol(version: int) -> None:
    with pytest.raises(RefusedError) as caught:
        unpack(bzimage(XZ, version=version))
    minor = f"{version & 0xFF:02}"
    assert caught.value.problem == f"Cannot load bzImage v2.{minor} at least v2.08 is required"
    assert unpack(bzimage(XZ, version=0x208)) == ELF


def test_zstd_needs_4_15() -> None:
    with pytest.raises(RefusedError) as caught:
        unpack(zstd(ELF) + WORD, "4.14.6")
    assert caught.value.problem.startswith("ELF: not an ELF binary")
    assert "Xen 4.15 and newer" in caught.value.remedy
    assert unpack(zstd(ELF) + WORD, "4.15") == ELF


def test_streams_that_xen_does_not_read() -> None:
    import lz4.frame

    with pytest.raises(RefusedError, match="ELF: not an ELF binary"):
        unpack(bytes(lz4.frame.compress(ELF)) + WORD)
    with pytest.raises(RefusedError, match=r"Input was encoded with settings that are not supported .*check=crc32"):
        unpack(lzma.compress(ELF) + WORD)


@pytest.mark.parametrize("image", [b"x", b"MZ" + bytes(1000), bzimage(b"nothing"), bytes(0x250)])
def test_no_kernel(image: bytes) -> None:
    with pytest.raises(RefusedError, match="the kernel is neither an ELF file nor compressed"):
        unpack(image)


@pytest.mark.parametrize(
    ("size", "says"), [(0x3FFFFFFF, "ELF: not an ELF binary"), (0x40000000, "Not enough memory to relocate")]
)
def test_what_xen_says_of_no_kernel(size: int, says: str) -> None:
    """Xen takes the last four bytes for the unpacked size, whatever they are (tests/check/test_matrix_xen.py)."""
    with pytest.raises(RefusedError, match=says):
        unpack(bytes(0x250) + struct.pack("<I", size))


def test_empty() -> None:
    with pytest.raises(RefusedError, match="the kernel file is empty") as caught:
        unpack(b"")
    assert caught.value.source


@pytest.mark.parametrize("word", [0, len(ELF) - 1, len(ELF) + (16 << 20) + 1, 0xFFFFFFFF])
def test_lying_size_word(word: int) -> None:
    with pytest.raises(FormatError, match="not its unpacked size"):
        unpack(bzimage(XZ[:-4] + struct.pack("<I", word)))


@pytest.mark.parametrize("more", [1, 16 << 20])
def test_a_size_that_is_a_little_too_large(more: int) -> None:
    """Xen 4.17 sets the room aside and starts such a kernel (tests/check/test_matrix_xen.py)."""
    assert unpack(bzimage(XZ[:-4] + struct.pack("<I", len(ELF) + more))) == ELF


def test_several_streams() -> None:
    """Xen 4.17 starts what it unpacked of the first (tests/check/test_matrix_xen.py)."""
    parts = b"".join(lzma.compress(part, check=lzma.CHECK_CRC32) for part in (ELF[:1000], ELF[1000:]))
    with pytest.raises(RefusedError, match="first of 2 xz streams"):
        unpack(bzimage(parts + struct.pack("<I", len(ELF))))


def test_missing_size_word() -> None:
    with pytest.raises(FormatError, match="append the size"):
        unpack(XZ[:-4])


@pytest.mark.parametrize("at", [100, len(XZ) // 2, len(XZ) - 20])
def test_damage(at: int) -> None:
    with pytest.raises(MbtoolError):
        unpack(bzimage(XZ[:at] + bytes([XZ[at] ^ 0xFF]) + XZ[at + 1 :]))


@pytest.mark.parametrize("cut", [0x24F, 0x250, 0xA00, -1])
def test_truncated(cut: int) -> None:
    with pytest.raises(MbtoolError):
        unpack(bzimage(XZ)[:cut])


@pytest.mark.parametrize("length", [0, 1, 4, 0x7FFFFFFF, 0xFFFFFFFF])
def test_lying_length(length: int) -> None:
    with pytest.raises(MbtoolError):
        unpack(bzimage(XZ, length=length))


@pytest.mark.parametrize("head", [b"\xfd7zXZ\0", b"\xfd7zXZ\0\0", b"\x1f\x8b\x08", b"\x02\x21\x4c\x18", b"BZh"])
def test_headers_alone(head: bytes) -> None:
    with pytest.raises(MbtoolError):
        unpack(head)


def test_bomb() -> None:
    bomb = lzma.compress(bytes(300 << 20), check=lzma.CHECK_CRC32, preset=0)
    with pytest.raises(LimitError):
        unpack(bzimage(bomb), limits=Limits(max_output=64 << 20))
