"""The structures of Multiboot 1 boot information, as they lie in memory and as values.

Multiboot Specification 0.6.96, section "Boot information format". ``InfoFields`` is the structure that EBX points
at; the other layouts are what it points at.
"""

from __future__ import annotations

from dataclasses import dataclass

from mbtool.formats.multiboot_shared import FRAMEBUFFER_TYPES, Palette, RgbInfo, memory_type
from mbtool.formats.wire import Layout, choice_names, flag_names
from mbtool.formats.wire_plain import Bytes, Int8ul, Int16ul, Int32ul, Int64ul, Struct

MEM, BOOT_DEVICE, CMDLINE, MODS, AOUT_SYMS, ELF_SYMS, MMAP, DRIVES, CONFIG, NAME, APM, VBE, FRAMEBUFFER = range(13)
"""Bits of ``flags``."""
FLAGS = {
    MEM: "memory",
    BOOT_DEVICE: "boot device",
    CMDLINE: "command line",
    MODS: "modules",
    AOUT_SYMS: "a.out symbols",
    ELF_SYMS: "ELF sections",
    MMAP: "memory map",
    DRIVES: "drives",
    CONFIG: "configuration table",
    NAME: "boot loader name",
    APM: "APM table",
    VBE: "VBE",
    FRAMEBUFFER: "framebuffer",
}
UNUSED = 0xFF
"""A partition number that is not used."""


@dataclass(frozen=True, slots=True)
class InfoFields:
    """The fixed structure. Addresses are physical; each field counts only when its flag is set."""

    flags: int = 0
    mem_lower: int = 0
    mem_upper: int = 0
    boot_device: int = 0
    cmdline: int = 0
    mods_count: int = 0
    mods_addr: int = 0
    syms: bytes = bytes(16)
    mmap_length: int = 0
    mmap_addr: int = 0
    drives_length: int = 0
    drives_addr: int = 0
    config_table: int = 0
    boot_loader_name: int = 0
    apm_table: int = 0
    vbe_control_info: int = 0
    vbe_mode_info: int = 0
    vbe_mode: int = 0
    vbe_interface_seg: int = 0
    vbe_interface_off: int = 0
    vbe_interface_len: int = 0
    framebuffer_addr: int = 0
    framebuffer_pitch: int = 0
    framebuffer_width: int = 0
    framebuffer_height: int = 0
    framebuffer_bpp: int = 0
    framebuffer_type: int = 0
    color_info: bytes = bytes(6)


def boot_device_words(value: int) -> str:
    """The four bytes of ``boot_device`` in words: drive, then the partitions that are used."""
    parts = [value >> shift & 0xFF for shift in (16, 8, 0)]
    used = [f"partition {part}" for part in parts if part != UNUSED]
    return ", ".join([f"BIOS drive {value >> 24:#x}", *used])


INFO_FIELDS = Layout(
    InfoFields,
    Struct(
        "flags" / Int32ul,
        "mem_lower" / Int32ul,
        "mem_upper" / Int32ul,
        "boot_device" / Int32ul,
        "cmdline" / Int32ul,
        "mods_count" / Int32ul,
        "mods_addr" / Int32ul,
        "syms" / Bytes(16),
        "mmap_length" / Int32ul,
        "mmap_addr" / Int32ul,
        "drives_length" / Int32ul,
        "drives_addr" / Int32ul,
        "config_table" / Int32ul,
        "boot_loader_name" / Int32ul,
        "apm_table" / Int32ul,
        "vbe_control_info" / Int32ul,
        "vbe_mode_info" / Int32ul,
        "vbe_mode" / Int16ul,
        "vbe_interface_seg" / Int16ul,
        "vbe_interface_off" / Int16ul,
        "vbe_interface_len" / Int16ul,
        "framebuffer_addr" / Int64ul,
        "framebuffer_pitch" / Int32ul,
        "framebuffer_width" / Int32ul,
        "framebuffer_height" / Int32ul,
        "framebuffer_bpp" / Int8ul,
        "framebuffer_type" / Int8ul,
        "color_info" / Bytes(6),
    ),
    hex=(
        *("flags", "boot_device", "cmdline", "mods_addr", "mmap_addr", "drives_addr", "config_table"),
        *("boot_loader_name", "apm_table", "vbe_control_info", "vbe_mode_info", "vbe_mode"),
        *("vbe_interface_seg", "vbe_interface_off", "framebuffer_addr"),
    ),
    telling=(
        *("flags", "mem_lower", "mem_upper", "boot_device", "cmdline", "mods_count", "boot_loader_name"),
        *("framebuffer_addr", "framebuffer_width", "framebuffer_height", "framebuffer_type"),
    ),
    meanings={
        "flags": flag_names(FLAGS),
        "mem_lower": lambda value: "KiB",
        "mem_upper": lambda value: "KiB",
        "boot_device": boot_device_words,
        "framebuffer_type": choice_names(FRAMEBUFFER_TYPES),
    },
)


@dataclass(frozen=True, slots=True)
class BootDevice:
    """The BIOS drive that the image came from; partitions count from 0, UNUSED where there is none."""

    drive: int
    part1: int = UNUSED
    part2: int = UNUSED
    part3: int = UNUSED


