"""The ``__xen_guest`` string that kernels had before ELF notes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.formats import xen_dom_parms
from mbtool.formats.dom_parms import PaeMode
from mbtool.formats.elf_build import build_elf
from mbtool.formats.elf_headers import Phdr, Shdr
from mbtool.formats.xen_legacy_guest import build_text, c_number, parse_pairs, read_text
from mbtool.source import BytesSource
from tests.formats.test_elf import inspect

LINUX_2_6_16 = (
    b"GUEST_OS=linux,GUEST_VER=2.6,XEN_VER=xen-3.0,VIRT_BASE=0xC0000000,ELF_PADDR_OFFSET=0xC0000000,"
    b"VIRT_ENTRY=0xC0100000,HYPERCALL_PAGE=0x104,FEATURES=writable_page_tables|!pae_pgdir_above_4gb,"
    b"PAE=yes[extended-cr3],LOADER=generic\0"
)
"""In the manner of the first paravirtual Linux kernels (elfnote.h names these keys as LEGACY)."""


def kernel(text: bytes) -> bytes:
    return build_elf(
        [(Phdr(p_flags=7, p_vaddr=0xC0100000, p_paddr=0xC0100000, p_memsz=0x300000), b"code")],
        [("__xen_guest", Shdr(sh_type=1), text)],
        elf_class=32,
        entry=0xC0100000,
    )


def test_derived():
    parms = xen_dom_parms.derive(BytesSource(kernel(LINUX_2_6_16)))
    assert parms.legacy
    assert (parms.virt_base, parms.elf_paddr_offset, parms.virt_offset) == (0xC0000000, 0xC0000000, 0)
    assert (parms.virt_kstart, parms.virt_kend) == (0xC0100000, 0xC0400000)
    assert parms.virt_entry == 0xC0100000
    assert parms.virt_hypercall == 0xC0104000, "page 0x104 behind VIRT_BASE"
    assert parms.pae is PaeMode.EXTENDED_CR3
    assert (parms.f_supported, parms.f_required) == (0x11, 0x10)
    assert (parms.guest_os, parms.guest_ver, parms.xen_ver, parms.loader) == ("linux", "2.6", "xen-3.0", "generic")


def test_paddr_offset_defaults_to_virt_base():
    """Only here: with notes the default is 0 (elf_xen_addr_calc_check)."""
    text = LINUX_2_6_16.replace(b"ELF_PADDR_OFFSET=0xC0000000,", b"")
    parms = xen_dom_parms.derive(BytesSource(kernel(text)))
    assert parms.elf_paddr_offset == 0xC0000000


def test_node():
    node = inspect(kernel(LINUX_2_6_16)).find("xen-guest-string")
    assert node is not None
    assert node["VIRT_BASE"] == "0xC0000000"
    assert kernel(LINUX_2_6_16)[node.offset :].startswith(LINUX_2_6_16)
    assert node.size == len(LINUX_2_6_16)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", ()),
        ("A=1", (("A", "1"),)),
        ("A=1,B", (("A", "1"), ("B", ""))),
        ("A=1,", (("A", "1"),)),
        (",A", (("", ""), ("A", ""))),
        ("A=x=y", (("A", "x=y"),)),
        ("n" * 31 + "=v", (("n" * 31, ""), ("", "v"))),  # 31 characters fill the name's buffer
        ("n" * 30 + "=v", (("n" * 30, "v"),)),
        ("A=" + "v" * 127 + ",B", (("A", "v" * 127), ("", ""), ("B", ""))),
        ("A=" + "v" * 126 + ",B", (("A", "v" * 126), ("B", ""))),
    ],
)
def test_pairs(text, pairs):
    assert parse_pairs(text) == pairs


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("12", 12),
        ("0x1F", 0x1F),
        ("0X1f", 0x1F),
        ("010", 8),
        ("08", 0),
        ("0x", 0),
        ("0xg", 0),
        ("12z", 12),
        ("-1", 0),
        (" 1", 0),
        ("", 0),
        ("0xffffffffffffffff", 2**64 - 1),
        ("0x10000000000000001", 1),
    ],
)
def test_c_number(text, value):
    """As simple_strtoull(text, NULL, 0) reads it (xen/lib/strtoull.c)."""
    assert c_number(text) == value


NAMES = st.text(st.characters(min_codepoint=65, max_codepoint=90), min_size=1, max_size=30)


@given(st.lists(st.tuples(NAMES, st.text("0123456789abcx|!", max_size=100)), max_size=8))
def test_round_trip(pairs):
    data = build_text(tuple(pairs))
    assert parse_pairs(read_text(BytesSource(data), 0)) == tuple(pairs)


@given(st.binary(max_size=300))
def test_noise(data):
    pairs = parse_pairs(read_text(BytesSource(data), 0))
    assert all(len(name) <= 31 and len(value) <= 127 for name, value in pairs)
