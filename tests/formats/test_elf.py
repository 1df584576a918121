"""ELF headers, segments and sections against literal bytes, readelf and hostile input."""

from __future__ import annotations

import lzma
import re
import struct
import subprocess
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.errors import FormatError, MbtoolError, UnsupportedError
from mbtool.formats import elf
from mbtool.formats.context import Context
from mbtool.formats.elf import parse_elf
from mbtool.formats.elf_build import build_elf
from mbtool.formats.elf_headers import EHDR, PHDR, PT_LOAD, PT_NOTE, SHDR, SHT_NOTE, Ehdr, Phdr, Shdr
from mbtool.formats.elf_notes import build_notes
from mbtool.model import Node
from mbtool.source import Budget, BytesSource, Source, StreamSource, open_file

# Elf64_Ehdr as the gABI lays it out, with a different value in every field
EHDR64_BYTES = bytes.fromhex(
    "7f454c46 02 01 01 00 00 00000000000000"  # e_ident: magic, 64-bit, little-endian, version, ABI, padding
    "0200 3e00 01000000"  # e_type EXEC, e_machine x86-64, e_version
    "0000000100000000"  # e_entry
    "4000000000000000"  # e_phoff
    "30ffdf0300000000"  # e_shoff
    "00000000 4000 3800 0500 4000 2700 2600"  # e_flags, ehsize, phentsize, phnum, shentsize, shnum, shstrndx
)
EHDR64 = Ehdr(e_entry=0x1000000, e_phoff=64, e_shoff=0x3DFFF30, e_phnum=5, e_shnum=39, e_shstrndx=38)
# Elf32_Ehdr of Debian's Xen
EHDR32_BYTES = bytes.fromhex(
    "7f454c46 01 01 01 00 00 00000000000000"
    "0200 0300 01000000 00002000 34000000 a0192700 00000000 3400 2000 0200 2800 0400 0200"
)
EHDR32 = Ehdr(
    ei_class=1,
    e_machine=3,
    e_entry=0x200000,
    e_phoff=52,
    e_shoff=0x2719A0,
    e_ehsize=52,
    e_phentsize=32,
    e_phnum=2,
    e_shentsize=40,
    e_shnum=4,
    e_shstrndx=2,
)
PHDR_VALUE = Phdr(
    p_type=1, p_flags=5, p_offset=0x11, p_vaddr=0x22, p_paddr=0x33, p_filesz=0x44, p_memsz=0x55, p_align=0x66
)
PHDR64_BYTES = bytes.fromhex(  # the flags come second
    "01000000 05000000 1100000000000000 2200000000000000 3300000000000000"
    "4400000000000000 5500000000000000 6600000000000000"
)
PHDR32_BYTES = bytes.fromhex(  # the flags come last but one
    "01000000 11000000 22000000 33000000 44000000 55000000 05000000 66000000"
)
SHDR_VALUE = Shdr(
    sh_name=1,
    sh_type=7,
    sh_flags=2,
    sh_addr=0x33,
    sh_offset=0x44,
    sh_size=0x55,
    sh_link=6,
    sh_info=7,
    sh_addralign=8,
    sh_entsize=9,
)
SHDR64_BYTES = bytes.fromhex(
    "01000000 07000000 0200000000000000 3300000000000000 4400000000000000 5500000000000000"
    "06000000 07000000 0800000000000000 0900000000000000"
)
SHDR32_BYTES = bytes.fromhex(
    "01000000 07000000 02000000 33000000 44000000 55000000 06000000 07000000 08000000 09000000"
)


@pytest.mark.parametrize(
    ("layout", "data", "value"),
    [
        (EHDR[2], EHDR64_BYTES, EHDR64),
        (EHDR[1], EHDR32_BYTES, EHDR32),
        (PHDR[2], PHDR64_BYTES, PHDR_VALUE),
        (PHDR[1], PHDR32_BYTES, PHDR_VALUE),
        (SHDR[2], SHDR64_BYTES, SHDR_VALUE),
        (SHDR[1], SHDR32_BYTES, SHDR_VALUE),
    ],
)
def test_literal(layout, data, value):
    assert layout.parse(data) == value
    assert layout.build(value) == data