BOOT_DEVICE_FIELDS = Layout(
    BootDevice,
    Struct("part3" / Int8ul, "part2" / Int8ul, "part1" / Int8ul, "drive" / Int8ul),
)


@dataclass(frozen=True, slots=True)
class Module:
    """A boot module in [mod_start, mod_end) (physical); ``string`` None when there is no string."""

    mod_start: int
    mod_end: int
    string: str | None = ""
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class ModuleFields:
    """A module as it lies in memory: ``string`` is an address, 0 for none."""

    mod_start: int
    mod_end: int
    string: int
    reserved: int


MODULE_FIELDS = Layout(
    ModuleFields,
    Struct("mod_start" / Int32ul, "mod_end" / Int32ul, "string" / Int32ul, "reserved" / Int32ul),
    hex=("mod_start", "mod_end", "string"),
    telling=("mod_start", "mod_end", "string"),
)


@dataclass(frozen=True, slots=True)
class AoutSymbols:
    """An a.out symbol table: ``symbols`` is the array of nlist structures, ``strings`` the names."""

    symbols: bytes
    strings: bytes
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class AoutFields:
    """``addr`` points at the array's size (4 bytes), the array, the strings' size with itself, the strings."""

    tabsize: int
    strsize: int
    addr: int
    reserved: int


AOUT_FIELDS = Layout(
    AoutFields,
    Struct("tabsize" / Int32ul, "strsize" / Int32ul, "addr" / Int32ul, "reserved" / Int32ul),
    hex=("addr",),
)


@dataclass(frozen=True, slots=True)
class ElfSections:
    """The image's ELF section headers as they are, ``size`` bytes each; ``sh_addr`` is where one was loaded."""

    size: int
    shndx: int
    sections: bytes


@dataclass(frozen=True, slots=True)
class ElfFields:
    """``num`` section headers of ``size`` bytes at ``addr``; ``shndx`` is the section with the names."""

    num: int
    size: int
    addr: int
    shndx: int


ELF_FIELDS = Layout(
    ElfFields,
    Struct("num" / Int32ul, "size" / Int32ul, "addr" / Int32ul, "shndx" / Int32ul),
    hex=("addr",),
)


@dataclass(frozen=True, slots=True)
class MemoryMapEntry:
    """``length`` bytes at ``base_addr`` (physical); ``extra`` is what an entry above 20 bytes adds."""

    base_addr: int
    length: int
    type: int
    extra: bytes = b""


MEMORY_MAP_ENTRY = Layout(
    MemoryMapEntry,
    Struct("size" / Int32ul, "base_addr" / Int64ul, "length" / Int64ul, "type" / Int32ul),
    hex=("base_addr", "length"),
    telling=("base_addr", "length", "type"),
    meanings={"type": memory_type},
    computed={"size": lambda entry: 20 + len(entry.extra)},  # does not count itself
    beyond=("extra",),
)


@dataclass(frozen=True, slots=True)
class Drive:
    """A BIOS drive: its geometry and the I/O ports that its BIOS code uses."""

    drive_number: int
    drive_mode: int
    drive_cylinders: int
    drive_heads: int
    drive_sectors: int
    drive_ports: tuple[int, ...] = ()


def drive_size(drive: Drive) -> int:
    """Bytes of a drive structure: 10, the ports and their zero, in multiples of 4 so that the next is aligned."""
    return -(-(10 + 2 * len(drive.drive_ports) + 2) // 4) * 4


DRIVE_FIELDS = Layout(
    Drive,
    Struct(
        "size" / Int32ul,
        "drive_number" / Int8ul,
        "drive_mode" / Int8ul,
        "drive_cylinders" / Int16ul,
        "drive_heads" / Int8ul,
        "drive_sectors" / Int8ul,
    ),
    hex=("drive_number",),
    telling=("drive_number", "drive_mode"),
    meanings={"drive_mode": choice_names({0: "CHS", 1: "LBA"})},
    computed={"size": drive_size},
    beyond=("drive_ports",),
)


@dataclass(frozen=True, slots=True)
class Framebuffer:
    """The graphics mode that is set: ``framebuffer_pitch`` in bytes, sizes in pixels (characters for EGA text).

    ``color_info`` follows the type: 0 a Palette, 1 an RgbInfo, others the 6 bytes as they are.
    """

    framebuffer_addr: int
    framebuffer_pitch: int
    framebuffer_width: int
    framebuffer_height: int
    framebuffer_bpp: int
    framebuffer_type: int
    color_info: Palette | RgbInfo | bytes = bytes(6)


@dataclass(frozen=True, slots=True)
class PaletteFields:
    """Where the palette of an indexed framebuffer lies: the ``color_info`` of type 0."""

    framebuffer_palette_addr: int
    framebuffer_palette_num_colors: int


PALETTE_FIELDS = Layout(
    PaletteFields,
    Struct("framebuffer_palette_addr" / Int32ul, "framebuffer_palette_num_colors" / Int16ul),
    hex=("framebuffer_palette_addr",),
)
