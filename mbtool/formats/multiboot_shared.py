"""What Multiboot 1 and 2 boot information say in the same form: memory types, APM, VBE, colours, strings.

Sources: Multiboot Specification 0.6.96 and Multiboot2 Specification 2.0, section "Boot information format".
"""

from __future__ import annotations

from mbtool.errors import FormatError
from mbtool.formats.wire import Layout
from mbtool.formats.wire_plain import Bytes, Int8ul, Int16ul, Int32ul, Struct
from mbtool.record import record

MEMORY_TYPES = {
    1: "available RAM",
    2: "reserved",
    3: "ACPI, reclaimable",
    4: "reserved, kept over hibernation",
    5: "defective RAM",
}
FRAMEBUFFER_TYPES = {0: "indexed colours", 1: "direct RGB", 2: "EGA text"}


def memory_type(value: int) -> str:
    """A memory map entry's type in words; the specifications count every unknown type as reserved."""
    return MEMORY_TYPES.get(value, "reserved (unknown type)")


@record
class BasicMemory:
    """Lower memory (from 0) and upper memory (from 1 MiB up to the first hole), in KiB."""

    mem_lower: int
    mem_upper: int


@record
class ApmTable:
    """The Advanced Power Management BIOS interface: segments, their lengths, the entry point's offset."""

    version: int
    cseg: int
    offset: int
    cseg_16: int
    dseg: int
    flags: int
    cseg_len: int
    cseg_16_len: int
    dseg_len: int


APM_TABLE = Layout(
    ApmTable,
    Struct(
        "version" / Int16ul,
        "cseg" / Int16ul,
        "offset" / Int32ul,
        "cseg_16" / Int16ul,
        "dseg" / Int16ul,
        "flags" / Int16ul,
        "cseg_len" / Int16ul,
        "cseg_16_len" / Int16ul,
        "dseg_len" / Int16ul,
    ),
    hex=("version", "cseg", "offset", "cseg_16", "dseg", "flags"),
    telling=("version",),
)


@record
class VbeInfo:
    """The VESA BIOS Extension blocks: ``vbe_control_info`` is 512 bytes, ``vbe_mode_info`` 256."""

    vbe_mode: int
    vbe_interface_seg: int
    vbe_interface_off: int
    vbe_interface_len: int
    vbe_control_info: bytes
    vbe_mode_info: bytes


VBE_CONTROL_INFO_SIZE = 512
VBE_MODE_INFO_SIZE = 256


def vbe_mode_words(block: bytes) -> str:
    """A mode information block in words: XResolution, YResolution at 18 and 20, BitsPerPixel at 25 (VBE 3.0)."""
    width, height = int.from_bytes(block[18:20], "little"), int.from_bytes(block[20:22], "little")
    return f"{width}x{height}, {block[25]} bits per pixel" if width and len(block) > 25 else ""


VBE_INFO = Layout(
    VbeInfo,
    Struct(
        "vbe_mode" / Int16ul,
        "vbe_interface_seg" / Int16ul,
        "vbe_interface_off" / Int16ul,
        "vbe_interface_len" / Int16ul,
        "vbe_control_info" / Bytes(VBE_CONTROL_INFO_SIZE),
        "vbe_mode_info" / Bytes(VBE_MODE_INFO_SIZE),
    ),
    hex=("vbe_mode", "vbe_interface_seg", "vbe_interface_off"),
    telling=("vbe_mode", "vbe_mode_info"),
    meanings={"vbe_mode_info": vbe_mode_words},
)


@record
class RgbInfo:
    """Where each colour lies in a pixel: lowest bit and number of bits (framebuffer type 1)."""

    framebuffer_red_field_position: int
    framebuffer_red_mask_size: int
    framebuffer_green_field_position: int
    framebuffer_green_mask_size: int
    framebuffer_blue_field_position: int
    framebuffer_blue_mask_size: int


RGB_INFO = Layout(
    RgbInfo,
    Struct(
        "framebuffer_red_field_position" / Int8ul,
        "framebuffer_red_mask_size" / Int8ul,
        "framebuffer_green_field_position" / Int8ul,
        "framebuffer_green_mask_size" / Int8ul,
        "framebuffer_blue_field_position" / Int8ul,
        "framebuffer_blue_mask_size" / Int8ul,
    ),
)


@record
class Palette:
    """The colours of an indexed framebuffer (type 0), each as (red_value, green_value, blue_value)."""

    colors: tuple[tuple[int, int, int], ...]

    @staticmethod
    def parse(data: bytes) -> Palette:
        """The colours stored in ``data``, three bytes each; a remainder is left out."""
        return Palette(tuple((data[at], data[at + 1], data[at + 2]) for at in range(0, len(data) - 2, 3)))

    def build(self) -> bytes:
        """The colours' bytes; FormatError when a colour is not three values of one byte."""
        try:
            return bytes(value for red, green, blue in self.colors for value in (red, green, blue))
        except ValueError as error:
            raise FormatError("a colour is three values of one byte", field="framebuffer_palette") from error


def text_of(stored: bytes) -> str:
    """A stored string as text; bytes that are not UTF-8 survive a round trip (surrogate escapes)."""
    return stored.decode("utf-8", "surrogateescape")


def bytes_of(text: str, field: str) -> bytes:
    """A text as a zero-terminated string; FormatError when it holds a zero itself."""
    if "\0" in text:
        raise FormatError("a zero-terminated string cannot hold a zero", field=field)
    try:
        return text.encode("utf-8", "surrogateescape") + b"\0"
    except UnicodeEncodeError as error:
        raise FormatError("not a text that can be stored", field=field) from error


def shown(stored: bytes) -> str:
    """A stored string for people: bytes that are not UTF-8 become escapes."""
    return stored.decode("utf-8", "backslashreplace")
