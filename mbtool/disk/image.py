"""A bootable GPT disk, laid out in advance and then written in one pass.

::

    LBA 0      protective MBR, with the stub's boot code
    LBA 1      GPT header and entries
    LBA 34     "BIOS boot" partition: the stub's second stage, its load list, small blobs
    1 MiB      ESP (FAT32): every file contiguous; UEFI reads files, the stub the same extents
    …          further partitions, each on a 1 MiB boundary
    last 33    backup GPT

Only checksums of the content are missing from the layout; they are computed while the content is copied. The
disk's and the partitions' ids come from those checksums, so that the same input gives the same disk.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mbtool.disk.content import Content, chunks, size_of
from mbtool.disk.copying import copy_content, write_at
from mbtool.disk.crc32 import crc32
from mbtool.disk.esp import EspPlan, plan_esp
from mbtool.errors import InputError
from mbtool.formats import gpt, load_list, mbr
from mbtool.plan.load import MAP_MAX, LoadPlan, Part

SECTOR = 512
MIB = 1 << 20
STUB_LBA = 34
STUB_SECTORS = MIB // SECTOR - STUB_LBA
STUB_PACKET = 424
"""Offset in the MBR of the disk address packet: its sector count and LBA are ours to write."""
MAX_STUB_READ = 64
"""Sectors that the MBR loads in one go: second stage and load list."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One more partition: its content as it is, and at least ``size`` bytes of room."""

    name: str
    content: Content
    size: int = 0
    type_guid: uuid.UUID = gpt.LINUX_DATA


@dataclass(frozen=True, slots=True)
class DiskRequest:
    """What to put on a disk. ``files``: path on the ESP to content; ``boot``: what the BIOS stub loads, if any.

    ``mtime``: seconds since 1970 for every file; ``esp_size``: least size of the ESP in bytes.
    """

    files: Mapping[str, Content]
    boot: LoadPlan | None = None
    partitions: Sequence[Partition] = ()
    label: str = "MBTOOL"
    mtime: int = 0
    esp_size: int = 0


@dataclass(frozen=True, slots=True)
class DiskPlan:
    """Where everything goes: ``size`` bytes in all; offsets in bytes from the disk's start."""

    request: DiskRequest
    size: int
    esp_offset: int
    esp: EspPlan
    partition_offsets: tuple[int, ...]
    blob_lbas: tuple[int, ...]
    """First sector of each load whose content is a byte string, in the order of the loads."""


