"""ext2, ext3 and ext4: what the superblock says of the volume.

Source: Linux, Documentation/filesystems/ext4/super.rst; fs/ext4/ext4.h, ``struct ext4_super_block``.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from mbtool.formats.context import Context
from mbtool.formats.wire import Layout
from mbtool.formats.wire_plain import Bytes, Int16ul, Int32ul, Padding, Struct
from mbtool.model import Field, Node
from mbtool.source import Source

SUPERBLOCK_AT = 1024
MAGIC = 0xEF53
META_BG, EXTENTS, BITS64 = 0x10, 0x40, 0x80
READABLE = (
    0x0002 | 0x0004 | EXTENTS | BITS64 | 0x0100 | 0x0200 | 0x0400 | 0x2000 | 0x4000 | 0x8000 | 0x10000 | 0x20000
)
"""Features that change nothing in how names and whole files are read here, or are followed."""
HAS_JOURNAL, HUGE_FILE = 0x0004, 0x0008


@dataclass(frozen=True, slots=True)
class Superblock:
    """As stored; ``s_desc_size`` counts only with 64-bit block numbers."""

    s_inodes_count: int
    s_blocks_count_lo: int
    s_r_blocks_count_lo: int
    s_free_blocks_count_lo: int
    s_first_data_block: int
    s_log_block_size: int
    s_blocks_per_group: int
    s_inodes_per_group: int
    s_magic: int
    s_state: int
    s_rev_level: int
    s_inode_size: int
    s_feature_compat: int
    s_feature_incompat: int
    s_feature_ro_compat: int
    s_uuid: bytes
    s_volume_name: bytes
    s_desc_size: int
    s_blocks_count_hi: int
    s_r_blocks_count_hi: int
    s_free_blocks_count_hi: int

    @property
    def block_size(self) -> int:
        return 1024 << self.s_log_block_size

    @property
    def inode_size(self) -> int:
        """Bytes of an inode: the first revision had no field for it."""
        return self.s_inode_size if self.s_rev_level else 128

    @property
    def wide(self) -> bool:
        """Whether block numbers have 64 bits."""
        return bool(self.s_feature_incompat & BITS64)

    @property
    def blocks(self) -> int:
        return self.s_blocks_count_lo | (self.s_blocks_count_hi << 32 if self.wide else 0)

    @property
    def free(self) -> int:
        """Bytes that users other than root may still fill."""
        high = self.s_free_blocks_count_hi << 32 if self.wide else 0
        reserved = self.s_r_blocks_count_lo | (self.s_r_blocks_count_hi << 32 if self.wide else 0)
        return max(0, (self.s_free_blocks_count_lo | high) - reserved) * self.block_size

    @property
    def generation(self) -> str:
        """Which of the three it is, as blkid tells them apart."""
        if self.s_feature_incompat & (EXTENTS | BITS64) or self.s_feature_ro_compat & HUGE_FILE:
            return "ext4"
        return "ext3" if self.s_feature_compat & HAS_JOURNAL else "ext2"


SUPERBLOCK = Layout(
    Superblock,
    Struct(
        "s_inodes_count" / Int32ul,
        "s_blocks_count_lo" / Int32ul,
        "s_r_blocks_count_lo" / Int32ul,
        "s_free_blocks_count_lo" / Int32ul,
        Padding(4),
        "s_first_data_block" / Int32ul,
        "s_log_block_size" / Int32ul,
        Padding(4),
        "s_blocks_per_group" / Int32ul,
        Padding(4),
        "s_inodes_per_group" / Int32ul,
        Padding(12),
        "s_magic" / Int16ul,
        "s_state" / Int16ul,
        Padding(16),
        "s_rev_level" / Int32ul,
        Padding(8),
        "s_inode_size" / Int16ul,
        Padding(2),
        "s_feature_compat" / Int32ul,
        "s_feature_incompat" / Int32ul,
        "s_feature_ro_compat" / Int32ul,
        "s_uuid" / Bytes(16),
        "s_volume_name" / Bytes(16),
        Padding(118),
        "s_desc_size" / Int16ul,
        Padding(80),
        "s_blocks_count_hi" / Int32ul,
        "s_r_blocks_count_hi" / Int32ul,
        "s_free_blocks_count_hi" / Int32ul,
    ),
    hex={"s_magic", "s_feature_compat", "s_feature_incompat", "s_feature_ro_compat"},
    telling={"s_uuid", "s_volume_name"},
    meanings={
        "s_uuid": lambda raw: str(uuid.UUID(bytes=raw)),
        "s_volume_name": lambda raw: raw.rstrip(b"\0").decode("utf-8", "replace"),
        "s_log_block_size": lambda value: f"{1024 << value} bytes" if value <= 6 else "makes no sense",
    },
)


def superblock(source: Source) -> Superblock:
    """The superblock. Raises FormatError when it is cut short."""
    return SUPERBLOCK.parse(source.exact(SUPERBLOCK_AT, SUPERBLOCK.size, "superblock"), source=source.name)


def known_by(block: Superblock) -> tuple[str, str]:
    """UUID and label."""
    return str(uuid.UUID(bytes=block.s_uuid)), block.s_volume_name.partition(b"\0")[0].decode("utf-8", "replace")


def reject(source: Source) -> str:
    """Why this is no ext2, ext3 or ext4 volume ("" when it is one)."""
    head = source.read(SUPERBLOCK_AT, SUPERBLOCK.size)
    if len(head) < SUPERBLOCK.size:
        return "too short for a superblock of ext4"
    block = SUPERBLOCK.parse(head)
    if block.s_magic != MAGIC:
        return "no magic number of ext4 at 0x438"
    if block.s_log_block_size > 6 or not block.s_blocks_per_group or not block.s_inodes_per_group:
        return "a superblock of ext4 that makes no sense"
    return "" if block.inode_size >= 128 else "inodes of ext4 that are too small"


def inspect(source: Source, context: Context) -> Node:
    """The volume as a node ``ext``, with the superblock's fields."""
    block = superblock(source)
    told = Field("generation", block.generation, telling=True)
    fields = SUPERBLOCK.fields(source.read(SUPERBLOCK_AT, SUPERBLOCK.size), base=SUPERBLOCK_AT)
    return Node("ext", 0, block.blocks * block.block_size, (told, *fields))
