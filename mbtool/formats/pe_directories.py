"""What the data directories of a boot program hold: base relocations and debug entries.

Source: Microsoft "PE Format", "The .reloc Section" and "The .debug Section"; the CodeView record as Xen reads it
(xen/common/version.c, ``struct cv_info_pdb70``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from struct import iter_unpack, unpack_from

from mbtool.formats import pe_names
from mbtool.formats.pe_headers import PeHeaders
from mbtool.formats.pe_sections import Section, rva_to_offset
from mbtool.formats.pe_wire import DataDirectory
from mbtool.formats.wire import Layout, choice_names
from mbtool.formats.wire_plain import Bytes, Int16ul, Int32ul, Struct
from mbtool.model import Field, Finding, Hex, Node, Severity
from mbtool.record import record
from mbtool.source import Source

MAX_RELOCATIONS = 4 << 20
"""Bytes of the table that are looked at."""
MAX_DEBUG_ENTRIES = 64
MAX_NAME = 1024


@record
class DebugEntry:
    """``IMAGE_DEBUG_DIRECTORY``, 28 bytes."""

    Characteristics: int
    TimeDateStamp: int
    MajorVersion: int
    MinorVersion: int
    Type: int
    SizeOfData: int
    AddressOfRawData: int
    PointerToRawData: int


DEBUG_ENTRY = Layout(
    DebugEntry,
    Struct(
        "Characteristics" / Int32ul,
        "TimeDateStamp" / Int32ul,
        "MajorVersion" / Int16ul,
        "MinorVersion" / Int16ul,
        "Type" / Int32ul,
        "SizeOfData" / Int32ul,
        "AddressOfRawData" / Int32ul,
        "PointerToRawData" / Int32ul,
    ),
    hex=("AddressOfRawData", "PointerToRawData"),
    telling=("Type",),
    meanings={"Type": choice_names(pe_names.DEBUG_TYPE)},
)

CODEVIEW_TYPE = 2


@record
class CodeView:
    """The head of a CodeView record (``CV_INFO_PDB70``), 24 bytes; a file name follows."""

    CvSignature: bytes
    """``RSDS``."""
    Signature: bytes
    """The build-id in images linked by binutils, a GUID elsewhere."""
    Age: int


CODEVIEW = Layout(CodeView, Struct("CvSignature" / Bytes(4), "Signature" / Bytes(16), "Age" / Int32ul))
RSDS = b"RSDS"


def nodes(source: Source, headers: PeHeaders, parts: Sequence[Section], findings: list[Finding]) -> Iterator[Node]:
    """Nodes for the directories that are there, at their file offsets; trouble goes to ``findings``."""
    for index, show in ((pe_names.BASE_RELOCATION_TABLE, _relocations), (pe_names.DEBUG, _debug)):
        directory = headers.directory(index)
        if not directory.Size:
            continue
        offset = rva_to_offset(parts, directory.VirtualAddress)
        loaded = headers.optional.SizeOfHeaders if headers.optional else 0
        if offset is None and directory.VirtualAddress + directory.Size <= loaded:
            offset = directory.VirtualAddress  # the headers are loaded, too: iPXE keeps it there
        if offset is None:
            findings.append(
                Finding(
                    "PE-DIRECTORY-OUTSIDE",
                    Severity.WARNING,
                    "points outside of all that the file stores",
                    pe_names.DIRECTORIES[index],
                    found=f"{directory.VirtualAddress:#x}",
                )
            )
        else:
            yield show(source, offset, directory)


def _relocations(source: Source, offset: int, directory: DataDirectory) -> Node:
    """Blocks of {page RVA, block size, 16-bit entries: type in the upper 4 bits}."""
    data = source.read(offset, min(directory.Size, MAX_RELOCATIONS))
    counts: Counter[int] = Counter()
    blocks = at = 0
    findings: list[Finding] = []
    while len(data) - at >= 8:
        page, size = unpack_from("<II", data, at)
        if page == 0 and size == 0:  # padding, as the systemd stub has it
            break
        if size < 8 or size > len(data) - at:
            findings.append(
                Finding(
                    "PE-RELOCATIONS-DAMAGED",
                    Severity.WARNING,
                    "relocation block does not fit into its table",
                    "SizeOfBlock",
                    at,
                    f"8 to {len(data) - at} bytes",
                    f"{size}",
                )
            )
            break
        counts.update(entry >> 12 for (entry,) in iter_unpack("<H", data[at + 8 : at + (size & ~1)]))
        blocks += 1
        at += size
    kinds = tuple(f"{pe_names.RELOCATION_TYPE.get(kind, kind)} {count}" for kind, count in sorted(counts.items()))
    fields = (
        Field("blocks", blocks),
        Field("relocations", sum(counts.values()), meaning=", ".join(kinds), telling=True),
    )
    return Node("pe-relocations", offset, len(data), fields, (), tuple(findings))


def _debug(source: Source, offset: int, directory: DataDirectory) -> Node:
    """A node for the directory, with a child for each CodeView record it points to."""
    data = source.read(offset, min(directory.Size // DEBUG_ENTRY.size, MAX_DEBUG_ENTRIES) * DEBUG_ENTRY.size)
    children = []
    for at in range(0, len(data) - DEBUG_ENTRY.size + 1, DEBUG_ENTRY.size):
        children.append(Node("pe-debug-entry", at, DEBUG_ENTRY.size, DEBUG_ENTRY.fields(data, at)))
    entries = [DEBUG_ENTRY.parse(data, child.offset) for child in children]
    names = tuple(pe_names.DEBUG_TYPE.get(entry.Type, str(entry.Type)) for entry in entries)
    fields = [Field("types", names, telling=True)]
    for entry in entries:
        build_id = codeview(source, entry) if entry.Type == CODEVIEW_TYPE else None
        if build_id is not None:
            fields.append(
                Field("codeview_offset", Hex(entry.PointerToRawData), meaning="of the CodeView record in the file")
            )
            fields.append(Field("build_id", build_id, meaning="CodeView signature", telling=True))
            break
    return Node("pe-debug", offset, len(data), tuple(fields), tuple(children))


def codeview(source: Source, entry: DebugEntry) -> bytes | None:
    """The 16 signature bytes of the CodeView record that a debug entry points to, None when it is none."""
    data = source.read(entry.PointerToRawData, CODEVIEW.size)
    if len(data) < CODEVIEW.size or not data.startswith(RSDS):
        return None
    return CODEVIEW.parse(data).Signature
