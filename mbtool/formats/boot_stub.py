"""mbtool's BIOS boot stub on a disk: the second stage, its load list, and whether the list still fits the disk.

The stub reads extents, not files: when a file on the ESP is replaced, the list goes on naming the old sectors.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mbtool.errors import FormatError
from mbtool.formats import load_list
from mbtool.formats.load_list import HEAD, ITEM, LOW_END, LOW_START, MAX_SIZE, NAME_SIZE, PATCH, EntryState, Item
from mbtool.model import Field, Finding, Node, Severity
from mbtool.source import MIB, Source

MAGIC = b"mbS2"
STAGE2_SIZE = 0x1000
"""Bytes of the second stage; the load list follows."""
PACKET = 424
"""Offset in the MBR of the disk address packet: 16, 0, count, where to (0000:8000), LBA."""
SECTOR = 512
"""Bytes; the stub's LBAs count these whatever the medium."""
FOUR_GIB = 1 << 32


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes [start, end) of the disk that belong to ``owner``: a file, or "" for the stub's own partition."""

    owner: str
    start: int
    end: int

    def named(self, name: str) -> bool:
        """Is this the file that a load list calls ``name``? The list cuts long paths."""
        return self.owner.encode("ascii", "replace")[1 : 1 + NAME_SIZE].decode() == name


def packet(sector: bytes) -> tuple[int, int] | None:
    """LBA and sectors that the stub's boot code in this MBR loads; None when it is other code."""
    fixed = sector[PACKET : PACKET + 2] + sector[PACKET + 4 : PACKET + 8]
    if fixed != b"\x10\0\x00\x80\0\0":
        return None
    count = int.from_bytes(sector[PACKET + 2 : PACKET + 4], "little")
    return int.from_bytes(sector[PACKET + 8 : PACKET + 16], "little"), count


