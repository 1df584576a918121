"""Reading and laying out what Multiboot 1 boot information points at: bounded tables and strings, an arena.

One ``Part`` per flag says how to do it; the parts are in multiboot1_parts.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mbtool.errors import FormatError
from mbtool.formats.multiboot1_wire import INFO_FIELDS, InfoFields
from mbtool.model import Node
from mbtool.source import MIB, Source

MAX_TABLE = MIB // 8
"""A pointed-at table of more bytes is not read: over 5000 memory map entries, over 8000 modules."""
MAX_SECTIONS = MIB
MAX_SYMBOLS = 16 * MIB
MAX_STRING = 0x4000
"""Longest string in bytes. Many modules may share one, so this bounds what a hostile list can cost."""


class Arena:
    """Data laid out one after the other from a physical address on."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.data = bytearray()

    def put(self, data: bytes, align: int = 4) -> int:
        """Append ``data`` at a multiple of ``align`` bytes and say at which address."""
        self.data += bytes(-(self.start + len(self.data)) % align)
        address = self.start + len(self.data)
        self.data += data
        return address


Shown = Iterator[Node | tuple[str, str]]
"""Nodes of what is pointed at, placed at their physical addresses, and (field, words) for the pointers."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one flag announces: the ``name`` in Multiboot1Info and the fields of the structure that it makes valid.

    ``read`` raises FormatError for what the memory does not hold; ``show`` yields what it can before it raises.
    ``cls`` tells two parts of one name apart.
    """

    bit: int
    name: str
    fields: tuple[str, ...]
    read: Callable[[Source, InfoFields], Any]
    lay: Callable[[Any, Arena], dict[str, Any]]
    show: Callable[[Source, InfoFields], Shown] = lambda memory, info: iter(())
    cls: type = object

    @property
    def end(self) -> int:
        """Where the last of the fields ends in the structure."""
        offset, size = INFO_FIELDS.offsets[self.fields[-1]]
        return offset + size


def read_table(memory: Source, address: int, size: int, what: str, limit: int = MAX_TABLE) -> bytes:
    """The ``size`` bytes at a physical address; FormatError when too large or not all in the memory at hand."""
    if size > limit:
        raise FormatError(
            f"{what} is too large",
            source=memory.name,
            offset=address,
            expected=f"at most {limit} bytes",
            found=f"{size}",
        )
    return memory.exact(address, size, what) if size else b""


def read_string(memory: Source, address: int, what: str) -> bytes:
    """The zero-terminated string at a physical address, without its zero. Raises FormatError."""
    text = memory.read(address, 256)
    if 0 not in text:
        text = memory.read(address, MAX_STRING)
    end = text.find(0)
    if end < 0:
        problem = f"{what} is not zero-terminated" if text else f"{what} lies outside of the memory at hand"
        raise FormatError(problem, source=memory.name, offset=address)
    return text[:end]


def read_entries(
    memory: Source, address: int, length: int, what: str, least: int, uncounted: int
) -> Iterator[tuple[int, bytes]]:
    """Entries that begin with their size, which leaves out ``uncounted`` bytes; each takes at least ``least``."""
    data = read_table(memory, address, length, what)
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little") + uncounted
        if size < least or at + size > len(data):
            raise FormatError(
                f"an entry of {what} has a wrong size",
                source=memory.name,
                offset=address + at,
                expected=f"{least - uncounted} to {len(data) - at - uncounted}",
                found=f"{size - uncounted}",
            )
        yield address + at, data[at : at + size]
        at += size
