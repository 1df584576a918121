"""The ``boot_params`` page: places after bootparam.h, literal structures, round trips, hostile pages."""

from __future__ import annotations

import random
import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbtool.errors import FormatError
from mbtool.formats import linux_boot, linux_boot_params, linux_boot_params_node, linux_edd
from mbtool.formats import linux_boot_params_parts as parts
from mbtool.formats.linux_boot_params import BOOT_PARAMS, BootParams
from mbtool.formats.linux_boot_params_parts import EFI_INFO, SCREEN_INFO, ApmBiosInfo, EfiInfo, IstInfo, ScreenInfo
from mbtool.formats.linux_edd import EDD_INFO, EddInfo
from mbtool.formats.linux_setup_data_types import E820Entry
from mbtool.model import Severity
from tests.formats.linux_images import kernel

PLACES = {
    "screen_info": (0x000, 0x40),
    "apm_bios_info": (0x040, 0x14),
    "pad2": (0x054, 4),
    "tboot_addr": (0x058, 8),
    "ist_info": (0x060, 0x10),
    "acpi_rsdp_addr": (0x070, 8),
    "pad3": (0x078, 8),
    "hd0_info": (0x080, 0x10),
    "hd1_info": (0x090, 0x10),
    "sys_desc_table": (0x0A0, 0x10),
    "olpc_ofw_header": (0x0B0, 0x10),
    "ext_ramdisk_image": (0x0C0, 4),
    "ext_ramdisk_size": (0x0C4, 4),
    "ext_cmd_line_ptr": (0x0C8, 4),
    "pad4": (0x0CC, 112),
    "cc_blob_address": (0x13C, 4),
    "edid_info": (0x140, 0x80),
    "efi_info": (0x1C0, 0x20),
    "alt_mem_k": (0x1E0, 4),
    "scratch": (0x1E4, 4),
    "e820_entries": (0x1E8, 1),
    "eddbuf_entries": (0x1E9, 1),
    "edd_mbr_sig_buf_entries": (0x1EA, 1),
    "kbd_status": (0x1EB, 1),
    "secure_boot": (0x1EC, 1),
    "pad5": (0x1ED, 2),
    "sentinel": (0x1EF, 1),
    "pad6": (0x1F0, 1),
    "hdr": (0x1F1, 0x290 - 0x1F1),
    "edd_mbr_sig_buffer": (0x290, 0x40),
    "e820_table": (0x2D0, 0xA00),
    "pad8": (0xCD0, 48),
    "eddbuf": (0xD00, 0x1EC),
    "pad9": (0xEEC, 276),
}
"""The comments of ``struct boot_params``, and Documentation/arch/x86/zero-page.rst."""

TEXT_SCREEN = bytes.fromhex(
    "00 03"  # cursor
    "00fc"  # ext_mem_k
    "0000"  # page
    "03 50"  # mode 3, 80 columns
    "00 00"  # flags
    "0300 0000"  # EGA
    "19 01"  # 25 lines, VGA
    "1000"  # 16 scan lines
).ljust(64, b"\0")

EFI_SCREEN = bytes.fromhex(
    "0000 0000 0000 0000 0000 0000 0000 00"
    "70"  # 0x0f orig_video_isVGA: EFI
    "0000"
    "2003 5802 2000"  # 800 x 600 x 32
    "00000080"  # 0x18 lfb_base
    "004c1d00"  # 0x1c lfb_size: 1920000
    "0000 0000"
    "800c"  # 0x24 lfb_linelength: 3200
    "08 10 08 08 08 00 08 18"  # 0x26 red, green, blue, reserved: size and position
    "0000 0000 0000 0000"
    "02000000"  # 0x36 capabilities: 64 bits
    "40000000"  # 0x3a ext_lfb_base
    "0000"
)

# An IDE disk of 4 MiB, field by field after edd.h.
EDD = bytes.fromhex(
    "80 30"  # device, EDD 3.0
    "0700"  # interface_support
    "0700 0f 3f"  # legacy geometry
    "1e00"  # length
    "0a00"  # info_flags
    "08000000 10000000 3f000000"  # geometry
    "0120000000000000"  # number_of_sectors
    "0002"  # bytes_per_sector
    "ffffffff"  # dpte_ptr
    "ddbe"  # key
    "24 00 0000"  # device_path_info_length
    "50434920"  # "PCI "
    "4154412020202020"  # "ATA     "
    "00 01 01 00 00000000"  # 00:01.1, channel 0
    "01 00 0000 00000000 0000000000000000"  # device 1
    "00 a5"
)


