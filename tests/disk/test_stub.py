"""The boot stub's shipped blobs are what its source assembles to, and its load list survives a round trip."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mbtool.disk
from mbtool.errors import FormatError
from mbtool.formats import load_list
from mbtool.formats.load_list import EntryState, Item, LoadList, Patch
from mbtool.plan.load import MachineValue, MapShape

STUB = Path(mbtool.disk.__file__).parent / "stub"


@pytest.mark.parametrize(
    ("name", "source", "options"),
    [("mbr", "mbr.asm", []), ("cd", "mbr.asm", ["-DCD"]), ("stage2", "stage2.asm", [])],
)
def test_shipped_blob_is_what_the_source_assembles_to(name, source, options, tool, tmp_path):
    out = tmp_path / "blob"
    subprocess.run([tool("nasm"), "-f", "bin", "-w+all", *options, "-o", out, source], cwd=STUB, check=True)
    assert out.read_bytes() == (STUB / f"{name}.bin").read_bytes()


@pytest.mark.parametrize("name", ["mbr.bin", "cd.bin"])
def test_boot_code_fits_and_has_its_packet_where_the_builder_writes(name):
    code = (STUB / name).read_bytes()
    assert len(code) == 440
    assert code[424:432] == struct.pack("<BBHHH", 16, 0, 0, 0x8000, 0)


@pytest.mark.boot
def test_a_disk_of_larger_sectors_is_refused(samples, tool, tmp_path):
    """SeaBIOS starts an NVMe disk of 4096-byte sectors, where no GPT of 512-byte ones can be read."""
    from tests import qemu
    from tests.cli.run import mbtool

    image = tmp_path / "disk.img"
    done = mbtool("build-disk", "--kernel", samples / "multiboot1/multiboot1.elf", "-o", image)
    assert done.returncode == 0, done.stderr
    nvme = "nvme,drive=boot,serial=1,logical_block_size=4096,physical_block_size=4096,bootindex=0"
    drive = f"if=none,id=boot,format=raw,snapshot=on,file={image}"
    seen = qemu.run(["-drive", drive, "-device", nvme], until="mbtool stub: error: .*\n")
    assert "mbtool stub: error: the disk's sectors are not 512 bytes\n" in seen.console


words = st.integers(0, 0xFFFFFFFF)
lists = st.builds(
    LoadList,
    st.builds(EntryState, entry=words, eax=words, ebx=words, esi=words, map_address=words),
    st.lists(
        st.tuples(
            st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
            st.builds(Item, st.integers(0, 2**64 - 1), words, words, words, words, st.just(0)),
        ),
        max_size=8,
    ).map(tuple),
    st.lists(st.builds(Patch, words, words, words, words), max_size=8).map(tuple),
)


def test_every_map_shape_and_machine_value_has_a_name():
    assert set(load_list.MAP_SHAPES) == set(MapShape)
    assert set(load_list.MACHINE_VALUES) == set(MachineValue)


@given(lists)
def test_round_trip(value):
    data = load_list.build(value)
    parsed = load_list.parse(data + bytes(100))
    assert [name for name, _ in parsed.items] == [name for name, _ in value.items]
    assert [item.dest for _, item in parsed.items] == [item.dest for _, item in value.items]
    assert parsed.patches == value.patches
    assert load_list.build(parsed) == data


@given(lists, st.data())
def test_a_changed_byte_is_noticed(value, data):
    raw = bytearray(load_list.build(value))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FormatError):
        load_list.parse(bytes(raw))


def test_a_list_longer_than_the_stub_can_take_is_refused():
    item = ("name", Item(0, 0, 0, 0, 0, 0))
    with pytest.raises(FormatError, match="too long"):
        load_list.build(LoadList(EntryState(), (item,) * 1000, ()))
