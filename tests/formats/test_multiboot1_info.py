"""Multiboot 1 boot information: bytes from the specification, what QEMU and GRUB really wrote, and damage."""

from __future__ import annotations

import dataclasses
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.errors import FormatError
from mbtool.formats import multiboot1_info
from mbtool.formats.memory import Memory
from mbtool.formats.multiboot1_info import Multiboot1Info
from mbtool.formats.multiboot1_wire import (
    AOUT_FIELDS,
    DRIVE_FIELDS,
    ELF_FIELDS,
    INFO_FIELDS,
    MEMORY_MAP_ENTRY,
    MODULE_FIELDS,
    PALETTE_FIELDS,
    AoutSymbols,
    BootDevice,
    Drive,
    ElfSections,
    Framebuffer,
    MemoryMapEntry,
    Module,
)
from mbtool.formats.multiboot_shared import APM_TABLE, ApmTable, BasicMemory, Palette, RgbInfo, VbeInfo
from mbtool.formats.wire import Layout
from mbtool.model import Severity
from mbtool.source import BytesSource
from tests.formats.multiboot_capture import DATA

BASE = 0x9000

# The structure at 0x9000 and, behind it, what it points at, laid out by hand. Flags: all but a.out symbols (4)
# and VBE (11), which have tests of their own.
LITERAL = bytes.fromhex(
    "ef170000"  # 0x00 flags: bits 0-3, 5-10, 12
    "7f020000 80fb0100"  # 0x04 mem_lower 639, mem_upper 129920 KiB
    "ffff0180"  # 0x0c boot_device: part3 0xff, part2 0xff, part1 1, drive 0x80
    "74900000"  # 0x10 cmdline
    "02000000 78900000"  # 0x14 mods_count, mods_addr
    "01000000 28000000 a0900000 00000000"  # 0x1c ELF sections: num 1, size 40, addr, shndx 0
    "30000000 c8900000"  # 0x2c mmap_length 48, mmap_addr
    "10000000 f8900000"  # 0x34 drives_length 16, drives_addr
    "08910000"  # 0x3c config_table
    "0c910000"  # 0x40 boot_loader_name
    "10910000"  # 0x44 apm_table
    "00000000 00000000 0000 0000 0000 0000"  # 0x48 VBE: flag not set
    "000000fd00000000 00100000 00040000 00030000 20 01"  # 0x58 framebuffer: address, pitch, size, bpp, type RGB
    "1008 0808 0008"  # 0x6e color_info
    # what is pointed at
    "612062 00"  # 0x74 "a b"
    "00002000 ff3f2000 98900000 00000000"  # 0x78 module: start, end, string, reserved
    "00004000 00104000 00000000 00000000"  # 0x88 module without a string
    "696e6974726400 00"  # 0x98 "initrd"
    + "00"
    * 40  # 0xa0 the null section header
    + "14000000 0000000000000000 00fc090000000000 01000000"  # 0xc8 size 20: 0 to 0x9fc00, RAM
    "14000000 0000f0ff00000000 0000100000000000 02000000"  # 0xe0 1 MiB at 0xfff00000, reserved
    "10000000 80 01 0004 ff 3f  f001 f603 0000"  # 0xf8 drive 0x80, LBA, 1024/255/63, two ports, zero
    "0200 aabb"  # 0x108 configuration table: 2 bytes follow
    "78797a 00"  # 0x10c "xyz"
    "0201 00f0 98d10000 00f0 0040 0300 f0ff f1ff f2ff"  # 0x110 APM table
)
VALUE = Multiboot1Info(
    mem=BasicMemory(639, 129920),
    boot_device=BootDevice(0x80, 1),
    cmdline="a b",
    mods=(Module(0x200000, 0x203FFF, "initrd"), Module(0x400000, 0x401000, None)),
    syms=ElfSections(40, 0, bytes(40)),
    mmap=(MemoryMapEntry(0, 0x9FC00, 1), MemoryMapEntry(0xFFF00000, 0x100000, 2)),
    drives=(Drive(0x80, 1, 1024, 255, 63, (0x1F0, 0x3F6)),),
    config_table=b"\xaa\xbb",
    boot_loader_name="xyz",
    apm_table=ApmTable(0x102, 0xF000, 0xD198, 0xF000, 0x4000, 3, 0xFFF0, 0xFFF1, 0xFFF2),
    framebuffer=Framebuffer(0xFD000000, 4096, 1024, 768, 32, 1, RgbInfo(16, 8, 8, 8, 0, 8)),
)


