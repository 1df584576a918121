"""The tags of Multiboot 2 boot information: what a loader can tell an image.

Multiboot2 Specification 2.0, section "Boot information format". Where its text and its multiboot2.h differ (the
framebuffer tag's reserved field and palette count, the ELF sections tag's counts), the header file is followed:
that is what GRUB writes and what kernels read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from mbtool.formats.multiboot2_header_tags import INFO_NAMES
from mbtool.formats.multiboot2_tags import Chain, TagHead, TagType
from mbtool.formats.multiboot2_tails import Blob, ColorInfo, Entries, SectionHeaders, Text
from mbtool.formats.multiboot_shared import (
    APM_TABLE,
    FRAMEBUFFER_TYPES,
    VBE_INFO,
    BasicMemory,
    Palette,
    RgbInfo,
    memory_type,
)
from mbtool.formats.wire import Layout, choice_names
from mbtool.formats.wire_plain import Bytes, Int8ul, Int16ul, Int32ul, Int64ul, Struct

T = TypeVar("T")

NONE = 0xFFFFFFFF
"""A partition number that is not used."""
EFI_MEMORY_TYPES = {
    0: "reserved",
    1: "loader code",
    2: "loader data",
    3: "boot services code",
    4: "boot services data",
    5: "runtime services code",
    6: "runtime services data",
    7: "conventional",
    8: "unusable",
    9: "ACPI, reclaimable",
    10: "ACPI NVS",
    11: "memory-mapped I/O",
    12: "memory-mapped I/O ports",
    13: "PAL code",
    14: "persistent",
    15: "unaccepted",
}
"""UEFI Specification 2.10, section 7.2.1, EFI_MEMORY_TYPE."""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The image's command line."""

    string: str


@dataclass(frozen=True, slots=True)
class BootLoaderName:
    """What the loader calls itself."""

    string: str


@dataclass(frozen=True, slots=True)
class Module:
    """A boot module in [mod_start, mod_end) (physical) and the string that goes with it."""

    mod_start: int
    mod_end: int
    string: str


@dataclass(frozen=True, slots=True)
class BiosBootDevice:
    """The BIOS drive that the image came from; partitions count from 0, NONE when unused."""

    biosdev: int
    partition: int = NONE
    sub_partition: int = NONE


@dataclass(frozen=True, slots=True)
class MemoryMapEntry:
    """``length`` bytes at ``base_addr`` (physical); ``extra`` is what a larger ``entry_size`` adds."""

    base_addr: int
    length: int
    type: int
    reserved: int = 0
    extra: bytes = b""


@dataclass(frozen=True, slots=True)
class MemoryMap:
    """The memory map; each entry takes ``entry_size`` bytes."""

    entries: tuple[MemoryMapEntry, ...]
    entry_version: int = 0
    entry_size: int = 24


@dataclass(frozen=True, slots=True)
class Framebuffer:
    """The graphics mode that is set: ``framebuffer_pitch`` in bytes, sizes in pixels (characters for EGA text).

    ``color_info`` follows the type: 0 a Palette, 1 an RgbInfo, others bytes (none for EGA text).
    """

    framebuffer_addr: int
    framebuffer_pitch: int
    framebuffer_width: int
    framebuffer_height: int
    framebuffer_bpp: int
    framebuffer_type: int
    color_info: Palette | RgbInfo | bytes = b""
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class ElfSections:
    """The image's ELF section headers as they are, ``entsize`` bytes each; ``sh_addr`` is where one was loaded."""

    entsize: int
    shndx: int
    sections: bytes


@dataclass(frozen=True, slots=True)
class EfiSystemTable32:
    """Address of the EFI system table of an i386 firmware."""

    pointer: int


@dataclass(frozen=True, slots=True)
class EfiSystemTable64:
    """Address of the EFI system table of an amd64 firmware."""

    pointer: int


@dataclass(frozen=True, slots=True)
class Smbios:
    """A copy of the SMBIOS tables and their version."""

    major: int
    minor: int
    tables: bytes
    reserved: bytes = bytes(6)


@dataclass(frozen=True, slots=True)
class AcpiOldRsdp:
    """A copy of the ACPI 1.0 root pointer."""

    rsdp: bytes


