"""Kernels from before protocol 2.00, and the boot sectors that are none."""

from __future__ import annotations

import contextlib
import re
import struct
import subprocess
from pathlib import Path

import pytest

from mbtool.errors import MbtoolError, UnknownFormatError
from mbtool.formats import zimage
from mbtool.formats.context import Context
from mbtool.identify import inspect
from mbtool.model import Severity
from mbtool.source import Budget, BytesSource

# The first instructions of Linux's bootsect.S, assembled by hand.
BOOTSECT = bytes.fromhex(
    "b8c007"  # mov ax, 0x07c0
    "8ed8"  # mov ds, ax
    "b80090"  # mov ax, 0x9000
    "8ec0"  # mov es, ax
    "b90001"  # mov cx, 256
    "29f6"  # sub si, si
    "29ff"  # sub di, di
    "f3a5"  # rep movsw
    "ea19000090"  # jmp 0x9000:0x0019
)


def old_kernel(setup_sects: int = 4, syssize: int = 0x100, body: int = 0x1000) -> bytes:
    sectors = setup_sects or 4
    data = bytearray((sectors + 1) * 512 + body)
    data[: len(BOOTSECT)] = BOOTSECT
    data[0x1E3:0x1EA] = b"Loading"
    data[0x1F1] = setup_sects
    struct.pack_into("<H", data, 0x1F2, 1)
    struct.pack_into("<H", data, 0x1F4, syssize)
    struct.pack_into("<H", data, 0x1FC, 0x0301)
    data[0x1FE:0x200] = b"\x55\xaa"
    return bytes(data)


@pytest.mark.parametrize("setup_sects", [0, 4, 10, 63])
def test_an_old_kernel(setup_sects):
    data = old_kernel(setup_sects)
    node = inspect(BytesSource(data, "Image"))
    assert (node.kind, node.size) == ("zimage", len(data))
    assert node["protocol"] is None
    assert node["syssize"] == 0x100
    assert node["root_dev"] == 0x301
    assert node["protected_mode_size"] == 0x1000
    assert node["protected_mode_offset"] == ((setup_sects or 4) + 1) * 512
    assert [field.name for field in node.fields if field.offset is not None] == [
        "setup_sects",
        "root_flags",
        "syssize",
        "ram_size",
        "vid_mode",
        "root_dev",
        "boot_flag",
    ]
    assert not [finding for finding in node.findings if finding.severity is not Severity.INFO]


def test_libmagic_takes_it_for_one_too(tmp_path, tool):
    path = tmp_path / "Image"
    path.write_bytes(old_kernel())
    told = subprocess.run([tool("file"), "-kb", path], capture_output=True, text=True, check=True).stdout
    assert re.search("Linux (x86 )?kernel version 1.3.79 or older", told)  # newer ones say x86


def test_a_cut_one_is_told():
    node = inspect(BytesSource(old_kernel()[:-0x10]))
    assert [finding.id for finding in node.findings] == ["LINUX-TRUNCATED"]


PARTITION = struct.pack("<B3sB3sII", 0x80, b"\0\2\0", 0x83, b"\xff\xff\xff", 1, 1)
MBR = b"\xfa\x33\xc0".ljust(446, b"\0") + PARTITION + bytes(48) + b"\x55\xaa"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no 55 aa at 0x1fe"),
        (bytes(0x2000), "no 55 aa at 0x1fe"),
        (old_kernel()[:0x1FF], "no 55 aa at 0x1fe"),
        (old_kernel()[:0x200], "a boot sector with nothing behind it"),
        (MBR + bytes(512), "a master boot record with partitions"),
        (bytes(510) + b"\x55\xaa" + bytes(512), "a boot sector, but its code is not that of an old Linux kernel"),
        (old_kernel(body=0), "starts like an old Linux kernel, but its setup alone would have 2560 bytes"),
        (old_kernel()[:0x400], "starts like an old Linux kernel, but its setup alone would have 2560 bytes"),
        (old_kernel(body=1), ""),
    ],
)
def test_reasons(data, reason):
    assert zimage.reject(BytesSource(data)) == reason


def test_grubs_boot_sector_is_none():
    boot = Path("/usr/lib/grub/i386-pc/boot.img")
    if not boot.exists():
        from tests.conftest import missing

        missing("GRUB's i386-pc modules")
    data = boot.read_bytes()
    assert zimage.reject(BytesSource(data + bytes(512))).startswith("a boot sector, but")
    with pytest.raises(UnknownFormatError) as caught:
        inspect(BytesSource(data + bytes(512)))
    assert ("zimage", zimage.reject(BytesSource(data + bytes(512)))) in caught.value.reasons


def test_truncation_and_fields_at_their_limits():
    data = old_kernel()
    for size in range(0, len(data), 7):
        with contextlib.suppress(MbtoolError):
            inspect(BytesSource(data[:size]))
    for at, size in ((0x1F1, 1), (0x1F2, 2), (0x1F4, 4), (0x1F8, 2), (0x1FA, 2), (0x1FC, 2)):
        for value in (0, 1, (1 << 8 * size) - 1):
            changed = data[:at] + value.to_bytes(size, "little") + data[at + size :]
            if not zimage.reject(BytesSource(changed)):
                zimage.inspect(BytesSource(changed), Context(Budget(), lambda source, context: inspect(source)))
