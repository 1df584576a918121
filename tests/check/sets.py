"""Boot sets for the tests: good ones made of small files, to be broken one thing at a time."""

from __future__ import annotations

import gzip
import lzma
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mbtool.check.boot_set import open_set
from mbtool.check.image import Image
from mbtool.check.report import Problem, check_image, check_set
from mbtool.formats.cpio import Member, build_cpio
from mbtool.source import BytesSource
from tests.conftest import ROOT
from tests.formats.linux_images import kernel as bzimage
from tests.oracle.made_kernel import INIT_P2M, MOD_START_PFN, VIRT_BASE
from tests.oracle.made_kernel import kernel as elf

TOP_2G = 0xFFFF_FFFF_8000_0000
SUPPORTED_FEATURES, PHYS32_ENTRY, LOADER = 17, 18, 8
NOTES: dict[int, int | str] = {
    VIRT_BASE: TOP_2G,
    INIT_P2M: 1 << 39,
    MOD_START_PFN: 1,
    SUPPORTED_FEATURES: 1 << 11,
    PHYS32_ENTRY: 0x100000,
}
RELEASE = "6.1.0-test"
XEN = ROOT / "tests" / "data" / "xen"


def vmlinux(**more: Any) -> bytes:
    """A kernel for PV and PVH, 4 MiB at 1 MiB. ``more``: ``notes`` (None: not this), ``segments``, ``entry``."""
    notes = {kind: value for kind, value in {**NOTES, **more.get("notes", {})}.items() if value is not None}
    entry = more.get("entry", TOP_2G + 0x100000)
    return elf(more.get("segments", [(0x100000, 4 << 20)]), notes, entry=entry)


def packed(data: bytes) -> bytes:
    """As Linux' build packs it: xz with CRC32, and the size behind it."""
    return lzma.compress(data, check=lzma.CHECK_CRC32) + len(data).to_bytes(4, "little")


def vmlinuz(payload: bytes | None = None, /, **values: Any) -> bytes:
    """A bzImage with the kernel in it."""
    return bzimage(payload=packed(vmlinux()) if payload is None else payload, **values)


PROGRAM = b"\x7fELF\x02\x01\x01" + bytes(11) + b"\x3e\0"
"""As much of a program for x86-64 as Linux looks at to know it for one."""


def with_folders(*members: Member) -> list[Member]:
    """The members, behind one for each directory that they are in."""
    parents = {str(path) for each in members for path in PurePosixPath(str(each.name)).parents} - {"."}
    return [*(Member(name, b"", stat.S_IFDIR | 0o755) for name in sorted(parents)), *members]


def initrd(release: str = RELEASE, *, microcode: bytes = b"") -> bytes:
    """An initrd with an init, and two modules for one kernel; ``microcode`` goes in front."""
    main = build_cpio(
        with_folders(
            Member("init", PROGRAM, stat.S_IFREG | 0o755),
            Member(f"lib/modules/{release}/kernel/drivers/block/xen-blkfront.ko", b"x"),
            Member(f"lib/modules/{release}/kernel/fs/ext4.ko.xz", b"x"),
        )
    )
    return microcode + gzip.compress(main, mtime=0)


def problems(folder: Path, files: Mapping[str, Any], **words: Any) -> list[Problem]:
    """What is wrong with a set: ``files`` by part (``kernel``, ``initrd``, …), written to ``folder`` if bytes."""
    paths: dict[str, Any] = {}
    for part, data in files.items():
        paths[part] = data if isinstance(data, Path) else folder / part
        if isinstance(data, bytes):
            paths[part].write_bytes(data)
    with open_set(**paths, **words) as boot:
        return check_set(boot)


def ids(found: list[Problem]) -> set[str]:
    """The rules that are broken, remarks left out."""
    return {problem.id for problem in found if problem.severity != "info"}


def alone(data: bytes, name: str = "image") -> list[Problem]:
    """What is wrong with one image."""
    return check_image(Image(name, BytesSource(data, name)))
