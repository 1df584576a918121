"""The structures that stand in Linux's ``boot_params`` page: screen, APM, SpeedStep, EFI, OLPC.

Source: Linux, include/uapi/linux/screen_info.h and apm_bios.h, arch/x86/include/uapi/asm/ist.h and bootparam.h.
"""

from __future__ import annotations

from dataclasses import dataclass

from mbtool.formats.wire import Layout, choice_names, flag_names
from mbtool.formats.wire_plain import Bytes, Int8ul, Int16ul, Int32ul, Struct

VIDEO_TYPES = {
    0x00: "none",
    0x01: "VGA, as the BIOS left it",
    0x10: "MDA",
    0x11: "CGA",
    0x20: "EGA, monochrome",
    0x21: "EGA, colour",
    0x22: "VGA, text",
    0x23: "VESA linear frame buffer",
    0x70: "EFI frame buffer",
}


@dataclass(frozen=True, slots=True)
class ScreenInfo:
    """``struct screen_info``: text mode (columns, lines, scan lines of a character) or linear frame buffer.

    ``lfb_size`` is in units of 64 KiB for VESA, in bytes for EFI; ``lfb_linelength`` in bytes; colours in bits.
    """

    orig_x: int = 0
    orig_y: int = 0
    ext_mem_k: int = 0
    orig_video_page: int = 0
    orig_video_mode: int = 0
    orig_video_cols: int = 0
    flags: int = 0
    unused2: int = 0
    orig_video_ega_bx: int = 0
    unused3: int = 0
    orig_video_lines: int = 0
    orig_video_isVGA: int = 0
    orig_video_points: int = 0
    lfb_width: int = 0
    lfb_height: int = 0
    lfb_depth: int = 0
    lfb_base: int = 0
    lfb_size: int = 0
    cl_magic: int = 0
    cl_offset: int = 0
    lfb_linelength: int = 0
    red_size: int = 0
    red_pos: int = 0
    green_size: int = 0
    green_pos: int = 0
    blue_size: int = 0
    blue_pos: int = 0
    rsvd_size: int = 0
    rsvd_pos: int = 0
    vesapm_seg: int = 0
    vesapm_off: int = 0
    pages: int = 0
    vesa_attributes: int = 0
    capabilities: int = 0
    ext_lfb_base: int = 0
    reserved: int = 0

    @property
    def frame_buffer(self) -> int:
        """Physical address of the linear frame buffer; its upper half counts when a capability says so."""
        return self.lfb_base | (self.ext_lfb_base << 32 if self.capabilities & VIDEO_CAPABILITY_64BIT_BASE else 0)


VIDEO_CAPABILITY_64BIT_BASE = 1 << 1

SCREEN_INFO = Layout(
    ScreenInfo,
    Struct(
        "orig_x" / Int8ul,
        "orig_y" / Int8ul,
        "ext_mem_k" / Int16ul,
        "orig_video_page" / Int16ul,
        "orig_video_mode" / Int8ul,
        "orig_video_cols" / Int8ul,
        "flags" / Int8ul,
        "unused2" / Int8ul,
        "orig_video_ega_bx" / Int16ul,
        "unused3" / Int16ul,
        "orig_video_lines" / Int8ul,
        "orig_video_isVGA" / Int8ul,
        "orig_video_points" / Int16ul,
        "lfb_width" / Int16ul,
        "lfb_height" / Int16ul,
        "lfb_depth" / Int16ul,
        "lfb_base" / Int32ul,
        "lfb_size" / Int32ul,
        "cl_magic" / Int16ul,
        "cl_offset" / Int16ul,
        "lfb_linelength" / Int16ul,
        *(f"{colour}_{what}" / Int8ul for colour in ("red", "green", "blue", "rsvd") for what in ("size", "pos")),
        "vesapm_seg" / Int16ul,
        "vesapm_off" / Int16ul,
        "pages" / Int16ul,
        "vesa_attributes" / Int16ul,
        "capabilities" / Int32ul,
        "ext_lfb_base" / Int32ul,
        "reserved" / Int16ul,
    ),
    hex={
        "orig_video_page",
        "orig_video_mode",
        "flags",
        "orig_video_ega_bx",
        "orig_video_isVGA",
        "lfb_base",
        "cl_magic",
        "cl_offset",
        "vesapm_seg",
        "vesapm_off",
        "vesa_attributes",
        "capabilities",
        "ext_lfb_base",
    },
    telling={"orig_video_isVGA", "orig_video_cols", "orig_video_lines", "lfb_width", "lfb_height", "lfb_base"},
    meanings={
        "orig_video_isVGA": choice_names(VIDEO_TYPES),
        "flags": flag_names({0: "VIDEO_FLAGS_NOCURSOR"}),
        "capabilities": flag_names({0: "VIDEO_CAPABILITY_SKIP_QUIRKS", 1: "VIDEO_CAPABILITY_64BIT_BASE"}),
    },
)