def parse(dump: bytes, base: int = BASE, address: int | None = None) -> Multiboot1Info:
    return multiboot1_info.parse(Memory(BytesSource(dump), base), base if address is None else address)


def inspect(dump: bytes, base: int = BASE, address: int | None = None) -> Any:
    return multiboot1_info.inspect(BytesSource(dump), base, address)


def put(dump: bytes, at: int, value: int) -> bytes:
    return dump[:at] + struct.pack("<I", value) + dump[at + 4 :]


def test_layout():
    """Offsets of the table in the specification; struct multiboot_info is 116 bytes without padding at its end."""
    assert INFO_FIELDS.size == 116
    places = {name: at for name, (at, _) in INFO_FIELDS.offsets.items()}
    expected = {"mem_lower": 4, "boot_device": 12, "cmdline": 16, "mods_count": 20, "syms": 28, "mmap_length": 44}
    expected |= {"drives_length": 52, "config_table": 60, "boot_loader_name": 64, "apm_table": 68}
    expected |= {"vbe_control_info": 72, "vbe_mode": 80, "vbe_interface_len": 86, "framebuffer_addr": 88}
    expected |= {"framebuffer_pitch": 96, "framebuffer_height": 104, "framebuffer_bpp": 108}
    expected |= {"framebuffer_type": 109, "color_info": 110}
    assert {name: places[name] for name in expected} == expected
    layouts: list[Layout[Any]] = [
        MODULE_FIELDS,
        AOUT_FIELDS,
        ELF_FIELDS,
        MEMORY_MAP_ENTRY,
        DRIVE_FIELDS,
        PALETTE_FIELDS,
        APM_TABLE,
    ]
    assert [layout.size for layout in layouts] == [16, 16, 16, 24, 10, 6, 20]


def test_literal():
    assert parse(LITERAL) == VALUE


def test_built_block_holds_the_same_structures():
    built = multiboot1_info.build(VALUE, BASE)
    assert parse(built) == VALUE
    assert built[:4] == LITERAL[:4]
    for piece in (LITERAL[0xC8:0xF8], LITERAL[0xF8:0x108], LITERAL[0x110:0x124], b"initrd\0", b"a b\0"):
        assert built.count(piece) == 1
    pointers = struct.unpack_from("<I", built, 0x10) + struct.unpack_from("<I", built, 0x18)
    assert all(BASE + 116 <= pointer < BASE + len(built) for pointer in pointers)
    assert parse(multiboot1_info.build(VALUE, 0x7FFF0003), 0x7FFF0003) == VALUE


def test_nodes():
    node = inspect(LITERAL)
    assert (node.kind, node.offset, node.size) == ("multiboot1-info", 0, len(LITERAL))
    assert not node.findings
    places = [(child.kind, child.offset, child.size) for child in node.children]
    assert places == [
        ("multiboot1-module", 0x78, 16),
        ("multiboot1-module", 0x88, 16),
        ("memory-map-entry", 0xC8, 24),
        ("memory-map-entry", 0xE0, 24),
        ("multiboot1-drive", 0xF8, 16),
        ("apm-table", 0x110, 20),
    ]
    for part, base in [(node, 0), *((child, child.offset) for child in node.children)]:
        for field in part.fields:
            assert field.raw == LITERAL[base + field.offset : base + field.offset + field.size], field
    meanings = {field.name: field.meaning for field in node.fields}
    assert meanings["cmdline"] == "a b"
    assert meanings["boot_loader_name"] == "xyz"
    assert meanings["boot_device"] == "BIOS drive 0x80, partition 1"
    assert "vbe_mode" not in meanings
    assert node["syms.num"] == 1
    assert node["framebuffer_red_field_position"] == 16
    assert [child.fields[2].meaning for child in node.children[:2]] == ["initrd", "none"]


def test_structure_in_the_middle_of_a_dump():
    dump = b"\xcc" * 0x100 + LITERAL
    node = inspect(dump, BASE - 0x100, BASE)
    assert node.fields[0].offset == 0x100
    assert node.children[0].offset == 0x178


