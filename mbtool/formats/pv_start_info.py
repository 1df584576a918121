"""Xen's PV ``start_info``: the page that tells a PV kernel where everything is, and dom0's console after it.

Xen: xen/include/public/xen.h, ``struct start_info`` and ``struct dom0_vga_console_info``. A 32-bit (PAE) kernel
gets the compat layout of the same structure. dom0 finds its console in a ``dom0_vga_console_info`` that
``info_off`` and ``info_size`` locate; any other domain has a console ring's frame and event channel there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mbtool.errors import FormatError
from mbtool.formats import vga_console
from mbtool.formats.wire import Layout, flag_names
from mbtool.formats.wire_plain import Bytes, Int32ul, Int64ul, Padding, Struct
from mbtool.model import Field, Finding, Node, Severity
from mbtool.record import record
from mbtool.source import Source

PAGE = 4096
MAX_GUEST_CMDLINE = 1024
"""Bytes of ``cmd_line``, its final NUL included."""

SIF_PRIVILEGED = 1 << 0
SIF_INITDOMAIN = 1 << 1
SIF_MULTIBOOT_MOD = 1 << 2
SIF_MOD_START_PFN = 1 << 3
SIF_VIRT_P2M_4TOOLS = 1 << 4
SIF_PM_SHIFT = 8
SIF_PM_MASK = 0xFF << SIF_PM_SHIFT

_FLAGS = {
    0: "PRIVILEGED",
    1: "INITDOMAIN",
    2: "MULTIBOOT_MOD",
    3: "MOD_START_PFN",
    4: "VIRT_P2M_4TOOLS",
    8: "PM_CX",
    9: "PM_PX",
    10: "PM_TX",
    11: "PM_CPPC",
}


@record
class StartInfo:
    """``struct start_info``, either width. ``console`` holds the union's bytes after its first two words."""

    magic: bytes
    nr_pages: int
    shared_info: int
    flags: int
    store_mfn: int
    store_evtchn: int
    info_off: int
    info_size: int
    console: bytes
    pt_base: int
    nr_pt_frames: int
    mfn_list: int
    mod_start: int
    mod_len: int
    cmd_line: bytes
    first_p2m_pfn: int
    nr_p2m_frames: int

    @property
    def for_dom0(self) -> bool:
        """Whether the console union is dom0's (``info_off``, ``info_size``)."""
        return bool(self.flags & SIF_INITDOMAIN)


def _layout(word: Any, gap: int, console: int) -> Layout[StartInfo]:
    """The structure with words (C's ``unsigned long``) of one size; ``gap``: padding behind the 32-bit fields."""
    return Layout(
        StartInfo,
        Struct(
            "magic" / Bytes(32),
            "nr_pages" / word,
            "shared_info" / word,
            "flags" / Int32ul,
            Padding(gap),
            "store_mfn" / word,
            "store_evtchn" / Int32ul,
            Padding(gap),
            "info_off" / Int32ul,
            "info_size" / Int32ul,
            "console" / Bytes(console),
            "pt_base" / word,
            "nr_pt_frames" / word,
            "mfn_list" / word,
            "mod_start" / word,
            "mod_len" / word,
            "cmd_line" / Bytes(MAX_GUEST_CMDLINE),
            "first_p2m_pfn" / word,
            "nr_p2m_frames" / word,
        ),
        hex=("shared_info", "flags", "store_mfn", "pt_base", "mfn_list", "mod_start", "first_p2m_pfn"),
        telling=("nr_pages", "flags", "pt_base", "nr_pt_frames", "mfn_list", "mod_start", "mod_len"),
        meanings={"flags": flag_names(_FLAGS)},
    )


START_INFO_64 = _layout(Int64ul, 4, 8)
START_INFO_32 = _layout(Int32ul, 0, 0)
LAYOUTS = {64: START_INFO_64, 32: START_INFO_32}

INFO_OFF = START_INFO_64.size
"""Where Xen puts dom0's console information in the page, for 32-bit kernels too."""


