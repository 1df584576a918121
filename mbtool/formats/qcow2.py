"""QEMU's disk images: header and the tables that say where each cluster is (QEMU: docs/interop/qcow2.txt)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from mbtool.formats import virtual_disk
from mbtool.formats.context import Context
from mbtool.formats.virtual_disk import Place, VirtualDisk, table
from mbtool.formats.wire import Layout, flag_names
from mbtool.formats.wire_plain import Bytes, Int32ub, Int64ub, Struct
from mbtool.model import Node
from mbtool.source import Source

MAGIC = b"QFI\xfb"
CLUSTER_BITS = range(9, 22)
OFFSET = 0x00FFFFFFFFFFFE00
"""Bits 9 to 55 of an entry: the offset of a table or cluster."""
COMPRESSED, ZERO = 1 << 62, 1
DIRTY, CORRUPT, DATA_FILE, COMPRESSION, EXTENDED_L2 = 1, 2, 4, 8, 16


@dataclass(frozen=True, slots=True)
class Qcow2Header:
    """The header, up to where version 3 goes on; offsets in bytes, ``size`` that of the disk."""

    magic: bytes
    version: int
    backing_file_offset: int
    backing_file_size: int
    cluster_bits: int
    size: int
    crypt_method: int
    l1_size: int
    l1_table_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    nb_snapshots: int
    snapshots_offset: int
    incompatible_features: int
    """Not there in version 2."""


HEADER = Layout(
    Qcow2Header,
    Struct(
        "magic" / Bytes(4),
        "version" / Int32ub,
        "backing_file_offset" / Int64ub,
        "backing_file_size" / Int32ub,
        "cluster_bits" / Int32ub,
        "size" / Int64ub,
        "crypt_method" / Int32ub,
        "l1_size" / Int32ub,
        "l1_table_offset" / Int64ub,
        "refcount_table_offset" / Int64ub,
        "refcount_table_clusters" / Int32ub,
        "nb_snapshots" / Int32ub,
        "snapshots_offset" / Int64ub,
        "incompatible_features" / Int64ub,
    ),
    hex={"incompatible_features"},
    telling={"version", "cluster_bits", "nb_snapshots"},
    meanings={
        "incompatible_features": flag_names(
            {0: "dirty", 1: "corrupt", 2: "external data file", 3: "compression type", 4: "extended L2 entries"}
        )
    },
)


def reject(source: Source) -> str:
    """Why this is no qcow2 image ("" when it is one)."""
    if source.read(0, 4) != MAGIC:
        return "no 51 46 49 fb at 0"
    return "" if len(source.read(0, HEADER.size)) == HEADER.size else "cut short"


def inspect(source: Source, context: Context) -> Node:
    """The image as a node ``qcow2`` with the disk in it."""
    data = source.read(0, HEADER.size)
    return virtual_disk.node("qcow2", source, HEADER.fields(data), open_disk(source), context)


def open_disk(source: Source) -> VirtualDisk | str:
    """The disk, or why it cannot be read here."""
    header = HEADER.parse(source.read(0, HEADER.size))
    features = header.incompatible_features if header.version >= 3 else 0
    if header.version not in (2, 3) or header.cluster_bits not in CLUSTER_BITS:
        return f"version {header.version}, clusters of 2^{header.cluster_bits} bytes"
    if header.backing_file_offset:
        return "the rest of it is in a backing file"
    if header.crypt_method:
        return "it is encrypted"
    if features & (DATA_FILE | COMPRESSION | EXTENDED_L2):
        return f"it uses {HEADER.fields(HEADER.build(header))[-1].meaning}"
    bits = header.cluster_bits
    per_table = 1 << (bits - 3)

    def find(cluster: int) -> Place:
        first, second = divmod(cluster, per_table)
        l2 = table(source, header.l1_table_offset, first, 8, "big") & OFFSET if first < header.l1_size else 0
        entry = table(source, l2, second, 8, "big") if l2 else 0
        if entry & COMPRESSED:
            return _unpacked(source, entry, bits)
        if entry & ZERO and header.version >= 3:
            return None
        return entry & OFFSET or None

    return VirtualDisk(source, header.size, 1 << bits, find)


def _unpacked(source: Source, entry: int, bits: int) -> bytes:
    """A compressed cluster: offset and number of further 512-byte sectors in one entry, raw deflate inside."""
    split = 62 - (bits - 8)
    offset = entry & ((1 << split) - 1)
    sectors = (entry & (COMPRESSED - 1)) >> split
    packed = source.read(offset, (sectors + 1) * 512 - offset % 512)
    try:
        return zlib.decompressobj(-12).decompress(packed, 1 << bits)
    except zlib.error:
        return b""
