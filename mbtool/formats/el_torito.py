"""The boot catalog of a CD: what a BIOS and UEFI firmware start (El Torito 1.0; UEFI 2.10, section 13.3.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mbtool.errors import FormatError
from mbtool.formats.wire import Layout, choice_names
from mbtool.formats.wire_plain import Bytes, Int8ul, Int16ul, Int32ul, Struct
from mbtool.model import Field, Finding, Hex, Node, Severity
from mbtool.source import Source

SYSTEM_IDENTIFIER = b"EL TORITO SPECIFICATION"
"""``boot_system_identifier`` of the boot record that points at a catalog."""
SECTOR = 2048
VIRTUAL_SECTOR = 512
"""``sector_count`` counts these."""
X86, UEFI = 0, 0xEF
PLATFORMS = {X86: "x86 BIOS", 1: "PowerPC", 2: "Mac", UEFI: "UEFI"}
BOOTABLE, NOT_BOOTABLE = 0x88, 0x00
MORE_SECTIONS, LAST_SECTION = 0x90, 0x91
EXTENSION = 0x44
MEDIA = {0: "no emulation", 1: "1.2 MB floppy", 2: "1.44 MB floppy", 3: "2.88 MB floppy", 4: "hard disk"}
TO_THE_END = 1
"""A ``sector_count`` of 0 or 1 is read by UEFI firmware as: up to the end of the CD."""
ENTRY_SIZE = 32
MAX_CATALOG = 32 * SECTOR
"""Bytes of a catalog that are looked at; real ones fill a fraction of one sector."""


@dataclass(frozen=True, slots=True)
class ValidationEntry:
    """The catalog's first entry; the sum of its 16-bit words is 0."""

    header_id: int
    platform_id: int
    reserved: int
    id_string: bytes
    checksum: int
    key: int


VALIDATION = Layout(
    ValidationEntry,
    Struct(
        "header_id" / Int8ul,
        "platform_id" / Int8ul,
        "reserved" / Int16ul,
        "id_string" / Bytes(24),
        "checksum" / Int16ul,
        "key" / Int16ul,
    ),
    hex={"platform_id", "checksum", "key"},
    telling={"platform_id"},
    meanings={"platform_id": choice_names(PLATFORMS), "id_string": lambda raw: text(raw)},
)


@dataclass(frozen=True, slots=True)
class BootEntry:
    """Something to boot: ``load_rba`` in 2048-byte sectors, ``sector_count`` in 512-byte ones."""

    boot_indicator: int
    boot_media_type: int
    load_segment: int
    system_type: int
    unused: int
    sector_count: int
    load_rba: int
    selection_criteria_type: int = 0
    selection_criteria: bytes = bytes(19)


BOOT = Layout(
    BootEntry,
    Struct(
        "boot_indicator" / Int8ul,
        "boot_media_type" / Int8ul,
        "load_segment" / Int16ul,
        "system_type" / Int8ul,
        "unused" / Int8ul,
        "sector_count" / Int16ul,
        "load_rba" / Int32ul,
        "selection_criteria_type" / Int8ul,
        "selection_criteria" / Bytes(19),
    ),
    hex={"boot_indicator", "load_segment", "system_type"},
    telling={"boot_indicator", "boot_media_type", "sector_count", "load_rba"},
    meanings={
        "boot_indicator": choice_names({BOOTABLE: "bootable", NOT_BOOTABLE: "not bootable"}),
        "boot_media_type": lambda value: choice_names(MEDIA)(value & 0xF),
    },
)


@dataclass(frozen=True, slots=True)
class SectionHeader:
    """The start of a section: entries for another platform."""

    header_indicator: int
    platform_id: int
    number_of_section_entries: int
    id_string: bytes = bytes(28)


SECTION = Layout(
    SectionHeader,
    Struct(
        "header_indicator" / Int8ul,
        "platform_id" / Int8ul,
        "number_of_section_entries" / Int16ul,
        "id_string" / Bytes(28),
    ),
    hex={"header_indicator", "platform_id"},
    telling={"platform_id", "number_of_section_entries"},
    meanings={
        "header_indicator": choice_names({MORE_SECTIONS: "more follow", LAST_SECTION: "the last"}),
        "platform_id": choice_names(PLATFORMS),
        "id_string": lambda raw: text(raw),
    },
)


def text(raw: bytes) -> str:
    """A padded string as text."""
    return raw.decode("ascii", "replace").rstrip(" \0")


def no_emulation(load_rba: int, sector_count: int) -> BootEntry:
    """An entry whose image is used as it is."""
    return BootEntry(BOOTABLE, 0, 0, 0, 0, sector_count, load_rba)