def width_of(data: bytes) -> int:
    """64 or 32, by the magic (``xen-3.0-x86_64``, ``xen-3.0-x86_32p``); FormatError when it is neither."""
    for width, text in ((64, b"-x86_64"), (32, b"-x86_32")):
        if data.startswith(b"xen-") and text in data[:32]:
            return width
    raise FormatError(
        "no PV start_info",
        offset=0,
        field="magic",
        expected="xen-<version>-x86_64 or -x86_32p",
        found=repr(data[:16]),
    )


def parse(data: bytes, width: int | None = None) -> StartInfo:
    """A start_info from its bytes (``width`` 64 or 32, told by the magic when None); FormatError when cut short."""
    return LAYOUTS[width or width_of(data)].parse(data)


def build_page(info: StartInfo, vga: bytes = b"", width: int = 64) -> bytes:
    """The 4096 bytes of the page: start_info, dom0's console information behind it, zeros.

    Xen makes the 32-bit form out of the 64-bit one in place (xlat_start_info): the end of that is left behind it.
    """
    page = LAYOUTS[width].build(info)
    if width == 32:
        page += START_INFO_64.build(replace(info, console=bytes(8)))[len(page) :]
    page += vga
    if len(page) > PAGE:
        raise FormatError("console information does not fit behind start_info", found=f"{len(vga)} bytes")
    return page.ljust(PAGE, b"\0")


def reject(source: Source) -> str:
    """Why this is no start_info, "" when it is one."""
    try:
        width = width_of(source.read(0, 32))
    except FormatError:
        return "no xen-…-x86 magic at its start"
    size = LAYOUTS[width].size
    return "" if len(source.read(0, size)) == size else f"shorter than the {size} bytes of a start_info"


def inspect(source: Source, context: object = None) -> Node:
    """A dumped start_info, dom0's console information as its child; FormatError when it is none."""
    data = source.read(0, PAGE)
    layout = LAYOUTS[width_of(data)]
    info = layout.parse(data, source=source.name)
    fields = tuple(_worded(field, info) for field in layout.fields(data))
    children: tuple[Node, ...] = ()
    findings: list[Finding] = []
    if info.for_dom0 and info.info_size:
        vga = data[info.info_off : info.info_off + info.info_size]
        if len(vga) < vga_console.SIZE:
            findings.append(
                Finding(
                    "START-INFO-CONSOLE",
                    Severity.WARNING,
                    "dom0's console information is not whole",
                    "info_off",
                    layout.offsets["info_off"][0],
                    f"{vga_console.SIZE} bytes in the page",
                    f"{len(vga)} at {info.info_off:#x}",
                )
            )
        else:
            children = (
                Node("vga-console-info", info.info_off, vga_console.SIZE, vga_console.layout_of(vga).fields(vga)),
            )
    if b"\0" not in info.cmd_line:
        findings.append(Finding("START-INFO-CMDLINE", Severity.WARNING, "the command line has no end", "cmd_line"))
    return Node("pv-start-info", 0, layout.size, fields, children, tuple(findings))


def _worded(field: Field, info: StartInfo) -> Field:
    """The fields whose reading depends on others."""
    value, meaning = field.value, field.meaning
    if field.name in ("magic", "cmd_line") and isinstance(value, bytes):
        value = value.split(b"\0")[0].decode("utf-8", "backslashreplace")
    elif field.name == "mod_start" and info.mod_len:
        meaning = "page frame number" if info.flags & SIF_MOD_START_PFN else "virtual address"
    elif field.name == "info_off":
        meaning = "dom0's console information" if info.for_dom0 else "console ring: frame, low half"
    elif field.name == "info_size" and not info.for_dom0:
        meaning = "console ring: frame, high half (32-bit: event channel)"
    telling = field.telling or field.name in ("magic", "cmd_line")
    return Field(field.name, value, field.offset, field.size, meaning, field.raw[:64], telling)
