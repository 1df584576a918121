"""A bootable GPT disk, laid out in advance and then written in one pass.

::

    LBA 0      protective MBR, with the stub's boot code
    LBA 1      GPT header and entries
    LBA 34     "BIOS boot" partition: the stub's second stage, its load list, small blobs
    1 MiB      ESP (FAT32): every file contiguous; UEFI reads files, the stub the same extents
    …          further partitions, each on a 1 MiB boundary
    last 33    backup GPT

An ISO is such a disk with a CD's structures (``mbtool.disk.iso``) between GPT and BIOS boot partition; all that is
loaded from it starts at a multiple of 2048 bytes.

Only checksums of the content are missing from the layout; they are computed while the content is copied. The
disk's and the partitions' ids come from those checksums, so that the same input gives the same disk.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

from mbtool.disk import bios_stub, grub_bios
from mbtool.disk.bios_stub import BiosLoader
from mbtool.disk.content import Content, chunks, size_of
from mbtool.disk.copying import copy_content, extend, write_at
from mbtool.disk.crc32 import crc32
from mbtool.disk.esp import EspPlan, plan_esp
from mbtool.disk.grub import GrubBios
from mbtool.errors import InputError
from mbtool.formats import gpt, mbr
from mbtool.plan.load import LoadPlan, Part

SECTOR = 512
CD_SECTOR = bios_stub.CD_SECTOR
MIB = 1 << 20
FIRST_LBA = 34
"""The first sector behind the GPT."""
UEFI_PROGRAM = "EFI/BOOT/BOOTX64.EFI"
"""What UEFI firmware starts from a removable medium (UEFI 2.10, section 3.5.1.1)."""


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

    ``grub`` is embedded in place of the stub. ``mtime``: seconds since 1970 for every file; ``esp_size``: least
    size of the ESP in bytes; ``iso``: a CD as well.
    """

    files: Mapping[str, Content]
    boot: LoadPlan | None = None
    grub: GrubBios | None = None
    partitions: Sequence[Partition] = ()
    label: str = "MBTOOL"
    mtime: int = 0
    esp_size: int = 0
    iso: bool = False

    @property
    def bios(self) -> bool:
        """Whether a BIOS can start it."""
        return self.boot is not None or self.grub is not None