def test_sizes_and_landmarks():
    assert [EHDR[1].size, EHDR[2].size] == [52, 64]
    assert [PHDR[1].size, PHDR[2].size] == [32, 56]
    assert [SHDR[1].size, SHDR[2].size] == [40, 64]
    assert EHDR[2].offsets["e_phoff"] == (0x20, 8)
    assert EHDR[1].offsets["e_phoff"] == (0x1C, 4)
    assert EHDR[2].offsets["e_shstrndx"] == (0x3E, 2)
    assert PHDR[2].offsets["p_flags"] == (4, 4)
    assert PHDR[1].offsets["p_flags"] == (24, 4)
    assert SHDR[2].offsets["sh_link"] == (0x28, 4)


def values(cls: Any, layout: Any) -> st.SearchStrategy[Any]:
    """A strategy for any value whose fields fit the layout."""
    kinds: dict[str, Any] = {}
    for field in fields(cls):
        size = layout.offsets[field.name][1]
        if isinstance(field.default, bytes):
            kinds[field.name] = st.binary(min_size=size, max_size=size)
        else:
            kinds[field.name] = st.integers(0, (1 << 8 * size) - 1)
    return st.builds(cls, **kinds)


@pytest.mark.parametrize(
    ("cls", "layout"),
    [(Ehdr, EHDR[1]), (Ehdr, EHDR[2]), (Phdr, PHDR[1]), (Phdr, PHDR[2]), (Shdr, SHDR[1]), (Shdr, SHDR[2])],
)
@given(st.data())
def test_round_trip(cls, layout, data):
    value = data.draw(values(cls, layout))
    assert layout.parse(layout.build(value)) == value


def never(source, context):
    raise AssertionError("ELF contains no other format")


def inspect(data: bytes | Source, *, full: bool = False) -> Node:
    source = BytesSource(data) if isinstance(data, bytes) else data
    return elf.inspect(source, Context(Budget(), never, full))


def ids(node: Node) -> set[str]:
    return {finding.id for part in node.walk() for finding in part.findings}


def small(elf_class: int = 64) -> bytes:
    """One loadable segment, one note segment, three named sections."""
    notes = build_notes([("GNU", 3, bytes(range(20)))])
    return build_elf(
        [(Phdr(p_flags=5, p_vaddr=0x1000, p_paddr=0x1000), b"code" * 8), (Phdr(p_type=PT_NOTE, p_align=4), notes)],
        [
            (".text", Shdr(sh_type=1), b"text"),
            (".note", Shdr(sh_type=SHT_NOTE), notes),
            ("bss", Shdr(sh_type=8), b""),
        ],
        elf_class=elf_class,
        entry=0x1000,
    )


@pytest.mark.parametrize("elf_class", [32, 64])
def test_tree(elf_class):
    node = inspect(small(elf_class))
    assert node.kind == "elf"
    assert node.size == len(small(elf_class))
    assert node["e_entry"] == 0x1000
    assert ids(node) == set()
    kinds = [child.kind for child in node.children]
    assert kinds == ["elf-segment"] * 2 + ["elf-section"] * 4 + ["elf-note"] * 2
    assert [child["name"] for child in node.children if child.kind == "elf-section"] == [
        ".text",
        ".note",
        "bss",
        ".shstrtab",
    ]


@pytest.mark.parametrize("elf_class", [32, 64])
def test_every_field_says_where_its_bytes_are(elf_class):
    data = small(elf_class)
    for child in inspect(data).walk():
        for field in child.fields:
            if field.offset is not None:
                at = child.offset + field.offset
                assert data[at : at + len(field.raw)] == field.raw, (child.kind, field.name)


