"""Disks: partition tables, partitions, the FAT volumes in them, the boot stub; bare FAT volumes too.

Only tables, directories and what has to do with booting is read: the cost does not grow with the disk.
"""

from __future__ import annotations

from collections.abc import Sequence

from mbtool.formats import fat, gpt, mbr
from mbtool.formats.boot_stub import Extent, packet
from mbtool.formats.context import Context
from mbtool.formats.fat_files import File
from mbtool.formats.file_nodes import Inner
from mbtool.formats.partition import Partition
from mbtool.formats.partition_tables import read
from mbtool.model import Field, Node
from mbtool.source import Source

FILE_SYSTEMS = (
    (0x438, b"\x53\xef", "ext2, ext3 or ext4"),
    (0, b"XFSB", "XFS"),
    (0x10040, b"_BHRfS_M", "btrfs"),
    (0, b"hsqs", "squashfs"),
    (0, b"LUKS\xba\xbe", "LUKS"),
    (0x200, b"LABELONE", "LVM physical volume"),
    (0xFF6, b"SWAPSPACE2", "Linux swap"),
    (0x8001, b"CD001", "ISO 9660"),
    (0x400, b"H+", "HFS+"),
    (3, b"NTFS    ", "NTFS"),
    (3, b"EXFAT   ", "exFAT"),
)
"""Where, what, and the name of file systems that are only named."""
BOOT_CODES = ((b"GRUB \0Geom", "GRUB"), (b"isolinux.bin missing", "isolinux"))
"""Text in the boot code that tells whose it is."""
UEFI_PROGRAMS = ("/efi/boot/bootx64.efi", "/efi/boot/bootia32.efi", "/efi/boot/bootaa64.efi")
"""What firmware starts from a removable medium (UEFI 2.10, section 3.5.1.1), of the processors that matter here."""


def reject(source: Source) -> str:
    """Why this is neither a disk with partitions nor a FAT volume ("" when it is one)."""
    if gpt.sector_size(source):
        return ""
    if not (not_fat := fat.reject(source)):
        return ""
    if not_mbr := mbr.reject(source):
        return f"{not_mbr}; not FAT: {not_fat}" if not_fat != not_mbr else not_mbr
    entries = [entry for entry in mbr.parse(source.read(0, mbr.SECTOR)).partitions if entry.size_in_lba]
    if not any(entry.os_type and entry.starting_lba for entry in entries):
        return "55 aa at 0x1fe, but no partition starts behind the table"
    return ""


def inspect(source: Source, context: Context) -> Node:
    """The disk with its tables and partitions, or the volume when there is but one, without a table."""
    if not gpt.sector_size(source) and not fat.reject(source):
        from mbtool.formats import fat_volume

        return fat_volume.inspect(source, context)
    tables = read(source)
    inner = Inner(source, context)
    shown = [_partition(source, partition, context, inner) for partition in tables.partitions]
    extents = _extents(tables.partitions, [files for _, files in shown])
    nodes = [
        _with_stub(source, partition, node, extents)
        for partition, (node, _) in zip(tables.partitions, shown, strict=True)
    ]
    fields = (
        Field("scheme", tables.scheme, telling=True),
        Field("block_size", tables.block, meaning="bytes"),
        Field("partitions", len(nodes), telling=True),
        Field("bios", _boot_code(source), telling=True),
        Field("uefi", _uefi_programs([files for _, files in shown]), telling=True),
    )
    size = source.known_size
    if size is None:
        size = source.at_hand
    return Node(
        "disk", 0, size, fields, (*tables.nodes, *nodes, *tables.backup), (*tables.findings, *inner.findings)
    )


def _partition(
    source: Source, partition: Partition, context: Context, inner: Inner
) -> tuple[Node, tuple[File, ...]]:
    """The partition with what it holds, and the files when that is a FAT volume."""
    part = source.part(partition.offset, partition.size, f"{source.name}:{partition.number}")
    content: str | None = None
    children: tuple[Node, ...] = ()
    files: tuple[File, ...] = ()
    if not fat.reject(part):
        if inner.take(min(part.at_hand, partition.size)):
            from mbtool.formats import fat_volume

            volume, files = fat_volume.read(part, context)
            children = (volume,)
    elif (content := named(part)) is None and not partition.bios_boot:
        if context.full or partition.offset + partition.size <= source.at_hand:
            children = inner.nodes(part)
        elif source.known_size is None:
            content = "not unpacked (--full does)"
    fields = partition.fields
    if content:
        fields = (*fields, Field("content", content, telling=True))
    node = Node("partition", partition.offset, partition.size, fields, children, partition.findings)
    return node, files


def named(part: Source) -> str | None:
    """The name of a file system that is known by its magic alone, "empty" for zeros, None for anything else."""
    for at, magic, name in FILE_SYSTEMS:
        if part.read(at, len(magic)) == magic:
            return name
    return None if any(part.read(0, 1 << 16)) else "empty"


def _with_stub(source: Source, partition: Partition, node: Node, extents: Sequence[Extent]) -> Node:
    """The partition's node, with the boot stub if it is there."""
    if not partition.bios_boot:
        return node
    from dataclasses import replace

    from mbtool.formats import boot_stub

    stub = boot_stub.node(source, partition.offset, partition.size, extents)
    return node if stub is None else replace(node, children=(stub,))


def _extents(partitions: Sequence[Partition], files: Sequence[Sequence[File]]) -> list[Extent]:
    """Where files and the stub's partition lie on the disk."""
    extents = []
    for partition, found in zip(partitions, files, strict=True):
        for file in found:
            if not file.directory:
                for start, size in file.runs:
                    extents.append(Extent(file.path, partition.offset + start, partition.offset + start + size))
        if partition.bios_boot:
            extents.append(Extent("", partition.offset, partition.offset + partition.size))
    return extents


def _boot_code(source: Source) -> str | None:
    """Whose boot code the MBR holds; None when there is none."""
    sector = source.read(0, mbr.SECTOR)
    if packet(sector):
        return "mbtool's stub"
    if not any(sector[: mbr.BOOT_CODE]):
        return None
    return next((name for text, name in BOOT_CODES if text in sector), "unknown boot code")


def _uefi_programs(files: Sequence[Sequence[File]]) -> tuple[str, ...]:
    """The programs that firmware starts without being told."""
    return tuple(file.path for found in files for file in found if file.path.lower() in UEFI_PROGRAMS)
