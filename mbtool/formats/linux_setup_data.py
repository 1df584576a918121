"""``setup_data``: the linked list of pieces that a boot loader hands to Linux beside ``boot_params``.

Source: Linux, Documentation/arch/x86/boot.rst (field setup_data) and arch/x86/include/uapi/asm/setup_data.h.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mbtool.errors import FormatError
from mbtool.formats.linux_boot_names import SETUP_E820_EXT, SETUP_INDIRECT, setup_type_name
from mbtool.formats.linux_setup_data_types import E820, INDIRECT, LAYOUTS
from mbtool.formats.wire import Layout
from mbtool.formats.wire_plain import Int32ul, Int64ul, Struct
from mbtool.model import Field, Finding, Node, Severity
from mbtool.source import MIB, Source

MAX_PIECES = 1024
MAX_DATA = 64 * MIB
"""Bytes read of all pieces together."""
SHOWN = 64
"""Bytes of data kept in a field's ``raw``."""
MAX_ENTRIES = 4096
"""Entries of one SETUP_E820_EXT that are shown."""
ALIGN = 8


@dataclass(frozen=True, slots=True)
class SetupData:
    """One piece: its type and its data, and where it lies (physical address)."""

    type: int
    data: bytes
    address: int = 0
    next: int = 0


HEADER = Layout(
    SetupData,
    Struct("next" / Int64ul, "type" / Int32ul, "len" / Int32ul),
    computed={"len": lambda piece: len(piece.data)},
    beyond={"data", "address"},
    hex={"next", "type"},
    telling={"type", "len"},
    meanings={"type": setup_type_name, "next": lambda address: "" if address else "the last"},
)


def walk(memory: Source, address: int, findings: list[Finding]) -> Iterator[SetupData]:
    """The pieces from physical ``address`` on (0: none), read from a source whose offsets are physical addresses.

    Ends with a finding where the list leaves the memory, comes back to itself, or is longer than MAX_PIECES pieces
    or MAX_DATA bytes.
    """
    seen: set[int] = set()
    total = 0
    while address:
        if address in seen:
            findings.append(_ends("SETUP-DATA-LOOP", "comes back to an earlier piece", address))
            return
        if len(seen) == MAX_PIECES:
            findings.append(_ends("SETUP-DATA-MANY", f"has more than {MAX_PIECES} pieces", address))
            return
        seen.add(address)
        stored = memory.read(address, HEADER.size)
        if len(stored) < HEADER.size:
            findings.append(_ends("SETUP-DATA-OUTSIDE", "leaves the memory that is known", address))
            return
        header = HEADER.values(stored)
        total += header["len"]
        if total > MAX_DATA:
            findings.append(_ends("SETUP-DATA-LARGE", f"has more than {MAX_DATA // MIB} MiB of data", address))
            return
        data = memory.read(address + HEADER.size, header["len"])
        yield SetupData(header["type"], data, address, header["next"])
        if len(data) < header["len"]:
            findings.append(
                Finding(
                    "SETUP-DATA-CUT",
                    Severity.ERROR,
                    "a piece of setup_data is cut short",
                    "len",
                    address + HEADER.offsets["len"][0],
                    f"{header['len']} bytes",
                    str(len(data)),
                )
            )
        address = header["next"]


def _ends(id_: str, how: str, address: int) -> Finding:
    return Finding(id_, Severity.ERROR, f"the list of setup_data {how}", "next", address, found=f"{address:#x}")


def build(pieces: Iterable[SetupData], address: int) -> bytes:
    """A list of pieces for physical ``address`` (8-byte aligned), one behind the other, linked; the last ends it.

    The pieces' own ``address`` and ``next`` are computed anew; ``len`` comes from the data. Raises FormatError for
    an address that is not aligned.
    """
    if address % ALIGN:
        raise FormatError("setup_data is not aligned", offset=address, expected=f"a multiple of {ALIGN}")
    pieces = list(pieces)
    built = b""
    for number, piece in enumerate(pieces):
        padding = bytes(-len(piece.data) % ALIGN)
        end = address + len(built) + HEADER.size + len(piece.data) + len(padding)
        following = 0 if number == len(pieces) - 1 else end
        linked = SetupData(piece.type, piece.data, address + len(built), following)
        built += HEADER.build(linked) + piece.data + padding
    return built


def nodes(memory: Source, address: int) -> tuple[list[Node], list[Finding]]:
    """A ``setup-data`` node per piece, placed at its physical address, and what is wrong with the list."""
    findings: list[Finding] = []
    return [_node(piece) for piece in walk(memory, address, findings)], findings


def _node(piece: SetupData) -> Node:
    fields = [*HEADER.fields(HEADER.build(piece))]
    data, start = piece.data, HEADER.size
    findings: list[Finding] = []
    children: list[Node] = []
    layout = LAYOUTS.get(piece.type)
    if piece.type == SETUP_E820_EXT:
        count = len(data) // E820.size
        children = [_entry(data, index * E820.size) for index in range(min(count, MAX_ENTRIES))]
        fields.append(Field("entries", count, meaning="" if count <= MAX_ENTRIES else f"{MAX_ENTRIES} are shown"))
    else:
        known = layout.size if layout is not None and len(data) >= layout.size else 0
        if layout is not None and known:
            fields += layout.fields(data, base=start)
        if rest := data[known : known + SHOWN]:
            fields.append(Field("data", rest, start + known, len(data) - known, "", rest))
    if layout is not None and len(data) < layout.size:
        findings.append(_short(layout.size, len(data)))
    if layout is INDIRECT and len(data) >= INDIRECT.size and INDIRECT.parse(data).type in (0, SETUP_INDIRECT):
        findings.append(
            Finding(
                "SETUP-DATA-INDIRECT",
                Severity.ERROR,
                "points at data of no type, or at itself",
                "type",
                start,
                "SETUP_INDIRECT with another type",
            )
        )
    size = HEADER.size + len(data)
    return Node("setup-data", piece.address, size, tuple(fields), tuple(children), tuple(findings))


def _entry(data: bytes, at: int) -> Node:
    fields = E820.fields(data, at, base=-at)
    return Node("e820-entry", HEADER.size + at, E820.size, fields)


def _short(expected: int, found: int) -> Finding:
    return Finding(
        "SETUP-DATA-SHORT",
        Severity.WARNING,
        "has less data than its type asks for",
        "len",
        HEADER.offsets["len"][0],
        f"{expected} bytes",
        str(found),
    )
