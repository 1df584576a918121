"""What each flag of Multiboot 1 boot information stands for: how to read it, lay it out and show it.

Multiboot Specification 0.6.96, section "Boot information format". One ``Part`` per flag; multiboot1_info.py goes
through ``PARTS`` in each direction. Most fields are physical addresses of something else, so reading needs the
memory and laying out needs a place for the data.
"""

from __future__ import annotations

from typing import Any

from mbtool.errors import FormatError
from mbtool.formats import multiboot1_tables as tables
from mbtool.formats import multiboot1_wire as wire
from mbtool.formats.multiboot1_access import Arena, Part, Shown, read_string, read_table
from mbtool.formats.multiboot1_wire import InfoFields
from mbtool.formats.multiboot_shared import (
    APM_TABLE,
    RGB_INFO,
    VBE_CONTROL_INFO_SIZE,
    VBE_MODE_INFO_SIZE,
    BasicMemory,
    Palette,
    RgbInfo,
    VbeInfo,
    bytes_of,
    shown,
    text_of,
    vbe_mode_words,
)
from mbtool.model import Node
from mbtool.source import Source


def _text_part(bit: int, name: str) -> Part:
    def read(memory: Source, info: InfoFields) -> str:
        return text_of(read_string(memory, getattr(info, name), name))

    def lay(value: str, arena: Arena) -> dict[str, Any]:
        return {name: arena.put(bytes_of(value, name))}

    def show(memory: Source, info: InfoFields) -> Shown:
        yield name, shown(read_string(memory, getattr(info, name), name))

    return Part(bit, name, (name,), read, lay, show)


def _read_mem(memory: Source, info: InfoFields) -> BasicMemory:
    return BasicMemory(info.mem_lower, info.mem_upper)


def _lay_mem(value: BasicMemory, arena: Arena) -> dict[str, Any]:
    return {"mem_lower": value.mem_lower, "mem_upper": value.mem_upper}


def _read_boot_device(memory: Source, info: InfoFields) -> wire.BootDevice:
    return wire.BOOT_DEVICE_FIELDS.parse(info.boot_device.to_bytes(4, "little"))


def _lay_boot_device(value: wire.BootDevice, arena: Arena) -> dict[str, Any]:
    return {"boot_device": int.from_bytes(wire.BOOT_DEVICE_FIELDS.build(value), "little")}


def _read_config(memory: Source, info: InfoFields) -> bytes:
    length = memory.exact(info.config_table, 2, "the configuration table")
    return read_table(memory, info.config_table + 2, int.from_bytes(length, "little"), "the configuration table")


def _lay_config(value: bytes, arena: Arena) -> dict[str, Any]:
    if len(value) > 0xFFFF:
        raise FormatError("a configuration table is at most 65535 bytes", field="config_table")
    return {"config_table": arena.put(len(value).to_bytes(2, "little") + value)}


def _show_config(memory: Source, info: InfoFields) -> Shown:
    yield "config_table", f"{len(_read_config(memory, info))} bytes"


def _read_apm(memory: Source, info: InfoFields) -> Any:
    return APM_TABLE.read(memory, info.apm_table)


def _lay_apm(value: Any, arena: Arena) -> dict[str, Any]:
    return {"apm_table": arena.put(APM_TABLE.build(value))}


def _show_apm(memory: Source, info: InfoFields) -> Shown:
    data = memory.exact(info.apm_table, APM_TABLE.size, "the APM table")
    yield Node("apm-table", info.apm_table, len(data), APM_TABLE.fields(data))


def _read_vbe(memory: Source, info: InfoFields) -> VbeInfo:
    return VbeInfo(
        info.vbe_mode,
        info.vbe_interface_seg,
        info.vbe_interface_off,
        info.vbe_interface_len,
        _vbe_block(memory, info.vbe_control_info, VBE_CONTROL_INFO_SIZE),
        _vbe_block(memory, info.vbe_mode_info, VBE_MODE_INFO_SIZE),
    )


def _vbe_block(memory: Source, address: int, size: int) -> bytes:
    return memory.exact(address, size, "a VBE block") if address else b""


