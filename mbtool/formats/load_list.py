"""The boot stub's load list: what to read from where to where, and with which registers to start it.

The stub's second stage (disk/stub/stage2.asm) has the same layout; all thinking is done here, at build time.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

from mbtool.errors import FormatError
from mbtool.formats.wire import Layout, choice_names
from mbtool.formats.wire_plain import Int32ul, Int64ul, Struct

MAGIC = int.from_bytes(b"mbLL", "little")
MAX_SIZE = 0x8000
"""Bytes of low memory that the stub keeps for the list."""
LOW_START, LOW_END = 0x30000, 0x80000
"""Where items below 1 MiB may lie: the rest is the stub's, or the BIOS's."""
NAME_SIZE = 64
"""Bytes of an item's name at most."""
MAP_SHAPES = {0: "none", 1: "Multiboot 1", 2: "Multiboot 2", 3: "Linux e820", 4: "PVH"}
"""How the memory map is written for the kernel (``mbtool.plan.load.MapShape``)."""
MACHINE_VALUES = {0: "memory map entries", 1: "KiB below 1 MiB", 2: "KiB from 1 MiB on", 3: "address of the RSDP"}
"""What a patch writes (``mbtool.plan.load.MachineValue``)."""


@dataclass(frozen=True, slots=True)
class Item:
    """``bytes`` bytes from ``lba`` (512-byte sectors) to physical address ``dest``, then ``zero`` zeros."""

    lba: int
    bytes: int
    dest: int
    zero: int
    crc32: int
    name: int
    """Offset in the list of a NUL-terminated name, for messages."""
    skip: int = 0
    """Bytes at the start of the first sector that are not the item's, under 512."""


ITEM = Layout(
    Item,
    Struct(
        "lba" / Int64ul,
        "bytes" / Int32ul,
        "dest" / Int32ul,
        "zero" / Int32ul,
        "crc32" / Int32ul,
        "name" / Int32ul,
        "skip" / Int32ul,
    ),
    hex={"dest", "crc32"},
    telling={"lba", "bytes", "dest"},
)


@dataclass(frozen=True, slots=True)
class Patch:
    """Write the 32-bit word ``base + factor * value`` at physical ``address`` once the value is known."""

    address: int
    base: int
    factor: int
    value: int


PATCH = Layout(
    Patch,
    Struct("address" / Int32ul, "base" / Int32ul, "factor" / Int32ul, "value" / Int32ul),
    hex={"address"},
    telling={"address", "value"},
    meanings={"value": choice_names(MACHINE_VALUES)},
)


@dataclass(frozen=True, slots=True)
class EntryState:
    """The list's head: registers at entry (32-bit protected mode, paging off, interrupts off), memory map."""

    magic: int = MAGIC
    size: int = 0
    crc32: int = 0
    items: int = 0
    patches: int = 0
    entry: int = 0
    eax: int = 0
    ebx: int = 0
    ecx: int = 0
    edx: int = 0
    esi: int = 0
    edi: int = 0
    ebp: int = 0
    esp: int = 0
    map_shape: int = 0
    map_address: int = 0
    map_max: int = 0


HEAD = Layout(
    EntryState,
    Struct(
        "magic" / Int32ul,
        "size" / Int32ul,
        "crc32" / Int32ul,
        "items" / Int32ul,
        "patches" / Int32ul,
        "entry" / Int32ul,
        "eax" / Int32ul,
        "ebx" / Int32ul,
        "ecx" / Int32ul,
        "edx" / Int32ul,
        "esi" / Int32ul,
        "edi" / Int32ul,
        "ebp" / Int32ul,
        "esp" / Int32ul,
        "map_shape" / Int32ul,
        "map_address" / Int32ul,
        "map_max" / Int32ul,
    ),
    hex={
        "magic",
        "crc32",
        "entry",
        "eax",
        "ebx",
        "ecx",
        "edx",
        "esi",
        "edi",
        "ebp",
        "esp",
        "map_address",
    },
    telling={"items", "entry", "eax", "ebx", "esi", "map_shape"},
    meanings={"map_shape": choice_names(MAP_SHAPES)},
)


@dataclass(frozen=True, slots=True)
class LoadList:
    """A whole list: entry state, items with their names, patches."""

    state: EntryState
    items: tuple[tuple[str, Item], ...]
    patches: tuple[Patch, ...]


def build(load_list: LoadList) -> bytes:
    """The list's bytes, sizes, counts, name offsets and CRC computed; FormatError when it is too long."""
    names = HEAD.size + ITEM.size * len(load_list.items) + PATCH.size * len(load_list.patches)
    items, strings = b"", b""
    for name, item in load_list.items:
        items += ITEM.build(replace(item, name=names + len(strings)))
        strings += name.encode("ascii", "replace")[:NAME_SIZE] + b"\0"
    body = items + b"".join(PATCH.build(patch) for patch in load_list.patches) + strings
    size = HEAD.size + len(body)
    if size > MAX_SIZE:
        raise FormatError("the load list is too long", expected=f"at most {MAX_SIZE} bytes", found=str(size))
    head = replace(
        load_list.state,
        magic=MAGIC,
        size=size,
        crc32=0,
        items=len(load_list.items),
        patches=len(load_list.patches),
    )
    crc = zlib.crc32(HEAD.build(head) + body)
    return HEAD.build(replace(head, crc32=crc)) + body


def parse(data: bytes, *, source: str = "", base: int = 0) -> LoadList:
    """The list at the start of ``data`` (``base``: its absolute offset); FormatError when it is no sound list."""

    def bad(problem: str, field: str, expected: str, found: int) -> FormatError:
        offset = base + HEAD.offsets[field][0]
        return FormatError(
            problem, source=source, offset=offset, field=field, expected=expected, found=f"{found:#x}"
        )

    head = HEAD.parse(data, source=source, base=base)
    if head.magic != MAGIC:
        raise bad("no load list here", "magic", f"{MAGIC:#x}", head.magic)
    if not HEAD.size <= head.size <= min(MAX_SIZE, len(data)):
        raise bad("the load list's size makes no sense", "size", f"up to {min(MAX_SIZE, len(data))}", head.size)
    names = HEAD.size + head.items * ITEM.size + head.patches * PATCH.size
    if names > head.size:
        raise bad("the load list is too short for its items", "items", f"{head.size} bytes", names)
    crc = zlib.crc32(HEAD.build(replace(head, crc32=0)) + data[HEAD.size : head.size])
    if crc != head.crc32:
        raise bad("the load list's checksum does not match", "crc32", f"{crc:#x}", head.crc32)
    items = []
    for number in range(head.items):
        item = ITEM.parse(data, HEAD.size + number * ITEM.size)
        text = data[item.name : head.size].split(b"\0")[0].decode("ascii", "replace")
        items.append((text, item))
    first_patch = HEAD.size + head.items * ITEM.size
    patches = [PATCH.parse(data, first_patch + number * PATCH.size) for number in range(head.patches)]
    return LoadList(head, tuple(items), tuple(patches))
