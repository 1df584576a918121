"""The boot stub made ready for one disk: boot code, second stage, load list, and the small blobs it loads.

The sources are in ``stub/``: ``mbr.asm`` (for disks, and for CDs) and ``stage2.asm``.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mbtool.errors import InputError
from mbtool.formats import load_list
from mbtool.plan.load import MAP_MAX, LoadPlan, Part

SECTOR = 512
CD_SECTOR = 2048
PACKET = 424
"""Offset in the boot code of the disk address packet: its sector count and LBA are ours to write."""
MAX_READ = 64
"""Sectors that the boot code loads in one go: second stage and load list. The blobs follow."""


@dataclass(frozen=True, slots=True)
class BiosLoader:
    """What starts a disk on a BIOS: ``code`` for the MBR (440 bytes), ``cd`` for El Torito, ``data`` for both.

    ``data`` is the content of the BIOS boot partition from its start; on a CD ``cd`` follows.
    """

    code: bytes
    cd: bytes
    data: bytes

    def cd_lba(self, lba: int) -> int:
        """The CD's sector of ``cd`` when the partition starts at ``lba`` (512-byte sectors)."""
        return -(-(lba * SECTOR + len(self.data)) // CD_SECTOR)


def size(plan: LoadPlan) -> int:
    """Bytes of ``data`` for this plan."""
    blobs = (-(-load.size // SECTOR) for load in plan.loads if isinstance(load.content, bytes))
    return (MAX_READ + sum(blobs)) * SECTOR


def build(plan: LoadPlan, lba: int, find: Callable[[Part], tuple[int, int]]) -> BiosLoader:
    """The stub for a disk whose BIOS boot partition starts at ``lba`` (512-byte sectors).

    ``find`` says where a part of a file lies on the disk (offset in bytes) and its CRC-32. Raises InputError when
    the load list is too long for the stub.
    """
    items, blobs = [], b""
    for load in plan.loads:
        if isinstance(load.content, Part):
            offset, crc = find(load.content)
        else:
            offset, crc = (lba + MAX_READ) * SECTOR + len(blobs), zlib.crc32(load.content)
            blobs += load.content.ljust(-(-load.size // SECTOR) * SECTOR, b"\0")
        first, skip = divmod(offset, SECTOR)
        items.append((load.name, load_list.Item(first, load.size, load.address, load.zero, crc, 0, skip)))
    patches = tuple(load_list.Patch(p.address, p.base, p.factor, p.value) for p in plan.patches)
    stage2 = _blob("stage2.bin") + load_list.build(load_list.LoadList(_state(plan), tuple(items), patches))
    count = -(-len(stage2) // SECTOR)
    if count > MAX_READ:
        raise InputError("the load list is too long", expected=f"at most {MAX_READ} sectors", found=str(count))
    return BiosLoader(
        _boot_code("mbr.bin", count, lba),
        _boot_code("cd.bin", -(-len(stage2) // CD_SECTOR), lba * SECTOR // CD_SECTOR),
        stage2.ljust(MAX_READ * SECTOR, b"\0") + blobs,
    )


def _state(plan: LoadPlan) -> load_list.EntryState:
    r = plan.registers
    return load_list.EntryState(
        entry=r.eip,
        eax=r.eax,
        ebx=r.ebx,
        ecx=r.ecx,
        edx=r.edx,
        esi=r.esi,
        edi=r.edi,
        ebp=r.ebp,
        esp=r.esp,
        map_shape=plan.map_shape,
        map_address=plan.map_address,
        map_max=MAP_MAX,
    )


def _boot_code(name: str, count: int, lba: int) -> bytes:
    """Boot code told to load ``count`` sectors of its medium from ``lba``."""
    code = bytearray(_blob(name))
    struct.pack_into("<H", code, PACKET + 2, count)
    struct.pack_into("<Q", code, PACKET + 8, lba)
    return bytes(code)


def _blob(name: str) -> bytes:
    return (Path(__file__).parent / "stub" / name).read_bytes()