def page(**changes: bytes) -> bytes:
    """A page with a kernel's header in it and bytes put at the places of fields."""
    data = bytearray(4096)
    data[0x1F1:0x26C] = kernel()[0x1F1:0x26C]
    for name, value in changes.items():
        at, size = PLACES[name]
        assert len(value) <= size
        data[at : at + len(value)] = value
    return bytes(data)


def ids(data: bytes) -> set[str]:
    return {finding.id for node in linux_boot_params_node.node(data).walk() for finding in node.findings}


def test_places():
    assert BOOT_PARAMS.size == 4096
    assert BOOT_PARAMS.offsets == PLACES
    assert (SCREEN_INFO.size, EFI_INFO.size, EDD_INFO.size) == (64, 32, 82)
    landmarks = {
        "orig_video_cols": 0x07,
        "orig_video_isVGA": 0x0F,
        "lfb_width": 0x12,
        "lfb_base": 0x18,
        "lfb_linelength": 0x24,
        "red_size": 0x26,
        "rsvd_pos": 0x2D,
        "vesapm_seg": 0x2E,
        "vesa_attributes": 0x34,
        "capabilities": 0x36,
        "ext_lfb_base": 0x3A,
    }
    assert {name: SCREEN_INFO.offsets[name][0] for name in landmarks} == landmarks
    assert EDD_INFO.offsets["length"] == (8, 2)
    assert EDD_INFO.offsets["host_bus_type"] == (8 + 36, 4)
    assert EDD_INFO.offsets["device_path"] == (8 + 56, 16)
    assert EDD_INFO.offsets["checksum"] == (8 + 73, 1)


def test_text_screen():
    params = linux_boot_params.parse(page(screen_info=TEXT_SCREEN))
    assert params.screen_info == ScreenInfo(
        orig_y=3,
        ext_mem_k=0xFC00,
        orig_video_mode=3,
        orig_video_cols=80,
        orig_video_ega_bx=3,
        orig_video_lines=25,
        orig_video_isVGA=1,
        orig_video_points=16,
    )
    assert linux_boot_params.build(params) == page(screen_info=TEXT_SCREEN)


def test_efi_screen():
    screen = SCREEN_INFO.parse(EFI_SCREEN)
    assert (screen.orig_video_isVGA, screen.lfb_width, screen.lfb_height, screen.lfb_depth) == (0x70, 800, 600, 32)
    assert (screen.lfb_size, screen.lfb_linelength) == (1920000, 3200)
    assert (screen.red_size, screen.red_pos, screen.blue_pos, screen.rsvd_pos) == (8, 16, 0, 24)
    assert screen.frame_buffer == 0x40_8000_0000
    assert replace(screen, capabilities=0).frame_buffer == 0x8000_0000
    assert SCREEN_INFO.build(screen) == EFI_SCREEN
    (child, _) = linux_boot_params_node.node(page(screen_info=EFI_SCREEN)).children
    words = {field.name: field.meaning for field in child.fields}
    assert words["orig_video_isVGA"] == "EFI frame buffer"
    assert words["capabilities"] == "VIDEO_CAPABILITY_64BIT_BASE"


def test_efi_info():
    data = struct.pack("<4s7I", b"EL64", 0x1000, 48, 1, 0x2000, 4800, 1, 2)
    params = linux_boot_params.parse(page(efi_info=data))
    assert params.efi_info == EfiInfo(0x34364C45, 0x1000, 48, 1, 0x2000, 4800, 1, 2)
    assert (params.efi_info.systab, params.efi_info.memmap) == (0x1_0000_1000, 0x2_0000_2000)
    node = linux_boot_params_node.node(page(efi_info=data)).find("efi-info")
    assert node is not None
    assert (node.offset, node.size) == (0x1C0, 32)
    assert node.fields[0].meaning == "64-bit EFI"