def test_content_of_nodes():
    data = small()
    segment, _ = [child for child in inspect(data).children if child.kind == "elf-segment"]
    assert data[segment.offset : segment.offset + segment.size] == b"code" * 8


@pytest.mark.parametrize(
    ("data", "reason", "error"),
    [
        (b"", "no ELF signature at the start", FormatError),
        (b"\x7fELG" + bytes(60), "no ELF signature at the start", FormatError),
        (b"\x7fELF\x02\x01\x01", "the ELF identification is cut short", FormatError),
        (b"\x7fELF\x03\x01\x01" + bytes(60), "ELF class 3 is neither 1 (32-bit) nor 2 (64-bit)", FormatError),
        (b"\x7fELF\x02\x02\x01" + bytes(60), "a big-endian ELF file, x86 is little-endian", UnsupportedError),
        (
            b"\x7fELF\x02\x00\x01" + bytes(60),
            "ELF data encoding 0 is neither 1 (little-endian) nor 2 (big-endian)",
            FormatError,
        ),
        (EHDR64_BYTES[:63], "the ELF header is cut short: 63 of 64 bytes", FormatError),
        (EHDR32_BYTES[:51], "the ELF header is cut short: 51 of 52 bytes", FormatError),
    ],
)
def test_reject(data, reason, error):
    assert elf.reject(BytesSource(data)) == reason
    with pytest.raises(error, match=re.escape(reason)):
        parse_elf(BytesSource(data))


@pytest.mark.parametrize("data", [EHDR64_BYTES, EHDR32_BYTES])
def test_accept_header_alone(data):
    assert elf.reject(BytesSource(data)) == ""
    assert "ELF-PHDRS-CUT" in ids(inspect(data))


# --- extensions for more headers than 16 bits can count (gABI, "ELF Header", e_phnum, e_shnum, e_shstrndx)


def extended(phnum: int, shnum: int, shstrndx: int, **first: int) -> bytes:
    """A file whose section 0 has the true numbers; one program header, three section headers behind it."""
    names = b"\0one\0two\0"
    head = Ehdr(e_phoff=64, e_shoff=64 + 56, e_phnum=phnum, e_shnum=shnum, e_shstrndx=shstrndx)
    sections = [
        Shdr(**first),
        Shdr(sh_name=1, sh_type=1),
        Shdr(sh_name=5, sh_type=3, sh_offset=64 + 56 + 3 * 64, sh_size=len(names)),
    ]
    table = b"".join(SHDR[2].build(section) for section in sections)
    return EHDR[2].build(head) + PHDR[2].build(Phdr(p_flags=5)) + table + names


def test_section_count_in_section_0():
    file = parse_elf(BytesSource(extended(1, 0, 0xFFFF, sh_size=3, sh_link=2)))
    assert file.section_count() == 3
    sections = file.section_headers()
    assert file.section_names(sections) == ("", "one", "two")


def test_program_header_count_in_section_0():
    file = parse_elf(BytesSource(extended(0xFFFF, 3, 2, sh_info=1)))
    assert len(file.program_headers) == 1
    assert not file.findings


@pytest.mark.parametrize("count", [2**32 - 1, 2**63, 2**64 - 1])
def test_huge_counts_are_capped_by_the_bytes(count):
    data = extended(0xFFFF, 0, 0xFFFF, sh_info=min(count, 2**32 - 1), sh_size=count, sh_link=2)
    node = inspect(data)
    assert {"ELF-PHDRS-CUT", "ELF-SHDRS-CUT"} <= ids(node)
    assert len(node.children) < 20


def test_many_headers_are_counted_not_listed():
    count = 5000
    head = Ehdr(e_phoff=64, e_phnum=count)
    data = EHDR[2].build(head) + PHDR[2].build(Phdr(p_type=6)) * count
    assert len(inspect(data).children) == elf.MAX_NODES
    assert "ELF-MANY" in ids(inspect(data))
    assert len(inspect(data, full=True).children) == count


