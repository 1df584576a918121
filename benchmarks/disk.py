"""Building disks, beside the programs that make the same ESP, and beside a mere copy of its bytes."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

from benchmarks.compare import MBTOOL, Comparison
from mbtool.source import MIB
from tests.debian import unpacked

PEERS = """\
set -e
PATH=$PATH:/usr/sbin:/sbin
rm -f peers.img
truncate -s 72M peers.img
sgdisk -n 1:2048:0 -t 1:ef00 peers.img
mformat -i peers.img@@1M -F -T 145408 -h 255 -s 63 ::
mmd -i peers.img@@1M ::EFI ::EFI/BOOT ::boot
mcopy -i peers.img@@1M BOOTX64.EFI ::EFI/BOOT
mcopy -i peers.img@@1M vmlinuz initrd.img ::EFI/BOOT
mcopy -i peers.img@@1M xen ::boot
"""
MEMORY = 100 * MIB


def files(work: Path, initrd: int) -> dict[str, Path]:
    """Debian's Xen (as it is, unpacked and for EFI), its kernel, and ``initrd`` bytes of an initrd, in ``work``."""
    (vmlinuz,) = unpacked("linux-image-amd64").glob("boot/vmlinuz-*")
    (packed,) = unpacked("xen-hypervisor-4.17-amd64").glob("boot/xen-*.gz")
    content = packed.read_bytes()
    paths = {
        "xen.gz": content,
        "xen": gzip.decompress(content),
        "BOOTX64.EFI": packed.with_suffix(".efi").read_bytes(),
        "vmlinuz": vmlinuz.read_bytes(),
    }
    for name, data in paths.items():
        (work / name).write_bytes(data)
    with (work / "initrd.img").open("wb") as file:
        for _ in range(0, initrd, MIB):
            file.write(os.urandom(MIB))
        file.truncate(initrd)
    return {name: work / name for name in (*paths, "initrd.img")}


def build(paths: dict[str, Path], output: Path, *options: str) -> tuple[str, ...]:
    """The command that builds a disk of them."""
    words = [
        "build-disk",
        "--xen",
        paths["xen.gz"],
        "--xen-efi",
        paths["BOOTX64.EFI"],
        "--kernel",
        paths["vmlinuz"],
    ]
    words += ["--initrd", paths["initrd.img"], "--cmdline", "console=hvc0", "--force", "-o", output]
    return (*MBTOOL, *(str(word) for word in words), *options)


def disk(work: Path) -> list[Comparison]:
    """``work`` takes inputs and outputs."""
    small, large = work / "small", work / "large"
    for folder in (small, large):
        folder.mkdir()
    some, more = files(small, 40_000_000), files(large, 1 << 30)
    copy = ("cp", str(more["initrd.img"]), str(large / "copy"))
    durable = ("sh", "-c", f"{' '.join(copy)} && sync {copy[-1]}")
    return [
        Comparison(
            "build-disk --no-sync, 40 MB initrd / sgdisk, mformat, mcopy",
            build(some, small / "disk.img", "--no-sync"),
            ("sh", "-c", f"cd {small}\n{PEERS}"),
            2.0,
            MEMORY,
            True,
        ),
        Comparison(
            "build-disk --no-sync, 1 GiB initrd / cp",
            build(more, large / "disk.img", "--no-sync"),
            copy,
            1.3,
            MEMORY,
            settle=True,
        ),
        Comparison(
            "build-disk, 1 GiB initrd / cp, sync",
            build(more, large / "disk.img"),
            durable,
            1.3,
            MEMORY,
            settle=True,
        ),
    ]
