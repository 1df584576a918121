"""GRUB's images, made by the host's grub-mkimage without root: for disks and CDs on a BIOS, and for UEFI.

All modules that the menu needs are inside, so that nothing but grub.cfg is looked for on the disk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mbtool.errors import InputError
from mbtool.source import MIB, read_file

PROGRAMS = ("grub-mkimage", "grub2-mkimage")
DIRECTORIES = (Path("/usr/lib/grub"), Path("/usr/lib/grub2"), Path("/usr/share/grub2"))
"""Where distributions keep GRUB's modules, a directory for each target in them."""
BIOS_TARGET, CD_TARGET, UEFI_TARGET = "i386-pc", "i386-pc-eltorito", "x86_64-efi"
MODULES = (
    *("boot", "cat", "configfile", "echo", "fat", "gzio", "halt", "iso9660", "linux", "ls", "minicmd"),
    *("multiboot", "multiboot2", "normal", "part_gpt", "part_msdos", "reboot", "serial", "sleep", "test"),
)
FIRMWARE_MODULES = {BIOS_TARGET: ("biosdisk",), CD_TARGET: ("biosdisk",), UEFI_TARGET: ("efi_gop",)}
OLD_MODULES = ("efi_uga",)
"""Taken where they are installed: GRUB 2.14 has no driver any more for UGA, the display of EFI 1.10."""
HOME = "boot/grub"
"""The directory of grub.cfg on the ESP."""
DISK_PREFIX = f"(,gpt2)/{HOME}"
"""For the disk's core image: the ESP is the second partition of the drive that was started from."""
MAX_IMAGE = 16 * MIB


@dataclass(frozen=True, slots=True)
class GrubBios:
    """For a BIOS: ``boot_img`` (512 bytes) goes into the MBR, ``core_img`` is embedded; ``cd_img`` boots a CD."""

    boot_img: bytes
    core_img: bytes
    cd_img: bytes


@dataclass(frozen=True, slots=True)
class GrubImages:
    """What was made; None for a firmware whose modules are not installed."""

    bios: GrubBios | None
    uefi: bytes | None


def images() -> GrubImages:
    """All images that can be made here. InputError when grub-mkimage or all modules are missing, or it fails."""
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    bios, uefi = _modules(BIOS_TARGET), _modules(UEFI_TARGET)
    if program is None or (bios is None and uefi is None):
        missing = PROGRAMS[0] if program is None else f"GRUB's modules (in {DIRECTORIES[0]})"
        raise InputError(
            f"--loader grub: {missing} not installed",
            remedy="install them (Debian: grub-common, grub-pc-bin, grub-efi-amd64-bin), or use mbtool's stub",
        )
    made = None
    if bios is not None:
        made = GrubBios(
            read_file(bios / "boot.img", MAX_IMAGE),
            _make(program, bios, BIOS_TARGET, DISK_PREFIX),
            _make(program, bios, CD_TARGET, f"/{HOME}"),
        )
    return GrubImages(made, _make(program, uefi, UEFI_TARGET, f"/{HOME}") if uefi is not None else None)


def _modules(target: str) -> Path | None:
    """The directory of a target's modules, None when they are not installed."""
    found = (folder / target for folder in DIRECTORIES)
    return next((path for path in found if (path / "kernel.img").exists()), None)


def _make(program: str, modules: Path, target: str, prefix: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="mbtool-") as work:
        output = Path(work) / "image"
        command = [program, "-O", target, "-d", str(modules), "-p", prefix, "-o", str(output)]
        old = [name for name in OLD_MODULES if (modules / f"{name}.mod").exists()]
        done = subprocess.run(
            [*command, *MODULES, *FIRMWARE_MODULES[target], *old],
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise InputError(
                f"{Path(program).name} failed for {target}: {said[-1] if said else f'status {done.returncode}'}"
            )
        return read_file(output, MAX_IMAGE)