# --- damage


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"e_phentsize": 0}, "ELF-PHENTSIZE"),
        ({"e_phentsize": 55}, "ELF-PHENTSIZE"),
        ({"e_phnum": 65535}, "ELF-PHDRS-CUT"),
        ({"e_phoff": 2**64 - 1}, "ELF-PHDRS-CUT"),
        ({"e_shoff": 2**64 - 1}, "ELF-SHDRS-CUT"),
        ({"e_shnum": 65535}, "ELF-SHDRS-CUT"),
    ],
)
def test_damaged_header(change, finding):
    data = small()
    head = replace(EHDR[2].parse(data), **change)
    node = inspect(EHDR[2].build(head) + data[64:])
    assert finding in ids(node)
    assert node["e_entry"] == 0x1000


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"p_filesz": 2**64 - 1}, "ELF-SEGMENT-CUT"),
        ({"p_offset": 2**64 - 1}, "ELF-SEGMENT-CUT"),
        ({"p_memsz": 31}, "ELF-SEGMENT-SIZE"),
    ],
)
def test_damaged_segment(change, finding):
    data = small()
    phdr = replace(PHDR[2].parse(data, 64), **change)
    node = inspect(data[:64] + PHDR[2].build(phdr) + data[64 + 56 :])
    assert finding in ids(node)
    assert node.find("elf-note") is not None, "the healthy rest is still shown"


def test_segment_size_boundary():
    data = small()
    for memsz, bad in ((31, True), (32, False), (33, False)):
        phdr = replace(PHDR[2].parse(data, 64), p_memsz=memsz)
        assert ("ELF-SEGMENT-SIZE" in ids(inspect(data[:64] + PHDR[2].build(phdr) + data[120:]))) == bad


@pytest.mark.parametrize("elf_class", [32, 64])
def test_truncation_at_every_byte(elf_class):
    data = small(elf_class)
    for length in range(len(data)):
        try:
            inspect(data[:length])
        except MbtoolError:
            assert length < EHDR[elf_class // 32].size


@pytest.mark.parametrize("elf_class", [32, 64])
def test_every_number_at_its_limits(elf_class):
    """Every field of every header set to 0, 1, its maximum and just past the end of the file."""
    data = small(elf_class)
    ei_class = elf_class // 32
    head = EHDR[ei_class].parse(data)
    tables: list[tuple[Any, int]] = [(EHDR[ei_class], 0)]
    tables += [(PHDR[ei_class], head.e_phoff + i * head.e_phentsize) for i in range(head.e_phnum)]
    tables += [(SHDR[ei_class], head.e_shoff + i * head.e_shentsize) for i in range(head.e_shnum)]
    for layout, base in tables:
        for offset, size in layout.offsets.values():
            for value in (0, 1, len(data), len(data) + 1, (1 << 8 * size) - 1):
                changed = bytearray(data)
                raw = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
                changed[base + offset : base + offset + size] = raw
                try:
                    inspect(bytes(changed))
                except MbtoolError:
                    assert layout is EHDR[ei_class]
                    assert offset < 6, "only the identification may make it no ELF file"


@given(st.binary(max_size=512))
def test_noise_behind_the_identification(noise):
    for ei_class in (b"\x01", b"\x02"):
        try:
            inspect(b"\x7fELF" + ei_class + b"\x01" + noise)
        except MbtoolError:
            assert len(noise) < 58


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.sampled_from([PT_LOAD, PT_NOTE]))
def test_hostile_segment(offset, size, kind):
    phdr = Phdr(p_type=kind, p_flags=7, p_offset=offset, p_filesz=size)
    data = EHDR[2].build(Ehdr(e_phoff=64, e_phnum=1)) + PHDR[2].build(phdr) + bytes(64)
    assert inspect(data).children[0].kind == "elf-segment"


# --- laziness


def stream(data: bytes, step: int = 256) -> StreamSource:
    def unpack():
        for at in range(0, len(data), step):
            yield data[at : at + step], at

    return StreamSource(unpack, "stream", Budget())