@pytest.mark.parametrize("size", [4, 12, 88])
def test_short_structures_of_old_loaders(size: int):
    flags = {4: 0, 12: 1, 88: 0x800}[size]
    dump = put(bytes(size), 0, flags)
    info = parse(dump)
    assert info.mem == (BasicMemory(0, 0) if flags == 1 else None)
    assert info.vbe == (VbeInfo(0, 0, 0, 0, b"", b"") if flags == 0x800 else None)
    with pytest.raises(FormatError, match="cut short"):
        parse(dump[:-1])


def test_aout_symbols():
    syms = AoutSymbols(b"nlist...nlist...", b"main\0")
    built = multiboot1_info.build(Multiboot1Info(syms=syms), BASE)
    tabsize, strsize, addr, reserved = struct.unpack_from("<4I", built, 28)
    # Each size stands before its data; the strings' size counts itself.
    assert (built[0], tabsize, strsize, reserved) == (0x10, 16, 9, 0)
    at = addr - BASE
    assert built[at : at + 29] == struct.pack("<I16sI5s", 16, syms.symbols, 9, syms.strings)
    assert parse(built).syms == syms
    with pytest.raises(FormatError, match="not what the information says"):
        parse(put(built, at, 15))
    with pytest.raises(FormatError, match="not what the information says"):
        parse(put(built, 32, 8))
    assert parse(put(put(built, 28, 0), 32, 0)).syms == AoutSymbols(b"", b"")


def test_a_union_cannot_be_both():
    with pytest.raises(FormatError, match="exclude each other"):
        parse(put(LITERAL, 0, 0x17FF))
    assert any(finding.severity is Severity.ERROR for finding in inspect(put(LITERAL, 0, 0x17FF)).findings)


def test_memory_map_entries_may_be_longer():
    entries = (MemoryMapEntry(0, 1, 1, b"\1\0\0\0"), MemoryMapEntry(1, 2, 9))
    built = multiboot1_info.build(Multiboot1Info(mmap=entries), BASE)
    length, addr = struct.unpack_from("<2I", built, 44)
    assert length == 28 + 24
    assert struct.unpack_from("<I", built, addr - BASE) == (24,)  # the size does not count itself
    assert parse(built).mmap == entries


def test_drives_may_be_padded():
    drive = struct.pack("<IBBHBB3H", 24, 0x81, 0, 10, 2, 9, 0x170, 0, 0).ljust(24, b"\xee")
    dump = put(put(put(bytes(116), 0, 1 << 7), 52, 24), 56, BASE + 116) + drive
    assert parse(dump).drives == (Drive(0x81, 0, 10, 2, 9, (0x170,)),)


def test_indexed_and_text_framebuffers():
    palette = Framebuffer(0xA0000, 320, 320, 200, 8, 0, Palette(((0, 0, 0), (255, 165, 0))))
    text = Framebuffer(0xB8000, 160, 80, 25, 16, 2, bytes(6))
    for framebuffer in (palette, text):
        assert (
            parse(multiboot1_info.build(Multiboot1Info(framebuffer=framebuffer), BASE)).framebuffer == framebuffer
        )
    built = multiboot1_info.build(Multiboot1Info(framebuffer=palette), BASE)
    address, count = struct.unpack_from("<IH", built, 110)
    assert built[address - BASE : address - BASE + 3 * count] == bytes([0, 0, 0, 255, 165, 0])
    assert inspect(built)["framebuffer_palette_num_colors"] == 2


def test_unknown_flags_survive():
    info = Multiboot1Info(unknown_flags=1 << 13 | 1 << 31)
    built = multiboot1_info.build(info, BASE)
    assert built[:4] == struct.pack("<I", 1 << 13 | 1 << 31)
    assert parse(built) == info


@pytest.mark.parametrize(
    "info",
    [
        Multiboot1Info(cmdline="a\0b"),
        Multiboot1Info(mem=BasicMemory(1 << 32, 0)),
        Multiboot1Info(syms=ElfSections(40, 0, bytes(41))),
        Multiboot1Info(drives=(Drive(0x80, 0, 0, 0, 0, (0,)),)),
        Multiboot1Info(config_table=bytes(65536)),
        Multiboot1Info(vbe=VbeInfo(0, 0, 0, 0, bytes(511), b"")),
        Multiboot1Info(framebuffer=Framebuffer(0, 0, 0, 0, 0, 0, bytes(6))),
        Multiboot1Info(framebuffer=Framebuffer(0, 0, 0, 0, 0, 3, bytes(5))),
        Multiboot1Info(boot_device=BootDevice(256)),
    ],
)
def test_build_refuses_what_cannot_be_stored(info: Multiboot1Info):
    with pytest.raises(FormatError):
        multiboot1_info.build(info, BASE)


