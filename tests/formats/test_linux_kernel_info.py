"""``kernel_info``: the specification's own example, sizes that lie, round trips."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.errors import FormatError
from mbtool.formats import linux_kernel_info
from mbtool.formats.linux_kernel_info import HEAD, Chunk, KernelInfo
from mbtool.source import BytesSource

# As arch/x86/boot/compressed/kernel_info.S of Linux 6.1 makes it.
PLAIN = bytes.fromhex(
    "4c546f50"  # LToP
    "10000000"  # size
    "10000000"  # size_total
    "09000080"  # setup_type_max: SETUP_INDIRECT | SETUP_RNG_SEED
)

# The example of boot.rst, "The kernel_info".
EXAMPLE = bytes.fromhex(
    "4c546f50"  # LToP
    "10000000"  # size
    "38000000"  # size_total
    "67452301"  # some fixed size data
    "30313233"  # example_struct: "0123"
    "12000000"  # its size
    "537472756374"  # "Struct"
    "23018967"  # data
    "41424344"  # example_strings: "ABCD"
    "16000000"  # its size
    "5374725f3000"  # "Str_0"
    "5374725f3100"  # "Str_1"
    "0000"
)


def test_layout():
    assert HEAD.size == 12
    assert HEAD.offsets == {"header": (0, 4), "size": (4, 4), "size_total": (8, 4)}


def test_a_real_kernels():
    info = linux_kernel_info.parse(PLAIN)
    assert info == KernelInfo(0x80000009)
    assert linux_kernel_info.build(info) == PLAIN
    node = linux_kernel_info.node(BytesSource(bytes(100) + PLAIN), 100)
    assert (node.kind, node.offset, node.size, node.findings) == ("kernel-info", 100, 16, ())
    assert [field.name for field in node.fields] == ["header", "size", "size_total", "setup_type_max"]
    (field,) = (field for field in node.fields if field.name == "setup_type_max")
    assert (field.offset, field.raw) == (12, PLAIN[12:])
    assert field.meaning == "up to SETUP_INDIRECT | SETUP_RNG_SEED"


def test_the_specifications_example():
    info = linux_kernel_info.parse(EXAMPLE)
    assert info.chunks == (Chunk(b"0123", b"Struct\x23\x01\x89\x67"), Chunk(b"ABCD", b"Str_0\0Str_1\0\0\0"))
    assert linux_kernel_info.build(info) == EXAMPLE
    node = linux_kernel_info.node(BytesSource(EXAMPLE), 0)
    assert [(child.offset, child.size, child["magic"]) for child in node.children] == [
        (0x10, 18, b"0123"),
        (0x22, 22, b"ABCD"),
    ]


def test_shortest_and_longer_fixed_parts():
    short = struct.pack("<4sII", b"LToP", 12, 12)
    assert linux_kernel_info.parse(short) == KernelInfo()
    odd = struct.pack("<4sII", b"LToP", 14, 14) + b"xy"
    assert linux_kernel_info.parse(odd) == KernelInfo(None, b"xy")
    later = struct.pack("<4sIII", b"LToP", 20, 20, 9) + b"more"
    assert linux_kernel_info.parse(later) == KernelInfo(9, b"more")
    for data in (short, odd, later):
        assert linux_kernel_info.build(linux_kernel_info.parse(data)) == data


@pytest.mark.parametrize(
    ("at", "value", "field"),
    [
        (0, 0x506F544D, "header"),
        (4, 0, "size"),
        (4, 11, "size"),
        (4, 17, "size"),
        (4, 0xFFFFFFFF, "size"),
        (8, 0, "size"),
        (8, 15, "size"),
        (8, 17, "size_total"),
        (8, 0xFFFFFFFF, "size_total"),
    ],
)
def test_sizes_that_lie(at, value, field):
    data = bytearray(PLAIN)
    data[at : at + 4] = value.to_bytes(4, "little")
    with pytest.raises(FormatError) as caught:
        linux_kernel_info.parse(bytes(data), source="vmlinuz", base=0x1000)
    assert caught.value.field == f"KernelInfo.{field}"
    assert caught.value.offset == 0x1000 + HEAD.offsets[field][0]
    with pytest.raises(FormatError):
        linux_kernel_info.node(BytesSource(bytes(data)), 0)


@pytest.mark.parametrize("size", range(16))
def test_cut_short(size):
    with pytest.raises(FormatError):
        linux_kernel_info.parse(PLAIN[:size])


@pytest.mark.parametrize("size", [0, 7, 0x17, 0xFFFFFFFF])
def test_a_chunk_that_is_none_is_a_finding(size):
    data = EXAMPLE[:0x26] + size.to_bytes(4, "little") + EXAMPLE[0x2A:]
    info = linux_kernel_info.parse(data)
    assert len(info.chunks) == 1
    assert info.rest == data[0x22:]
    assert linux_kernel_info.build(info) == data
    node = linux_kernel_info.node(BytesSource(data), 0)
    assert [(finding.id, finding.offset) for finding in node.findings] == [("KERNEL-INFO-CHUNKS", 0x22)]
    assert len(node.children) == 1


CHUNKS = st.lists(st.builds(Chunk, st.binary(min_size=4, max_size=4), st.binary(max_size=20)), max_size=5)


@given(st.integers(0, 0xFFFFFFFF), st.binary(max_size=20), CHUNKS, st.binary(max_size=7))
def test_parse_undoes_build(type_, fixed_rest, chunks, rest):
    info = KernelInfo(type_, fixed_rest, tuple(chunks), rest)
    assert linux_kernel_info.parse(linux_kernel_info.build(info)) == info


def test_what_does_not_fit():
    with pytest.raises(FormatError):
        linux_kernel_info.build(KernelInfo(1 << 32))
    with pytest.raises(FormatError):
        linux_kernel_info.build(KernelInfo(1, chunks=(Chunk(b"five!", b""),)))