def padded() -> bytes:
    """Notes early, sections 64 KiB further on."""
    notes = build_notes([("Xen", 6, b"linux\0"), ("Xen", 5, b"xen-3.0\0")])
    return build_elf(
        [(Phdr(p_flags=5, p_vaddr=0x1000), b"code"), (Phdr(p_type=PT_NOTE, p_align=4), notes)],
        [("big", Shdr(sh_type=1), bytes(1 << 16))],
    )


def test_stream_is_not_unpacked_past_the_notes():
    source = stream(padded())
    node = inspect(source)
    assert node.find("xen-notes") is not None
    assert node.find("elf-section") is None
    assert "not read" in next(field.meaning for field in node.fields if field.name == "sections")
    assert node.size == len(padded())
    assert source.at_hand <= 32768, "as far as a Multiboot header may stand"


def image(vaddr: int) -> bytes:
    return build_elf(
        [
            (Phdr(p_flags=5, p_vaddr=vaddr), b"Linux version 6.1.0 (a@b) (gcc) #1 SMP\0" + bytes(1 << 20)),
            (Phdr(p_type=PT_NOTE, p_align=4), build_notes([("Xen", 6, b"linux\0")])),
        ],
        [],
    )


def test_what_is_no_kernel_of_linux_is_kept():
    """Xen, another system: whoever knows it would have to unpack it once more."""
    source = stream(image(0xFFFF_82D0_4020_0000))
    assert inspect(source).find("linux-kernel") is not None
    assert source._start == 0


def test_what_is_before_a_kernel_in_a_stream_is_kept():
    """A disk that is being unpacked: its directories and other files are there."""
    kernel = image(0xFFFF_FFFF_8100_0000)
    source = stream(bytes(4096) + kernel + bytes(4096))
    assert inspect(source.part(4096, len(kernel))).find("linux-kernel") is not None
    assert source._start == 0
    source = stream(kernel)
    assert inspect(source).find("linux-kernel") is not None
    assert source._start > 0


def test_full_reads_the_sections_of_a_stream():
    node = inspect(stream(padded()), full=True)
    assert [child["name"] for child in node.children if child.kind == "elf-section"] == ["big", ".shstrtab"]
    assert node.get("sections") is None


def test_sections_at_hand_are_read():
    source = stream(padded(), step=1 << 20)
    source.read(0, 1)
    assert inspect(source).find("elf-section") is not None


def test_broken_stream_still_shows_what_came():
    data = padded()

    def unpack():
        yield data[:512], 1
        raise FormatError("broken")

    node = inspect(StreamSource(unpack, "broken", Budget()), full=True)
    assert node.find("xen-notes") is not None
    assert "ELF-SHDRS-CUT" in ids(node)
    # how long the file would have been, nobody knows
    assert not [each.id for part in node.walk() for each in part.findings if each.id == "ELF-SEGMENT-CUT"]


def payload(path: Path) -> StreamSource:
    """The xz payload of a bzImage, unpacked as it is read (Linux: Documentation/arch/x86/boot.rst)."""
    image = path.read_bytes()
    start, length = struct.unpack_from("<II", image, 0x248)
    start += (image[0x1F1] + 1) * 512

    def unpack():
        decompressor = lzma.LZMADecompressor()
        for at in range(start, start + length, 1 << 16):
            yield decompressor.decompress(image[at : at + (1 << 16)]), at + (1 << 16) - start

    return StreamSource(unpack, path.name, Budget())


@pytest.mark.real
@pytest.mark.parametrize("fixture", ["vmlinuz", "vmlinuz_rt"])
def test_debian_kernel_is_unpacked_no_further_than_its_notes(fixture, request):
    source = payload(request.getfixturevalue(fixture))
    node = inspect(source)
    notes = node.find("xen-notes")
    assert notes is not None
    assert not ids(node)
    assert notes.offset + notes.size <= source.at_hand < notes.offset + (4 << 20) < node.size // 2
    assert notes["GUEST_OS"] == "linux"
    parms = node.find("dom-parms")
    assert parms is not None
    assert (parms["pv"], parms["pvh"], parms["dom0"]) == (True, True, True)


