"""Virtual PC's and Hyper-V's older disk images, those that grow (VHD specification 1.0)."""

from __future__ import annotations

from dataclasses import dataclass

from mbtool.formats import virtual_disk
from mbtool.formats.context import Context
from mbtool.formats.virtual_disk import Place, VirtualDisk, table
from mbtool.formats.wire import Layout, choice_names
from mbtool.formats.wire_plain import Bytes, Int8ub, Int16ub, Int32ub, Int64ub, Struct
from mbtool.model import Finding, Node, Severity
from mbtool.source import Source

COOKIE = b"conectix"
FOOTER_SIZE = 512
SECTOR = 512
DYNAMIC, DIFFERENCING = 3, 4
TYPES = {2: "fixed", DYNAMIC: "dynamic", DIFFERENCING: "differencing"}
UNUSED = 0xFFFFFFFF
CREATORS = {b"qem2": "qemu", b"qemu": "qemu", b"vpc ": "Virtual PC", b"win ": "Hyper-V", b"vbox": "VirtualBox"}


@dataclass(frozen=True, slots=True)
class VhdFooter:
    """The footer, of which a growing disk has a copy at its start; ``timestamp`` in seconds since 2000."""

    cookie: bytes
    features: int
    file_format_version: int
    data_offset: int
    timestamp: int
    creator_application: bytes
    creator_version: int
    creator_host_os: bytes
    original_size: int
    current_size: int
    cylinders: int
    heads: int
    sectors_per_track: int
    disk_type: int
    checksum: int
    unique_id: bytes


FOOTER = Layout(
    VhdFooter,
    Struct(
        "cookie" / Bytes(8),
        "features" / Int32ub,
        "file_format_version" / Int32ub,
        "data_offset" / Int64ub,
        "timestamp" / Int32ub,
        "creator_application" / Bytes(4),
        "creator_version" / Int32ub,
        "creator_host_os" / Bytes(4),
        "original_size" / Int64ub,
        "current_size" / Int64ub,
        "cylinders" / Int16ub,
        "heads" / Int8ub,
        "sectors_per_track" / Int8ub,
        "disk_type" / Int32ub,
        "checksum" / Int32ub,
        "unique_id" / Bytes(16),
    ),
    hex={"features", "file_format_version", "creator_version", "checksum"},
    telling={"disk_type", "creator_application"},
    meanings={
        "disk_type": choice_names(TYPES),
        "creator_application": lambda raw: CREATORS.get(raw, raw.decode("ascii", "replace")),
    },
)
HEADER_COOKIE = b"cxsparse"
TABLE_OFFSET, MAX_ENTRIES, BLOCK_SIZE = 16, 28, 32
"""Offsets of the fields of the dynamic disk header that are needed, each big-endian."""


def reject(source: Source) -> str:
    """Why this is no growing VHD ("" when it is one)."""
    if source.read(0, 8) != COOKIE:
        return 'no "conectix" at 0'
    return "" if len(source.read(0, FOOTER_SIZE)) == FOOTER_SIZE else "cut short"


def inspect(source: Source, context: Context) -> Node:
    """The image as a node ``vhd`` with the disk in it."""
    data = source.read(0, FOOTER_SIZE)
    footer = FOOTER.parse(data)
    node = virtual_disk.node("vhd", source, FOOTER.fields(data), open_disk(source), context)
    total = ~(sum(data) - sum(data[64:68])) & 0xFFFFFFFF
    if total == footer.checksum:
        return node
    wrong = Finding(
        "VHD-CHECKSUM", Severity.WARNING, "the footer's checksum does not match", "checksum", 64,
        f"{total:#010x}", f"{footer.checksum:#010x}",
    )  # fmt: skip
    return Node(node.kind, 0, node.size, node.fields, node.children, (*node.findings, wrong))


def open_disk(source: Source) -> VirtualDisk | str:
    """The disk, or why it cannot be read here."""
    footer = FOOTER.parse(source.read(0, FOOTER_SIZE))
    if footer.disk_type != DYNAMIC:
        return "the rest of it is in a parent disk" if footer.disk_type == DIFFERENCING else "of no known type"
    header = source.read(footer.data_offset, 1024)
    block = int.from_bytes(header[BLOCK_SIZE : BLOCK_SIZE + 4], "big")
    if header[:8] != HEADER_COOKIE or block < SECTOR or block & (block - 1):
        return "no dynamic disk header where the footer says"
    blocks = int.from_bytes(header[MAX_ENTRIES : MAX_ENTRIES + 4], "big")
    places = int.from_bytes(header[TABLE_OFFSET : TABLE_OFFSET + 8], "big")
    bitmap = -(-block // SECTOR // 8 // SECTOR) * SECTOR

    def find(number: int) -> Place:
        sector = table(source, places, number, 4, "big") if number < blocks else UNUSED
        return None if sector == UNUSED else sector * SECTOR + bitmap

    return VirtualDisk(source, footer.current_size, block, find)