@dataclass(frozen=True, slots=True)
class ApmBiosInfo:
    """``struct apm_bios_info``: the protected-mode interface of an APM BIOS (segments, lengths in bytes)."""

    version: int = 0
    cseg: int = 0
    offset: int = 0
    cseg_16: int = 0
    dseg: int = 0
    flags: int = 0
    cseg_len: int = 0
    cseg_16_len: int = 0
    dseg_len: int = 0


APM_BIOS_INFO = Layout(
    ApmBiosInfo,
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
    hex={"version", "cseg", "offset", "cseg_16", "dseg", "flags"},
    telling={"version"},
    meanings={"version": lambda version: f"{version >> 8}.{version & 0xFF}" if version else "no APM BIOS"},
)


@dataclass(frozen=True, slots=True)
class IstInfo:
    """``struct ist_info``: Intel SpeedStep as the BIOS tells it."""

    signature: int = 0
    command: int = 0
    event: int = 0
    perf_level: int = 0


IST_INFO = Layout(
    IstInfo,
    Struct("signature" / Int32ul, "command" / Int32ul, "event" / Int32ul, "perf_level" / Int32ul),
    hex={"signature", "command", "event", "perf_level"},
    telling={"signature"},
)


@dataclass(frozen=True, slots=True)
class SysDescTable:
    """``struct sys_desc_table``: the BIOS's configuration table, obsolete; ``length`` in bytes."""

    length: int = 0
    table: bytes = bytes(14)


SYS_DESC_TABLE = Layout(SysDescTable, Struct("length" / Int16ul, "table" / Bytes(14)), telling={"length"})


@dataclass(frozen=True, slots=True)
class OlpcOfwHeader:
    """``struct olpc_ofw_header``: Open Firmware of the OLPC laptop (addresses)."""

    ofw_magic: int = 0
    ofw_version: int = 0
    cif_handler: int = 0
    irq_desc_table: int = 0


OLPC_MAGIC = int.from_bytes(b"OFW ", "little")
OLPC_OFW_HEADER = Layout(
    OlpcOfwHeader,
    Struct("ofw_magic" / Int32ul, "ofw_version" / Int32ul, "cif_handler" / Int32ul, "irq_desc_table" / Int32ul),
    hex={"ofw_magic", "cif_handler", "irq_desc_table"},
    telling={"ofw_magic", "ofw_version"},
    meanings={"ofw_magic": lambda magic: '"OFW "' if magic == OLPC_MAGIC else ""},
)


@dataclass(frozen=True, slots=True)
class EfiInfo:
    """``struct efi_info``: physical addresses in two halves, sizes in bytes."""

    efi_loader_signature: int = 0
    efi_systab: int = 0
    efi_memdesc_size: int = 0
    efi_memdesc_version: int = 0
    efi_memmap: int = 0
    efi_memmap_size: int = 0
    efi_systab_hi: int = 0
    efi_memmap_hi: int = 0

    @property
    def systab(self) -> int:
        """Physical address of the EFI system table."""
        return self.efi_systab_hi << 32 | self.efi_systab

    @property
    def memmap(self) -> int:
        """Physical address of the EFI memory map."""
        return self.efi_memmap_hi << 32 | self.efi_memmap


EFI_SIGNATURES = {
    0: "not started by EFI",
    int.from_bytes(b"EL32", "little"): "32-bit EFI",
    int.from_bytes(b"EL64", "little"): "64-bit EFI",
}
EFI_INFO = Layout(
    EfiInfo,
    Struct(
        "efi_loader_signature" / Int32ul,
        "efi_systab" / Int32ul,
        "efi_memdesc_size" / Int32ul,
        "efi_memdesc_version" / Int32ul,
        "efi_memmap" / Int32ul,
        "efi_memmap_size" / Int32ul,
        "efi_systab_hi" / Int32ul,
        "efi_memmap_hi" / Int32ul,
    ),
    hex={"efi_loader_signature", "efi_systab", "efi_memmap", "efi_systab_hi", "efi_memmap_hi"},
    telling={"efi_loader_signature", "efi_memmap_size"},
    meanings={"efi_loader_signature": choice_names(EFI_SIGNATURES)},
)