def _lay_vbe(value: VbeInfo, arena: Arena) -> dict[str, Any]:
    blocks = {
        "vbe_control_info": (value.vbe_control_info, VBE_CONTROL_INFO_SIZE),
        "vbe_mode_info": (value.vbe_mode_info, VBE_MODE_INFO_SIZE),
    }
    laid: dict[str, Any] = {}
    for name, (block, size) in blocks.items():
        if block and len(block) != size:
            raise FormatError("a VBE block of a wrong size", field=name, expected=f"{size}", found=f"{len(block)}")
        laid[name] = arena.put(block) if block else 0
    return laid | {
        name: getattr(value, name)
        for name in ("vbe_mode", "vbe_interface_seg", "vbe_interface_off", "vbe_interface_len")
    }


def _show_vbe(memory: Source, info: InfoFields) -> Shown:
    yield "vbe_mode_info", vbe_mode_words(_vbe_block(memory, info.vbe_mode_info, VBE_MODE_INFO_SIZE))


_FRAMEBUFFER_FIELDS = tuple(name for name in wire.INFO_FIELDS.offsets if name.startswith("framebuffer_"))


def _read_framebuffer(memory: Source, info: InfoFields) -> wire.Framebuffer:
    color_info: Palette | RgbInfo | bytes = info.color_info
    if info.framebuffer_type == 0:
        table = wire.PALETTE_FIELDS.parse(info.color_info)
        size = 3 * table.framebuffer_palette_num_colors
        color_info = Palette.parse(read_table(memory, table.framebuffer_palette_addr, size, "the palette", size))
    elif info.framebuffer_type == 1:
        color_info = RGB_INFO.parse(info.color_info)
    mode: dict[str, Any] = {name: getattr(info, name) for name in _FRAMEBUFFER_FIELDS}
    return wire.Framebuffer(**mode, color_info=color_info)


def _lay_framebuffer(value: wire.Framebuffer, arena: Arena) -> dict[str, Any]:
    expected = {0: Palette, 1: RgbInfo}.get(value.framebuffer_type, bytes)
    if not isinstance(value.color_info, expected):
        raise FormatError(
            "colour information does not go with the framebuffer's type",
            field="color_info",
            expected=expected.__name__,
            found=type(value.color_info).__name__,
        )
    match value.color_info:
        case Palette() as palette:
            address = arena.put(palette.build()) if palette.colors else 0
            stored = wire.PALETTE_FIELDS.build(wire.PaletteFields(address, len(palette.colors)))
        case RgbInfo() as rgb:
            stored = RGB_INFO.build(rgb)
        case stored:
            pass
    return {name: getattr(value, name) for name in _FRAMEBUFFER_FIELDS} | {"color_info": stored}


PARTS = (
    Part(wire.MEM, "mem", ("mem_lower", "mem_upper"), _read_mem, _lay_mem),
    Part(wire.BOOT_DEVICE, "boot_device", ("boot_device",), _read_boot_device, _lay_boot_device),
    _text_part(wire.CMDLINE, "cmdline"),
    Part(wire.MODS, "mods", ("mods_count", "mods_addr"), tables.read_mods, tables.lay_mods, tables.show_mods),
    Part(wire.AOUT_SYMS, "syms", ("syms",), tables.read_aout, tables.lay_aout, cls=wire.AoutSymbols),
    Part(wire.ELF_SYMS, "syms", ("syms",), tables.read_elf, tables.lay_elf, cls=wire.ElfSections),
    Part(wire.MMAP, "mmap", ("mmap_length", "mmap_addr"), tables.read_mmap, tables.lay_mmap, tables.show_mmap),
    Part(
        wire.DRIVES,
        "drives",
        ("drives_length", "drives_addr"),
        tables.read_drives,
        tables.lay_drives,
        tables.show_drives,
    ),
    Part(wire.CONFIG, "config_table", ("config_table",), _read_config, _lay_config, _show_config),
    _text_part(wire.NAME, "boot_loader_name"),
    Part(wire.APM, "apm_table", ("apm_table",), _read_apm, _lay_apm, _show_apm),
    Part(
        wire.VBE,
        "vbe",
        (
            *("vbe_control_info", "vbe_mode_info", "vbe_mode"),
            *("vbe_interface_seg", "vbe_interface_off", "vbe_interface_len"),
        ),
        _read_vbe,
        _lay_vbe,
        _show_vbe,
    ),
    Part(
        wire.FRAMEBUFFER,
        "framebuffer",
        (*_FRAMEBUFFER_FIELDS, "color_info"),
        _read_framebuffer,
        _lay_framebuffer,
    ),
)
