"""Plans for PVH kernels: the entry point's note, hvm_start_info and what it points at, refusals."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.errors import MbtoolError, RefusedError, UnsupportedError
from mbtool.formats.elf_build import build_elf
from mbtool.formats.elf_file import ElfFile, parse_elf
from mbtool.formats.elf_headers import SHT_NOTE, Phdr, Shdr
from mbtool.formats.elf_notes import build_notes
from mbtool.plan import pvh
from mbtool.plan.e820 import E820Map
from mbtool.plan.load import LoadPlan, MachinePatch, MachineValue, MapShape, Part, Registers
from mbtool.plan.modules import ModuleFile
from mbtool.source import BytesSource
from tests.plan.loads import MIB, QEMU_96M, check, elf, ram

ENTRY = struct.pack("<I", 0x100040)
NOTES = build_notes([("GNU", 18, bytes(4)), ("Xen", 6, b"linux\0"), ("Xen", 18, ENTRY)])
MODULES = (ModuleFile("initrd", 4097), ModuleFile("extra", 3, "a word"))


def kernel(notes: bytes = NOTES, *segments: tuple[int, int, int]) -> tuple[ElfFile, int]:
    return elf(*(segments or ((MIB, 0x1000, 0x3000),)), entry=0xFFFFFFFF, notes=notes)


def planned(
    cmdline: str = "one two",
    modules: Sequence[ModuleFile] = (),
    memory: E820Map | None = None,
    rsdp: int = 0,
) -> LoadPlan:
    file, size = kernel()
    plan = pvh.plan("k", size, file, cmdline, modules, memory, rsdp)
    check(plan, memory)
    return plan


def test_entry_point_comes_from_the_xen_note_alone():
    assert pvh.entry_point(kernel()[0]) == 0x100040
    assert pvh.entry_point(kernel(build_notes([("GNU", 18, ENTRY)]))[0]) is None
    assert pvh.entry_point(kernel(build_notes([("Xen", 1, ENTRY)]))[0]) is None
    assert pvh.entry_point(kernel(build_notes([("Xen", 18, ENTRY + bytes(4))]))[0]) == 0x100040  # 64 bits


def test_note_sections_count_in_a_file_without_note_segments():
    sections = [(".note.Xen", Shdr(sh_type=SHT_NOTE, sh_addralign=4), NOTES)]
    segment = (Phdr(p_paddr=MIB), bytes(0x1000))
    alone = parse_elf(BytesSource(build_elf([segment], sections, elf_class=32)))
    assert pvh.entry_point(alone) == 0x100040
    other = (Phdr(p_type=4), build_notes([("GNU", 3, b"id")]))
    beside = parse_elf(BytesSource(build_elf([segment, other], sections, elf_class=32)))
    assert pvh.entry_point(beside) is None


def test_start_info_on_any_pc():
    plan = planned(modules=MODULES)
    assert plan.protocol == "pvh"
    assert plan.registers == Registers(0x100040, ebx=0x30000)
    content = plan.loads[0].content
    modlist, strings = 0x30000 + 56, 0x30000 + 56 + 2 * 32
    memmap = strings + 16  # "one two\0" and "a word\0", on 8 bytes
    assert content == (
        struct.pack("<IIII", 0x336EC578, 1, 0, 2)
        + struct.pack("<QQQ", modlist, strings, 0)
        + struct.pack("<QII", memmap, 0, 0)
        + struct.pack("<QQQQ", 2 * MIB, 4097, 0, 0)
        + struct.pack("<QQQQ", 2 * MIB + 0x2000, 3, strings + 8, 0)
        + b"one two\0a word\0\0"
    )
    assert plan.loads[0].zero == 128 * 24
    assert (plan.map_shape, plan.map_address) == (MapShape.PVH, memmap)
    assert set(plan.patches) == {
        MachinePatch(0x30000 + 48, MachineValue.MAP_ENTRIES),
        MachinePatch(0x30000 + 32, MachineValue.RSDP),
    }
    assert [(load.name, load.address, load.content) for load in plan.loads[2:]] == [
        ("initrd", 2 * MIB, Part("initrd", 0, 4097)),
        ("extra", 2 * MIB + 0x2000, Part("extra", 0, 3)),
    ]


def test_start_info_without_modules():
    content = planned(cmdline="").loads[0].content
    assert isinstance(content, bytes)
    assert struct.unpack_from("<IQQ", content, 12) == (0, 0, 0x30000 + 56)
    assert content[56:] == bytes(8)


def test_start_info_on_a_known_machine():
    plan = planned(memory=QEMU_96M, rsdp=0xF5A00)
    content = plan.loads[0].content
    assert isinstance(content, bytes)
    assert struct.unpack_from("<Q", content, 32) == (0xF5A00,)
    memmap, entries = struct.unpack_from("<QI", content, 40)
    assert entries == len(QEMU_96M.entries)
    stored = [struct.unpack_from("<QQII", content, memmap - 0x30000 + 24 * number) for number in range(entries)]
    assert stored == [(entry.range.start, entry.range.size, entry.type, 0) for entry in QEMU_96M.entries]


def test_refusals():
    file, size = kernel(build_notes([("Xen", 6, b"linux\0")]))
    with pytest.raises(UnsupportedError, match="no PHYS32_ENTRY note"):
        pvh.plan("k", size, file, "")
    for at in (MIB - 1, MIB + 0x3000):
        file, size = kernel(build_notes([("Xen", 18, struct.pack("<I", at))]))
        with pytest.raises(RefusedError, match="the PVH entry point lies outside of what is loaded"):
            pvh.plan("k", size, file, "")
    file, size = kernel()
    with pytest.raises(RefusedError, match="no free memory where the kernel goes"):
        pvh.plan("k", size, file, "", (), ram((2 * MIB, 64 * MIB)))
    with pytest.raises(RefusedError, match="module big is too big by 1 bytes"):
        pvh.plan("k", size, file, "", (ModuleFile("big", 62 * MIB + 1),), ram((MIB, 64 * MIB)))
    with pytest.raises(RefusedError, match="the start info is too big by"):
        pvh.plan("k", size, file, "x" * (320 << 10))
    with pytest.raises(RefusedError, match="the file ends before its segment does"):
        pvh.plan("k", 0x800, file, "")


@given(st.binary(max_size=200), st.sampled_from([0, MIB, 2**32 - 1, 2**32 - MIB]))
def test_hostile_notes_and_segments(notes, at):
    file, size = elf((at, 16, 16), entry=0, notes=notes + NOTES)
    for memory in (None, QEMU_96M):
        try:
            plan = pvh.plan("k", size, file, "", MODULES, memory)
        except MbtoolError:
            continue
        check(plan, memory)
