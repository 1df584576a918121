"""The ``setup_data`` list: literal pieces of each type, lists that loop, lie or leave the memory."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.errors import FormatError
from mbtool.formats import linux_setup_data
from mbtool.formats import linux_setup_data_types as types
from mbtool.formats.linux_setup_data import HEADER, SetupData
from mbtool.formats.memory import Memory
from mbtool.model import Finding, Node
from mbtool.source import BytesSource

BASE = 0x9D000


def walk(data: bytes, address: int = BASE) -> tuple[list[SetupData], list[str]]:
    findings: list[Finding] = []
    pieces = list(linux_setup_data.walk(Memory(BytesSource(data), BASE), address, findings))
    return pieces, [finding.id for finding in findings]


def shown(data: bytes, address: int = BASE) -> tuple[list[Node], list[str]]:
    nodes, findings = linux_setup_data.nodes(Memory(BytesSource(data), BASE), address)
    return nodes, [finding.id for node in nodes for finding in node.findings] + [finding.id for finding in findings]


def piece(type_: int, data: bytes, following: int = 0) -> bytes:
    """By hand: next, type, len, data."""
    return struct.pack("<QII", following, type_, len(data)) + data


# A random seed, then two more regions of memory.
LITERAL = bytes.fromhex(
    "20d0090000000000"  # next: 0x9d020
    "09000000"  # SETUP_RNG_SEED
    "08000000"  # 8 bytes
    "0102030405060708"
    "0000000000000000"  # a gap
    "0000000000000000"  # the last
    "01000000"  # SETUP_E820_EXT
    "28000000"  # 40 bytes
    "0000000001000000"  # from 4 GiB
    "0000004000000000"  # 1 GiB
    "01000000"  # usable
    "000000fd00000000"
    "0000000003000000"  # 12 GiB
    "02000000"  # reserved
)


def test_layouts():
    assert HEADER.size == 16
    assert HEADER.offsets == {"next": (0, 8), "type": (8, 4), "len": (12, 4)}
    sizes = {
        "E820": 20,
        "INDIRECT": 24,
        "PCI_ROM": 48,
        "EFI": 96,
        "JAILHOUSE": 280,
        "CC_BLOB": 4,
        "IMA": 16,
        "KHO": 32,
    }
    assert {name: getattr(types, name).size for name in sizes} == sizes
    assert types.PCI_ROM.offsets["pcilen"] == (8, 8)
    assert types.INDIRECT.offsets["addr"] == (16, 8)
    assert types.JAILHOUSE.offsets["cpu_ids"] == (25, 255)


def test_literal_list():
    pieces, findings = walk(LITERAL)
    assert not findings
    assert pieces == [
        SetupData(9, bytes(range(1, 9)), 0x9D000, 0x9D020),
        SetupData(1, LITERAL[0x30:], 0x9D020, 0),
    ]
    nodes, findings = shown(LITERAL)
    assert not findings
    assert [(node.kind, node.offset, node.size) for node in nodes] == [
        ("setup-data", 0x9D000, 24),
        ("setup-data", 0x9D020, 56),
    ]
    seed, memory = nodes
    assert seed["data"] == bytes(range(1, 9))
    assert memory["entries"] == 2
    assert [(entry.offset, entry["addr"], entry["size"], entry["type"]) for entry in memory.children] == [
        (16, 0x100000000, 0x40000000, 1),
        (36, 0xFD000000, 0x300000000, 2),
    ]


def test_build_links_and_aligns():
    built = linux_setup_data.build([SetupData(9, b"seed!"), SetupData(1, LITERAL[0x30:])], BASE)
    assert built[:16] == piece(9, b"seed!", BASE + 24)[:16]
    assert built[16:24] == b"seed!\0\0\0"
    assert built[24:] == piece(1, LITERAL[0x30:])
    assert linux_setup_data.build([], BASE) == b""
    with pytest.raises(FormatError, match="not aligned"):
        linux_setup_data.build([], BASE + 4)


TYPED = [
    (
        3,
        struct.pack("<HHIQQQQQ", 0x8086, 0x1533, 0, 4, 0, 3, 0x1F, 7) + b"\x55\xaa\0\0",
        {"vendor": 0x8086, "devid": 0x1533, "pcilen": 4, "bus": 3, "device": 0x1F, "function": 7},
    ),
    (4, struct.pack("<12Q", *range(1, 13)), {"fw_vendor": 1, "tables": 3, "smbios": 4}),
    (
        6,
        struct.pack("<HHHHQIIB", 2, 1, 0x608, 4, 0xB0000000, 3600000, 25000, 1) + bytes(range(255)) + b"\1\0\0\0",
        {"version": 2, "pm_timer_address": 0x608, "num_cpus": 4, "tsc_khz": 3600000, "standard_ioapic": 1},
    ),
    (7, struct.pack("<I", 0x7FFF0000), {"cc_blob_address": 0x7FFF0000}),
    (8, struct.pack("<QQ", 0x100000, 4096), {"addr": 0x100000, "size": 4096}),
    (10, struct.pack("<QQQQ", 1, 2, 3, 4), {"fdt_addr": 1, "fdt_size": 2, "scratch_addr": 3, "scratch_size": 4}),
    (0x80000000, struct.pack("<IIQQ", 0x80000002, 0, 4096, 0x80000), {"len": 4096, "addr": 0x80000}),
]


@pytest.mark.parametrize(("type_", "data", "values"), TYPED)
def test_types_with_a_form(type_, data, values):
    (node,), findings = shown(piece(type_, data))
    assert not findings
    names = [field.name for field in node.fields[3:]]
    fields = {field.name: field for field in node.fields[3:]}
    assert len(fields) == len(names)
    assert {name: fields[name].value for name in values} == values
    for field in fields.values():
        assert field.offset is not None
        assert field.raw == piece(type_, data)[field.offset : field.offset + len(field.raw)]
    rest = data[types.LAYOUTS[type_].size :]
    assert ("data" in fields) == bool(rest)
    assert not rest or fields["data"].raw == rest
    (short,), findings = shown(piece(type_, data[: types.LAYOUTS[type_].size - 1]))
    assert findings == ["SETUP-DATA-SHORT"]
    assert short["type"] == type_


@pytest.mark.parametrize(("inner", "found"), [(0x80000000, True), (0, True), (0x80000001, False), (2, False)])
def test_indirect_data_must_have_a_type(inner, found):
    _, findings = shown(piece(0x80000000, struct.pack("<IIQQ", inner, 0, 20, 0x80000)))
    assert findings == ["SETUP-DATA-INDIRECT"] * found


def test_data_without_a_form_is_kept():
    (node,), findings = shown(piece(2, b"\xd0\x0d\xfe\xed" + bytes(100)))
    assert not findings
    (field,) = (field for field in node.fields if field.name == "data")
    assert (field.size, field.raw) == (104, b"\xd0\x0d\xfe\xed" + bytes(60))


@pytest.mark.parametrize(
    ("data", "address", "count", "findings"),
    [
        (b"", 0, 0, []),
        (LITERAL, 0, 0, []),
        (LITERAL, BASE - 1, 0, ["SETUP-DATA-OUTSIDE"]),
        (LITERAL, BASE + len(LITERAL), 0, ["SETUP-DATA-OUTSIDE"]),
        (LITERAL, BASE + len(LITERAL) - 15, 0, ["SETUP-DATA-OUTSIDE"]),
        (LITERAL, (1 << 64) - 1, 0, ["SETUP-DATA-OUTSIDE"]),
        (LITERAL[:-1], BASE, 2, ["SETUP-DATA-CUT"]),
        (piece(0, b"", BASE), BASE, 1, ["SETUP-DATA-LOOP"]),
        (piece(0, b"", BASE + 16) + piece(0, b"", BASE), BASE, 2, ["SETUP-DATA-LOOP"]),
        (struct.pack("<QII", 0, 9, 0xFFFFFFFF), BASE, 0, ["SETUP-DATA-LARGE"]),
        (struct.pack("<QII", 0, 9, 1), BASE, 1, ["SETUP-DATA-CUT"]),
    ],
)
def test_bad_lists(data, address, count, findings):
    pieces, found = walk(data, address)
    assert (len(pieces), found) == (count, findings)


def test_long_lists_end():
    many = [SetupData(0, b"")] * 1025
    pieces, findings = walk(linux_setup_data.build(many, BASE))
    assert (len(pieces), findings) == (1024, ["SETUP-DATA-MANY"])
    pieces, findings = walk(linux_setup_data.build(many[:1024], BASE))
    assert (len(pieces), findings) == (1024, [])


def test_large_memory_maps_are_shown_in_part():
    (node,), findings = shown(piece(1, bytes(20 * 5000)))
    assert not findings
    assert node["entries"] == 5000
    assert len(node.children) == 4096


@given(st.lists(st.builds(SetupData, st.integers(0, 0xFFFFFFFF), st.binary(max_size=40)), max_size=8))
def test_walk_undoes_build(pieces):
    found, findings = walk(linux_setup_data.build(pieces, BASE), BASE if pieces else 0)
    assert not findings
    assert [(each.type, each.data) for each in found] == [(each.type, each.data) for each in pieces]


@given(st.binary(max_size=300), st.integers(BASE, BASE + 300))
def test_any_memory(data, address):
    shown(data, address)