@dataclass(frozen=True, slots=True)
class AcpiNewRsdp:
    """A copy of the root pointer of ACPI 2.0 or later."""

    rsdp: bytes


@dataclass(frozen=True, slots=True)
class Network:
    """A DHCP reply, or configuration in that form; one tag per card."""

    dhcpack: bytes


@dataclass(frozen=True, slots=True)
class EfiMemoryDescriptor:
    """``number_of_pages`` pages of 4 KiB at ``physical_start``; ``extra`` is what a larger ``descr_size`` adds."""

    type: int
    physical_start: int
    virtual_start: int
    number_of_pages: int
    attribute: int
    pad: int = 0
    extra: bytes = b""


@dataclass(frozen=True, slots=True)
class EfiMemoryMap:
    """The memory map as EFI gave it; each descriptor takes ``descr_size`` bytes."""

    efi_mmap: tuple[EfiMemoryDescriptor, ...]
    descr_size: int = 48
    descr_vers: int = 1


@dataclass(frozen=True, slots=True)
class EfiBootServicesNotTerminated:
    """ExitBootServices was not called."""


@dataclass(frozen=True, slots=True)
class EfiImageHandle32:
    """Address of the image handle on EFI i386."""

    pointer: int


@dataclass(frozen=True, slots=True)
class EfiImageHandle64:
    """Address of the image handle on EFI amd64."""

    pointer: int


@dataclass(frozen=True, slots=True)
class LoadBaseAddress:
    """Where a relocatable image was put (physical)."""

    load_base_addr: int


def _text(cls: type[T]) -> tuple[Layout[T], Text]:
    return Layout(cls, Struct(), beyond=("string",)), Text("string")


def _pointer(cls: type[T], number: Any, name: str = "pointer") -> Layout[T]:
    return Layout(cls, Struct(name / number), hex=(name,), telling=(name,))


def _blob(cls: type[T], name: str, words: Callable[[bytes], str]) -> tuple[Layout[T], Blob]:
    return Layout(cls, Struct(), beyond=(name,)), Blob(name, words)


def rsdp_words(rsdp: bytes) -> str:
    """An ACPI root pointer in words (ACPI Specification, section 5.2.5.3): 20 bytes, 36 from revision 2 on."""
    if len(rsdp) < 20:
        return "cut short"
    sound = sum(rsdp[:20]) & 0xFF == 0
    words = [f"revision {rsdp[15]}", f"OEM {rsdp[9:15].decode('ascii', 'backslashreplace').strip()}"]
    words.append(f"RSDT at {int.from_bytes(rsdp[16:20], 'little'):#x}")
    if rsdp[15] >= 2 and len(rsdp) >= 36:
        words.append(f"XSDT at {int.from_bytes(rsdp[24:32], 'little'):#x}")
        sound = sound and sum(rsdp[:36]) & 0xFF == 0
    return ", ".join([*words, "checksum right" if sound else "checksum wrong"])


def dhcp_words(packet: bytes) -> str:
    """A DHCP packet in words (RFC 2131, section 2): the client's address at 16."""
    return f"address {'.'.join(map(str, packet[16:20]))}" if len(packet) >= 20 else "cut short"


def _device_number(value: int) -> str:
    return "unused" if value == NONE else ""


