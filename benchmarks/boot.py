"""From reset to Xen's first line on a BIOS machine: mbtool's stub beside GRUB, on the same ESP of the same disk."""

from __future__ import annotations

import shutil
import struct
import subprocess
from functools import partial
from pathlib import Path

from benchmarks.compare import Comparison
from benchmarks.disk import files
from mbtool.build.disk import build_disk
from mbtool.disk.boot_set import BootSet
from mbtool.disk.image import FIRST_LBA, SECTOR
from mbtool.prove.qemu import End, Machine, drive_arguments
from mbtool.prove.qemu import boot as run

GRUB = Path("/usr/lib/grub/i386-pc")
OPTIONS = "console=com1 com1=115200"
CONFIG = f"""\
set root=hd0,gpt2
multiboot /boot/xen {OPTIONS}
module /EFI/BOOT/vmlinuz console=hvc0
module /EFI/BOOT/initrd.img
boot
"""
KERNEL_SECTOR, BLOCK_LIST = 0x5C, 0x1F4
"""Where boot.img says which sector it loads, and the first sector of core.img where the rest of it is."""
FIRST = "(XEN) Xen version"
"""Of Xen's lines the first that is no banner."""


def seconds(disk: Path, bus: str) -> float:
    """From the machine's start to Xen's first line."""
    machine = Machine(memory=1024, bus=bus, machine="pc" if bus == "ide" else "q35")
    seen = run(machine, drive_arguments(disk, bus), timeout=120, seen=lambda text: FIRST in text)
    if seen.end is not End.STOPPED:
        raise RuntimeError(f"no sign of Xen: {seen.console[-300:]}")
    return seen.seconds


def install_grub(disk: Path, work: Path) -> None:
    """Put GRUB in place of the stub: it reads the same files from the same ESP."""
    config, core = work / "grub.cfg", work / "core.img"
    config.write_text(CONFIG)
    command = ["grub-mkimage", "-O", "i386-pc", "-p", "/", "-c", str(config), "-o", str(core)]
    subprocess.run([*command, "biosdisk", "part_gpt", "fat", "multiboot"], check=True)
    first = bytearray((GRUB / "boot.img").read_bytes()[:440])
    struct.pack_into("<Q", first, KERNEL_SECTOR, FIRST_LBA)
    rest = bytearray(core.read_bytes())
    struct.pack_into("<Q", rest, BLOCK_LIST, FIRST_LBA + 1)
    with disk.open("r+b") as file:
        file.write(first)
        file.seek(FIRST_LBA * SECTOR)
        file.write(rest)


def boot(work: Path) -> list[Comparison]:
    """``work`` takes the disks."""
    paths = files(work, 40_000_000)
    wanted = BootSet(
        paths["vmlinuz"], paths["initrd.img"], xen=paths["xen.gz"], xen_cmdline=OPTIONS, cmdline="console=hvc0"
    )
    ours, theirs = work / "stub.img", work / "grub.img"
    build_disk(wanted, ours, force=False)
    shutil.copy(ours, theirs)
    install_grub(theirs, work)
    return [
        Comparison(
            f"reset to Xen from {bus} / GRUB", partial(seconds, ours, bus), partial(seconds, theirs, bus), 1.0
        )
        for bus in ("ahci", "virtio")
    ]