@pytest.mark.parametrize("address", [-4, (1 << 32) - 115, (1 << 32) - 4, 1 << 32])
def test_build_stays_below_four_gib(address: int):
    with pytest.raises(FormatError, match="below 4 GiB"):
        multiboot1_info.build(Multiboot1Info(), address)


@pytest.mark.parametrize(
    ("at", "value", "name", "problem"),
    [
        (0x10, 0xA000, "cmdline", "outside"),
        (0x10, 0x8000, "cmdline", "outside"),
        (0x14, 0xFFFFFFFF, "mods", "too large"),
        (0x14, 100, "mods", "cut short"),
        (0x80, 0xA000, "mods", "outside"),  # a module's string
        (0x1C, 0xFFFFFFFF, "syms", "too large"),
        (0x20, 0xFFFFFFFF, "syms", "too large"),
        (0x2C, 47, "mmap", "wrong size"),
        (0x2C, 0xFFFFFFFF, "mmap", "too large"),
        (0xC8, 0, "mmap", "wrong size"),
        (0xC8, 19, "mmap", "wrong size"),
        (0xC8, 0xFFFFFFFF, "mmap", "wrong size"),
        (0xF8, 0, "drives", "wrong size"),
        (0xF8, 17, "drives", "wrong size"),
        (0x3C, 0xA000, "config_table", "cut short"),
        (0x44, BASE + 0x111, "apm_table", "cut short"),
    ],
)
def test_one_lie_does_not_hide_the_rest(at: int, value: int, name: str, problem: str):
    dump = put(LITERAL, at, value)
    with pytest.raises(FormatError, match=problem):
        parse(dump)
    node = inspect(dump)
    assert [(finding.field, finding.severity) for finding in node.findings] == [(name, Severity.WARNING)]
    assert problem in node.findings[0].message
    assert {field.name for field in node.fields} >= {"mem_lower", "mods_count", "mmap_addr", "framebuffer_type"}
    kinds = {child.kind for child in node.children}
    assert len(kinds) >= 3


def test_many_modules_that_share_one_long_string_cost_little():
    count, text = 8192, b"x" * 16000 + b"\0"
    strings = BASE + 116 + 16 * count
    dump = put(put(put(bytes(116), 0, 8), 20, count), 24, BASE + 116)
    dump += struct.pack("<4I", 0, 0, strings, 0) * count + text
    assert len(parse(dump).mods or ()) == count
    with pytest.raises(FormatError, match="too large"):
        parse(put(dump, 20, count + 1))


def test_endless_string():
    dump = put(put(bytes(116), 0, 4), 16, BASE + 116) + b"x" * 70000
    with pytest.raises(FormatError, match="not zero-terminated"):
        parse(dump)


def test_cut_at_every_byte():
    for size in range(len(LITERAL)):
        with pytest.raises(FormatError):
            parse(LITERAL[:size])
        if size >= 116:
            assert inspect(LITERAL[:size]).findings


@pytest.mark.parametrize("number", [0, 1, 2, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, BASE, BASE + len(LITERAL) - 1])
def test_every_word_lies(number: int):
    for at in range(0, len(LITERAL), 4):
        dump = put(LITERAL, at, number)
        inspect(dump)
        try:
            info = parse(dump)
        except FormatError:
            continue
        assert parse(multiboot1_info.build(info, BASE)) == info


def captured(name: str) -> tuple[bytes, int, int]:
    """A recording as one dump (zeros between its pieces), the address of its first byte, EBX."""
    record = json.loads((DATA / "captured.json").read_text())[name]
    pieces = {int(address, 16): bytes.fromhex(text) for address, text in record["memory"].items()}
    base = min(pieces)
    dump = bytearray(max(address + len(piece) for address, piece in pieces.items()) - base)
    for address, piece in pieces.items():
        dump[address - base : address - base + len(piece)] = piece
    return bytes(dump), base, int(record["ebx"], 16)