# --- against readelf


def readelf(tool, *args: str) -> str:
    run = subprocess.run([tool("readelf"), *args], capture_output=True, text=True, check=True, env={"LC_ALL": "C"})
    return run.stdout


SEGMENT = re.compile(r"^  (\S+) +0x(\w+) 0x(\w+) 0x(\w+) 0x(\w+) 0x(\w+) (...) (?:0x)?(\w+)$", re.MULTILINE)
SECTION = re.compile(r"^  \[ *(\d+)\] (.*?) +([A-Z_]+) +(\w{8,16}) (\w{6,}) (\w{6,}) ", re.MULTILINE)


def check_against_readelf(path: Path, tool) -> Node:
    with open_file(path) as source:
        node = inspect(source)
    header = readelf(tool, "-hW", str(path))
    for name, label in (
        ("e_entry", "Entry point address"),
        ("e_phoff", "Start of program headers"),
        ("e_shoff", "Start of section headers"),
        ("e_phnum", "Number of program headers"),
        ("e_shnum", "Number of section headers"),
        ("e_shstrndx", "Section header string table index"),
    ):
        found = re.search(rf"{label}: +(\w+)", header)
        assert found is not None
        assert node[name] == int(found[1], 0), name
    ours = [child for child in node.children if child.kind == "elf-segment"]
    theirs = SEGMENT.findall(readelf(tool, "-lW", str(path)))
    assert len(ours) == len(theirs) == node["e_phnum"]
    for child, row in zip(ours, theirs, strict=True):
        names = ("p_offset", "p_vaddr", "p_paddr", "p_filesz", "p_memsz")
        assert [child[name] for name in names] == [int(value, 16) for value in row[1:6]]
        assert child["p_align"] == int(row[7], 16)
        flags = child["p_flags"]
        assert isinstance(flags, int)
        assert "".join(x if flags & bit else " " for x, bit in (("R", 4), ("W", 2), ("E", 1))) == row[6]
        words = next(field.meaning for field in child.fields if field.name == "p_type")
        assert words == row[0]
    sections = {int(row[0]): row for row in SECTION.findall(readelf(tool, "-SW", str(path)))}
    mine = [child for child in node.children if child.kind == "elf-section"]
    for index, child in enumerate(mine, 1):
        row = sections[index]
        assert child["name"] == row[1].strip()
        assert [child["sh_addr"], child["sh_offset"], child["sh_size"]] == [int(value, 16) for value in row[3:6]]
    return node


@pytest.mark.parametrize("elf_class", [32, 64])
def test_readelf_agrees_on_built_files(elf_class, tmp_path, tool):
    path = tmp_path / "small.elf"
    path.write_bytes(small(elf_class))
    check_against_readelf(path, tool)


@pytest.mark.parametrize("name", ["multiboot1/multiboot1.elf", "pv-dom0/pv-dom0.elf", "pvh/pvh.elf"])
def test_readelf_agrees_on_samples(name, samples, tool):
    check_against_readelf(samples / name, tool)


@pytest.mark.real
@pytest.mark.parametrize("name", ["hvmloader", "xen-shim"])
def test_readelf_agrees_on_xen_tools(name, debian, tool):
    node = check_against_readelf(debian("xen-utils-4.17") / "usr/lib/xen-4.17/boot" / name, tool)
    assert node["e_machine"] == 3


def test_struct_agrees_with_the_layout():
    """The same header through the standard library's struct, an independent reading of the same layout."""
    stored = struct.unpack("<4s5B7sHHIQQQIHHHHHH", EHDR64_BYTES)
    parsed = EHDR[2].parse(EHDR64_BYTES)
    assert stored == tuple(getattr(parsed, name) for name in EHDR[2].offsets)
