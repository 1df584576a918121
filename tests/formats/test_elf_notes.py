"""ELF notes: literal bytes, owners, padding, damage, readelf."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.formats import elf_notes
from mbtool.formats.elf_build import build_elf
from mbtool.formats.elf_headers import PT_NOTE, Phdr
from mbtool.formats.elf_notes import (
    MAX_AREAS,
    MAX_DESCS,
    MAX_NOTES,
    NHDR,
    Nhdr,
    build_note,
    build_notes,
    walk,
    walk_all,
)
from mbtool.source import BytesSource
from tests.formats.linux_notes import LINUX_6_1
from tests.formats.test_elf import ids, inspect

BUILD_ID = bytes.fromhex(
    "04000000 14000000 03000000"  # n_namesz, n_descsz, n_type NT_GNU_BUILD_ID
    "474e5500"  # "GNU"
    "151b373fd64b321593bf987fd923cd10dabadac4"
)


def test_literal():
    (note,), findings = walk(BytesSource(BUILD_ID), 0, len(BUILD_ID))
    assert not findings
    assert note.header == Nhdr(n_namesz=4, n_descsz=20, n_type=3)
    assert (note.name, note.type, note.desc) == ("GNU", 3, BUILD_ID[16:])
    assert (note.offset, note.desc_offset, note.size) == (0, 16, 36)
    assert build_note(note.name, note.type, note.desc) == BUILD_ID


def test_layout():
    assert NHDR.size == 12
    assert NHDR.offsets == {"n_namesz": (0, 4), "n_descsz": (4, 4), "n_type": (8, 4)}
    assert NHDR.build(Nhdr(n_namesz=1, n_descsz=2, n_type=3)) == bytes.fromhex("010000000200000003000000")


def test_linux_notes():
    """The notes of Debian's 6.1 kernel: types as its sources and xen/include/public/elfnote.h name them."""
    notes, findings = walk(BytesSource(LINUX_6_1), 0, len(LINUX_6_1))
    assert not findings
    assert [elf_notes.describe(note) for note in notes] == [
        "Xen GUEST_OS",
        "Xen GUEST_VERSION",
        "Xen XEN_VERSION",
        "Xen VIRT_BASE",
        "Xen INIT_P2M",
        "Xen ENTRY",
        "Xen FEATURES",
        "Xen SUPPORTED_FEATURES",
        "Xen PAE_MODE",
        "Xen LOADER",
        "Xen L1_MFN_VALID",
        "Xen SUSPEND_CANCEL",
        "Xen MOD_START_PFN",
        "Xen HV_START_LOW",
        "Xen PADDR_OFFSET",
        "GNU BUILD_ID",
        "Linux LTO_INFO",
        "Linux BUILD_SALT",
        "Xen PHYS32_ENTRY",
    ]
    assert build_notes((note.name, note.type, note.desc) for note in notes) == LINUX_6_1
    identity = elf_notes.build_id(notes)
    assert identity is not None
    assert identity.hex() == "eb4fbcd037e7253717950bf2b93bd5566f47c56f"


@pytest.mark.parametrize(
    ("owner", "type_", "name"),
    [
        ("Xen", 1, "ENTRY"),  # GNU's type 1 is an ABI tag, which is what readelf makes of it
        ("GNU", 1, "ABI_TAG"),
        ("Xen", 4, "PADDR_OFFSET"),
        ("Go", 4, "GO_BUILD_ID"),
        ("Xen", 0x1000001, "CRASH_INFO"),
        ("Xen", 99, "0x63"),
        ("stapsdt", 3, "PROBE"),
        ("nobody", 3, "0x3"),
    ],
)
def test_a_type_means_what_its_owner_says(owner, type_, name):
    data = build_note(owner, type_, b"")
    (note,), _ = walk(BytesSource(data), 0, len(data))
    assert elf_notes.type_name(note) == name


@pytest.mark.parametrize(
    ("owner", "type_", "desc", "words"),
    [
        ("GNU", 1, bytes.fromhex("00000000030000000200000000000000"), "Linux 3.2.0"),
        ("Linux", 0x100, b"6.1.0-56-amd64\0", "6.1.0-56-amd64"),
        ("Linux", 0x101, bytes(4), "built without link-time optimisation"),
        ("Linux", 0x101, b"\1\0\0\0", "built with link-time optimisation"),
        ("Linux", 0, bytes.fromhex("c0010600"), "6.1.192"),
        ("stapsdt", 3, bytes(24) + b"libc\0setjmp\0args\0", "libc:setjmp"),
        ("FDO", 0xCAFE1A7E, b'{"type":"deb"}\0', '{"type":"deb"}'),
        ("GNU", 1, b"short", ""),
    ],
)
def test_meaning(owner, type_, desc, words):
    data = build_note(owner, type_, desc)
    (note,), _ = walk(BytesSource(data), 0, len(data))
    assert elf_notes.meaning(note) == words