def plan_disk(request: DiskRequest) -> DiskPlan:
    """Lay the disk out. Raises InputError for names that FAT cannot hold or blobs that do not fit the stub."""
    esp_offset = MIB
    sizes = [(path, size_of(content)) for path, content in request.files.items()]
    # The volume id is patched in with the other ids once the content's checksum is known: see write_disk.
    esp = plan_esp(
        sizes,
        volume_id=0,
        mtime=request.mtime,
        label=request.label,
        hidden_sectors=esp_offset // SECTOR,
        min_size=request.esp_size,
    )
    end = _up(esp_offset + esp.size)
    offsets = []
    for partition in request.partitions:
        offsets.append(end)
        end = _up(end + max(partition.size, size_of(partition.content), SECTOR))
    blobs = []
    if request.boot is not None:
        lba = STUB_LBA + MAX_STUB_READ
        for load in request.boot.loads:
            if isinstance(load.content, bytes):
                blobs.append(lba)
                lba += -(-len(load.content) // SECTOR)
        if lba > STUB_LBA + STUB_SECTORS:
            raise InputError("boot information does not fit before the ESP", found=f"{lba} sectors")
    return DiskPlan(request, end + MIB, esp_offset, esp, tuple(offsets), tuple(blobs))


def write_disk(plan: DiskPlan, fd: int) -> None:
    """Write the disk to an empty file open for writing; everything not written stays a hole.

    Raises InputError when an input cannot be read or changes while it is read, OSError when the output cannot be
    written.
    """
    import os

    request = plan.request
    os.truncate(fd, plan.size)
    checksums = {}
    for path, content in request.files.items():
        offset, _ = plan.esp.extents[path]
        checksums[path] = copy_content(content, fd, plan.esp_offset + offset)
    identity = repr((request.label, request.mtime, plan.size, request.boot, sorted(checksums.items())))
    for partition, offset in zip(request.partitions, plan.partition_offsets, strict=True):
        identity += f"{partition.name} {partition.type_guid} {copy_content(partition.content, fd, offset)}"

    volume_id = zlib.crc32(identity.encode())
    for offset, data in plan.esp.metadata:
        write_at(fd, data, plan.esp_offset + offset)
    for boot_sector in (0, 6):
        write_at(fd, struct.pack("<I", volume_id), plan.esp_offset + boot_sector * SECTOR + 67)

    sectors = plan.size // SECTOR
    entries = []
    if request.boot is not None:
        entries.append(gpt.entry(gpt.BIOS_BOOT, _id(identity, "stub"), STUB_LBA, STUB_SECTORS, "BIOS boot"))
    esp_lba, esp_sectors = plan.esp_offset // SECTOR, plan.esp.size // SECTOR
    entries.append(gpt.entry(gpt.ESP, _id(identity, "esp"), esp_lba, esp_sectors, "EFI system partition"))
    for number, (partition, offset) in enumerate(zip(request.partitions, plan.partition_offsets, strict=True)):
        size = max(partition.size, size_of(partition.content), SECTOR)
        unique = _id(identity, f"partition {number}")
        entries.append(gpt.entry(partition.type_guid, unique, offset // SECTOR, -(-size // SECTOR), partition.name))
    table = gpt.build_table(entries, _id(identity, "disk"), sectors)
    write_at(fd, table.primary, SECTOR)
    write_at(fd, table.backup, table.backup_lba * SECTOR)

    boot_code = b""
    if request.boot is not None:
        boot_code = _write_stub(plan, request.boot, fd, checksums)
    write_at(fd, mbr.build(mbr.protective(sectors, boot_code, volume_id)), 0)


def _write_stub(plan: DiskPlan, boot: LoadPlan, fd: int, checksums: Mapping[str, int]) -> bytes:
    """Write second stage, load list and blobs; the MBR's boot code, told where they are."""
    items = []
    blob_lbas = iter(plan.blob_lbas)
    for load in boot.loads:
        if isinstance(load.content, Part):
            items.append((load.name, _file_item(plan, load.address, load.content, load.zero, checksums)))
        else:
            lba = next(blob_lbas)
            write_at(fd, load.content, lba * SECTOR)
            crc = zlib.crc32(load.content)
            items.append((load.name, load_list.Item(lba, load.size, load.address, load.zero, crc, 0)))
    r = boot.registers
    state = load_list.EntryState(
        entry=r.eip,
        eax=r.eax,
        ebx=r.ebx,
        ecx=r.ecx,
        edx=r.edx,
        esi=r.esi,
        edi=r.edi,
        ebp=r.ebp,
        esp=r.esp,
        map_shape=boot.map_shape,
        map_address=boot.map_address,
        map_max=MAP_MAX,
    )
    patches = tuple(load_list.Patch(p.address, p.base, p.factor, p.value) for p in boot.patches)
    built = load_list.build(load_list.LoadList(state, tuple(items), patches))
    stage2 = _blob("stage2.bin") + built
    count = -(-len(stage2) // SECTOR)
    if count > MAX_STUB_READ:
        raise InputError("the load list is too long", expected=f"at most {MAX_STUB_READ} sectors", found=str(count))
    write_at(fd, stage2, STUB_LBA * SECTOR)
    code = bytearray(_blob("mbr.bin"))
    struct.pack_into("<H", code, STUB_PACKET + 2, count)
    struct.pack_into("<Q", code, STUB_PACKET + 8, STUB_LBA)
    return bytes(code)


def _file_item(plan: DiskPlan, address: int, part: Part, zero: int, checksums: Mapping[str, int]) -> load_list.Item:
    offset, size = plan.esp.extents[part.file]
    content = plan.request.files[part.file]
    whole = (part.offset, part.size) == (0, size)
    crc = checksums[part.file] if whole else content_crc(content, part.offset, part.size)
    lba, skip = divmod(plan.esp_offset + offset + part.offset, SECTOR)
    return load_list.Item(lba, part.size, address, zero, crc, 0, skip)


def content_crc(content: Content, offset: int, size: int) -> int:
    """CRC-32 of part of a content."""
    crc = 0
    for piece in chunks(content, offset, size):
        crc = crc32(piece, crc)
    return crc


def _blob(name: str) -> bytes:
    return (Path(__file__).parent / "stub" / name).read_bytes()


def _id(identity: str, what: str) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_OID, f"mbtool {what} {identity}")


def _up(value: int) -> int:
    return -(-value // MIB) * MIB
