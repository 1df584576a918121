"""``struct boot_params``, Linux's "zero page": all that a boot loader tells an x86 kernel, 4096 bytes.

Source: Linux, arch/x86/include/uapi/asm/bootparam.h and Documentation/arch/x86/zero-page.rst.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from construct import Array, Bytes, ExprAdapter, Int8ul, Int32ul, Int64ul, Struct

from mbtool.errors import FormatError
from mbtool.formats import linux_boot
from mbtool.formats.linux_boot import SetupHeader
from mbtool.formats.linux_boot_params_parts import (
    APM_BIOS_INFO,
    EFI_INFO,
    IST_INFO,
    OLPC_OFW_HEADER,
    SCREEN_INFO,
    SYS_DESC_TABLE,
    ApmBiosInfo,
    EfiInfo,
    IstInfo,
    OlpcOfwHeader,
    ScreenInfo,
    SysDescTable,
)
from mbtool.formats.linux_edd import EDD_INFO, EDD_MBR_SIG_MAX, EDDMAXNR, EddInfo
from mbtool.formats.linux_setup_data_types import E820, E820Entry
from mbtool.formats.wire import Layout, choice_names

SIZE = 4096
HDR_END = 0x290
"""Where the room for the setup header ends, which begins at ``linux_boot.START``."""
E820_MAX_ENTRIES_ZEROPAGE = 128
SECURE_BOOT = {0: "not set", 1: "unknown", 2: "disabled", 3: "enabled"}
"""``enum efi_secureboot_mode`` (include/linux/efi.h)."""

NO_MEMORY = (E820Entry(0, 0, 0),) * E820_MAX_ENTRIES_ZEROPAGE
NO_DISKS = (EddInfo(),) * EDDMAXNR


@dataclass(frozen=True, slots=True)
class BootParams:
    """The page. Addresses are physical; ``ext_`` fields are the upper halves of the setup header's 32-bit ones.

    The tables always have all their entries; ``e820_entries``, ``eddbuf_entries`` and ``edd_mbr_sig_buf_entries``
    say how many count.
    """

    screen_info: ScreenInfo = field(default_factory=ScreenInfo)
    apm_bios_info: ApmBiosInfo = field(default_factory=ApmBiosInfo)
    pad2: bytes = bytes(4)
    tboot_addr: int = 0
    ist_info: IstInfo = field(default_factory=IstInfo)
    acpi_rsdp_addr: int = 0
    pad3: bytes = bytes(8)
    hd0_info: bytes = bytes(16)
    hd1_info: bytes = bytes(16)
    sys_desc_table: SysDescTable = field(default_factory=SysDescTable)
    olpc_ofw_header: OlpcOfwHeader = field(default_factory=OlpcOfwHeader)
    ext_ramdisk_image: int = 0
    ext_ramdisk_size: int = 0
    ext_cmd_line_ptr: int = 0
    pad4: bytes = bytes(112)
    cc_blob_address: int = 0
    edid_info: bytes = bytes(128)
    efi_info: EfiInfo = field(default_factory=EfiInfo)
    alt_mem_k: int = 0
    scratch: int = 0
    e820_entries: int = 0
    eddbuf_entries: int = 0
    edd_mbr_sig_buf_entries: int = 0
    kbd_status: int = 0
    secure_boot: int = 0
    pad5: bytes = bytes(2)
    sentinel: int = 0
    pad6: int = 0
    hdr: SetupHeader = field(default_factory=SetupHeader)
    edd_mbr_sig_buffer: tuple[int, ...] = (0,) * EDD_MBR_SIG_MAX
    e820_table: tuple[E820Entry, ...] = NO_MEMORY
    pad8: bytes = bytes(48)
    eddbuf: tuple[EddInfo, ...] = NO_DISKS
    pad9: bytes = bytes(276)

    @property
    def memory_map(self) -> tuple[E820Entry, ...]:
        """The entries of e820_table that count."""
        return self.e820_table[: self.e820_entries]

    @property
    def disks(self) -> tuple[EddInfo, ...]:
        """The entries of eddbuf that count."""
        return self.eddbuf[: self.eddbuf_entries]

    @property
    def ramdisk(self) -> tuple[int, int]:
        """Physical address and size (bytes) of the initrd."""
        return (
            self.ext_ramdisk_image << 32 | self.hdr.ramdisk_image,
            self.ext_ramdisk_size << 32 | self.hdr.ramdisk_size,
        )

    @property
    def cmd_line(self) -> int:
        """Physical address of the command line."""
        return self.ext_cmd_line_ptr << 32 | self.hdr.cmd_line_ptr


def with_memory_map(params: BootParams, entries: tuple[E820Entry, ...]) -> BootParams:
    """The page with another memory map; FormatError for more than 128 entries, which do not fit."""
    if len(entries) > E820_MAX_ENTRIES_ZEROPAGE:
        raise FormatError(
            "memory map does not fit into boot_params",
            field="BootParams.e820_table",
            expected=f"at most {E820_MAX_ENTRIES_ZEROPAGE} entries",
            found=str(len(entries)),
            remedy="pass the rest as setup_data of type SETUP_E820_EXT",
        )
    return replace(params, e820_entries=len(entries), e820_table=(*entries, *NO_MEMORY[len(entries) :]))


def _nested(layout: Layout[Any]) -> ExprAdapter:
    """A structure within the page as its own value. Most are blank, and all blank ones are the same: remembered."""
    parse, build = lru_cache(256)(layout.parse), lru_cache(256)(layout.build)
    return ExprAdapter(Bytes(layout.size), lambda data, context: parse(data), lambda value, context: build(value))


def _parse_header(data: bytes, context: object) -> SetupHeader:
    return linux_boot.parse(bytes(linux_boot.START) + data, stop=HDR_END)


def _build_header(header: SetupHeader, context: object) -> bytes:
    """A header from a kernel file is shorter than its room: zeros follow."""
    built, room = linux_boot.build(header), HDR_END - linux_boot.START
    if len(built) > room:
        raise FormatError(
            "setup header does not fit",
            field="BootParams.hdr",
            expected=f"at most {room} bytes",
            found=str(len(built)),
        )
    return built.ljust(room, b"\0")


BOOT_PARAMS = Layout(
    BootParams,
    Struct(
        "screen_info" / _nested(SCREEN_INFO),
        "apm_bios_info" / _nested(APM_BIOS_INFO),
        "pad2" / Bytes(4),
        "tboot_addr" / Int64ul,
        "ist_info" / _nested(IST_INFO),
        "acpi_rsdp_addr" / Int64ul,
        "pad3" / Bytes(8),
        "hd0_info" / Bytes(16),
        "hd1_info" / Bytes(16),
        "sys_desc_table" / _nested(SYS_DESC_TABLE),
        "olpc_ofw_header" / _nested(OLPC_OFW_HEADER),
        "ext_ramdisk_image" / Int32ul,
        "ext_ramdisk_size" / Int32ul,
        "ext_cmd_line_ptr" / Int32ul,
        "pad4" / Bytes(112),
        "cc_blob_address" / Int32ul,
        "edid_info" / Bytes(128),
        "efi_info" / _nested(EFI_INFO),
        "alt_mem_k" / Int32ul,
        "scratch" / Int32ul,
        "e820_entries" / Int8ul,
        "eddbuf_entries" / Int8ul,
        "edd_mbr_sig_buf_entries" / Int8ul,
        "kbd_status" / Int8ul,
        "secure_boot" / Int8ul,
        "pad5" / Bytes(2),
        "sentinel" / Int8ul,
        "pad6" / Int8ul,
        "hdr" / ExprAdapter(Bytes(HDR_END - linux_boot.START), _parse_header, _build_header),
        "edd_mbr_sig_buffer" / Array(EDD_MBR_SIG_MAX, Int32ul),
        "e820_table" / Array(E820_MAX_ENTRIES_ZEROPAGE, _nested(E820)),
        "pad8" / Bytes(48),
        "eddbuf" / Array(EDDMAXNR, _nested(EDD_INFO)),
        "pad9" / Bytes(276),
    ),
    hex={
        "tboot_addr",
        "acpi_rsdp_addr",
        "ext_ramdisk_image",
        "ext_cmd_line_ptr",
        "cc_blob_address",
        "scratch",
        "sentinel",
        "edd_mbr_sig_buffer",
    },
    telling={"acpi_rsdp_addr", "e820_entries", "eddbuf_entries", "secure_boot"},
    meanings={
        "secure_boot": choice_names(SECURE_BOOT),
        "sentinel": lambda byte: "the loader copied more than the setup header" if byte else "",
        "alt_mem_k": lambda size: f"{size} KiB above 1 MiB" if size else "",
    },
)


def parse(page: bytes, *, source: str = "") -> BootParams:
    """The value of a page of at least 4096 bytes; FormatError when it is cut short."""
    return BOOT_PARAMS.parse(page, source=source)


def build(params: BootParams) -> bytes:
    """The 4096 bytes of the page; FormatError when a value does not fit its field."""
    return BOOT_PARAMS.build(params)
