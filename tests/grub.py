"""A disk that starts GRUB on a BIOS machine, and nothing else."""

from __future__ import annotations

import re
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.conftest import missing

VERSIONS = ("2.06", "2.12", "2.14")
"""Those that mbtool has rows for."""
FOLDER = Path("/usr/lib/grub/i386-pc")
MIB = 1 << 20


def version(tool: Callable[[str], str]) -> str:
    """The one of ``VERSIONS`` that tells of the GRUB that is installed: the newest that is not newer."""
    said = subprocess.run([tool("grub-mkimage"), "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"\d+\.\d+", said)
    assert match, said
    return max((known for known in VERSIONS if known <= match[0]), default=VERSIONS[0])


def disk(
    work: Path, tool: Callable[[str], str], config: str, files: Sequence[Path], modules: Sequence[str]
) -> Path:
    """A disk image in the directory ``work``: GRUB with this configuration and the files in its memory disk."""
    if not (FOLDER / "boot.img").is_file():
        missing("GRUB for BIOS machines (grub-pc-bin)")
    (work / "grub.cfg").write_text(config)
    core = work / "core.img"
    command = [tool("grub-mkimage"), "-O", "i386-pc", "-p", "/", "-c", str(work / "grub.cfg")]
    command += ["-m", str(archive(work / "memdisk.tar", files)), "-o", str(core)]
    subprocess.run([*command, "biosdisk", "memdisk", "tar", "boot", *modules], check=True)
    image = work / "disk.img"
    image.write_bytes(((FOLDER / "boot.img").read_bytes() + core.read_bytes()).ljust(MIB, b"\0"))
    return image


def archive(path: Path, files: Sequence[Path]) -> Path:
    """A tar archive of the files. GRUB also reads one as a disk: for what the memory disk has no room for."""
    with tarfile.open(path, "w") as tar:
        for file in files:
            tar.add(file, file.name)
    return path
