"""What Xen tells dom0 about the screen: ``struct dom0_vga_console_info``, 40 bytes behind start_info.

Xen: xen/include/public/xen.h. The first byte is the type; what follows from offset 4 on depends on it.
"""

from __future__ import annotations

from mbtool.formats.wire import Layout, choice_names
from mbtool.formats.wire_plain import Bytes, Int8ul, Int16ul, Int32ul, Padding, Struct
from mbtool.record import record


@record
class VgaTextMode:
    """``text_mode_3``: sizes in characters, font height in scan lines."""

    video_type: int
    font_height: int
    cursor_x: int
    cursor_y: int
    rows: int
    columns: int
    rest: bytes = bytes(26)


@record
class VgaLfb:
    """``vesa_lfb``: a linear frame buffer. ``lfb_size`` in units of 64 KiB; colours: position and size in bits."""

    video_type: int
    width: int
    height: int
    bytes_per_line: int
    bits_per_pixel: int
    lfb_base: int
    lfb_size: int
    red_pos: int
    red_size: int
    green_pos: int
    green_size: int
    blue_pos: int
    blue_size: int
    rsvd_pos: int
    rsvd_size: int
    gbl_caps: int
    mode_attrs: int
    pad: int
    ext_lfb_base: int


XEN_VGATYPE_TEXT_MODE_3 = 0x03
XEN_VGATYPE_VESA_LFB = 0x23
XEN_VGATYPE_EFI_LFB = 0x70
_VIDEO_TYPES = choice_names(
    {
        0: "no VGA",
        XEN_VGATYPE_TEXT_MODE_3: "text mode",
        XEN_VGATYPE_VESA_LFB: "VESA linear frame buffer",
        XEN_VGATYPE_EFI_LFB: "EFI linear frame buffer",
    }
)

VGA_TEXT = Layout(
    VgaTextMode,
    Struct(
        "video_type" / Int8ul,
        Padding(3),
        "font_height" / Int16ul,
        "cursor_x" / Int16ul,
        "cursor_y" / Int16ul,
        "rows" / Int16ul,
        "columns" / Int16ul,
        "rest" / Bytes(26),
    ),
    hex=("video_type",),
    telling=("video_type", "rows", "columns"),
    meanings={"video_type": _VIDEO_TYPES},
)
VGA_LFB = Layout(
    VgaLfb,
    Struct(
        "video_type" / Int8ul,
        Padding(3),
        "width" / Int16ul,
        "height" / Int16ul,
        "bytes_per_line" / Int16ul,
        "bits_per_pixel" / Int16ul,
        "lfb_base" / Int32ul,
        "lfb_size" / Int32ul,
        *(f"{colour}_{what}" / Int8ul for colour in ("red", "green", "blue", "rsvd") for what in ("pos", "size")),
        "gbl_caps" / Int32ul,
        "mode_attrs" / Int16ul,
        "pad" / Int16ul,
        "ext_lfb_base" / Int32ul,
    ),
    hex=("video_type", "lfb_base", "gbl_caps", "mode_attrs", "ext_lfb_base"),
    telling=("video_type", "width", "height", "lfb_base"),
    meanings={"video_type": _VIDEO_TYPES, "lfb_size": lambda units: f"{units * 64} KiB"},
)

SIZE = VGA_TEXT.size

TEXT_80X25 = VGA_TEXT.build(VgaTextMode(XEN_VGATYPE_TEXT_MODE_3, 16, 0, 0, 25, 80))
"""The BIOS text mode with an 8x16 font."""


def layout_of(data: bytes) -> Layout[VgaTextMode] | Layout[VgaLfb]:
    """The layout that the type in the first byte asks for."""
    return VGA_LFB if data[:1] in (bytes([XEN_VGATYPE_VESA_LFB]), bytes([XEN_VGATYPE_EFI_LFB])) else VGA_TEXT


def parse(data: bytes) -> VgaTextMode | VgaLfb:
    """dom0's console information, read the way its type says; unknown types keep their bytes as text mode's."""
    return layout_of(data).parse(data)
