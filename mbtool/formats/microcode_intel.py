"""Intel microcode updates, as they follow each other in ``GenuineIntel.bin`` and in the files of intel-ucode.

Intel SDM, volume 3A, "Microcode Update Facilities"; names as in Linux arch/x86/include/asm/cpu.h and
arch/x86/kernel/cpu/microcode/intel.c.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from mbtool.errors import FormatError
from mbtool.formats.findings import Findings
from mbtool.formats.microcode_shared import cpu_name, date_field, dword_sum, full
from mbtool.formats.wire import Layout
from mbtool.formats.wire_plain import Array, Int32ul, Struct
from mbtool.model import Field, Finding, Hex, Node, Severity
from mbtool.source import MIB, Source

HEADER_SIZE = 48
DEFAULT_DATASIZE = 2000
"""Bytes of data when ``datasize`` is 0, as in updates for the Pentium Pro and II."""
MAX_UPDATE = 64 * MIB
"""Largest update that is read: real ones stay below 4 MiB."""
MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class ExtendedSignature:
    """Another processor that an update is for: signature (CPUID 1, EAX) and mask of platforms."""

    sig: int
    pf: int


@dataclass(frozen=True, slots=True)
class ExtendedTable:
    """The processors beside the one in the header."""

    signatures: tuple[ExtendedSignature, ...]
    reserved: tuple[int, ...] = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class IntelUpdate:
    """One update. Sizes and checksums are computed; ``data`` is a multiple of 4 bytes."""

    rev: int
    date: int
    """Month, day and year in decimal digits: 0x07062024."""
    sig: int
    pf: int
    """Mask of platforms (bit = platform id)."""
    data: bytes
    hdrver: int = 1
    ldrver: int = 1
    metasize: int = 0
    min_req_ver: int = 0
    reserved: int = 0
    table: ExtendedTable | None = None
    sized: bool = True
    """False: both sizes are stored as 0, which stands for 2000 bytes of data."""


def _cksum(update: IntelUpdate) -> int:
    header = (update.hdrver, update.rev, update.date, update.sig, update.ldrver, update.pf, _datasize(update))
    rest = (_totalsize(update), update.metasize, update.min_req_ver, update.reserved)
    return -(sum(header) + sum(rest) + dword_sum(update.data)) & MASK


def _datasize(update: IntelUpdate) -> int:
    return len(update.data) if update.sized else 0


def _totalsize(update: IntelUpdate) -> int:
    table = TABLE.size + 12 * len(update.table.signatures) if update.table else 0
    return HEADER_SIZE + len(update.data) + table if update.sized else 0


HEADER = Layout(
    IntelUpdate,
    Struct(
        "hdrver" / Int32ul,
        "rev" / Int32ul,
        "date" / Int32ul,
        "sig" / Int32ul,
        "cksum" / Int32ul,
        "ldrver" / Int32ul,
        "pf" / Int32ul,
        "datasize" / Int32ul,
        "totalsize" / Int32ul,
        "metasize" / Int32ul,
        "min_req_ver" / Int32ul,
        "reserved" / Int32ul,
    ),
    hex=("rev", "sig", "cksum", "pf", "min_req_ver"),
    telling=("rev", "sig"),
    meanings={"sig": cpu_name},
    computed={"cksum": _cksum, "datasize": _datasize, "totalsize": _totalsize},
    beyond=("data", "table", "sized"),
)
TABLE = Layout(
    ExtendedTable,
    Struct("count" / Int32ul, "cksum" / Int32ul, "reserved" / Array(3, Int32ul)),
    hex=("cksum",),
    computed={"count": lambda table: len(table.signatures), "cksum": lambda table: 0},
    beyond=("signatures",),
)
"""The checksums in a table depend on the update around it: ``_table`` fills them in."""


def build_intel(update: IntelUpdate) -> bytes:
    """The bytes of an update; FormatError when a value does not fit."""
    if len(update.data) % 4 or (not update.sized and (update.table or len(update.data) != DEFAULT_DATASIZE)):
        raise FormatError("not a size for microcode data", field="IntelUpdate.data", found=str(len(update.data)))
    main = HEADER.build(update)
    return main + update.data + _table(update, HEADER.values(main)["cksum"])


def _table(update: IntelUpdate, cksum: int) -> bytes:
    """The extended table of an update whose header has this ``cksum``."""
    if update.table is None:
        return b""
    whole = update.sig + update.pf + cksum
    signatures = b"".join(
        struct.pack("<3I", item.sig, item.pf, (whole - item.sig - item.pf) & MASK)
        for item in update.table.signatures
    )
    head = TABLE.build(update.table)
    return head[:4] + struct.pack("<I", -dword_sum(head + signatures) & MASK) + head[8:] + signatures


def parse_intel(data: bytes) -> IntelUpdate:
    """The update that fills ``data``; FormatError when anything in it is cut short or does not add up."""
    stored = HEADER.values(data)
    datasize = stored["datasize"] or DEFAULT_DATASIZE
    body, rest = data[HEADER_SIZE : HEADER_SIZE + datasize], data[HEADER_SIZE + datasize :]
    table = None
    if rest:
        head = TABLE.values(rest, base=HEADER_SIZE + datasize)
        pairs = tuple(
            ExtendedSignature(sig, pf) for sig, pf, _ in struct.iter_unpack("<3I", _whole(rest[TABLE.size :]))
        )
        table = ExtendedTable(pairs, head["reserved"])
    if datasize % 4:
        raise FormatError("datasize is not a multiple of 4", field="IntelUpdate.datasize", found=str(datasize))
    beyond = {"data": body, "table": table, "sized": stored["datasize"] != 0}
    update = HEADER.parse(data, beyond=beyond)
    if _table(update, stored["cksum"]) != rest:
        raise FormatError(
            "extended signature table does not add up", field="ExtendedTable", offset=HEADER_SIZE + datasize
        )
    return update


def _whole(data: bytes) -> bytes:
    """As many whole extended signatures (12 bytes each) as there are."""
    return data[: len(data) - len(data) % 12]


def intel_updates(source: Source, findings: Findings) -> tuple[Node, ...]:
    """A node per update. Linux gives up on the whole file at the first update that it cannot read."""
    nodes: list[Node] = []
    at = 0
    while head := source.read(at, HEADER_SIZE):
        if len(head) < HEADER_SIZE:
            _unread(findings, at, f"{len(head)} bytes follow the last update")
            break
        stored = HEADER.values(head)
        total = stored["totalsize"] if stored["datasize"] else HEADER_SIZE + DEFAULT_DATASIZE
        if (stored["hdrver"], stored["ldrver"]) != (1, 1):
            _unread(findings, at, "no update of header and loader version 1")
            break
        if not HEADER_SIZE + (stored["datasize"] or DEFAULT_DATASIZE) <= total <= MAX_UPDATE:
            _unread(findings, at, f"datasize {stored['datasize']} and totalsize {total} do not fit each other")
            break
        if full(len(nodes), findings, at):
            break
        data = source.read(at, total)
        nodes.append(_node(head, data, total, at))
        if len(data) < total:
            _unread(findings, at, f"the last update is cut short: {len(data)} of {total} bytes")
            break
        at += total
    return tuple(nodes)


def _unread(findings: Findings, at: int, problem: str) -> None:
    findings.add(
        Finding(
            "MICROCODE-UNREADABLE",
            Severity.ERROR,
            problem,
            offset=at,
            remedy="Linux then loads nothing from this file: take the file from the vendor again",
        )
    )


def _node(head: bytes, data: bytes, total: int, at: int) -> Node:
    """One update; its findings say which of the loaders' checks it fails."""
    findings = []
    extended: tuple[ExtendedSignature, ...] = ()
    if len(data) == total:
        try:
            update = parse_intel(data)
            extended = update.table.signatures if update.table else ()
        except FormatError as error:
            findings.append(Finding.of(error, "MICROCODE-CHECKSUM"))
        if total % 1024:
            findings.append(
                Finding(
                    "MICROCODE-SIZE",
                    Severity.WARNING,
                    "Xen refuses an update whose size is not a multiple of 1024 bytes",
                    "totalsize",
                    32,
                    found=str(total),
                )
            )
    fields = [_dated(field) for field in HEADER.fields(head)]
    if extended:
        also = tuple(Hex(item.sig) for item in extended)
        fields.append(Field("also_for", also, meaning="; ".join(map(cpu_name, also)), telling=True))
    return Node("microcode-update", at, len(data), tuple(fields), (), tuple(findings))


def _dated(field: Field) -> Field:
    if field.name != "date" or field.offset is None:
        return field
    return date_field(int.from_bytes(field.raw, "little"), field.raw, field.offset)
