"""What mbtool says about an initrd's segments, beside what Linux does with them."""

from __future__ import annotations

import gzip
import lzma
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool import identify
from mbtool.formats.cpio import Header, Member, build_cpio, build_member
from mbtool.source import BytesSource
from tests import qemu

pytestmark = [pytest.mark.boot, pytest.mark.real]

DIR = stat.S_IFDIR | 0o755
# Nothing that the kernel prints may land inside of the line: dmesg -n 1.
INIT = b"""#!/bin/sh
/bin/busybox dmesg -n 1
/bin/busybox echo FILES: $(/bin/busybox ls /)
/bin/busybox poweroff -f
"""
SECOND = build_cpio([Member("second", b"x")])
NO_NUL = build_member(Header(b"070701", 1, 0o100644, 0, 0, 1, *[0] * 8), b"third", b"")
BODY = build_cpio([Member("third", b"body", DIR)])


def main(busybox: bytes, *, crc: bool = False) -> bytes:
    return build_cpio(
        [
            Member("bin", mode=DIR),
            Member("bin/busybox", busybox, stat.S_IFREG | 0o755),
            Member("bin/sh", b"busybox", stat.S_IFLNK | 0o777),
            Member("init", INIT, stat.S_IFREG | 0o755),
        ],
        crc=crc,
    )


def aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def xz(data: bytes) -> bytes:
    return lzma.compress(data, check=lzma.CHECK_CRC32)  # the only check that Linux knows


CASES: dict[str, tuple[Callable[[bytes], bytes], str, str, bool]] = {
    # how it is made: what Linux complains of, what mbtool finds, does Linux get to SECOND?
    "raw behind a stream": (lambda box: aligned(gzip.compress(main(box))) + SECOND, "", "", True),
    "raw behind a stream, misaligned": (
        lambda box: aligned(gzip.compress(main(box))) + bytes(2) + SECOND,
        "invalid magic at start of compressed archive",
        "INITRD-MISALIGNED",
        False,
    ),
    "two streams": (lambda box: gzip.compress(main(box)) + bytes(37) + xz(SECOND), "", "", True),
    "two archives in a stream": (lambda box: gzip.compress(main(box) + bytes(512) + SECOND), "", "", True),
    "stream in a stream": (
        lambda box: gzip.compress(main(box) + gzip.compress(SECOND)),
        "junk within compressed archive",
        "INITRD-NESTED",
        False,
    ),
    "junk between": (
        lambda box: main(box) + b"junkjunk" + SECOND,
        "invalid magic at start of compressed archive",
        "INITRD-JUNK",
        False,
    ),
    "no trailer": (
        lambda box: main(box)[: main(box).rindex(b"070701")] + gzip.compress(SECOND),
        "",
        "CPIO-NO-TRAILER",
        True,
    ),
    "sums": (lambda box: main(box, crc=True) + SECOND, "", "", True),
    "wrong sum": (
        lambda box: main(box, crc=True).replace(b"poweroff -f", b"poweroff -F") + SECOND,
        "bad data checksum",
        "CPIO-CHECKSUM",
        False,
    ),
    "name without NUL": (
        lambda box: main(box) + NO_NUL + SECOND,
        "malformed archive",
        "CPIO-NAME-UNTERMINATED",
        False,
    ),
    "directory with a body": (lambda box: main(box) + BODY + SECOND, "", "CPIO-SKIPPED", True),
}


@pytest.mark.parametrize("case", CASES)
def test_linux_agrees(case: str, debian: Callable[[str], Path], vmlinuz_cloud: Path, tmp_path: Path) -> None:
    make, complaint, finding, whole = CASES[case]
    data = make((debian("busybox-static") / "bin/busybox").read_bytes())
    path = tmp_path / "initrd.img"
    path.write_bytes(data)
    kernel = ("-m", "256", "-kernel", str(vmlinuz_cloud), "-initrd", str(path))
    console = qemu.run([*kernel, "-append", "console=ttyS0 panic=-1"], until=r"FILES.*\n").console
    failure = "Initramfs unpacking failed: "
    assert (failure + complaint in console) if complaint else (failure not in console)
    files = console[console.index("FILES") :].split()
    assert ("second" in files, "third" in files) == (whole, False)
    node = identify.inspect(BytesSource(data))
    assert [found.id for part in node.walk() for found in part.findings] == ([finding] if finding else [])
