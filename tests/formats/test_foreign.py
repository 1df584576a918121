"""Files that mbtool does not read are named. The starts are as mkimage, mkbootimg, dtc, cpio and tar write them."""

from __future__ import annotations

import gzip
import struct
import tarfile
from io import BytesIO

import pytest

from mbtool.check.image import Image
from mbtool.check.report import check_image
from mbtool.errors import UnknownFormatError
from mbtool.identify import inspect
from mbtool.source import BytesSource


def tar() -> bytes:
    """What Python's tarfile makes of one empty member."""
    file = BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    return file.getvalue()


FILES = {
    "a U-Boot image (uImage)": struct.pack(
        ">7I4B32s", 0x27051956, 0, 0, 64, 0x100000, 0x100000, 0, 5, 2, 2, 0, b"test"
    ),
    "a flattened device tree, or a FIT image": struct.pack(">10I", 0xD00DFEED, 72, 56, 56, 40, 17, 16, 0, 0, 0),
    "an Android boot image": b"ANDROID!" + struct.pack("<10I", 0xB9BC80, 0x10008000, *([0] * 8)),
    "a Linux kernel for ARM64": struct.pack("<2I6Q4sI", 0x14000004, 0, 0, 0x2500000, 10, 0, 0, 0, b"ARM\x64", 0),
    "a Linux kernel for RISC-V": bytes(48) + b"RISCV\0\0\0RSC\x05\0\0\0\0",
    "a cpio archive of the old portable format (make it with -H newc)": b"070707" + b"0" * 70,
    "a cpio archive of the old binary format (make it with -H newc)": struct.pack("<13H", 0x71C7, *([0] * 12)),
    "a tar archive": tar(),
    "an a.out program (ZMAGIC)": struct.pack("<8I", 0x10B, 0x1000, 0, 0, 0, 0x1020, 0, 0),
    "a volume or file system: squashfs": b"hsqs" + bytes(92),
    "a DOS program, or a damaged PE image": b"MZ" + bytes(62),
    "": b"no image",
}


@pytest.mark.parametrize(("name", "data"), FILES.items(), ids=[name or "nothing" for name in FILES])
def test_what_it_seems_to_be(name: str, data: bytes) -> None:
    data += bytes(1024)
    with pytest.raises(UnknownFormatError) as caught:
        inspect(BytesSource(data, "file"))
    assert str(caught.value) == "file: unknown format" + (f"; found {name}" if name else "")
    packed = BytesSource(gzip.compress(data), "file.gz")
    assert inspect(packed).children[0].get("seems") == (name or None)
    with pytest.raises(UnknownFormatError) as caught:
        check_image(Image("file.gz", packed))
    assert caught.value.found == name