def test_small_structures():
    apm = struct.pack("<HHIHHHHHH", 0x0102, 0xF000, 0x8000, 0xF000, 0xF000, 3, 0xFFFF, 0xFFFF, 0xFFFF)
    ist = struct.pack("<4I", 0x47534943, 0x80, 0xB2, 1)
    olpc = struct.pack("<4s3I", b"OFW ", 1, 0xFF000000, 0)
    params = linux_boot_params.parse(page(apm_bios_info=apm, ist_info=ist, olpc_ofw_header=olpc))
    assert params.apm_bios_info == ApmBiosInfo(0x102, 0xF000, 0x8000, 0xF000, 0xF000, 3, 0xFFFF, 0xFFFF, 0xFFFF)
    assert params.ist_info == IstInfo(0x47534943, 0x80, 0xB2, 1)
    assert params.olpc_ofw_header.ofw_magic == parts.OLPC_MAGIC
    node = linux_boot_params_node.node(page(apm_bios_info=apm, ist_info=ist, olpc_ofw_header=olpc))
    assert [child.kind for child in node.children] == [
        "apm-bios-info",
        "ist-info",
        "olpc-ofw-header",
        "setup-header",
    ]
    assert node.children[0].fields[0].meaning == "1.2"


def test_memory_map():
    entries = (E820Entry(0, 0x9FC00, 1), E820Entry(0x100000, 0x7FF00000, 1), E820Entry(0xFFFC0000, 0x40000, 2))
    table = b"".join(struct.pack("<QQI", entry.addr, entry.size, entry.type) for entry in entries)
    data = page(e820_entries=b"\x03", e820_table=table)
    params = linux_boot_params.parse(data)
    assert params.memory_map == entries
    assert len(params.e820_table) == 128
    assert linux_boot_params.build(params) == data
    empty = linux_boot_params.parse(page())
    assert linux_boot_params.build(linux_boot_params.with_memory_map(empty, entries)) == data
    node = linux_boot_params_node.node(data)
    found = [child for child in node.children if child.kind == "e820-entry"]
    assert [child.offset for child in found] == [0x2D0, 0x2D0 + 20, 0x2D0 + 40]
    assert [child["addr"] for child in found] == [0, 0x100000, 0xFFFC0000]
    assert not node.findings


def test_memory_maps_that_do_not_fit():
    empty = BootParams()
    full = linux_boot_params.with_memory_map(empty, (E820Entry(0, 1, 1),) * 128)
    assert full.e820_entries == 128
    with pytest.raises(FormatError, match="does not fit"):
        linux_boot_params.with_memory_map(empty, (E820Entry(0, 1, 1),) * 129)


def test_disks():
    data = page(eddbuf_entries=b"\x01", eddbuf=EDD)
    (disk,) = linux_boot_params.parse(data).disks
    assert (disk.device, disk.version, disk.number_of_sectors, disk.bytes_per_sector) == (0x80, 0x30, 8193, 512)
    assert (disk.legacy_max_cylinder, disk.legacy_max_head, disk.legacy_sectors_per_track) == (7, 15, 63)
    node = linux_boot_params_node.node(data).find("edd-info")
    assert node is not None
    assert (node.offset, node.size) == (0xD00, 82)
    assert node["path"] == "PCI 00:01.1 channel 0, ATA device 1"


@pytest.mark.parametrize(
    ("bus", "interface", "bus_path", "disk_path", "words"),
    [
        (b"ISA ", b"ATA     ", "f001", "00", "ISA 0x1f0, ATA device 0"),
        (b"PCI ", b"SCSI    ", "021f0700", "0300 0500000000000000", "PCI 02:1f.7 channel 0, SCSI id 3 lun 5"),
        (b"PCI ", b"ATAPI   ", "00010101", "01 02", "PCI 00:01.1 channel 1, ATAPI device 1 lun 2"),
        (b"PCIX", b"RAID    ", "01", "07000000", "PCIX 01:00.0 channel 0, RAID array 7"),
        (
            b"PCI ",
            b"FIBRE   ",
            "",
            "0100000000000050 0400000000000000",
            "PCI 00:00.0 channel 0, FIBRE wwid 0x5000000000000001 lun 4",
        ),
        (b"PCI ", b"USB     ", "", "3412", "PCI 00:00.0 channel 0, USB 0x1234"),
        (b"XPRS", b"NVME    ", "01", "02", "XPRS 0100000000000000, NVME 02000000000000000000000000000000"),
        (b"\xff\0\0\0", b"\xfe       ", "", "", "\\xff 0000000000000000, \\xfe 00000000000000000000000000000000"),
    ],
)
def test_where_disks_are(bus, interface, bus_path, disk_path, words):
    disk = EddInfo(
        key=0xBEDD,
        host_bus_type=bus,
        interface_type=interface,
        interface_path=bytes.fromhex(bus_path).ljust(8, b"\0"),
        device_path=bytes.fromhex(disk_path).ljust(16, b"\0"),
    )
    field = linux_edd.path(disk)
    assert field is not None
    assert field.value == words
    assert linux_edd.path(replace(disk, key=0)) is None


