"""Disk images in the formats of hypervisors: written by the host's qemu-img, then made the same every time.

qemu-img is deterministic but for two things, which are set from what is known: a VMDK's content ID (CID), and a
VHD's time stamp and unique id.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from mbtool.errors import InputError
from mbtool.formats import gpt

PROGRAM = "qemu-img"
VMDK_DESCRIPTOR = 512
"""Offset in bytes of the descriptor in a sparse VMDK as qemu-img writes it (its header says: sector 1)."""
VHD_FOOTER = 512
VHD_EPOCH = 946684800
"""VHD counts seconds from 2000-01-01 UTC."""
MAX_DESCRIPTOR = 20 * 512


@dataclass(frozen=True, slots=True)
class DiskFormat:
    """What a format is called by users and by qemu-img, and the options that it is written with."""

    name: str
    driver: str
    options: tuple[str, ...] = ()


FORMATS = {
    item.name: item
    for item in (
        DiskFormat("qcow2", "qcow2"),
        DiskFormat("vmdk", "vmdk"),
        # Without force_size the disk grows to a round CHS geometry, and the backup GPT is not at its end any more.
        DiskFormat("vhd", "vpc", ("subformat=dynamic", "force_size=on")),
    )
}


def program() -> str:
    """The path of qemu-img; InputError when it is not installed."""
    found = shutil.which(PROGRAM)
    if not found:
        names = ", ".join(FORMATS)
        raise InputError(
            f"{PROGRAM} is not installed, and {names} images are written by it",
            remedy="install it (Debian: qemu-utils), or build a raw image",
        )
    return found


def convert(raw: Path, target: Path, wanted: DiskFormat, mtime: int) -> None:
    """Write the raw GPT disk ``raw`` as ``target`` in the same directory; a VMDK has its own name inside.

    ``mtime`` (seconds since 1970) goes where the format wants a time, ids come from the disk's GUID. Raises
    InputError when qemu-img is missing or fails.
    """
    command = [program(), "convert", "-f", "raw", "-O", wanted.driver, "-m", "1"]
    for option in wanted.options:
        command += ["-o", option]
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run([*command, "./" + raw.name, "./" + target.name], cwd=raw.parent, env=environment,
                          stdin=subprocess.DEVNULL, capture_output=True, check=False)  # fmt: skip
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise InputError(f"{PROGRAM} failed: {said[-1] if said else f'exit status {done.returncode}'}")
    with raw.open("rb") as file:
        identity = os.pread(file.fileno(), 16, 512 + gpt.HEADER.offsets["disk_guid"][0])
    with target.open("r+b") as file:
        if wanted.name == "vmdk":
            _settle_vmdk(file.fileno(), identity)
        elif wanted.name == "vhd":
            _settle_vhd(file.fileno(), mtime, identity)


def _settle_vmdk(fd: int, identity: bytes) -> None:
    """The content ID: 8 hexadecimal digits that only have to change with the content."""
    descriptor = os.pread(fd, MAX_DESCRIPTOR, VMDK_DESCRIPTOR)
    found = re.search(rb"^CID=([0-9a-f]+)\n", descriptor, re.MULTILINE)
    if not found:
        raise InputError(f"{PROGRAM} wrote a VMDK of a kind that is not known here", expected="CID= in it")
    # ffffffff would mean that there is no content; qemu-img writes the number without leading zeros.
    number = int.from_bytes(identity[:4], "big") & 0x7FFFFFFF | 0x10000000
    line = f"CID={number:08x}\n".encode()
    fixed = (descriptor[: found.start()] + line + descriptor[found.end() :])[:MAX_DESCRIPTOR]
    os.pwrite(fd, fixed.ljust(len(descriptor), b"\0"), VMDK_DESCRIPTOR)


def _settle_vhd(fd: int, mtime: int, identity: bytes) -> None:
    """Time stamp and unique id in both copies of the footer, and its checksum (VHD specification 1.0)."""
    at_end = os.fstat(fd).st_size - VHD_FOOTER
    footer = bytearray(os.pread(fd, VHD_FOOTER, at_end))
    if footer[:8] != b"conectix" or os.pread(fd, 8, 0) != b"conectix":
        raise InputError(f"{PROGRAM} wrote a VHD of a kind that is not known here", expected="a footer, twice")
    struct.pack_into(">I", footer, 24, max(0, mtime - VHD_EPOCH))
    footer[68:84] = uuid.UUID(bytes=identity[:16], version=4).bytes
    footer[64:68] = bytes(4)
    struct.pack_into(">I", footer, 64, ~sum(footer) & 0xFFFFFFFF)
    os.pwrite(fd, footer, 0)
    os.pwrite(fd, footer, at_end)
