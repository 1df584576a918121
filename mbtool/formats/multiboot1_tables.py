"""The tables of Multiboot 1 boot information: modules, symbols, memory map, drives.

Multiboot Specification 0.6.96, section "Boot information format". The functions read, lay and show what their
names say, in the way that ``Part`` asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mbtool.errors import FormatError
from mbtool.formats import multiboot1_wire as wire
from mbtool.formats.multiboot1_access import (
    MAX_SECTIONS,
    MAX_SYMBOLS,
    Arena,
    Shown,
    read_entries,
    read_string,
    read_table,
)
from mbtool.formats.multiboot1_wire import InfoFields
from mbtool.formats.multiboot_shared import bytes_of, shown, text_of
from mbtool.model import Node
from mbtool.source import Source


def _modules(memory: Source, info: InfoFields) -> Iterator[tuple[int, bytes]]:
    size = wire.MODULE_FIELDS.size
    data = read_table(memory, info.mods_addr, info.mods_count * size, "the module list")
    for at in range(0, len(data), size):
        yield info.mods_addr + at, data[at : at + size]


def read_mods(memory: Source, info: InfoFields) -> tuple[wire.Module, ...]:
    modules = (wire.MODULE_FIELDS.parse(data) for _, data in _modules(memory, info))
    return tuple(
        wire.Module(
            module.mod_start,
            module.mod_end,
            text_of(read_string(memory, module.string, "a module's string")) if module.string else None,
            module.reserved,
        )
        for module in modules
    )


def lay_mods(value: tuple[wire.Module, ...], arena: Arena) -> dict[str, Any]:
    strings = [0 if mod.string is None else arena.put(bytes_of(mod.string, "string")) for mod in value]
    built = b"".join(
        wire.MODULE_FIELDS.build(wire.ModuleFields(mod.mod_start, mod.mod_end, string, mod.reserved))
        for mod, string in zip(value, strings, strict=True)
    )
    return {"mods_count": len(value), "mods_addr": arena.put(built) if value else 0}


def show_mods(memory: Source, info: InfoFields) -> Shown:
    for address, data in _modules(memory, info):
        words = _words(memory, wire.MODULE_FIELDS.parse(data).string)
        fields = (
            replace(field, meaning=words) if field.name == "string" else field
            for field in wire.MODULE_FIELDS.fields(data)
        )
        yield Node("multiboot1-module", address, len(data), tuple(fields))


def _words(memory: Source, address: int) -> str:
    try:
        return shown(read_string(memory, address, "a module's string")) if address else "none"
    except FormatError as error:
        return error.problem


def read_aout(memory: Source, info: InfoFields) -> wire.AoutSymbols:
    table = wire.AOUT_FIELDS.parse(info.syms)
    if not table.tabsize and not table.strsize:
        return wire.AoutSymbols(b"", b"", table.reserved)
    symbols = _sized(memory, table.addr, table.tabsize, 4)
    return wire.AoutSymbols(
        symbols, _sized(memory, table.addr + 4 + len(symbols), table.strsize, 0), table.reserved
    )


def _sized(memory: Source, address: int, size: int, own: int) -> bytes:
    """A table after its own size; ``own`` is 4 when the size does not count itself, else 0."""
    data = read_table(memory, address, size + own, "a symbol table", MAX_SYMBOLS)
    found = int.from_bytes(data[:4], "little")
    if len(data) < 4 or found != size:
        raise FormatError(
            "a symbol table's size is not what the information says",
            source=memory.name,
            offset=address,
            expected=f"{size}",
            found=f"{found}",
        )
    return data[4:]


def lay_aout(value: wire.AoutSymbols, arena: Arena) -> dict[str, Any]:
    tabsize, strsize = len(value.symbols), len(value.strings) + 4
    address = arena.put(
        tabsize.to_bytes(4, "little") + value.symbols + strsize.to_bytes(4, "little") + value.strings
    )
    return {"syms": wire.AOUT_FIELDS.build(wire.AoutFields(tabsize, strsize, address, value.reserved))}


def read_elf(memory: Source, info: InfoFields) -> wire.ElfSections:
    table = wire.ELF_FIELDS.parse(info.syms)
    sections = read_table(memory, table.addr, table.num * table.size, "the section headers", MAX_SECTIONS)
    return wire.ElfSections(table.size, table.shndx, sections)


def lay_elf(value: wire.ElfSections, arena: Arena) -> dict[str, Any]:
    if len(value.sections) % (value.size or 1) or (value.sections and not value.size):
        raise FormatError("not a whole number of section headers", field="ElfSections.size")
    num = len(value.sections) // value.size if value.size else 0
    address = arena.put(value.sections) if num else 0
    return {"syms": wire.ELF_FIELDS.build(wire.ElfFields(num, value.size, address, value.shndx))}


def _mmap(memory: Source, info: InfoFields) -> Iterator[tuple[int, bytes]]:
    yield from read_entries(memory, info.mmap_addr, info.mmap_length, "the memory map", 24, 4)


def read_mmap(memory: Source, info: InfoFields) -> tuple[wire.MemoryMapEntry, ...]:
    layout = wire.MEMORY_MAP_ENTRY
    return tuple(layout.parse(data, beyond={"extra": data[layout.size :]}) for _, data in _mmap(memory, info))


def lay_mmap(value: tuple[wire.MemoryMapEntry, ...], arena: Arena) -> dict[str, Any]:
    built = b"".join(wire.MEMORY_MAP_ENTRY.build(entry) + entry.extra for entry in value)
    return {"mmap_length": len(built), "mmap_addr": arena.put(built) if built else 0}


def show_mmap(memory: Source, info: InfoFields) -> Shown:
    for address, data in _mmap(memory, info):
        yield Node("memory-map-entry", address, len(data), wire.MEMORY_MAP_ENTRY.fields(data))


def _drives(memory: Source, info: InfoFields) -> Iterator[tuple[int, bytes]]:
    yield from read_entries(memory, info.drives_addr, info.drives_length, "the drive list", 10, 0)


def read_drives(memory: Source, info: InfoFields) -> tuple[wire.Drive, ...]:
    return tuple(_drive(data) for _, data in _drives(memory, info))


def _drive(data: bytes) -> wire.Drive:
    # The size may be anything that holds the ports ("because of an alignment"), so it is not verified.
    stored = wire.DRIVE_FIELDS.values(data)
    del stored["size"]
    ports: list[int] = []
    for at in range(wire.DRIVE_FIELDS.size, len(data) - 1, 2):
        port = int.from_bytes(data[at : at + 2], "little")
        if not port:
            break
        ports.append(port)
    return wire.Drive(**stored, drive_ports=tuple(ports))


def lay_drives(value: tuple[wire.Drive, ...], arena: Arena) -> dict[str, Any]:
    built = b""
    for drive in value:
        if not all(0 < port <= 0xFFFF for port in drive.drive_ports):
            raise FormatError("a port is a number from 1 to 65535", field="Drive.drive_ports")
        ports = b"".join(port.to_bytes(2, "little") for port in drive.drive_ports)
        built += (wire.DRIVE_FIELDS.build(drive) + ports).ljust(wire.drive_size(drive), b"\0")
    return {"drives_length": len(built), "drives_addr": arena.put(built) if built else 0}


def show_drives(memory: Source, info: InfoFields) -> Shown:
    for address, data in _drives(memory, info):
        yield Node("multiboot1-drive", address, len(data), wire.DRIVE_FIELDS.fields(data))
