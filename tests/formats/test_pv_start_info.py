"""start_info, both widths: a recorded page, hand-made ones, damage."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool import identify
from mbtool.errors import FormatError, MbtoolError
from mbtool.formats import pv_start_info, vga_console
from mbtool.formats.pv_start_info import START_INFO_32, START_INFO_64, StartInfo
from mbtool.formats.wire import Layout
from mbtool.model import Hex
from mbtool.source import BytesSource
from tests.oracle.recording import ORACLE

RECORDED = (ORACLE / "xen4.17.7-linux61-512M.si").read_bytes()
VALUES_64 = st.integers(0, (1 << 64) - 1)

PAE_PAGE = (
    b"xen-3.0-x86_32p".ljust(32, b"\0")  # magic
    + bytes.fromhex(
        "00800000"  # nr_pages
        "00a0d80f"  # shared_info
        "0b030000"  # flags: PRIVILEGED, INITDOMAIN, MOD_START_PFN, Cx, Px
        "00000000"  # store_mfn
        "00000000"  # store_evtchn
        "90040000"  # console.dom0.info_off
        "28000000"  # console.dom0.info_size
        "00100ec0"  # pt_base
        "07000000"  # nr_pt_frames
        "00500ec0"  # mfn_list
        "00100000"  # mod_start
        "39300000"  # mod_len
    )
    + b"ro".ljust(1024, b"\0")  # cmd_line
    + bytes.fromhex("0d100000 00000000")  # first_p2m_pfn, nr_p2m_frames
)


def places(layout: Layout[Any], *names: str) -> list[int]:
    return [layout.offsets[name][0] for name in names]


def test_layouts() -> None:
    """Landmarks of xen/include/public/xen.h as a C compiler places them."""
    head = ("flags", "store_mfn", "info_off", "pt_base", "mfn_list", "mod_start")
    tail = ("cmd_line", "first_p2m_pfn", "nr_p2m_frames")
    assert START_INFO_64.size == 1168
    assert places(START_INFO_64, *head) == [48, 56, 72, 88, 104, 112]
    assert places(START_INFO_64, *tail) == [128, 1152, 1160]
    assert START_INFO_32.size == 1112
    assert places(START_INFO_32, *head) == [40, 44, 52, 60, 68, 72]
    assert places(START_INFO_32, *tail) == [80, 1104, 1108]
    assert vga_console.VGA_TEXT.size == vga_console.VGA_LFB.size == 40
    assert places(vga_console.VGA_LFB, "lfb_base", "red_pos", "gbl_caps", "ext_lfb_base") == [12, 20, 28, 36]


def test_recorded_page() -> None:
    info = pv_start_info.parse(RECORDED)
    assert info == StartInfo(
        magic=b"xen-3.0-x86_64p".ljust(32, b"\0"),
        nr_pages=0x20000,
        shared_info=0x3AA80000,
        flags=0x30B,
        store_mfn=0,
        store_evtchn=0,
        info_off=0x490,
        info_size=0x28,
        console=bytes(8),
        pt_base=0xFFFFFFFF84A01000,
        nr_pt_frames=0x29,
        mfn_list=0x8000000000,
        mod_start=0x8000,
        mod_len=0xFBBC5,
        cmd_line=b"console=hvc0 earlyprintk=xen".ljust(1024, b"\0"),
        first_p2m_pfn=0x80FC,
        nr_p2m_frames=0x103,
    )
    assert pv_start_info.build_page(info, RECORDED[1168:1208]) == RECORDED


def test_recorded_page_as_a_node() -> None:
    assert pv_start_info.reject(BytesSource(RECORDED)) == ""
    node = pv_start_info.inspect(BytesSource(RECORDED))
    assert (node.kind, node.size, node.findings) == ("pv-start-info", 1168, ())
    assert node["magic"] == "xen-3.0-x86_64p"
    assert node["cmd_line"] == "console=hvc0 earlyprintk=xen"
    assert isinstance(node["pt_base"], Hex)
    meanings = {field.name: field.meaning for field in node.fields}
    assert meanings["flags"] == "PRIVILEGED, INITDOMAIN, MOD_START_PFN, PM_CX, PM_PX"
    assert meanings["mod_start"] == "page frame number"
    (vga,) = node.children
    assert (vga.offset, vga.size, vga["rows"], vga["columns"], vga["font_height"]) == (1168, 40, 25, 80, 16)


def test_pae_page() -> None:
    info = pv_start_info.parse(PAE_PAGE)
    assert (info.nr_pages, info.shared_info, info.flags) == (0x8000, 0xFD8A000, 0x30B)
    assert (info.info_off, info.info_size, info.console) == (1168, 40, b"")
    assert (info.pt_base, info.nr_pt_frames, info.mfn_list) == (0xC00E1000, 7, 0xC00E5000)
    assert (info.mod_start, info.mod_len) == (0x1000, 12345)
    assert (info.first_p2m_pfn, info.nr_p2m_frames) == (0x100D, 0)
    assert START_INFO_32.build(info) == PAE_PAGE
    page = pv_start_info.build_page(info, vga_console.TEXT_80X25, 32)
    tail = PAE_PAGE[80 + 1024 - 40 : 80 + 1024] + struct.pack("<QQ", 0x100D, 0)  # what Xen's 64-bit form leaves
    assert page == PAE_PAGE + tail + vga_console.TEXT_80X25 + bytes(4096 - 1208)
    assert [child.offset for child in pv_start_info.inspect(BytesSource(page)).children] == [1168]


@pytest.mark.parametrize("page", [RECORDED, PAE_PAGE.ljust(4096, b"\0")])
def test_a_dumped_page_is_known_for_what_it_is(page: bytes) -> None:
    assert identify.inspect(BytesSource(page)) == pv_start_info.inspect(BytesSource(page))


def test_domu_console_is_not_taken_for_dom0s() -> None:
    page = bytearray(RECORDED)
    page[48] &= ~2
    node = pv_start_info.inspect(BytesSource(bytes(page)))
    assert node.children == ()
    meanings = {field.name: field.meaning for field in node.fields}
    assert meanings["info_off"] == "console ring: frame, low half"


@pytest.mark.parametrize(("offset", "size"), [(4080, 40), (0xFFFFFFFF, 40), (1168, 39), (0, 1)])
def test_console_information_outside_the_page(offset: int, size: int) -> None:
    page = RECORDED[:72] + struct.pack("<II", offset, size) + RECORDED[80:]
    node = pv_start_info.inspect(BytesSource(page))
    assert [finding.id for finding in node.findings] == ["START-INFO-CONSOLE"]
    assert node["nr_pages"] == 0x20000


def test_endless_command_line() -> None:
    page = RECORDED[:128] + b"x" * 1024 + RECORDED[1152:]
    node = pv_start_info.inspect(BytesSource(page))
    assert [finding.id for finding in node.findings] == ["START-INFO-CMDLINE"]
    assert node["cmd_line"] == "x" * 1024


def test_frame_buffers() -> None:
    lfb = struct.pack(
        "<BxxxHHHHII8BIHHI", 0x70, 1024, 768, 4096, 32, 0xC0000000, 48, 8, 16, 8, 8, 8, 0, 8, 24, 1, 2, 0, 4
    )
    parsed = vga_console.parse(lfb)
    assert isinstance(parsed, vga_console.VgaLfb)
    assert (parsed.width, parsed.height, parsed.lfb_base, parsed.ext_lfb_base) == (1024, 768, 0xC0000000, 4)
    assert vga_console.VGA_LFB.build(parsed) == lfb
    page = pv_start_info.build_page(pv_start_info.parse(RECORDED), lfb)
    (child,) = pv_start_info.inspect(BytesSource(page)).children
    assert {f.name: f.meaning for f in child.fields}["lfb_size"] == "3072 KiB"
    with pytest.raises(FormatError):
        pv_start_info.build_page(pv_start_info.parse(RECORDED), bytes(4096))


@pytest.mark.parametrize("cut", range(0, 1168, 7))
def test_truncated(cut: int) -> None:
    assert pv_start_info.reject(BytesSource(RECORDED[:cut]))
    with pytest.raises(FormatError):
        pv_start_info.inspect(BytesSource(RECORDED[:cut]))


def test_other_magic() -> None:
    assert pv_start_info.reject(BytesSource(bytes(4096)))
    with pytest.raises(FormatError, match="no PV start_info"):
        pv_start_info.parse(b"xen-3.0-arm".ljust(4096, b"\0"))


@given(st.lists(VALUES_64, min_size=8, max_size=8), st.integers(0, (1 << 32) - 1), st.binary(max_size=1024))
def test_round_trip(words: list[int], flags: int, line: bytes) -> None:
    info = StartInfo(
        b"xen-3.0-x86_64".ljust(32, b"\0"), words[0], words[1], flags, words[2], flags, 0, flags, bytes(8),
        words[3], words[4], words[5], words[6], words[7], line.ljust(1024, b"\0"), words[0], words[1],
    )  # fmt: skip
    page = pv_start_info.build_page(info)
    assert pv_start_info.parse(page) == info
    assert pv_start_info.build_page(pv_start_info.parse(page)) == page


@given(st.binary(min_size=1168, max_size=1300))
def test_any_bytes(data: bytes) -> None:
    for magic in (b"xen-3.0-x86_64", b"xen-3.0-x86_32p"):
        node = pv_start_info.inspect(BytesSource(magic + data))
        assert node.kind == "pv-start-info"


def test_values_that_do_not_fit() -> None:
    info = pv_start_info.parse(PAE_PAGE)
    with pytest.raises(MbtoolError):
        START_INFO_32.build(replace(info, nr_pages=1 << 32))