def build(entries: Sequence[tuple[int, BootEntry]]) -> bytes:
    """A catalog of one sector from (platform, entry) pairs: first the default entry, then a section for each."""
    (platform, default), *others = entries
    first = ValidationEntry(1, platform, 0, bytes(24), 0, 0xAA55)
    out = VALIDATION.build(replace(first, checksum=-_sum(VALIDATION.build(first)) & 0xFFFF)) + BOOT.build(default)
    for number, (platform, entry) in enumerate(others, 1):
        indicator = LAST_SECTION if number == len(others) else MORE_SECTIONS
        out += SECTION.build(SectionHeader(indicator, platform, 1)) + BOOT.build(entry)
    return out.ljust(SECTOR, b"\0")


def _sum(entry: bytes) -> int:
    return sum(int.from_bytes(entry[at : at + 2], "little") for at in range(0, ENTRY_SIZE, 2)) & 0xFFFF


def parse(source: Source, offset: int) -> tuple[tuple[Node, ...], list[tuple[int, BootEntry]]]:
    """The entries of the catalog at ``offset``: as nodes placed in the source, and as (platform, entry) pairs.

    Raises FormatError when there is no catalog.
    """
    data = source.read(offset, MAX_CATALOG)
    validation = VALIDATION.parse(data, source=source.name, base=offset)
    if (validation.header_id, validation.key) != (1, 0xAA55):
        raise FormatError(
            "no El Torito boot catalog here", source=source.name, offset=offset, expected="01 at 0, 55 aa at 30"
        )
    findings: list[Finding] = []
    if total := _sum(data[:ENTRY_SIZE]):
        findings.append(
            Finding(
                "ELTORITO-CHECKSUM",
                Severity.ERROR,
                "the sum of the validation entry's words is not 0: firmware ignores the catalog",
                "checksum",
                VALIDATION.offsets["checksum"][0],
                f"{(validation.checksum - total) & 0xFFFF:#06x}",
                f"{validation.checksum:#06x}",
            )
        )
    nodes = [_node("boot-validation", VALIDATION, data, 0, offset, tuple(findings))]
    entries = []
    for at, platform in _entries(data, validation.platform_id):
        if platform is None:
            nodes.append(_node("boot-section", SECTION, data, at, offset))
            continue
        entry = BOOT.parse(data, at)
        entries.append((platform, entry))
        node = _node("boot-entry", BOOT, data, at, offset, tuple(_problems(source, entry)))
        words = Field("platform", Hex(platform), meaning=PLATFORMS.get(platform, "unknown"), telling=True)
        nodes.append(replace(node, fields=(words, *node.fields)))
    return tuple(nodes), entries


def _entries(data: bytes, platform: int) -> Iterator[tuple[int, int | None]]:
    """Offset and platform of each boot entry; None instead of a platform for a section header."""
    yield ENTRY_SIZE, platform
    at = 2 * ENTRY_SIZE
    while at + ENTRY_SIZE <= len(data) and data[at] in (MORE_SECTIONS, LAST_SECTION):
        header = SECTION.parse(data, at)
        yield at, None
        last = header.header_indicator == LAST_SECTION
        at += ENTRY_SIZE
        for _ in range(header.number_of_section_entries):
            if at + ENTRY_SIZE > len(data):
                return
            yield at, header.platform_id
            at += ENTRY_SIZE
            while at < len(data) and data[at] == EXTENSION:
                at += ENTRY_SIZE
        if last:
            return


def _node(
    kind: str, layout: Layout[Any], data: bytes, at: int, offset: int, findings: tuple[Finding, ...] = ()
) -> Node:
    return Node(kind, offset + at, ENTRY_SIZE, layout.fields(data, at, base=-at), (), findings)


def _problems(source: Source, entry: BootEntry) -> Iterator[Finding]:
    if entry.boot_indicator not in (BOOTABLE, NOT_BOOTABLE):
        yield Finding(
            "ELTORITO-INDICATOR",
            Severity.WARNING,
            "neither bootable nor not",
            "boot_indicator",
            0,
            "0x88 or 0",
            f"{entry.boot_indicator:#x}",
        )
    size = source.known_size
    if entry.boot_indicator == BOOTABLE and size is not None and entry.load_rba * SECTOR >= size:
        yield Finding(
            "ELTORITO-PAST-END",
            Severity.ERROR,
            "the boot image starts past the end of the image",
            "load_rba",
            8,
            f"less than {size // SECTOR}",
            str(entry.load_rba),
        )
