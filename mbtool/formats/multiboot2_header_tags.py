"""The tags of the Multiboot 2 header: what an image can ask of its loader.

Multiboot2 Specification 2.0, section "OS image format", and the numbers and layouts of its multiboot2.h.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mbtool.errors import FormatError
from mbtool.formats.multiboot2_tags import Chain, TagHead, TagType, Tail
from mbtool.formats.wire import Layout, choice_names, flag_names
from mbtool.formats.wire_plain import Int16ul, Int32ul, Struct
from mbtool.model import Field
from mbtool.record import record

T = TypeVar("T")

OPTIONAL = 1
FROM_START = 0xFFFFFFFF
"""``load_addr`` that asks for the file to be loaded from its beginning."""

TAG_NAMES = {
    0: "end",
    1: "information request",
    2: "address",
    3: "entry address",
    4: "console flags",
    5: "framebuffer",
    6: "module alignment",
    7: "EFI boot services",
    8: "EFI i386 entry address",
    9: "EFI amd64 entry address",
    10: "relocatable",
}
INFO_NAMES = {
    0: "end",
    1: "command line",
    2: "boot loader name",
    3: "module",
    4: "basic memory information",
    5: "BIOS boot device",
    6: "memory map",
    7: "VBE",
    8: "framebuffer",
    9: "ELF sections",
    10: "APM",
    11: "EFI 32-bit system table",
    12: "EFI 64-bit system table",
    13: "SMBIOS",
    14: "ACPI 1.0 RSDP",
    15: "ACPI 2.0 RSDP",
    16: "network",
    17: "EFI memory map",
    18: "EFI boot services not terminated",
    19: "EFI 32-bit image handle",
    20: "EFI 64-bit image handle",
    21: "image load base address",
}
"""What the tags of the boot information are called: here because a header can ask for them."""


@record
class InformationRequest:
    """The information tags that the image asks for, by type."""

    mbi_tag_types: tuple[int, ...]


@record
class Address:
    """Where the image goes (physical addresses), in place of what its file format says.

    ``load_addr`` FROM_START: from the file's beginning; ``load_end_addr`` 0: to its end; ``bss_end_addr`` 0: no
    bss.
    """

    header_addr: int
    load_addr: int
    load_end_addr: int
    bss_end_addr: int


@record
class EntryAddress:
    """Physical address at which to start the image."""

    entry_addr: int


@record
class EntryAddressEfi32:
    """Entry point on EFI i386 when boot services are kept."""

    entry_addr: int


@record
class EntryAddressEfi64:
    """Entry point on EFI amd64 when boot services are kept."""

    entry_addr: int


@record
class ConsoleFlags:
    """Bit 0: a console is required; bit 1: the image can do EGA text."""

    console_flags: int


@record
class PreferredFramebuffer:
    """The graphics mode the image would like; 0 in width, height (pixels or characters), depth (bits): any."""

    width: int
    height: int
    depth: int


@record
class ModuleAlign:
    """Modules must be page-aligned."""


@record
class EfiBootServices:
    """The image can start with EFI boot services still running."""


@record
class Relocatable:
    """The image may be loaded anywhere in [min_addr, max_addr] at multiples of ``align`` bytes.

    ``preference``: 0 none, 1 lowest possible address, 2 highest.
    """

    min_addr: int
    max_addr: int
    align: int
    preference: int


class _Requests(Tail):
    """Numbers of 32 bits up to the tag's end."""

    field = "mbi_tag_types"

    def parse(self, data: bytes, stored: Mapping[str, Any]) -> tuple[tuple[int, ...], int]:
        end = len(data) - len(data) % 4
        return tuple(int.from_bytes(data[at : at + 4], "little") for at in range(0, end, 4)), end

    def build(self, value: tuple[int, ...], whole: Any) -> bytes:
        try:
            return b"".join(number.to_bytes(4, "little") for number in value)
        except OverflowError as error:
            raise FormatError("a tag type is a number of 32 bits", field=self.field) from error

    def fields(self, data: bytes, stored: Mapping[str, Any], base: int) -> tuple[Field, ...]:
        numbers, size = self.parse(data, stored)
        words = ", ".join(INFO_NAMES.get(number, f"unknown type {number}") for number in numbers)
        return (Field(self.field, numbers, base, size, words, data[:size], telling=True),)


def _entry(cls: type[T]) -> Layout[T]:
    return Layout(cls, Struct("entry_addr" / Int32ul), hex=("entry_addr",), telling=("entry_addr",))


_ANY: Callable[[Any], str] = lambda value: "" if value else "no preference"  # noqa: E731

HEAD = Layout(
    TagHead,
    Struct("type" / Int16ul, "flags" / Int16ul, "size" / Int32ul),
    hex=("flags",),
    meanings={"flags": lambda flags: flag_names({0: "optional"})(flags) or "required"},
)
ADDRESS = Layout(
    Address,
    Struct("header_addr" / Int32ul, "load_addr" / Int32ul, "load_end_addr" / Int32ul, "bss_end_addr" / Int32ul),
    hex=("header_addr", "load_addr", "load_end_addr", "bss_end_addr"),
    telling=("header_addr", "load_addr", "load_end_addr", "bss_end_addr"),
    meanings={
        "load_addr": lambda value: "from the start of the file" if value == FROM_START else "",
        "load_end_addr": lambda value: "" if value else "to the end of the file",
        "bss_end_addr": lambda value: "" if value else "no bss",
    },
)
TAGS = Chain(
    HEAD,
    (
        TagType(1, Layout(InformationRequest, Struct(), beyond=("mbi_tag_types",)), _Requests()),
        TagType(2, ADDRESS),
        TagType(3, _entry(EntryAddress)),
        TagType(
            4,
            Layout(
                ConsoleFlags,
                Struct("console_flags" / Int32ul),
                hex=("console_flags",),
                telling=("console_flags",),
                meanings={"console_flags": flag_names({0: "console required", 1: "EGA text supported"})},
            ),
        ),
        TagType(
            5,
            Layout(
                PreferredFramebuffer,
                Struct("width" / Int32ul, "height" / Int32ul, "depth" / Int32ul),
                telling=("width", "height", "depth"),
                meanings=dict.fromkeys(("width", "height", "depth"), _ANY),
            ),
        ),
        TagType(6, Layout(ModuleAlign, Struct())),
        TagType(7, Layout(EfiBootServices, Struct())),
        TagType(8, _entry(EntryAddressEfi32)),
        TagType(9, _entry(EntryAddressEfi64)),
        TagType(
            10,
            Layout(
                Relocatable,
                Struct("min_addr" / Int32ul, "max_addr" / Int32ul, "align" / Int32ul, "preference" / Int32ul),
                hex=("min_addr", "max_addr", "align"),
                telling=("min_addr", "max_addr", "align", "preference"),
                meanings={
                    "preference": choice_names({0: "no preference", 1: "lowest address", 2: "highest address"})
                },
            ),
        ),
    ),
    TAG_NAMES,
)