@pytest.mark.parametrize(
    ("name", "loader", "strings"),
    [
        (
            "qemu-multiboot1",
            "qemu",
            ('halt.elf console=com1 "two words"', "first first module", "second"),  # QEMU prepends the file name
        ),
        ("grub-multiboot1", "GRUB 2", ('console=com1 "two words"', "first module", "")),
    ],
)
def test_what_real_loaders_wrote(name: str, loader: str, strings: tuple[str, str, str]):
    """Recorded from QEMU's own loader and from GRUB (tests/formats/multiboot_capture.py)."""
    dump, base, ebx = captured(name)
    info = parse(dump, base, ebx)
    assert info.mods is not None
    assert (info.cmdline, *(module.string for module in info.mods)) == strings
    assert [module.mod_end - module.mod_start for module in info.mods] == [5000, 100]
    assert (info.boot_loader_name or "").startswith(loader)
    assert info.mem == BasicMemory(639, 64384)
    assert info.mmap and info.mmap[0] == MemoryMapEntry(0, 0x9FC00, 1)
    assert sum(entry.length for entry in info.mmap if entry.type == 1) < 64 << 20
    node = inspect(dump, base, ebx)
    assert not node.findings
    assert len([child for child in node.children if child.kind == "multiboot1-module"]) == 2
    assert parse(multiboot1_info.build(info, 0x10000), 0x10000) == info


def test_what_grub_adds():
    dump, base, ebx = captured("grub-multiboot1")
    info = parse(dump, base, ebx)
    assert isinstance(info.syms, ElfSections)
    assert (info.syms.size, len(info.syms.sections)) == (40, 200)
    assert info.framebuffer
    assert (info.framebuffer.framebuffer_addr, info.framebuffer.framebuffer_type) == (0xB8000, 2)
    assert info.vbe
    assert len(info.vbe.vbe_control_info) == 512


u8, u16, u32 = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, 0xFFFFFFFFFFFFFFFF)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@st.composite
def framebuffers(draw: st.DrawFn) -> Framebuffer:
    kind = draw(st.integers(0, 4))
    color: Any = draw(st.binary(min_size=6, max_size=6))
    if kind == 0:
        color = Palette(tuple(draw(st.lists(st.tuples(u8, u8, u8), max_size=5))))
    elif kind == 1:
        color = RgbInfo(*draw(st.tuples(u8, u8, u8, u8, u8, u8)))
    return Framebuffer(*draw(st.tuples(u64, u32, u32, u32, u8)), kind, color)


def maybe_tuple(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | st.lists(items, max_size=4).map(tuple)


sections = st.tuples(st.integers(1, 64), st.integers(0, 3), u32).map(
    lambda numbers: ElfSections(numbers[0], numbers[2], bytes(numbers[0] * numbers[1]))
)
informations = st.builds(
    Multiboot1Info,
    mem=st.none() | st.builds(BasicMemory, u32, u32),
    boot_device=st.none() | st.builds(BootDevice, u8, u8, u8, u8),
    cmdline=st.none() | texts,
    mods=maybe_tuple(st.builds(Module, u32, u32, st.none() | texts, u32)),
    syms=st.none() | st.builds(AoutSymbols, st.binary(max_size=30), st.binary(max_size=30), u32) | sections,
    mmap=maybe_tuple(st.builds(MemoryMapEntry, u64, u64, u32, st.binary(max_size=8))),
    drives=maybe_tuple(
        st.builds(Drive, u8, u8, u16, u8, u8, st.lists(st.integers(1, 0xFFFF), max_size=4).map(tuple))
    ),
    config_table=st.none() | st.binary(max_size=20),
    boot_loader_name=st.none() | texts,
    apm_table=st.none() | st.builds(ApmTable, u16, u16, u32, u16, u16, u16, u16, u16, u16),
    vbe=st.none()
    | st.builds(
        VbeInfo, u16, u16, u16, u16, st.sampled_from([b"", bytes(512)]), st.sampled_from([b"", bytes(256)])
    ),
    framebuffer=st.none() | framebuffers(),
    unknown_flags=u32.map(lambda flags: flags & ~0x1FFF),
)


@given(informations, st.integers(1, 0xF0000000))
def test_any_information_survives(info: Multiboot1Info, address: int):
    built = multiboot1_info.build(info, address)
    assert parse(built, address) == info
    assert multiboot1_info.build(parse(built, address), address) == built
    assert not inspect(built, address).findings


@given(st.binary(min_size=4, max_size=300), u32)
def test_any_bytes_are_shown_or_refused(data: bytes, flags: int):
    dump = put(data, 0, flags)
    for read in (parse, inspect):
        try:
            value = read(dump, 0)
        except FormatError:
            continue
        assert dataclasses.is_dataclass(value)