@dataclass(frozen=True, slots=True)
class DiskPlan:
    """Where everything goes: ``size`` bytes in all; offsets in bytes from the disk's start."""

    request: DiskRequest
    size: int
    stub_lba: int
    """The first sector of the BIOS boot partition, which ends where the ESP begins."""
    esp_offset: int
    esp: EspPlan
    partition_offsets: tuple[int, ...]


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
        align=CD_SECTOR if request.iso else SECTOR,
    )
    end = _up(esp_offset + esp.size)
    offsets = []
    for partition in request.partitions:
        offsets.append(end)
        end = _up(end + max(partition.size, size_of(partition.content), SECTOR))
    stub_lba = FIRST_LBA
    if request.iso:
        from mbtool.disk import iso

        stub_lba = iso.sectors(request.files) * (CD_SECTOR // SECTOR)
    used = stub_lba * SECTOR
    if request.boot is not None:
        used += bios_stub.size(request.boot) + (2 * CD_SECTOR if request.iso else 0)
    elif request.grub is not None:
        used += grub_bios.size(request.grub) + (len(request.grub.cd_img) + CD_SECTOR if request.iso else 0)
    if used > esp_offset:
        raise InputError("what a BIOS loads does not fit before the ESP", found=f"{used} bytes", expected="1 MiB")
    return DiskPlan(request, end + MIB, stub_lba, esp_offset, esp, tuple(offsets))


Progress = Callable[[int, int], None]
"""Told while a disk is written: bytes of content done, and in all."""


def write_disk(plan: DiskPlan, fd: int, progress: Progress = lambda done, total: None) -> None:
    """Write the disk to an empty file open for writing, or a device of zeros; what is not written stays a hole.

    Raises InputError when an input cannot be read or changes while it is read, OSError when the output cannot be
    written.
    """
    request = plan.request
    extend(fd, plan.size)
    count = _Count(request, progress)
    checksums = {}
    for path, content in request.files.items():
        offset, _ = plan.esp.extents[path]
        checksums[path] = copy_content(content, fd, plan.esp_offset + offset, count)
    identity = repr((request.label, request.mtime, plan.size, request.boot, sorted(checksums.items())))
    if request.grub is not None:
        identity += f" {zlib.crc32(request.grub.core_img)}"
    for partition, offset in zip(request.partitions, plan.partition_offsets, strict=True):
        crc = copy_content(partition.content, fd, offset, count)
        identity += f"{partition.name} {partition.type_guid} {crc}"

    volume_id = zlib.crc32(identity.encode())
    for offset, data in plan.esp.metadata:
        write_at(fd, data, plan.esp_offset + offset)
    for boot_sector in (0, 6):
        write_at(fd, struct.pack("<I", volume_id), plan.esp_offset + boot_sector * SECTOR + 67)

    sectors = plan.size // SECTOR
    entries = []
    esp_lba, esp_sectors = plan.esp_offset // SECTOR, _up(plan.esp.size) // SECTOR  # ends as aligned as it begins
    if request.bios:
        room = esp_lba - plan.stub_lba
        entries.append(gpt.entry(gpt.BIOS_BOOT, _id(identity, "stub"), plan.stub_lba, room, "BIOS boot"))
    entries.append(gpt.entry(gpt.ESP, _id(identity, "esp"), esp_lba, esp_sectors, "EFI system partition"))
    for number, (partition, offset) in enumerate(zip(request.partitions, plan.partition_offsets, strict=True)):
        size = max(partition.size, size_of(partition.content), SECTOR)
        unique = _id(identity, f"partition {number}")
        entries.append(gpt.entry(partition.type_guid, unique, offset // SECTOR, -(-size // SECTOR), partition.name))
    table = gpt.build_table(entries, _id(identity, "disk"), sectors)
    write_at(fd, table.primary, SECTOR)
    write_at(fd, table.backup, table.backup_lba * SECTOR)

    loader = _loader(plan, checksums)
    if loader is not None:
        write_at(fd, loader.data, plan.stub_lba * SECTOR)
    if request.iso:
        _write_iso(plan, loader, fd)
    write_at(fd, mbr.build(mbr.protective(sectors, loader.code if loader else b"", volume_id)), 0)


class _Count:
    """Adds up what several threads have done."""

    def __init__(self, request: DiskRequest, progress: Progress) -> None:
        contents = [*request.files.values(), *(partition.content for partition in request.partitions)]
        self._total = sum(map(size_of, contents))
        self._progress = progress
        self._done = 0
        self._lock = Lock()

    def __call__(self, count: int) -> None:
        with self._lock:
            self._done += count
            self._progress(self._done, self._total)


def _loader(plan: DiskPlan, checksums: Mapping[str, int]) -> BiosLoader | None:
    """What starts the disk on a BIOS; None when nothing does."""

    def find(part: Part) -> tuple[int, int]:
        offset, size = plan.esp.extents[part.file]
        whole = (part.offset, part.size) == (0, size)
        content = plan.request.files[part.file]
        crc = checksums[part.file] if whole else content_crc(content, part.offset, part.size)
        return plan.esp_offset + offset + part.offset, crc

    request = plan.request
    if request.boot is not None:
        return bios_stub.build(request.boot, plan.stub_lba, find)
    return grub_bios.embed(request.grub, plan.stub_lba) if request.grub is not None else None


def _write_iso(plan: DiskPlan, loader: BiosLoader | None, fd: int) -> None:
    from mbtool.disk import iso

    bios = None
    if loader is not None:
        bios = loader.cd_lba(plan.stub_lba)
        write_at(fd, loader.cd, bios * CD_SECTOR)
    uefi = plan.esp_offset // CD_SECTOR if UEFI_PROGRAM in plan.request.files else None
    request = plan.request
    extents = {path: (plan.esp_offset + offset, size) for path, (offset, size) in plan.esp.extents.items()}
    boot = iso.BootImages(bios, uefi)
    offset, data = iso.build(extents, boot, size=plan.size, label=request.label, mtime=request.mtime)
    write_at(fd, data, offset)


def content_crc(content: Content, offset: int, size: int) -> int:
    """CRC-32 of part of a content."""
    crc = 0
    for piece in chunks(content, offset, size):
        crc = crc32(piece, crc)
    return crc


def _id(identity: str, what: str) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_OID, f"mbtool {what} {identity}")


def _up(value: int) -> int:
    return -(-value // MIB) * MIB
