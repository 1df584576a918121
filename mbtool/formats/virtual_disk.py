"""Disks kept in blocks of a file, as hypervisors have them: what qcow2, VHD and VMDK share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from mbtool.errors import LimitError, MbtoolError
from mbtool.formats.context import Context
from mbtool.model import Field, Finding, Node, Severity
from mbtool.source import MIB, Source

ROOM, TIMES = 256 * MIB, 8
"""Bytes that may be read from a disk: these, and so many times the size of its file."""
Place = int | bytes | None
"""Where a block is: an offset in the file, its content when it is stored another way, None for zeros."""


class VirtualDisk(Source):
    """The disk of ``size`` bytes that ``parent`` keeps in blocks of ``block`` bytes; ``find`` says where each is.

    Tables can make a large disk of a small file, zeros or the same block over and over: it ends once more has been
    read than any use of a real one comes to.
    """

    def __init__(self, parent: Source, size: int, block: int, find: Callable[[int], Place]) -> None:
        self.name = parent.name
        self.streamed = parent.streamed
        self._parent = parent
        self._size = size
        self._block = block
        self._find = find
        self._room = ROOM + TIMES * parent.at_hand
        self._last: tuple[int, Place] = (-1, None)

    def read(self, offset: int, size: int) -> bytes:
        size = min(size, self._size - offset)
        if offset < 0 or size <= 0:
            return b""
        self._room -= size
        if self._room < 0:
            return b""
        pieces = []
        while size > 0:
            number, skip = divmod(offset, self._block)
            wanted = min(size, self._block - skip)
            place = self._place(number)
            if place is None:
                piece = bytes(wanted)
            elif isinstance(place, bytes):
                piece = place[skip : skip + wanted]
            else:
                piece = self._parent.read(place + skip, wanted)
            pieces.append(piece)
            if len(piece) < wanted:  # the file ends too soon
                break
            offset, size = offset + wanted, size - wanted
        return b"".join(pieces)

    def _place(self, number: int) -> Place:
        """Where a block is; the last one is kept, for it may have been unpacked, whoever reads beside."""
        last = self._last
        if last[0] != number:
            self._last = last = (number, self._find(number))
        return last[1]

    @property
    def size(self) -> int:
        return self._size

    @property
    def damage(self) -> MbtoolError | None:
        if self._room >= 0:
            return None
        return LimitError("too much is read from the disk inside: it ends here", source=self.name)


def node(kind: str, source: Source, fields: tuple[Field, ...], disk: Source | str, context: Context) -> Node:
    """The node of an image; its child is the disk, placed in its own bytes. ``disk``: or why it is not read."""
    children: tuple[Node, ...] = ()
    findings: tuple[Finding, ...] = ()
    if isinstance(disk, str):
        findings = (Finding("VIRTUAL-DISK", Severity.INFO, f"the disk inside is not shown: {disk}"),)
    else:
        fields = (*fields, Field("virtual_size", disk.size, meaning="bytes", telling=True))
        children = (context.inside(disk, 0),)
        if disk.damage is not None:
            findings = (Finding.of(disk.damage, "LIMIT"),)
    size = source.known_size
    return Node(kind, 0, source.at_hand if size is None else size, fields, children, findings)


def table(source: Source, offset: int, number: int, size: int, order: Literal["little", "big"] = "little") -> int:
    """Entry ``number``, of ``size`` bytes, of a table at ``offset``; 0 where the file ends."""
    return int.from_bytes(source.read(offset + number * size, size), order)
