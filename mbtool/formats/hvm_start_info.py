"""PVH ``hvm_start_info``: what a kernel entered at PHYS32_ENTRY finds where ebx points, versions 0 and 1.

Xen: xen/include/public/arch-x86/hvm/start_info.h. All addresses are physical. Version 1 adds the memory map
fields; Xen builds dom0's with version 0 in the space of version 1.
"""

from __future__ import annotations

from typing import Any

from mbtool.errors import FormatError
from mbtool.formats.wire import Layout, choice_names, flag_names
from mbtool.formats.wire_plain import Int32ul, Int64ul, Struct
from mbtool.model import Finding, Node, Severity
from mbtool.record import record
from mbtool.source import Source

XEN_HVM_START_MAGIC_VALUE = 0x336EC578
MAX_ENTRIES = 4096
"""Modules or memory map entries read at most."""


@record
class HvmStartInfo:
    """The 40 bytes that every version has."""

    magic: int
    version: int
    flags: int
    nr_modules: int
    modlist_paddr: int
    cmdline_paddr: int
    rsdp_paddr: int


@record
class MemmapPointer:
    """The 16 bytes that version 1 adds."""

    memmap_paddr: int
    memmap_entries: int
    reserved: int


@record
class ModlistEntry:
    """``hvm_modlist_entry``: a module of ``size`` bytes."""

    paddr: int
    size: int
    cmdline_paddr: int
    reserved: int = 0


@record
class MemmapEntry:
    """``hvm_memmap_table_entry``: ``size`` bytes of one type."""

    addr: int
    size: int
    type: int
    reserved: int = 0


HVM_START_INFO = Layout(
    HvmStartInfo,
    Struct(
        "magic" / Int32ul,
        "version" / Int32ul,
        "flags" / Int32ul,
        "nr_modules" / Int32ul,
        "modlist_paddr" / Int64ul,
        "cmdline_paddr" / Int64ul,
        "rsdp_paddr" / Int64ul,
    ),
    hex=("magic", "flags", "modlist_paddr", "cmdline_paddr", "rsdp_paddr"),
    telling=("version", "flags", "nr_modules"),
    meanings={"flags": flag_names({0: "PRIVILEGED", 1: "INITDOMAIN"})},
)
MEMMAP_POINTER = Layout(
    MemmapPointer,
    Struct("memmap_paddr" / Int64ul, "memmap_entries" / Int32ul, "reserved" / Int32ul),
    hex=("memmap_paddr",),
    telling=("memmap_entries",),
)
MODLIST_ENTRY = Layout(
    ModlistEntry,
    Struct("paddr" / Int64ul, "size" / Int64ul, "cmdline_paddr" / Int64ul, "reserved" / Int64ul),
    hex=("paddr", "cmdline_paddr"),
    telling=("paddr", "size"),
)
MEMMAP_TYPES = {1: "RAM", 2: "RESERVED", 3: "ACPI", 4: "NVS", 5: "UNUSABLE", 6: "DISABLED", 7: "PMEM"}
MEMMAP_ENTRY = Layout(
    MemmapEntry,
    Struct("addr" / Int64ul, "size" / Int64ul, "type" / Int32ul, "reserved" / Int32ul),
    hex=("addr",),
    telling=("addr", "size", "type"),
    meanings={"type": choice_names(MEMMAP_TYPES)},
)


def size_of(version: int) -> int:
    """Bytes of the structure in this version."""
    return HVM_START_INFO.size + (MEMMAP_POINTER.size if version else 0)


def parse(data: bytes, at: int = 0) -> tuple[HvmStartInfo, MemmapPointer | None]:
    """The structure at ``data[at:]``; FormatError when it is cut short or has another magic."""
    info = HVM_START_INFO.parse(data, at)
    if info.magic != XEN_HVM_START_MAGIC_VALUE:
        raise FormatError(
            "no hvm_start_info",
            offset=at,
            field="magic",
            expected=f"{XEN_HVM_START_MAGIC_VALUE:#x}",
            found=f"{info.magic:#x}",
        )
    return info, MEMMAP_POINTER.parse(data, at + HVM_START_INFO.size) if info.version else None


def build(info: HvmStartInfo, memmap: MemmapPointer | None = None) -> bytes:
    """The structure's bytes; ``memmap`` is what version 1 adds."""
    return HVM_START_INFO.build(info) + (b"" if memmap is None else MEMMAP_POINTER.build(memmap))


def reject(source: Source) -> str:
    """Why this is no hvm_start_info, "" when it is one."""
    if source.read(0, 4) != XEN_HVM_START_MAGIC_VALUE.to_bytes(4, "little"):
        return "no magic 0x336ec578 at its start"
    return "" if len(source.read(0, 40)) == 40 else "shorter than the 40 bytes of an hvm_start_info"


def inspect(source: Source, context: object = None, *, at: int = 0, base: int | None = None) -> Node:
    """The structure at offset ``at`` of a memory dump whose first byte has physical address ``base``.

    With ``base`` the node stands for the whole dump, and the modules and the memory map that lie in it are its
    children, placed by their offset in the dump. FormatError when it is no hvm_start_info or cut short.
    """
    head = source.read(at, size_of(1))
    info, memmap = parse(head)
    start = 0 if base is None else at
    fields = HVM_START_INFO.fields(head, base=start)
    if memmap is not None:
        fields += MEMMAP_POINTER.fields(head, HVM_START_INFO.size, base=start)
    if base is None:
        return Node("hvm-start-info", at, size_of(info.version), fields)
    children: list[Node] = []
    findings: list[Finding] = []
    tables: list[tuple[str, Layout[Any], int, int]] = [
        ("hvm-module", MODLIST_ENTRY, info.modlist_paddr, info.nr_modules)
    ]
    if memmap is not None:
        tables.append(("hvm-memmap-entry", MEMMAP_ENTRY, memmap.memmap_paddr, memmap.memmap_entries))
    for kind, layout, paddr, count in tables:
        nodes, missing = _table(source, kind, layout, paddr - base, count)
        children += nodes
        if missing:
            findings.append(
                Finding(
                    "HVM-START-INFO-TABLE",
                    Severity.ERROR,
                    f"{missing} of {count} {kind} entries lie outside the memory given",
                    found=f"table at {paddr:#x}",
                )
            )
    return Node("hvm-start-info", 0, source.size, fields, tuple(children), tuple(findings))


def _table(source: Source, kind: str, layout: Layout[Any], offset: int, count: int) -> tuple[list[Node], int]:
    """The entries that are there, and how many are not."""
    data = source.read(offset, min(count, MAX_ENTRIES) * layout.size) if offset >= 0 else b""
    whole = len(data) // layout.size
    return [
        Node(
            kind,
            offset + i * layout.size,
            layout.size,
            layout.fields(data[i * layout.size : (i + 1) * layout.size]),
        )
        for i in range(whole)
    ], count - whole