NOTES = st.lists(
    st.tuples(
        st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=9),
        st.integers(0, 2**32 - 1),
        st.binary(max_size=40),
    ),
    max_size=9,
)


@given(NOTES, st.sampled_from([4, 8]))
def test_round_trip(values, align):
    data = build_notes(values, align)
    notes, findings = walk(BytesSource(data), 0, len(data), align)
    assert not findings
    assert [(note.name, note.type, note.desc) for note in notes] == values


# --- padding


def test_padding_to_8_is_believed_only_where_it_fits():
    odd = [("GNU", 5, b"12345"), ("GNU", 3, b"build-id")]
    for align in (4, 8):
        data = build_notes(odd, align)
        notes, findings = walk_all(BytesSource(data), [(0, len(data), 8)])
        assert not findings
        assert [note.desc for note in notes] == [b"12345", b"build-id"]


def test_zeros_between_notes_are_stepped_over():
    data = bytes(24) + BUILD_ID + bytes(36) + BUILD_ID + bytes(12)
    notes, findings = walk(BytesSource(data), 0, len(data))
    assert [note.offset for note in notes] == [24, 24 + 36 + 36]
    assert not findings


@pytest.mark.parametrize(("tail", "bad"), [(b"", False), (bytes(8), False), (b"\1" * 11, True)])
def test_tail(tail, bad):
    data = BUILD_ID + tail
    notes, findings = walk(BytesSource(data), 0, len(data))
    assert len(notes) == 1
    assert [finding.id for finding in findings] == ["NOTES-TAIL"] * bad


# --- damage


def test_note_past_its_segment_is_read_from_the_file():
    """GRUB's i386-xen image is like this: Xen reads the whole note, whatever p_filesz says."""
    data = build_notes([("Xen", 9, b"yes\0"), ("Xen", 6, b"linux\0")])
    notes, findings = walk(BytesSource(data), 0, len(data) - 8)
    assert notes[1].desc == b"linux\0"
    assert [finding.id for finding in findings] == ["NOTE-CUT"]


@pytest.mark.parametrize("field", ["n_namesz", "n_descsz", "n_type"])
@pytest.mark.parametrize("value", [0, 1, 20, 21, 2**31, 2**32 - 4, 2**32 - 1])
def test_every_number_at_its_limits(field, value):
    """A lying size may swallow the notes behind it; it never raises, loops or hides those before it."""
    first = build_note("Xen", 6, b"linux\0")
    offset, size = NHDR.offsets[field]
    changed = bytearray(BUILD_ID)
    changed[offset : offset + size] = value.to_bytes(4, "little")
    data = first + bytes(changed) + first
    notes, findings = walk(BytesSource(data), 0, len(data))
    assert notes[0].desc == b"linux\0"
    if value > 2**31 - 1 and field == "n_descsz" and value < 2**32 - 4:
        assert [finding.id for finding in findings] == ["NOTE-CUT"]


def test_truncation_at_every_byte():
    for length in range(len(LINUX_6_1)):
        notes, findings = walk(BytesSource(LINUX_6_1[:length]), 0, len(LINUX_6_1))
        assert findings[0].id == "NOTES-CUT"
        assert len(notes) >= length // 60, "what came before the cut is there"


@given(st.binary(max_size=400), st.integers(0, 2**64), st.integers(0, 2**64))
def test_noise(data, start, size):
    for at, length in ((0, len(data)), (start, size), (0, size)):
        notes, _ = walk(BytesSource(data), at, length)
        assert all(note.size >= 12 for note in notes)


@pytest.mark.parametrize("areas", [[(0, 16 * 999, 4)], [(0, 16 * 50, 4), (16 * 50, 16 * 60, 4)]])
def test_many_notes_are_bounded(areas, monkeypatch):
    assert MAX_NOTES == 65536, "ELF_MAX_TOTAL_NOTE_COUNT of xen/include/xen/libelf.h"
    monkeypatch.setattr(elf_notes, "MAX_NOTES", 100)
    data = build_note("", 1, b"") * 999
    notes, findings = walk_all(BytesSource(data), areas)
    assert len(notes) == 100
    assert [finding.id for finding in findings] == ["NOTES-MANY"]


def test_many_areas_are_bounded():
    data = BUILD_ID * (MAX_AREAS + 9)
    areas = [(index * len(BUILD_ID), len(BUILD_ID), 4) for index in range(MAX_AREAS + 9)]
    notes, findings = walk_all(BytesSource(data), areas)
    assert len(notes) == MAX_AREAS
    assert [finding.id for finding in findings] == ["NOTES-MANY"]


