"""PVH start_info, versions 0 and 1, with what it points to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.errors import FormatError
from mbtool.formats import hvm_start_info as hvm
from mbtool.formats.hvm_start_info import HvmStartInfo, MemmapEntry, MemmapPointer, ModlistEntry
from mbtool.source import BytesSource

BASE = 0x4A00000
VERSION_1 = bytes.fromhex(
    "78c56e33"  # magic "xEn3"
    "01000000"  # version
    "03000000"  # flags: PRIVILEGED, INITDOMAIN
    "01000000"  # nr_modules
    "4000a00400000000"  # modlist_paddr: BASE + 0x40
    "0030a00400000000"  # cmdline_paddr
    "260f062000000000"  # rsdp_paddr
    "6000a00400000000"  # memmap_paddr: BASE + 0x60
    "02000000"  # memmap_entries
    "00000000"  # reserved
    "0000000000000000"  # not part of it
    # modlist at 0x40
    "0000b00400000000 c5bb0f0000000000 0000000000000000 0000000000000000"
    # memory map at 0x60
    "0000000000000000 00fc090000000000 01000000 00000000"
    "260f062000000000 7a00000000000000 03000000 00000000"
)


def test_layouts() -> None:
    assert (hvm.HVM_START_INFO.size, hvm.MEMMAP_POINTER.size) == (40, 16)
    assert (hvm.size_of(0), hvm.size_of(1), hvm.size_of(7)) == (40, 56, 56)
    assert (hvm.MODLIST_ENTRY.size, hvm.MEMMAP_ENTRY.size) == (32, 24)
    assert hvm.HVM_START_INFO.offsets["modlist_paddr"] == (16, 8)
    assert hvm.HVM_START_INFO.offsets["rsdp_paddr"] == (32, 8)


def test_version_1() -> None:
    info, memmap = hvm.parse(VERSION_1)
    assert info == HvmStartInfo(0x336EC578, 1, 3, 1, 0x4A00040, 0x4A03000, 0x20060F26)
    assert memmap == MemmapPointer(0x4A00060, 2, 0)
    assert hvm.build(info, memmap) == VERSION_1[:56]
    assert hvm.MODLIST_ENTRY.parse(VERSION_1, 0x40) == ModlistEntry(0x4B00000, 1031109, 0)
    assert hvm.MEMMAP_ENTRY.parse(VERSION_1, 0x78) == MemmapEntry(0x20060F26, 0x7A, 3)


def test_version_0_has_no_memory_map() -> None:
    old = VERSION_1[:4] + bytes(4) + VERSION_1[8:40]
    info, memmap = hvm.parse(old)
    assert memmap is None
    assert hvm.build(info) == old
    node = hvm.inspect(BytesSource(old))
    assert (node.size, node.get("memmap_paddr")) == (40, None)


def test_node_with_tables() -> None:
    assert hvm.reject(BytesSource(VERSION_1)) == ""
    node = hvm.inspect(BytesSource(VERSION_1), base=BASE)
    assert [child.kind for child in node.children] == ["hvm-module", "hvm-memmap-entry", "hvm-memmap-entry"]
    assert [child.offset for child in node.children] == [0x40, 0x60, 0x78]
    assert node.children[0]["size"] == 1031109
    assert [field.meaning for field in node.children[2].fields if field.name == "type"] == ["ACPI"]
    assert node.findings == ()
    assert hvm.inspect(BytesSource(VERSION_1)).children == ()


def test_node_inside_a_dump() -> None:
    dump = bytes(0x1000) + VERSION_1
    node = hvm.inspect(BytesSource(dump), at=0x1000, base=BASE - 0x1000)
    assert (node.offset, node.size) == (0, len(dump))  # it stands for the dump, where its tables lie too
    assert next(field.offset for field in node.fields if field.name == "memmap_paddr") == 0x1028
    assert [child.offset for child in node.children] == [0x1040, 0x1060, 0x1078]
    alone = hvm.inspect(BytesSource(dump), at=0x1000)
    assert (alone.offset, alone.size, alone.fields[0].offset) == (0x1000, 56, 0)


@pytest.mark.parametrize("field", ["nr_modules", "memmap_entries"])
@pytest.mark.parametrize("count", [0, 1, 3, 0xFFFFFFFF])
def test_lying_counts(field: str, count: int) -> None:
    offset = 12 if field == "nr_modules" else 48
    data = VERSION_1[:offset] + count.to_bytes(4, "little") + VERSION_1[offset + 4 :]
    node = hvm.inspect(BytesSource(data), base=BASE)
    assert len(node.children) <= 6
    assert bool(node.findings) == (count > 2)  # two memory map entries lie behind the one module, 48 bytes


@pytest.mark.parametrize("paddr", [0, BASE - 1, BASE + 0x8F, (1 << 64) - 1])
def test_tables_elsewhere(paddr: int) -> None:
    data = VERSION_1[:16] + paddr.to_bytes(8, "little") + VERSION_1[24:]
    node = hvm.inspect(BytesSource(data), base=BASE)
    assert [finding.id for finding in node.findings] == ["HVM-START-INFO-TABLE"]
    assert [child.kind for child in node.children] == ["hvm-memmap-entry"] * 2


@pytest.mark.parametrize("cut", range(56))
def test_truncated(cut: int) -> None:
    if cut < 40:
        assert hvm.reject(BytesSource(VERSION_1[:cut]))
    with pytest.raises(FormatError):
        hvm.inspect(BytesSource(VERSION_1[:cut]))


def test_other_magic() -> None:
    assert hvm.reject(BytesSource(bytes(100)))
    with pytest.raises(FormatError, match="no hvm_start_info"):
        hvm.parse(bytes(100))


@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=4, max_size=4), st.integers(0, (1 << 32) - 1))
def test_round_trip(words: list[int], number: int) -> None:
    info = HvmStartInfo(hvm.XEN_HVM_START_MAGIC_VALUE, number, number, number, *words[:3])
    memmap = MemmapPointer(words[3], number, 0) if number else None
    data = hvm.build(info, memmap)
    assert hvm.parse(data) == (info, memmap)
    assert hvm.build(*hvm.parse(data)) == data


@given(st.binary(min_size=52, max_size=200), st.integers(-100, 1 << 64))
def test_any_bytes(data: bytes, base: int) -> None:
    node = hvm.inspect(BytesSource(VERSION_1[:4] + data), base=base)
    assert len(node.children) <= 20
