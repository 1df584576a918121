"""Multiboot 2 boot information: every tag from the specification's bytes, what GRUB really wrote, and damage."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.errors import FormatError
from mbtool.formats import multiboot2_info
from mbtool.formats.multiboot2_header_tags import INFO_NAMES
from mbtool.formats.multiboot2_info import Multiboot2Info
from mbtool.formats.multiboot2_info_tags import (
    TAGS,
    AcpiNewRsdp,
    AcpiOldRsdp,
    BiosBootDevice,
    BootLoaderName,
    CommandLine,
    EfiBootServicesNotTerminated,
    EfiImageHandle32,
    EfiImageHandle64,
    EfiMemoryDescriptor,
    EfiMemoryMap,
    EfiSystemTable32,
    EfiSystemTable64,
    ElfSections,
    Framebuffer,
    LoadBaseAddress,
    MemoryMap,
    MemoryMapEntry,
    Module,
    Network,
    Smbios,
)
from mbtool.formats.multiboot2_tags import Tag, UnknownTag
from mbtool.formats.multiboot_shared import ApmTable, BasicMemory, Palette, RgbInfo, VbeInfo
from mbtool.source import BytesSource
from tests.formats.multiboot_capture import DATA

END = bytes.fromhex("00000000 08000000")
CONTROL, MODE = b"VESA".ljust(512, b"\0"), bytes(18) + struct.pack("<HH3xB", 1024, 768, 32) + bytes(230)
RSDP1 = b"RSD PTR " + bytes([0x58]) + b"BOCHS " + bytes([0]) + struct.pack("<I", 0x07FE1550)

# Each tag as its row in the specification lays it out: type, size, body.
TAG_LITERALS: list[tuple[bytes, Any]] = [
    (bytes.fromhex("01000000 0d000000") + b"ro x\0", CommandLine("ro x")),
    (bytes.fromhex("01000000 09000000") + b"\0", CommandLine("")),
    (bytes.fromhex("02000000 12000000") + b"GRUB 2.06\0", BootLoaderName("GRUB 2.06")),
    (
        bytes.fromhex("03000000 17000000  00002000 ff3f2100") + b"initrd\0",
        Module(0x200000, 0x213FFF, "initrd"),
    ),
    (bytes.fromhex("04000000 10000000  7f020000 80fb0100"), BasicMemory(639, 129920)),
    (
        bytes.fromhex("05000000 14000000  80000000 01000000 ffffffff"),
        BiosBootDevice(0x80, 1),
    ),
    (
        bytes.fromhex(
            "06000000 40000000  18000000 00000000"  # entry_size 24, entry_version 0
            "0000000000000000 00fc090000000000 01000000 00000000"
            "0000100000000000 0000ee0300000000 07000000 00000000"  # type 7 is nobody's: stays 7
        ),
        MemoryMap((MemoryMapEntry(0, 0x9FC00, 1), MemoryMapEntry(0x100000, 0x3EE0000, 7))),
    ),
    (
        bytes.fromhex("06000000 30000000  20000000 01000000")  # a future version: entries of 32 bytes
        + bytes.fromhex("0000000000000000 0010000000000000 01000000 00000000 1122334455667788"),
        MemoryMap((MemoryMapEntry(0, 0x1000, 1, 0, bytes.fromhex("1122334455667788")),), 1, 32),
    ),
    (
        bytes.fromhex("07000000 10030000  1841 00c0 3412 2000") + CONTROL + MODE,
        VbeInfo(0x4118, 0xC000, 0x1234, 0x20, CONTROL, MODE),
    ),
    (
        bytes.fromhex(
            "08000000 26000000"
            "000000fd00000000 00100000 00040000 00030000 20 01 0000"  # address, pitch, width, height, 32 bit, RGB
            "1008 0808 0008"  # red at 16, green at 8, blue at 0, 8 bits each
        ),
        Framebuffer(0xFD000000, 4096, 1024, 768, 32, 1, RgbInfo(16, 8, 8, 8, 0, 8)),
    ),
    (
        bytes.fromhex("08000000 28000000  0000000a00000000 80020000 80020000 e0010000 08 00 0000")
        + bytes.fromhex("0200 000000 ffa500"),  # two colours: black, orange
        Framebuffer(0xA000000, 640, 640, 480, 8, 0, Palette(((0, 0, 0), (0xFF, 0xA5, 0)))),
    ),
    (
        bytes.fromhex("08000000 20000000  00800b0000000000 a0000000 50000000 19000000 10 02 0000"),
        Framebuffer(0xB8000, 160, 80, 25, 16, 2),
    ),
    (
        bytes.fromhex("08000000 23000000  00800b0000000000 a0000000 50000000 19000000 10 09 0000 aabbcc"),
        Framebuffer(0xB8000, 160, 80, 25, 16, 9, b"\xaa\xbb\xcc"),
    ),
    (
        bytes.fromhex("09000000 64000000  02000000 28000000 01000000") + bytes(80),
        ElfSections(40, 1, bytes(80)),
    ),
    (
        bytes.fromhex("0a000000 1c000000  0201 00f0 98d10000 00f0 0040 0300 f0ff f1ff f2ff"),
        ApmTable(0x102, 0xF000, 0xD198, 0xF000, 0x4000, 3, 0xFFF0, 0xFFF1, 0xFFF2),
    ),
    (bytes.fromhex("0b000000 0c000000  18e0ed7f"), EfiSystemTable32(0x7FEDE018)),
    (bytes.fromhex("0c000000 10000000  18e0ed7f01000000"), EfiSystemTable64(0x17FEDE018)),
    (bytes.fromhex("0d000000 14000000  0208 000000000000 01020304"), Smbios(2, 8, b"\1\2\3\4")),
    (bytes.fromhex("0e000000 1c000000") + RSDP1, AcpiOldRsdp(RSDP1)),
    (bytes.fromhex("0f000000 2c000000") + RSDP1 + bytes(16), AcpiNewRsdp(RSDP1 + bytes(16))),
    (bytes.fromhex("10000000 0c000000  02010600"), Network(b"\2\1\6\0")),
    (
        bytes.fromhex(
            "11000000 40000000  30000000 01000000"  # descr_size 48, descr_vers 1
            "07000000 00000000 0000100000000000 0000000000000000"  # conventional, at 1 MiB
            "0007000000000000 0f00000000000000 0000000000000000"  # 0x700 pages, attributes, 8 bytes more
        ),
        EfiMemoryMap((EfiMemoryDescriptor(7, 0x100000, 0, 0x700, 0xF, 0, bytes(8)),)),
    ),
    (bytes.fromhex("12000000 08000000"), EfiBootServicesNotTerminated()),
    (bytes.fromhex("13000000 0c000000  98a1e57e"), EfiImageHandle32(0x7EE5A198)),
    (bytes.fromhex("14000000 10000000  98a1e57e01000000"), EfiImageHandle64(0x17EE5A198)),
    (bytes.fromhex("15000000 0c000000  00002000"), LoadBaseAddress(0x200000)),
    (bytes.fromhex("efbeadde 0a000000  abcd"), UnknownTag(0xDEADBEEF, b"\xab\xcd")),
]


def information(tags: bytes, size: int | None = None, reserved: int = 0) -> bytes:
    return struct.pack("<2I", 8 + len(tags) if size is None else size, reserved) + tags


def padded(tag: bytes) -> bytes:
    return tag + bytes(-len(tag) % 8)


FULL = information(b"".join(padded(stored) for stored, _ in TAG_LITERALS) + END)
LEAN = information(b"".join(padded(stored) for stored, _ in TAG_LITERALS if len(stored) < 100) + END)
"""Without the large tags, whose bodies are copied as they are."""


def ids(node: Any) -> list[str]:
    return [finding.id for part in node.walk() for finding in part.findings]


@pytest.mark.parametrize(("stored", "value"), TAG_LITERALS, ids=[type(value).__name__ for _, value in TAG_LITERALS])
def test_each_tag_both_ways(stored: bytes, value: Any):
    whole = information(padded(stored) + END)
    assert multiboot2_info.parse(whole) == Multiboot2Info.of(value)
    assert multiboot2_info.build(Multiboot2Info.of(value)) == whole
    assert not ids(multiboot2_info.inspect(BytesSource(whole)))


def test_every_type_of_the_specification_has_a_literal():
    assert {struct.unpack_from("<I", stored)[0] for stored, _ in TAG_LITERALS} == {*range(1, 22), 0xDEADBEEF}


def test_all_tags_both_ways():
    info = Multiboot2Info.of(*(value for _, value in TAG_LITERALS))
    assert multiboot2_info.parse(FULL) == info
    assert multiboot2_info.build(info) == FULL
    assert info.find_all(CommandLine) == (CommandLine("ro x"), CommandLine(""))
    assert multiboot2_info.parse(b"12345678" + FULL, 8) == info


def test_nodes_say_where_everything_is():
    node = multiboot2_info.inspect(BytesSource(b"x" * 16 + FULL), 16)
    assert (node.kind, node.offset, node.size, node["total_size"]) == ("multiboot2-info", 16, len(FULL), len(FULL))
    assert len(node.children) == len(TAG_LITERALS) + 1
    for child in node.children:
        for part, base in [(child, child.offset), *((leaf, child.offset + leaf.offset) for leaf in child.children)]:
            for field in part.fields:
                assert field.offset is not None
                assert field.raw == FULL[base + field.offset : base + field.offset + len(field.raw)], field
    names = {child["type"]: child.fields[0].meaning for child in node.children}
    assert names == {**INFO_NAMES, 0xDEADBEEF: "unknown"}


def test_strings_that_are_not_utf8_survive():
    stored = information(padded(bytes.fromhex("01000000 0c000000") + b"a\xff\xe9\0") + END)
    info = multiboot2_info.parse(stored)
    assert multiboot2_info.build(info) == stored
    shown = multiboot2_info.inspect(BytesSource(stored)).children[0]["string"]
    assert shown == "a\\xff\\xe9"


@pytest.mark.parametrize(
    ("tag", "problem"),
    [
        (bytes.fromhex("01000000 0a000000") + b"ab", "not zero-terminated"),
        (bytes.fromhex("03000000 12000000  00000000 00000000") + b"ab", "not zero-terminated"),
        (bytes.fromhex("03000000 0c000000  00000000"), "Module is cut short"),
        (bytes.fromhex("06000000 10000000  00000000 00000000"), "entries are too small"),
        (bytes.fromhex("06000000 10000000  17000000 00000000"), "entries are too small"),
        (bytes.fromhex("08000000 20000000") + bytes(21) + b"\1\0\0", "RgbInfo is cut short"),
        (bytes.fromhex("08000000 22000000") + bytes(24) + b"\1\0", "palette is cut short"),
        (bytes.fromhex("09000000 14000000  01000000 28000000 00000000"), "section headers are cut short"),
        (bytes.fromhex("09000000 14000000  ffffffff ffffffff 00000000"), "section headers are cut short"),
        (bytes.fromhex("09000000 14000000  05000000 00000000 00000000"), "is wrong"),
        (bytes.fromhex("07000000 10000000") + bytes(8), "VbeInfo is cut short"),
    ],
)
def test_a_damaged_tag_does_not_hide_the_others(tag: bytes, problem: str):
    tag = tag[:4] + struct.pack("<I", len(tag)) + tag[8:]
    stored = information(padded(tag) + padded(TAG_LITERALS[0][0]) + END)
    with pytest.raises(FormatError, match=problem):
        multiboot2_info.parse(stored)
    node = multiboot2_info.inspect(BytesSource(stored))
    assert ids(node) == ["MULTIBOOT2-TAG"]
    assert problem in node.children[0].findings[0].message
    assert node.children[1]["string"] == "ro x"


@pytest.mark.parametrize("size", [0, 1, 8, 15, len(FULL) + 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_total_size_that_makes_no_sense(size: int):
    stored = information(FULL[8:], size)
    with pytest.raises(FormatError):
        multiboot2_info.parse(stored)
    node = multiboot2_info.inspect(BytesSource(stored))
    assert ids(node) == ["MULTIBOOT2-LENGTH"]
    assert len(node.children) == len(TAG_LITERALS) + 1


def test_more_than_the_chain_needs():
    stored = information(TAG_LITERALS[0][0] + bytes(3) + END + b"behind!!", reserved=7)
    info = multiboot2_info.parse(stored)
    assert (info.rest, info.reserved) == (b"behind!!", 7)
    assert multiboot2_info.build(info) == stored


def test_cut_at_every_byte():
    for size in range(len(LEAN)):
        with pytest.raises(FormatError):
            multiboot2_info.parse(LEAN[:size])
        if size >= 8:
            assert ids(multiboot2_info.inspect(BytesSource(LEAN[:size])))


@pytest.mark.parametrize("number", [0, 1, 9, 0xFFFFFFFF])
def test_every_word_lies(number: int):
    """Each aligned word, sizes and counts among them, set to a telling value."""
    for at in range(0, len(LEAN), 4):
        stored = LEAN[:at] + struct.pack("<I", number) + LEAN[at + 4 :]
        node = multiboot2_info.inspect(BytesSource(stored))
        assert node.size <= len(stored)
        try:
            info = multiboot2_info.parse(stored)
        except FormatError:
            continue
        assert multiboot2_info.parse(multiboot2_info.build(info)) == info


def test_endless_information_is_read_to_a_limit():
    node = multiboot2_info.inspect(BytesSource(information(bytes.fromhex("12000000 08000000") * (1 << 18))))
    assert len(node.children) <= 4096
    assert "MULTIBOOT2-TAGS" in ids(node)


@pytest.mark.parametrize(
    "tag",
    [
        Tag(CommandLine("a\0b")),
        Tag(CommandLine("x"), flags=1),
        Tag(MemoryMap((MemoryMapEntry(0, 0, 1),), entry_size=32)),
        Tag(MemoryMap((), entry_size=16)),
        Tag(Framebuffer(0, 0, 0, 0, 0, 0, RgbInfo(0, 0, 0, 0, 0, 0))),
        Tag(Framebuffer(0, 0, 0, 0, 0, 0, Palette(((0, 0, 256),)))),
        Tag(Framebuffer(0, 0, 0, 0, 0, 0, Palette(((0, 0, 0),) * 65536))),
        Tag(ElfSections(40, 0, bytes(41))),
        Tag(ElfSections(0, 0, bytes(40))),
        Tag(VbeInfo(0, 0, 0, 0, b"", b"")),
        Tag(EfiSystemTable32(1 << 32)),
        Tag(Smbios(2, 8, b"", bytes(5))),
        Tag(UnknownTag(0, b"")),
        Tag(None),
    ],
)
def test_build_refuses_what_cannot_be_stored(tag: Tag):
    with pytest.raises(FormatError):
        multiboot2_info.build(Multiboot2Info((tag,)))


def test_what_grub_wrote():
    """Recorded from GRUB 2.06 in QEMU (tests/formats/multiboot_capture.py): halt.elf with two modules."""
    ((start, dump),) = json.loads((DATA / "captured.json").read_text())["grub-multiboot2"]["memory"].items()
    stored = bytes.fromhex(dump)
    assert int(start, 16) % 8 == 0
    info = multiboot2_info.parse(stored)
    assert info.find_all(CommandLine) == (CommandLine('console=com1 "two words"'),)
    (name,) = info.find_all(BootLoaderName)
    assert name.string.startswith("GRUB 2")
    first, second = info.find_all(Module)
    assert (first.mod_end - first.mod_start, first.string) == (5000, "first module")
    assert (second.mod_end - second.mod_start, second.string) == (100, "")
    assert first.mod_start % 4096 == 0
    (memory,) = info.find_all(MemoryMap)
    assert memory.entries[0] == MemoryMapEntry(0, 0x9FC00, 1)
    assert max(entry.base_addr + entry.length for entry in memory.entries if entry.type == 1) <= 64 << 20
    assert info.find_all(BasicMemory)[0].mem_lower == 639
    (framebuffer,) = info.find_all(Framebuffer)
    assert (framebuffer.framebuffer_width, framebuffer.framebuffer_height) == (1024, 768)
    assert framebuffer.color_info == RgbInfo(16, 8, 8, 8, 0, 8)
    (sections,) = info.find_all(ElfSections)
    assert (sections.entsize, len(sections.sections)) == (40, 200)
    assert info.find_all(LoadBaseAddress) == (LoadBaseAddress(0x100000),)
    (rsdp,) = info.find_all(AcpiOldRsdp)
    assert rsdp.rsdp[:8] == b"RSD PTR "
    node = multiboot2_info.inspect(BytesSource(stored))
    assert not ids(node)
    words = {field.name: field.meaning for child in node.children for field in child.fields}
    assert words["rsdp"].endswith("checksum right")
    assert words["vbe_mode_info"] == "1024x768, 32 bits per pixel"
    # GRUB leaves the padding between tags as it was; everything else is built back.
    built = multiboot2_info.build(info)
    holes = {
        at
        for start, head in TAGS.walk(stored, 8).heads
        for at in range(start + head.size, start + -(-head.size // 8) * 8)
    }
    differ = {at for at in range(len(stored)) if built[at] != stored[at]}
    assert len(built) == len(stored)
    assert differ <= holes


u16, u32, u64 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFFFFFFFFFF)
u8 = st.integers(0, 0xFF)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
blobs = st.binary(max_size=40)


@st.composite
def memory_maps(draw: st.DrawFn) -> MemoryMap:
    extra = 8 * draw(st.integers(0, 2))
    entry = st.builds(MemoryMapEntry, u64, u64, u32, u32, st.binary(min_size=extra, max_size=extra))
    return MemoryMap(tuple(draw(st.lists(entry, max_size=4))), draw(u32), 24 + extra)


@st.composite
def efi_memory_maps(draw: st.DrawFn) -> EfiMemoryMap:
    extra = draw(st.integers(0, 20))
    entry = st.builds(EfiMemoryDescriptor, u32, u64, u64, u64, u64, u32, st.binary(min_size=extra, max_size=extra))
    return EfiMemoryMap(tuple(draw(st.lists(entry, max_size=4))), 40 + extra, draw(u32))


@st.composite
def framebuffers(draw: st.DrawFn) -> Framebuffer:
    kind = draw(st.integers(0, 4))
    color: Any = draw(blobs)
    if kind == 0:
        color = Palette(tuple(draw(st.lists(st.tuples(u8, u8, u8), max_size=5))))
    elif kind == 1:
        color = RgbInfo(*draw(st.tuples(u8, u8, u8, u8, u8, u8)))
    numbers = draw(st.tuples(u64, u32, u32, u32, u8))
    return Framebuffer(*numbers, kind, color, draw(u16))


@st.composite
def elf_sections(draw: st.DrawFn) -> ElfSections:
    size = draw(st.integers(1, 64))
    return ElfSections(size, draw(u32), draw(st.integers(0, 4)) * bytes(size))


values = st.one_of(
    st.builds(CommandLine, texts),
    st.builds(BootLoaderName, texts),
    st.builds(Module, u32, u32, texts),
    st.builds(BasicMemory, u32, u32),
    st.builds(BiosBootDevice, u32, u32, u32),
    memory_maps(),
    st.builds(VbeInfo, u16, u16, u16, u16, st.just(CONTROL), st.just(MODE)),
    framebuffers(),
    elf_sections(),
    st.builds(ApmTable, u16, u16, u32, u16, u16, u16, u16, u16, u16),
    st.builds(EfiSystemTable32, u32),
    st.builds(EfiSystemTable64, u64),
    st.builds(Smbios, u8, u8, blobs, st.binary(min_size=6, max_size=6)),
    st.builds(AcpiOldRsdp, blobs),
    st.builds(AcpiNewRsdp, blobs),
    st.builds(Network, blobs),
    efi_memory_maps(),
    st.just(EfiBootServicesNotTerminated()),
    st.builds(EfiImageHandle32, u32),
    st.builds(EfiImageHandle64, u64),
    st.builds(LoadBaseAddress, u32),
    st.builds(UnknownTag, st.integers(22, 0xFFFFFFFF), blobs),
)


@given(st.lists(values, max_size=8))
def test_any_information_survives(items: list[Any]):
    info = Multiboot2Info.of(*items)
    stored = multiboot2_info.build(info)
    assert struct.unpack_from("<I", stored) == (len(stored),)
    assert multiboot2_info.parse(stored) == info
    assert multiboot2_info.build(multiboot2_info.parse(stored)) == stored
    assert not ids(multiboot2_info.inspect(BytesSource(stored)))


@given(st.binary(min_size=8, max_size=300), st.booleans())
def test_any_bytes_are_shown_or_refused(data: bytes, sized: bool):
    stored = information(data) if sized else data
    multiboot2_info.inspect(BytesSource(stored))
    try:
        info = multiboot2_info.parse(stored)
    except FormatError:
        return
    assert multiboot2_info.parse(multiboot2_info.build(info)) == info
