"""GRUB embedded in a disk as grub-bios-setup does it (GRUB: util/setup.c; grub-core/boot/i386/pc).

boot.img, in the MBR, loads the first sector of core.img (diskboot.img) from the LBA that is written into it; that
sector loads the rest by the list of blocks at its end.
"""

from __future__ import annotations

import struct

from mbtool.disk.bios_stub import SECTOR, BiosLoader
from mbtool.disk.grub import GrubBios
from mbtool.errors import InputError
from mbtool.formats import iso9660
from mbtool.formats.mbr import BOOT_CODE

KERNEL_SECTOR = 0x5C
"""Offset in boot.img of the LBA of core.img, 64 bits."""
DRIVE_CHECK = 0x66
"""Offset in boot.img of a jump over a check; without the jump, drives that no hard disk has count as 0x80."""
NOPS = b"\x90\x90"
BLOCK_LIST = SECTOR - 12
"""Offset in core.img of its first block: LBA (64 bits), sectors (16 bits), segment to load to (16 bits)."""
SEGMENT = 0x820
MAX_CORE = 0x78000 - 0x8200
"""Bytes of core.img that fit below the memory that it must leave alone."""
BOOT_INFO = 8
"""Offset in a CD's boot image of its boot information table: 4 words, then 40 bytes reserved."""
CHECKED_FROM = 64


def size(grub: GrubBios) -> int:
    """Bytes that ``embed`` puts into the BIOS boot partition."""
    return -(-len(grub.core_img) // SECTOR) * SECTOR


def embed(grub: GrubBios, lba: int) -> BiosLoader:
    """GRUB for a disk whose BIOS boot partition starts at ``lba`` (512-byte sectors).

    Raises InputError when the images are not of the kind that is known here.
    """
    boot, core = bytearray(grub.boot_img), bytearray(grub.core_img)
    if len(boot) != SECTOR or boot[510:] != b"\x55\xaa" or not SECTOR < len(core) <= MAX_CORE:
        raise InputError(
            "GRUB's boot.img or core.img is of no known kind", found=f"{len(boot)} and {len(core)} bytes"
        )
    sectors = -(-len(core) // SECTOR)
    first = struct.unpack_from("<QHH", core, BLOCK_LIST)
    before = struct.unpack_from("<QHH", core, BLOCK_LIST - 12)
    if first[1:] != (sectors - 1, SEGMENT) or before[1]:
        raise InputError("GRUB's core.img has an unknown list of blocks", found=str(first))
    struct.pack_into("<Q", boot, KERNEL_SECTOR, lba)
    boot[DRIVE_CHECK : DRIVE_CHECK + 2] = NOPS
    struct.pack_into("<Q", core, BLOCK_LIST, lba + 1)
    data = bytes(core).ljust(sectors * SECTOR, b"\0")
    loader = BiosLoader(bytes(boot[:BOOT_CODE]), b"", data)
    return BiosLoader(loader.code, _cd(grub.cd_img, loader.cd_lba(lba)), data)


def _cd(image: bytes, lba: int) -> bytes:
    """A CD's boot image at ``lba`` (2048-byte sectors), told where and how large it is."""
    padded = image.ljust(-(-len(image) // 4) * 4, b"\0")
    words = struct.unpack_from(f"<{(len(padded) - CHECKED_FROM) // 4}I", padded, CHECKED_FROM)
    table = struct.pack("<4I", iso9660.FIRST_DESCRIPTOR, lba, len(image), sum(words) & 0xFFFFFFFF)
    return image[:BOOT_INFO] + table + bytes(40) + image[BOOT_INFO + 56 :]