@pytest.mark.parametrize("areas", [1, 200])
@pytest.mark.parametrize("size", [0xFFF0, 0xFFFFFFFF])  # notes of the second wrap around: the next starts in them
def test_descriptors_are_bounded(areas: int, size: int):
    data = NHDR.build(Nhdr(4, size, 6)) + b"Xen\0"
    source = BytesSource(data * 10_000 + bytes(1 << 17))
    notes, findings = walk_all(source, [(16 * index, 160_000, 4) for index in range(areas)])
    assert sum(len(note.desc) for note in notes) <= MAX_DESCS
    assert ("NOTES-MANY" in {finding.id for finding in findings}) == (areas > 1 or size > 0xFFF0)


def test_the_same_area_twice_is_read_once():
    notes, _ = walk_all(BytesSource(BUILD_ID), [(0, 36, 4)] * 65535)
    assert len(notes) == 1


def test_overlapping_segments_give_each_note_once():
    notes = build_notes([("GNU", 3, b"12345678"), ("Xen", 6, b"linux\0")])
    data = build_elf([(Phdr(p_type=PT_NOTE, p_align=4), notes), (Phdr(p_type=PT_NOTE, p_align=4), b"")])
    second = bytearray(data)
    start = data.index(notes)
    second[64 + 56 + 8 : 64 + 56 + 16] = start.to_bytes(8, "little")
    second[64 + 56 + 32 : 64 + 56 + 40] = (24).to_bytes(8, "little")
    node = inspect(bytes(second))
    assert [child["name"] for child in node.children if child.kind == "elf-note"] == ["GNU", "Xen"]


# --- against readelf

NOTE_LINE = re.compile(r"^  (\S*) +0x(\w{8})\t(.*)$")


def check_against_readelf(path: Path, tool: Callable[[str], str]) -> int:
    """Owners, sizes, types and descriptors; readelf's words for Xen's types are not looked at. How many notes."""
    run = subprocess.run([tool("readelf"), "-nW", str(path)], capture_output=True, text=True, check=True)
    theirs = [match.groups() for line in run.stdout.splitlines() if (match := NOTE_LINE.match(line))]
    ours = [child for child in inspect(path.read_bytes()).children if child.kind == "elf-note"]
    for child, (owner, size, text) in zip(ours, theirs, strict=True):
        assert child["name"] == owner
        assert child["n_descsz"] == int(size, 16)
        if unknown := re.search(r"Unknown note type: \(0x(\w+)\)", text):
            assert child["n_type"] == int(unknown[1], 16)
        if raw := re.search(r"description data: ([0-9a-f ]*)", text):
            assert child["desc"] == bytes.fromhex(raw[1])
        if identity := re.search(r"Build ID: (\w+)", text):
            assert child["desc"] == bytes.fromhex(identity[1])
    return len(ours)


def test_readelf_agrees_on_linux_notes(tmp_path, tool):
    path = tmp_path / "notes.elf"
    path.write_bytes(build_elf([(Phdr(p_type=PT_NOTE, p_align=4), LINUX_6_1)]))
    assert check_against_readelf(path, tool) == 19


@pytest.mark.parametrize("name", ["pv-dom0/pv-dom0.elf", "pv-dom0/pv-dom0-mapped.elf", "pvh/pvh.elf"])
def test_readelf_agrees_on_samples(name, samples, tool):
    assert check_against_readelf(samples / name, tool) > 0


@pytest.mark.real
def test_readelf_agrees_on_xen_shim(debian, tool):
    path = debian("xen-utils-4.17") / "usr/lib/xen-4.17/boot/xen-shim"
    assert check_against_readelf(path, tool) == 2


@pytest.mark.real
@pytest.mark.parametrize("target", ["x86_64-xen", "i386-xen_pvh"])
def test_readelf_agrees_on_grub(target, debian, tool, tmp_path):
    path = grub_image(target, debian, tool, tmp_path)
    assert check_against_readelf(path, tool) > 0
    assert ids(inspect(path.read_bytes())) == set()


def grub_image(target: str, debian: Callable[[str], Path], tool: Callable[[str], str], directory: Path) -> Path:
    """A GRUB core image for a Xen domain, made from the modules of grub-xen-bin."""
    path = directory / f"grub-{target}"
    modules = debian("grub-xen-bin") / "usr/lib/grub" / target
    command = [tool("grub-mkimage"), "-d", str(modules), "-O", target, "-o", str(path), "-p", "/boot/grub"]
    subprocess.run(command, check=True, capture_output=True)
    return path