def node(source: Source, offset: int, size: int, extents: Sequence[Extent]) -> Node | None:
    """The stub in the partition of ``size`` bytes at ``offset`` of a disk, placed at 0; None when it is not there.

    ``extents``: all that an item of the load list may lie in.
    """
    if source.read(offset, len(MAGIC)) != MAGIC:
        return None
    start = offset + STAGE2_SIZE
    data = source.read(start, min(MAX_SIZE, max(0, size - STAGE2_SIZE)))
    listed = _list(source, data, start, extents) if len(data) >= HEAD.size else None
    stated = HEAD.values(data)["size"] if listed else 0
    read = packet(source.read(0, SECTOR))
    fields = [Field("magic", MAGIC, 0, 4, "second stage", MAGIC)]
    findings = []
    if read is None:
        findings.append(
            Finding(
                "STUB-NO-MBR", Severity.WARNING, "the MBR's boot code is not the stub's: a BIOS does not start it"
            )
        )
    else:
        lba, count = read
        fields += [
            Field("lba", lba, meaning="from where the MBR loads it", telling=True),
            Field("sectors", count, meaning="that the MBR loads", telling=True),
        ]
        needed = -(-(STAGE2_SIZE + min(stated, MAX_SIZE)) // SECTOR)
        if lba * SECTOR != offset or count < needed:
            findings.append(
                Finding(
                    "STUB-PACKET",
                    Severity.ERROR,
                    "the MBR does not load this second stage with its whole list",
                    expected=f"{needed} sectors or more from LBA {offset // SECTOR}",
                    found=f"{count} from {lba}",
                )
            )
    if listed is None:
        findings.append(Finding("STUB-LIST", Severity.ERROR, "no load list follows the second stage"))
    used = STAGE2_SIZE + (listed.size if listed else 0)
    return Node("boot-stub", 0, used, tuple(fields), (listed,) if listed else (), tuple(findings))


def _list(source: Source, data: bytes, base: int, extents: Sequence[Extent]) -> Node:
    """The list, shown as far as it is there even when the stub would refuse it."""
    findings = []
    try:
        load_list.parse(data, source=source.name, base=base)
    except FormatError as error:
        findings.append(Finding.of(error, "STUB-LIST"))
    values = HEAD.values(data)
    head = EntryState(**values)
    size = min(max(head.size, HEAD.size), len(data))
    names = data[:size]
    count = min(head.items, (size - HEAD.size) // ITEM.size) if head.magic == load_list.MAGIC else 0
    items = [ITEM.parse(data, HEAD.size + number * ITEM.size) for number in range(count)]
    first_patch = HEAD.size + count * ITEM.size
    patches = min(head.patches, (size - first_patch) // PATCH.size) if items else 0

    findings += _overlaps(items)
    if items and not any(item.dest <= head.entry < item.dest + item.bytes for item in items):
        findings.append(
            Finding(
                "STUB-ENTRY",
                Severity.ERROR,
                "the entry point lies in nothing that is loaded",
                "entry",
                HEAD.offsets["entry"][0],
                found=f"{head.entry:#x}",
            )
        )
    checker = _Checker(source, extents)
    children = [
        checker.node(item, _name(names, item.name), data, HEAD.size + number * ITEM.size)
        for number, item in enumerate(items)
    ]
    for number in range(patches):
        at = first_patch + number * PATCH.size
        children.append(Node("load-patch", at, PATCH.size, PATCH.fields(data, at, base=-at)))
    return Node("load-list", STAGE2_SIZE, size, HEAD.fields(data), tuple(children), tuple(findings))


def _name(data: bytes, at: int) -> str:
    return data[at : at + NAME_SIZE].split(b"\0")[0].decode("ascii", "replace")


def _overlaps(items: Sequence[Item]) -> Iterator[Finding]:
    """Items that write over what an other one wrote."""
    ranges = sorted((item.dest, item.dest + item.bytes + item.zero) for item in items)
    end = 0
    for start, stop in ranges:
        if start < end and start < stop:
            yield Finding(
                "STUB-OVERLAP",
                Severity.ERROR,
                "two items are loaded over each other",
                expected=f"from {end:#x} on",
                found=f"{start:#x}",
            )
        end = max(end, stop)


class _Checker:
    """Compares items with the disk; of a list that lies, no more bytes are read than a stub can load."""

    def __init__(self, source: Source, extents: Sequence[Extent]) -> None:
        self._source = source
        self._extents = extents
        self._room = FOUR_GIB

    def node(self, item: Item, name: str, data: bytes, at: int) -> Node:
        """The item at ``data[at:]``."""
        start = item.lba * SECTOR + item.skip
        stored = ITEM.fields(data, at, base=-at)
        fields = [Field("path", name, telling=True), *(field for field in stored if field.name != "name")]
        fields += [Field("name_offset", item.name, ITEM.offsets["name"][0], 4)]
        findings = list(_destination(item))
        size = self._source.known_size
        if size is not None and start + item.bytes > size:
            findings.append(
                Finding(
                    "STUB-PAST-END",
                    Severity.ERROR,
                    "the extent ends past the end of the disk",
                    "lba",
                    0,
                    f"at most {size} bytes",
                    str(start + item.bytes),
                )
            )
        elif item.bytes:
            owners = [part for part in self._extents if part.start <= start and start + item.bytes <= part.end]
            owner = next((part for part in owners if part.named(name)), owners[0] if owners else None)
            if owner is not None:
                fields.append(self._place(owner, start, item))
            fits = self._checksum(item, start, findings)
            fields.append(Field("matches", fits, meaning="" if fits is not None else "not read", telling=True))
            findings += self._owner(item, name, owner, start)
        return Node("load-item", at, ITEM.size, tuple(fields), (), tuple(findings))

    def _place(self, owner: Extent, start: int, item: Item) -> Field:
        if not owner.owner:
            return Field("file", None, meaning="in the stub's own partition", telling=True)
        whole = (start, start + item.bytes) == (owner.start, owner.end)
        words = "all of it" if whole else f"from byte {start - owner.start} on"
        return Field("file", owner.owner, meaning=words, telling=True)

    def _checksum(self, item: Item, start: int, findings: list[Finding]) -> bool | None:
        """Whether the extent's content is what the list says; None when it was not read."""
        self._room -= item.bytes
        if self._room < 0 or start + item.bytes > self._source.at_hand:
            return None
        crc = 0
        for piece in self._source.chunks(start, start + item.bytes, 4 * MIB):
            crc = zlib.crc32(piece, crc)
        if crc != item.crc32:
            findings.append(
                Finding(
                    "STUB-CRC",
                    Severity.ERROR,
                    "the extent's content is not what the list was made for: the stub stops here",
                    "crc32",
                    ITEM.offsets["crc32"][0],
                    f"{item.crc32:#010x}",
                    f"{crc:#010x}",
                    "build the disk anew",
                )
            )
        return crc == item.crc32

    def _owner(self, item: Item, name: str, owner: Extent | None, start: int) -> Iterator[Finding]:
        named = [part for part in self._extents if part.named(name)]
        now = f"/{name} is at LBA {named[0].start // SECTOR}" if named else f"no /{name} on the ESP"
        if owner is None:
            partly = any(part.start < start + item.bytes and start < part.end for part in self._extents)
            yield Finding(
                "STUB-NO-FILE",
                Severity.WARNING,
                "the extent is "
                + ("not in one piece of" if partly else "no part of")
                + " any file: a BIOS machine "
                "boots what was there, UEFI what is there now",
                "lba",
                0,
                found=now,
                remedy="build the disk anew",
            )
        elif owner.owner and named and owner not in named:
            yield Finding(
                "STUB-OTHER-FILE",
                Severity.WARNING,
                f"the extent is part of {owner.owner} now",
                "lba",
                0,
                f"/{name}",
                now,
                "build the disk anew",
            )


def _destination(item: Item) -> Iterator[Finding]:
    end = item.dest + item.bytes + item.zero
    if end >= FOUR_GIB or (item.dest < MIB and (item.dest < LOW_START or end > LOW_END)):
        yield Finding(
            "STUB-DEST",
            Severity.ERROR,
            "memory that the stub does not load to",
            "dest",
            ITEM.offsets["dest"][0],
            f"[{LOW_START:#x}, {LOW_END:#x}) or from 1 MiB to 4 GiB",
            f"[{item.dest:#x}, {end:#x})",
        )
