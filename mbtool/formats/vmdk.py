"""VMware's disk images in one growing file (VMware: Virtual Disk Format 5.0, "Hosted Sparse Extents")."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mbtool.formats import virtual_disk
from mbtool.formats.context import Context
from mbtool.formats.virtual_disk import Place, VirtualDisk, table
from mbtool.formats.wire import Layout, flag_names
from mbtool.formats.wire_plain import Bytes, Int8ul, Int16ul, Int32ul, Int64ul, Struct
from mbtool.model import Field, Node
from mbtool.source import Source

MAGIC = b"KDMV"
SECTOR = 512
ZERO_GRAINS, COMPRESSED = 1 << 2, 1 << 16
FLAGS = {0: "line ends are tested", 1: "redundant grain table", 2: "zeroed grains", 16: "compressed", 17: "markers"}
MAX_DESCRIPTOR = 20 * SECTOR
MAX_GRAIN, MAX_ENTRIES = 1 << 17, 1 << 16


@dataclass(frozen=True, slots=True)
class SparseExtentHeader:
    """The header; sizes and places count 512-byte sectors."""

    magicNumber: bytes
    version: int
    flags: int
    capacity: int
    grainSize: int
    descriptorOffset: int
    descriptorSize: int
    numGTEsPerGT: int
    rgdOffset: int
    gdOffset: int
    overHead: int
    uncleanShutdown: int
    lineEnds: bytes
    compressAlgorithm: int


HEADER = Layout(
    SparseExtentHeader,
    Struct(
        "magicNumber" / Bytes(4),
        "version" / Int32ul,
        "flags" / Int32ul,
        "capacity" / Int64ul,
        "grainSize" / Int64ul,
        "descriptorOffset" / Int64ul,
        "descriptorSize" / Int64ul,
        "numGTEsPerGT" / Int32ul,
        "rgdOffset" / Int64ul,
        "gdOffset" / Int64ul,
        "overHead" / Int64ul,
        "uncleanShutdown" / Int8ul,
        "lineEnds" / Bytes(4),
        "compressAlgorithm" / Int16ul,
    ),
    hex={"flags"},
    telling={"version", "flags", "capacity"},
    meanings={"flags": flag_names(FLAGS)},
)


def reject(source: Source) -> str:
    """Why this is no sparse VMDK extent ("" when it is one)."""
    if source.read(0, 4) != MAGIC:
        return 'no "KDMV" at 0'
    return "" if len(source.read(0, HEADER.size)) == HEADER.size else "cut short"


def inspect(source: Source, context: Context) -> Node:
    """The image as a node ``vmdk`` with the disk in it."""
    data = source.read(0, HEADER.size)
    header = HEADER.parse(data)
    fields = (*HEADER.fields(data), *_descriptor(source, header))
    return virtual_disk.node("vmdk", source, fields, open_disk(source), context)


def _descriptor(source: Source, header: SparseExtentHeader) -> Iterator[Field]:
    """The text that describes the disk to VMware, line by line."""
    at = header.descriptorOffset * SECTOR
    raw = source.read(at, min(header.descriptorSize * SECTOR, MAX_DESCRIPTOR)).rstrip(b"\0") if at else b""
    if raw:
        yield Field("descriptor", tuple(raw.decode("utf-8", "replace").splitlines()), at, len(raw), "", raw[:64])


def open_disk(source: Source) -> VirtualDisk | str:
    """The disk, or why it cannot be read here."""
    header = HEADER.parse(source.read(0, HEADER.size))
    if header.flags & COMPRESSED:
        return "its grains are compressed"
    grain, per_table = header.grainSize, header.numGTEsPerGT
    if not 0 < grain <= MAX_GRAIN or not 0 < per_table <= MAX_ENTRIES:
        return f"grains of {grain} sectors, tables of {per_table}"

    def find(number: int) -> Place:
        first, second = divmod(number, per_table)
        tables = table(source, header.gdOffset * SECTOR, first, 4)
        entry = table(source, tables * SECTOR, second, 4) if tables else 0
        absent = entry == 0 or (entry == 1 and header.flags & ZERO_GRAINS)
        return None if absent else entry * SECTOR

    return VirtualDisk(source, header.capacity * SECTOR, grain * SECTOR, find)