def test_halves_are_put_together():
    params = BootParams(ext_ramdisk_image=1, ext_ramdisk_size=2, ext_cmd_line_ptr=3)
    header = replace(params.hdr, ramdisk_image=0x1000, ramdisk_size=0x2000, cmd_line_ptr=0x3000)
    params = replace(params, hdr=header)
    assert params.ramdisk == (0x1_0000_1000, 0x2_0000_2000)
    assert params.cmd_line == 0x3_0000_3000


def test_a_kernels_header_is_put_in():
    header = linux_boot.parse(kernel())
    built = linux_boot_params.build(BootParams(hdr=header))
    assert built == page()
    assert linux_boot_params.build(linux_boot_params.parse(built)) == built
    (child,) = linux_boot_params_node.node(built).children
    assert (child.kind, child.offset) == ("setup-header", 0x1F1)
    assert child.fields[0].offset == 0
    assert child["version"] == 0x20F
    with pytest.raises(FormatError, match="does not fit"):
        linux_boot_params.build(BootParams(hdr=replace(header, rest=bytes(0x290 - 0x26C + 1))))


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"e820_entries": b"\x80"}, None),
        ({"e820_entries": b"\x81"}, "BOOT-PARAMS-COUNT"),
        ({"eddbuf_entries": b"\x06"}, None),
        ({"eddbuf_entries": b"\x07"}, "BOOT-PARAMS-COUNT"),
        ({"edd_mbr_sig_buf_entries": b"\x10"}, None),
        ({"edd_mbr_sig_buf_entries": b"\x11"}, "BOOT-PARAMS-COUNT"),
        ({"sentinel": b"\xff"}, "BOOT-PARAMS-SENTINEL"),
        ({"hdr": bytes(0x9F)}, "BOOT-PARAMS-HEADER"),
        ({"e820_entries": b"\1", "e820_table": struct.pack("<QQI", (1 << 64) - 4096, 4096, 2)}, None),
        ({"e820_entries": b"\1", "e820_table": struct.pack("<QQI", (1 << 64) - 4096, 4097, 2)}, "E820-WRAPS"),
        ({"e820_entries": b"\2", "e820_table": struct.pack("<QQIQQI", 0, 0x1000, 1, 0x1000, 0x1000, 2)}, None),
        (
            {"e820_entries": b"\2", "e820_table": struct.pack("<QQIQQI", 0, 0x1001, 1, 0x1000, 0x1000, 2)},
            "E820-OVERLAP",
        ),
        ({"e820_entries": b"\2", "e820_table": struct.pack("<QQIQQI", 0x1000, 1, 2, 0, 0x1001, 1)}, "E820-OVERLAP"),
        ({"e820_entries": b"\2", "e820_table": struct.pack("<QQIQQI", 0, 0x2000, 1, 0x1000, 0x1000, 1)}, None),
        ({"e820_entries": b"\1", "e820_table": struct.pack("<QQIQQI", 0, 0x1001, 1, 0x1000, 0x1000, 2)}, None),
    ],
)
def test_findings(changes, finding):
    assert ids(page(**changes)) == ({finding} if finding else set())


@pytest.mark.parametrize("size", [0, 1, 0x201, 0x290, 4095])
def test_cut_short(size):
    with pytest.raises(FormatError, match="cut short"):
        linux_boot_params.parse(page()[:size])


def test_what_does_not_fit_names_its_field():
    with pytest.raises(FormatError, match="e820_entries"):
        linux_boot_params.build(BootParams(e820_entries=256))
    with pytest.raises(FormatError, match="e820_table"):
        linux_boot_params.build(BootParams(e820_table=()))
    with pytest.raises(FormatError, match="lfb_base"):
        linux_boot_params.build(BootParams(screen_info=ScreenInfo(lfb_base=1 << 32)))


@given(st.integers(0, 1 << 32), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_page_parses_and_builds_back(seed, with_header):
    data = bytearray(random.Random(seed).randbytes(4096))
    if with_header:
        data[0x1F1:0x290] = page()[0x1F1:0x290]
    params = linux_boot_params.parse(bytes(data))
    assert linux_boot_params.build(params) == data
    node = linux_boot_params_node.node(bytes(data))
    assert len([child for child in node.children if child.kind == "e820-entry"]) == min(data[0x1E8], 128)
    assert all(finding.severity in Severity for finding in node.findings)
