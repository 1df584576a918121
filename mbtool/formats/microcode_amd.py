"""AMD microcode containers, as in ``AuthenticAMD.bin`` and the files of amd-ucode: one or more, end to end.

A container is a magic, a table that maps processors to the short id by which updates name them, and the updates.
Linux arch/x86/kernel/cpu/microcode/amd.c; Xen xen/arch/x86/cpu/microcode/amd.c (``amd_ucode_parse``).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mbtool.errors import FormatError
from mbtool.formats.findings import Findings
from mbtool.formats.microcode_shared import cpu_name, date_field, full
from mbtool.formats.wire import Layout
from mbtool.formats.wire_plain import Array, Bytes, Int8ul, Int16ul, Int32ul, Struct
from mbtool.model import Field, Finding, Hex, Node, Severity
from mbtool.source import Source

MAGIC = 0x00414D44
MAGIC_BYTES = b"DMA\0"
EQUIV_CPU_TABLE_TYPE = 0
UCODE_TYPE = 1
MAX_TABLE = 1 << 16
"""Largest equivalence table that is read (bytes): real ones stay below 2 KiB."""
MAX_PATCH = 1 << 20
"""Largest update that is built (bytes); the loaders allow less than 16 KiB."""


@dataclass(frozen=True, slots=True)
class EquivEntry:
    """A processor (CPUID 1, EAX) and the id that its updates carry; all zero ends the table."""

    installed_cpu: int
    equiv_cpu: int
    fixed_errata_mask: int = 0
    fixed_errata_compare: int = 0
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class AmdPatch:
    """One update: the header of 64 bytes, then ``body``."""

    data_code: int
    """Month, day and year in decimal digits: 0x07062024."""
    patch_id: int
    processor_rev_id: int
    body: bytes = b""
    mc_patch_data_id: int = 0
    mc_patch_data_len: int = 0
    init_flag: int = 0
    mc_patch_data_checksum: int = 0
    nb_dev_id: int = 0
    sb_dev_id: int = 0
    nb_rev_id: int = 0
    sb_rev_id: int = 0
    bios_api_rev: int = 0
    reserved1: bytes = b"\0\0\0"
    match_reg: tuple[int, ...] = (0,) * 8


@dataclass(frozen=True, slots=True)
class AmdContainer:
    """A container; ``table`` includes the entry that ends it."""

    table: tuple[EquivEntry, ...]
    patches: tuple[AmdPatch, ...]


ENTRY = Layout(
    EquivEntry,
    Struct(
        "installed_cpu" / Int32ul,
        "fixed_errata_mask" / Int32ul,
        "fixed_errata_compare" / Int32ul,
        "equiv_cpu" / Int16ul,
        "reserved" / Int16ul,
    ),
)
PATCH = Layout(
    AmdPatch,
    Struct(
        "data_code" / Int32ul,
        "patch_id" / Int32ul,
        "mc_patch_data_id" / Int16ul,
        "mc_patch_data_len" / Int8ul,
        "init_flag" / Int8ul,
        "mc_patch_data_checksum" / Int32ul,
        "nb_dev_id" / Int32ul,
        "sb_dev_id" / Int32ul,
        "processor_rev_id" / Int16ul,
        "nb_rev_id" / Int8ul,
        "sb_rev_id" / Int8ul,
        "bios_api_rev" / Int8ul,
        "reserved1" / Bytes(3),
        "match_reg" / Array(8, Int32ul),
    ),
    hex=(
        "patch_id",
        "processor_rev_id",
        "mc_patch_data_id",
        "mc_patch_data_checksum",
        "nb_dev_id",
        "sb_dev_id",
        "match_reg",
    ),
    telling=("patch_id", "processor_rev_id"),
    beyond=("body",),
)


def build_amd(containers: Sequence[AmdContainer]) -> bytes:
    """Containers end to end; FormatError when a value does not fit."""
    parts = []
    for container in containers:
        table = b"".join(map(ENTRY.build, container.table))
        parts.append(struct.pack("<3I", MAGIC, EQUIV_CPU_TABLE_TYPE, len(table)) + table)
        for patch in container.patches:
            data = PATCH.build(patch) + patch.body
            if len(data) > MAX_PATCH:
                raise FormatError(
                    "microcode update is too large", field="AmdPatch.body", found=f"{len(data)} bytes"
                )
            parts.append(struct.pack("<2I", UCODE_TYPE, len(data)) + data)
    return b"".join(parts)


def parse_amd(data: bytes) -> tuple[AmdContainer, ...]:
    """All containers of a file; FormatError when it holds anything else."""
    containers = []
    at = 0
    while at < len(data):
        table, at = _table(data, at)
        patches = []
        while at < len(data) and data[at : at + 4] != MAGIC_BYTES:
            size = _section(data[at : at + 8], at, len(data))
            patches.append(PATCH.parse(data, at + 8, beyond={"body": data[at + 8 + PATCH.size : at + 8 + size]}))
            at += 8 + size
        containers.append(AmdContainer(table, tuple(patches)))
    return tuple(containers)


def _table(data: bytes, at: int, base: int = 0) -> tuple[tuple[EquivEntry, ...], int]:
    """The equivalence table of the container at ``data[at:]`` and where it ends."""
    if len(data) < at + 12:
        raise FormatError("container is cut short", offset=base + at)
    magic, kind, size = struct.unpack_from("<3I", data, at)
    if magic != MAGIC or kind != EQUIV_CPU_TABLE_TYPE:
        raise FormatError(
            "no container with an equivalence table",
            offset=base + at,
            expected=f"{MAGIC:#010x} and type 0",
            found=f"{magic:#010x} and type {kind}",
        )
    if size % ENTRY.size or size > len(data) - at - 12:
        raise FormatError(
            "equivalence table does not fit", offset=base + at + 8, expected="whole entries", found=f"{size} bytes"
        )
    start = at + 12
    return tuple(ENTRY.parse(data, start + index) for index in range(0, size, ENTRY.size)), start + size


def _section(head: bytes, at: int, end: int) -> int:
    """The size in bytes of the update whose section header is ``head``."""
    if len(head) < 8:
        raise FormatError("section header is cut short", offset=at)
    kind, size = struct.unpack("<2I", head)
    if kind != UCODE_TYPE:
        raise FormatError("no update here", offset=at, expected="section type 1", found=str(kind))
    if not PATCH.size <= size <= end - at - 8:
        raise FormatError(
            "size of an update does not fit",
            offset=at + 4,
            expected=f"{PATCH.size} to {max(end - at - 8, 0)} bytes",
            found=str(size),
        )
    return int(size)


def amd_updates(source: Source, findings: Findings) -> tuple[Node, ...]:
    """A node per update of all containers. Loaders go no further than the first thing they cannot read."""
    nodes: list[Node] = []
    at, end = 0, source.size
    try:
        while at < end:
            table, size = _table(source.read(at, 12 + MAX_TABLE), 0, at)
            cpus: dict[int, list[int]] = {}
            for entry in table:
                if entry.installed_cpu:
                    cpus.setdefault(entry.equiv_cpu, []).append(entry.installed_cpu)
            at += size
            while at < end and (head := source.read(at, 8))[:4] != MAGIC_BYTES:
                size = _section(head, at, end)
                if full(len(nodes), findings, at):
                    return tuple(nodes)
                nodes.append(_node(source.read(at + 8, PATCH.size), at, 8 + size, cpus))
                at += 8 + size
    except FormatError as error:
        findings.add(Finding.of(error, "MICROCODE-UNREADABLE"))
    return tuple(nodes)


def _node(head: bytes, at: int, size: int, cpus: Mapping[int, Sequence[int]]) -> Node:
    """One update with its section header (8 bytes)."""
    patch = PATCH.parse(head)
    findings = []
    signatures = tuple(Hex(cpu) for cpu in cpus.get(patch.processor_rev_id, ()))
    if not signatures:
        findings.append(
            Finding(
                "MICROCODE-NO-CPU",
                Severity.WARNING,
                "the container's table names no processor for this update",
                "processor_rev_id",
                8 + PATCH.offsets["processor_rev_id"][0],
                found=f"{patch.processor_rev_id:#x}",
            )
        )
    if patch.nb_dev_id or patch.sb_dev_id:
        findings.append(
            Finding(
                "MICROCODE-CHIPSET",
                Severity.ERROR,
                "Linux refuses updates for one chipset",
                "nb_dev_id",
                8 + PATCH.offsets["nb_dev_id"][0],
                expected="nb_dev_id and sb_dev_id 0",
            )
        )
    stored = PATCH.fields(head, base=8)
    fields = [field for field in stored if field.name != "data_code"]
    fields.append(date_field(patch.data_code, head[:4], 8))
    fields.append(Field("cpus", signatures, meaning="; ".join(map(cpu_name, signatures)), telling=True))
    return Node("microcode-update", at, size, tuple(fields), (), tuple(findings))