MEMORY_MAP_ENTRY = Layout(
    MemoryMapEntry,
    Struct("base_addr" / Int64ul, "length" / Int64ul, "type" / Int32ul, "reserved" / Int32ul),
    hex=("base_addr", "length"),
    telling=("base_addr", "length", "type"),
    meanings={"type": memory_type},
    beyond=("extra",),
)
EFI_MEMORY_DESCRIPTOR = Layout(
    EfiMemoryDescriptor,
    Struct(
        "type" / Int32ul,
        "pad" / Int32ul,
        "physical_start" / Int64ul,
        "virtual_start" / Int64ul,
        "number_of_pages" / Int64ul,
        "attribute" / Int64ul,
    ),
    hex=("physical_start", "virtual_start", "attribute"),
    telling=("type", "physical_start", "number_of_pages"),
    meanings={"type": choice_names(EFI_MEMORY_TYPES)},
    beyond=("extra",),
)
HEAD = Layout(TagHead, Struct("type" / Int32ul, "size" / Int32ul), beyond=("flags",))
TAGS = Chain(
    HEAD,
    (
        TagType(1, *_text(CommandLine)),
        TagType(2, *_text(BootLoaderName)),
        TagType(
            3,
            Layout(
                Module,
                Struct("mod_start" / Int32ul, "mod_end" / Int32ul),
                hex=("mod_start", "mod_end"),
                telling=("mod_start", "mod_end"),
                beyond=("string",),
            ),
            Text("string"),
        ),
        TagType(
            4,
            Layout(
                BasicMemory,
                Struct("mem_lower" / Int32ul, "mem_upper" / Int32ul),
                telling=("mem_lower", "mem_upper"),
                meanings=dict.fromkeys(("mem_lower", "mem_upper"), lambda value: "KiB"),
            ),
        ),
        TagType(
            5,
            Layout(
                BiosBootDevice,
                Struct("biosdev" / Int32ul, "partition" / Int32ul, "sub_partition" / Int32ul),
                hex=("biosdev",),
                telling=("biosdev", "partition"),
                meanings=dict.fromkeys(("partition", "sub_partition"), _device_number),
            ),
        ),
        TagType(
            6,
            Layout(
                MemoryMap,
                Struct("entry_size" / Int32ul, "entry_version" / Int32ul),
                beyond=("entries",),
            ),
            Entries("entries", MEMORY_MAP_ENTRY, "entry_size", "memory-map-entry"),
        ),
        TagType(7, VBE_INFO),
        TagType(
            8,
            Layout(
                Framebuffer,
                Struct(
                    "framebuffer_addr" / Int64ul,
                    "framebuffer_pitch" / Int32ul,
                    "framebuffer_width" / Int32ul,
                    "framebuffer_height" / Int32ul,
                    "framebuffer_bpp" / Int8ul,
                    "framebuffer_type" / Int8ul,
                    "reserved" / Int16ul,
                ),
                hex=("framebuffer_addr",),
                telling=("framebuffer_addr", "framebuffer_width", "framebuffer_height", "framebuffer_type"),
                meanings={"framebuffer_type": choice_names(FRAMEBUFFER_TYPES)},
                beyond=("color_info",),
            ),
            ColorInfo(),
        ),
        TagType(
            9,
            Layout(
                ElfSections,
                Struct("num" / Int32ul, "entsize" / Int32ul, "shndx" / Int32ul),
                telling=("num", "entsize"),
                computed={"num": lambda tag: len(tag.sections) // tag.entsize if tag.entsize else 0},
                beyond=("sections",),
            ),
            SectionHeaders(),
        ),
        TagType(10, APM_TABLE),
        TagType(11, _pointer(EfiSystemTable32, Int32ul)),
        TagType(12, _pointer(EfiSystemTable64, Int64ul)),
        TagType(
            13,
            Layout(
                Smbios,
                Struct("major" / Int8ul, "minor" / Int8ul, "reserved" / Bytes(6)),
                telling=("major", "minor"),
                beyond=("tables",),
            ),
            Blob("tables"),
        ),
        TagType(14, *_blob(AcpiOldRsdp, "rsdp", rsdp_words)),
        TagType(15, *_blob(AcpiNewRsdp, "rsdp", rsdp_words)),
        TagType(16, *_blob(Network, "dhcpack", dhcp_words)),
        TagType(
            17,
            Layout(
                EfiMemoryMap,
                Struct("descr_size" / Int32ul, "descr_vers" / Int32ul),
                beyond=("efi_mmap",),
            ),
            Entries("efi_mmap", EFI_MEMORY_DESCRIPTOR, "descr_size", "efi-memory-descriptor"),
        ),
        TagType(18, Layout(EfiBootServicesNotTerminated, Struct())),
        TagType(19, _pointer(EfiImageHandle32, Int32ul)),
        TagType(20, _pointer(EfiImageHandle64, Int64ul)),
        TagType(21, _pointer(LoadBaseAddress, Int32ul, "load_base_addr")),
    ),
    INFO_NAMES,
)
