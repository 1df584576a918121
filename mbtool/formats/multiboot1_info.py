"""Multiboot 1 boot information: what the loader tells the image, with all that it points at.

Multiboot Specification 0.6.96, section "Boot information format". ``build`` makes one block of it::

    address        the structure (116 bytes)
    address + 116  in the order of the flags, each at a multiple of 4: command line; module strings, module list;
                   symbols; memory map; drives; configuration table; loader name; APM table; VBE blocks; palette
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from mbtool.errors import FormatError, MbtoolError
from mbtool.formats.memory import Memory
from mbtool.formats.multiboot1_access import Arena, Part
from mbtool.formats.multiboot1_parts import PARTS
from mbtool.formats.multiboot1_wire import (
    AOUT_FIELDS,
    AOUT_SYMS,
    ELF_FIELDS,
    ELF_SYMS,
    INFO_FIELDS,
    PALETTE_FIELDS,
    AoutSymbols,
    BootDevice,
    Drive,
    ElfSections,
    Framebuffer,
    InfoFields,
    MemoryMapEntry,
    Module,
)
from mbtool.formats.multiboot_shared import RGB_INFO, ApmTable, BasicMemory, VbeInfo
from mbtool.formats.wire import Layout
from mbtool.model import Field, Finding, Node, Severity
from mbtool.source import Source

KNOWN = sum(1 << bit for bit in {part.bit for part in PARTS})
FOUR_GIB = 1 << 32
CONTRADICTION = "flag bits 4 and 5 (a.out symbols, ELF sections) exclude each other"


@dataclass(frozen=True, slots=True)
class Multiboot1Info:
    """What the loader says; None stands for a flag that is not set. ``unknown_flags`` are bits 13 and up."""

    mem: BasicMemory | None = None
    boot_device: BootDevice | None = None
    cmdline: str | None = None
    mods: tuple[Module, ...] | None = None
    syms: AoutSymbols | ElfSections | None = None
    mmap: tuple[MemoryMapEntry, ...] | None = None
    drives: tuple[Drive, ...] | None = None
    config_table: bytes | None = None
    boot_loader_name: str | None = None
    apm_table: ApmTable | None = None
    vbe: VbeInfo | None = None
    framebuffer: Framebuffer | None = None
    unknown_flags: int = 0


def parse(memory: Source, address: int) -> Multiboot1Info:
    """The information at physical ``address``; ``memory`` is read by physical address (see Memory).

    Raises FormatError when something is cut short, contradicts itself or lies outside of the memory.
    """
    info, _ = _fixed(memory, address)
    if info.flags >> AOUT_SYMS & info.flags >> ELF_SYMS & 1:
        raise FormatError("flag bits 4 and 5 exclude each other", source=memory.name, offset=address, field="flags")
    values = {part.name: part.read(memory, info) for part in _announced(info)}
    return Multiboot1Info(**values, unknown_flags=info.flags & ~KNOWN)


def build(info: Multiboot1Info, address: int) -> bytes:
    """One block for physical ``address``: the structure and all that it points at.

    Raises FormatError for a value that does not fit or a block that does not lie below 4 GiB.
    """
    arena = Arena(address + INFO_FIELDS.size)
    fields = InfoFields(flags=info.unknown_flags & ~KNOWN)
    for part in PARTS:
        value = getattr(info, part.name)
        if value is not None and isinstance(value, part.cls):
            fields = replace(fields, **part.lay(value, arena), flags=fields.flags | 1 << part.bit)
    if address < 0 or arena.start + len(arena.data) > FOUR_GIB:
        raise FormatError("the information does not lie below 4 GiB", offset=address)
    return INFO_FIELDS.build(fields) + arena.data


def inspect(dump: Source, base: int = 0, address: int | None = None) -> Node:
    """The node of a memory dump that holds boot information; its first byte lies at physical address ``base``.

    ``address`` is the structure's, ``base`` when None. The node stands for the whole dump: fields and children
    are placed by their offset in it, the children being what the structure points at. What lies outside of the
    dump or is damaged becomes a finding. Raises FormatError when there is no structure at all.
    """
    memory = Memory(dump, base)
    at = (base if address is None else address) - base
    info, raw = _fixed(memory, at + base)
    fields = {field.name: field for field in INFO_FIELDS.fields(raw, base=at)}
    kept = [fields["flags"]]
    children: list[Node] = []
    findings: list[Finding] = []
    if _contradicts(info):
        findings.append(Finding("MULTIBOOT1-INFO", Severity.ERROR, CONTRADICTION, "flags", at))
    for part in _announced(info):
        words: dict[str, str] = {}
        try:
            for item in part.show(memory, info):
                if isinstance(item, Node):
                    children.append(item.at(item.offset - base))
                else:
                    words[item[0]] = item[1]
            part.read(memory, info)
        except MbtoolError as error:
            findings.append(_unread(error, part, base))
        for name in part.fields:
            field = fields[name]
            kept += _split(part, info, field) or [replace(field, meaning=words.get(name) or field.meaning)]
    children.sort(key=lambda node: node.offset)
    return Node("multiboot1-info", 0, dump.size, tuple(kept), tuple(children), tuple(findings))


def _contradicts(info: InfoFields) -> bool:
    return bool(info.flags >> AOUT_SYMS & info.flags >> ELF_SYMS & 1)


def _announced(info: InfoFields) -> Iterator[Part]:
    return (part for part in PARTS if info.flags >> part.bit & 1)


def _fixed(memory: Source, address: int) -> tuple[InfoFields, bytes]:
    """The structure as far as its flags need it (old loaders give less than 116 bytes), zeros after that."""
    flags = int.from_bytes(memory.exact(address, 4, "Multiboot 1 information"), "little")
    size = max((part.end for part in PARTS if flags >> part.bit & 1), default=4)
    raw = memory.exact(address, size, "Multiboot 1 information").ljust(INFO_FIELDS.size, b"\0")
    return INFO_FIELDS.parse(raw), raw


def _split(part: Part, info: InfoFields, field: Field) -> list[Field]:
    """The fields of a union, by what it holds; [] for any other field."""
    layout: Layout[Any]
    if part.name == "syms":
        layout, prefix = AOUT_FIELDS if part.bit == AOUT_SYMS else ELF_FIELDS, "syms."
    elif field.name == "color_info" and info.framebuffer_type in (0, 1):
        layout, prefix = PALETTE_FIELDS if info.framebuffer_type == 0 else RGB_INFO, ""
    else:
        return []
    items = layout.fields(field.raw, base=field.offset or 0)
    return [replace(item, name=prefix + item.name) for item in items]


def _unread(error: MbtoolError, part: Part, base: int) -> Finding:
    finding = Finding.of(error, "MULTIBOOT1-INFO", Severity.WARNING)
    place = None if error.offset is None or error.offset < base else error.offset - base
    return replace(finding, field=finding.field or part.name, offset=place)
