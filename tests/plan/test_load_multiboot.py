"""Plans for Multiboot 1 and 2 kernels: places, boot information, entry state, refusals."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.errors import MbtoolError, RefusedError, UnsupportedError
from mbtool.formats import multiboot1, multiboot1_info, multiboot1_wire, multiboot2, multiboot2_info
from mbtool.formats import multiboot2_header_tags as header_tags
from mbtool.formats import multiboot2_info_tags as info_tags
from mbtool.formats.elf_file import ElfFile
from mbtool.formats.memory import Memory
from mbtool.formats.multiboot1 import AddressFields, Multiboot1Header
from mbtool.formats.multiboot2 import Multiboot2Header
from mbtool.formats.multiboot2_header_tags import FROM_START, Address, EntryAddress, Relocatable
from mbtool.formats.multiboot2_tags import Tag, UnknownTag
from mbtool.formats.multiboot_shared import BasicMemory
from mbtool.plan import multiboot1 as plan1
from mbtool.plan import multiboot2 as plan2
from mbtool.plan.e820 import E820Map
from mbtool.plan.load import Load, LoadPlan, MachinePatch, MachineValue, MapShape, Part, Registers
from mbtool.plan.memory import Range
from mbtool.plan.modules import ModuleFile
from mbtool.source import BytesSource
from tests.plan.loads import GIB, MIB, QEMU_96M, check, elf, ram, usable

KERNEL = elf((MIB, 0x1000, 0x3000), (2 * MIB, 0x800, 0x800), entry=MIB + 0x10)
MODULES = (ModuleFile("boot/one", 5000, "one text"), ModuleFile("boot/two", 1))


def header2(*values: object, optional: bool = False) -> Multiboot2Header:
    return Multiboot2Header(tuple(Tag(value, int(optional)) for value in values))


def places(plan: LoadPlan, name: str) -> list[tuple[int, int, int]]:
    return [(load.address, load.size, load.zero) for load in plan.loads if load.name == name]


def info1(plan: LoadPlan) -> multiboot1_info.Multiboot1Info:
    load = plan.loads[0]
    assert load.name == "boot information" and isinstance(load.content, bytes)
    return multiboot1_info.parse(Memory(BytesSource(load.content), load.address), plan.registers.ebx)


def info2(plan: LoadPlan) -> multiboot2_info.Multiboot2Info:
    load = plan.loads[0]
    assert load.name == "boot information" and isinstance(load.content, bytes)
    assert load.address == plan.registers.ebx
    return multiboot2_info.parse(load.content)


# ---- both ----------------------------------------------------------------------------------------------------


def with_version_1(
    kernel: tuple[ElfFile, int], modules: Sequence[ModuleFile] = (), memory: E820Map | None = None, text: str = ""
) -> LoadPlan:
    return plan1.plan("k", kernel[1], Multiboot1Header(3), 0, kernel[0], text, modules, memory)


def with_version_2(
    kernel: tuple[ElfFile, int], modules: Sequence[ModuleFile] = (), memory: E820Map | None = None, text: str = ""
) -> LoadPlan:
    return plan2.plan("k", kernel[1], header2(), 0, kernel[0], text, modules, memory)


BOTH = (with_version_1, with_version_2)


def both(
    kernel: tuple[ElfFile, int], modules: Sequence[ModuleFile] = (), memory: E820Map | None = None
) -> Iterator[LoadPlan]:
    """The plans of either version for an ELF kernel."""
    return (planner(kernel, modules, memory) for planner in BOTH)


@pytest.mark.parametrize("memory", [None, QEMU_96M])
def test_segments_go_where_they_are_linked_and_modules_behind_them(memory):
    for plan in both(KERNEL, MODULES, memory):
        check(plan, memory)
        assert places(plan, "k") == [(MIB, 0x1000, 0x2000), (2 * MIB, 0x800, 0)]
        assert places(plan, "boot/one") == [(3 * MIB, 5000, 0)]
        assert places(plan, "boot/two") == [(3 * MIB + 0x2000, 1, 0)]
        assert plan.registers.eip == MIB + 0x10
        assert plan.registers.ebx == 0x30000


def test_modules_go_around_a_hole():
    memory = ram((MIB, 3 * MIB + 0x1000), (16 * MIB + 0x800, 32 * MIB))
    for plan in both(KERNEL, MODULES, memory):
        check(plan, memory)
        assert places(plan, "boot/one")[0][0] == 16 * MIB + 0x1000
        assert places(plan, "boot/two")[0][0] == 16 * MIB + 0x3000  # behind the first


def test_entry_is_found_through_the_segment_that_holds_it():
    high = elf((16 * MIB, 16, 16), (MIB, 0x1000, 0x2000), entry=0xC0101FFF, virt=0xC0000000)
    for plan in both(high):
        assert plan.registers.eip == 0x101FFF
    past = elf((MIB, 0x1000, 0x2000), entry=0xC0102000, virt=0xC0000000)
    for planner in BOTH:
        with pytest.raises(RefusedError, match="entry point isn't in a segment"):
            planner(past)


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([(MIB - 1, 16, 16)], "below 1 MiB or above 4 GiB"),
        ([(4 * GIB - 16, 16, 17)], "below 1 MiB or above 4 GiB"),
        ([], "nothing to load"),
        ([(MIB, 0, 0)], "nothing to load"),
    ],
)
def test_segments_that_no_loader_takes(segments, message):
    with pytest.raises(RefusedError, match=message):
        list(both(elf(*segments, entry=MIB)))


def test_a_segment_past_the_end_of_the_file():
    for planner in BOTH:
        with pytest.raises(RefusedError, match="the file ends before its segment does"):
            planner((KERNEL[0], 0x1000))


def test_kernel_and_modules_that_do_not_fit():
    small = ram((MIB, 3 * MIB))
    with pytest.raises(RefusedError, match="no free memory where the kernel goes"):
        list(both(elf((MIB, 16, 2 * MIB + 1), entry=MIB), (), small))
    big = ModuleFile("m", MIB + 1)
    fits = elf((MIB, 16, MIB), entry=MIB)
    with pytest.raises(RefusedError, match="module m is too big by 1 bytes; expected at most 1048576 bytes"):
        list(both(fits, (big,), small))
    for plan in both(fits, (ModuleFile("m", MIB),), small):
        check(plan, small)
    with pytest.raises(RefusedError, match="module m is too big"):
        list(both(fits, (ModuleFile("m", 4 * GIB),)))


def test_boot_information_that_does_not_fit_low_memory():
    for planner in BOTH:
        with pytest.raises(RefusedError, match="boot information is too big by"):
            planner(KERNEL, text="x" * (320 << 10))


def test_symbols_are_loaded_and_their_headers_say_where():
    symbols = struct.pack("<IIIBBH", 1, MIB, 16, 0x12, 0, 1)
    kernel = elf((MIB, 0x1000, 0x1000), entry=MIB, symbols=symbols)
    for plan in both(kernel, MODULES):
        check(plan)
        table, strings, names = places(plan, "symbols")
        assert (table[1], strings[1]) == (16, len(b"\0start\0"))
        assert table[0] > places(plan, "boot/two")[0][0]
    first, second = both(kernel, MODULES)
    syms = info1(first).syms
    (tag,) = info2(second).find_all(info_tags.ElfSections)
    assert isinstance(syms, multiboot1_wire.ElfSections)
    assert syms.sections == tag.sections
    assert (syms.size, syms.shndx, tag.entsize, tag.shndx) == (40, 3, 40, 3)
    addresses = [struct.unpack_from("<I", tag.sections, number * 40 + 12)[0] for number in range(4)]
    assert addresses == [0, table[0], strings[0], names[0]]


def test_a_kernel_without_symbols_gets_none_from_multiboot_1():
    first, second = both(elf((MIB, 16, 16), entry=MIB))
    assert info1(first).syms is None
    assert info2(second).find_all(info_tags.ElfSections) == ()


# ---- Multiboot 1 ---------------------------------------------------------------------------------------------


def test_multiboot1_on_any_pc_leaves_to_the_machine_what_only_it_knows():
    file, size = KERNEL
    plan = plan1.plan("k", size, Multiboot1Header(7), 0, file, "k one", MODULES)
    assert plan.protocol == "multiboot1"
    assert plan.registers == Registers(MIB + 0x10, eax=0x2BADB002, ebx=0x30000)
    assert plan.map_shape is MapShape.MULTIBOOT1
    assert set(plan.patches) == {
        MachinePatch(0x30004, MachineValue.MEM_LOWER),
        MachinePatch(0x30008, MachineValue.MEM_UPPER),
        MachinePatch(0x3002C, MachineValue.MAP_ENTRIES, 24),  # mmap_length
    }
    content = plan.loads[0].content
    assert isinstance(content, bytes)
    assert struct.unpack_from("<I", content, 48)[0] == plan.map_address  # mmap_addr
    info = info1(plan)
    assert info.cmdline == "k one"
    assert info.boot_loader_name == "mbtool"
    assert info.mods is not None
    assert [(mod.mod_start, mod.mod_end, mod.string) for mod in info.mods] == [
        (3 * MIB, 3 * MIB + 5000, "one text"),
        (3 * MIB + 0x2000, 3 * MIB + 0x2001, ""),
    ]


def test_multiboot1_on_a_known_machine_leaves_nothing_open():
    file, size = KERNEL
    info = info1(plan1.plan("k", size, Multiboot1Header(3), 0, file, "", (), QEMU_96M))
    assert info.mem == BasicMemory(0x27F, 0x17B80)
    assert info.mmap is not None
    assert [(entry.base_addr, entry.length, entry.type) for entry in info.mmap] == [
        (entry.range.start, entry.range.size, entry.type) for entry in QEMU_96M.entries
    ]


@pytest.mark.parametrize("flags", [1 << 3, 1 << 15, 0x8001])
def test_multiboot1_required_flags_that_are_not_known(flags):
    file, size = KERNEL
    with pytest.raises(RefusedError, match="unsupported flags in the Multiboot header"):
        plan1.plan("k", size, Multiboot1Header(flags), 0, file, "")
    plan1.plan("k", size, Multiboot1Header(1 << 17), 0, file, "")  # the upper half may be ignored


def flat1(at: int, size: int, header_addr: int, load: int, load_end: int, bss_end: int, memory=None) -> LoadPlan:
    fields = AddressFields(header_addr, load, load_end, bss_end, load + 0x20)
    return plan1.plan("flat", size, Multiboot1Header(1 << 16, fields), at, None, "", (), memory)


@pytest.mark.parametrize(
    ("given_", "offset", "loaded", "zero"),
    [
        ((0x100, 0x1000, MIB + 0x100, MIB, 0, 0), 0, 0x1000, 0),
        ((0x100, 0x1000, MIB, MIB, 0, 0), 0x100, 0xF00, 0),
        ((0x100, 0x1000, MIB, MIB, MIB + 0x80, MIB + 0x100), 0x100, 0x80, 0x80),
        ((0x100, 0x1000, MIB, MIB, 0, MIB + 0x10F00), 0x100, 0xF00, 0x10000),
        ((0x100, 0x1000, MIB, MIB, 0, MIB + 0x10), 0x100, 0xF00, 0),
        ((0x100, 0x1000, MIB, MIB, MIB + 0xF00, 0), 0x100, 0xF00, 0),
    ],
)
def test_multiboot1_address_fields(given_, offset, loaded, zero):
    plan = flat1(*given_)
    check(plan)
    assert plan.loads[1] == Load("flat", MIB, Part("flat", offset, loaded), zero)
    assert plan.registers.eip == MIB + 0x20


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ((0x100, 0x1000, MIB + 0x101, MIB, 0, 0), "do not fit the file"),  # from before its start
        ((0x100, 0x1000, MIB, MIB, MIB + 0xF01, 0), "do not fit the file"),
        ((0x100, 0x1000, MIB, MIB, MIB - 1, 0), "do not fit the file"),
        ((0x100, 0x1000, 0x1000, 0x1000, 0, 0), "no free memory where the kernel goes"),
        ((0x100, 0x1000, 0xFFFFF100, 0xFFFFF000, 0, 0xFFFFFFFF), None),
        ((0x100, 0x1000, 0xFFFFF200, 0xFFFFF101, 0, 0), "no free memory where the kernel goes"),
    ],
)
def test_multiboot1_address_fields_at_their_limits(given_, message):
    if message is None:
        check(flat1(*given_))
        return
    with pytest.raises(RefusedError, match=message):
        flat1(*given_)


def test_no_elf_and_no_addresses():
    with pytest.raises(UnsupportedError, match="no ELF file"):
        plan1.plan("k", 100, Multiboot1Header(0), 0, None, "")
    with pytest.raises(UnsupportedError, match="no ELF file"):
        plan2.plan("k", 100, header2(), 0, None, "")


# ---- Multiboot 2 ---------------------------------------------------------------------------------------------


def test_multiboot2_on_any_pc_grows_its_information_by_the_memory_map():
    file, size = KERNEL
    plan = plan2.plan("k", size, header2(), 0, file, "one two", MODULES)
    assert plan.protocol == "multiboot2"
    assert plan.registers == Registers(MIB + 0x10, eax=0x36D76289, ebx=0x30000)
    assert plan.map_shape is MapShape.MULTIBOOT2
    load = plan.loads[0]
    content = load.content
    assert isinstance(content, bytes)
    total = len(content)
    assert load.zero == 128 * 24
    assert plan.map_address == 0x30000 + total - 8  # where the end tag is now
    assert content[-24:] == struct.pack("<6I", 6, 16, 24, 0, 0, 8)  # the map's tag without entries, the end tag
    assert content[-40:-24] == struct.pack("<4I", 4, 16, 0, 0)  # memory sizes
    assert set(plan.patches) == {
        MachinePatch(0x30000, MachineValue.MAP_ENTRIES, 24, total),
        MachinePatch(0x30000 + total - 20, MachineValue.MAP_ENTRIES, 24, 16),
        MachinePatch(0x30000 + total - 32, MachineValue.MEM_LOWER),
        MachinePatch(0x30000 + total - 28, MachineValue.MEM_UPPER),
    }
    info = info2(plan)
    assert info.find_all(info_tags.CommandLine) == (info_tags.CommandLine("one two"),)
    assert info.find_all(info_tags.LoadBaseAddress) == (info_tags.LoadBaseAddress(MIB),)
    assert info.find_all(info_tags.Module) == (
        info_tags.Module(3 * MIB, 3 * MIB + 5000, "one text"),
        info_tags.Module(3 * MIB + 0x2000, 3 * MIB + 0x2001, ""),
    )


def test_multiboot2_on_a_known_machine_leaves_nothing_open():
    file, size = KERNEL
    info = info2(plan2.plan("k", size, header2(), 0, file, "", (), QEMU_96M))
    assert info.find_all(BasicMemory) == (BasicMemory(0x27F, 0x17B80),)
    (memory,) = info.find_all(info_tags.MemoryMap)
    assert [(entry.base_addr, entry.length, entry.type) for entry in memory.entries] == [
        (entry.range.start, entry.range.size, entry.type) for entry in QEMU_96M.entries
    ]


def relocated(tag: Relocatable, memory=None, size: int = 0x3000) -> LoadPlan:
    kernel, file_size = elf((4 * MIB, 0x1000, size), entry=4 * MIB + 0x10)
    plan = plan2.plan("k", file_size, header2(tag, optional=True), 0, kernel, "", MODULES, memory)
    check(plan, memory)
    base = places(plan, "k")[0][0]
    assert info2(plan).find_all(info_tags.LoadBaseAddress) == (info_tags.LoadBaseAddress(base),)
    assert plan.registers.eip == base + 0x10
    return plan


@pytest.mark.parametrize(
    ("tag", "memory", "base"),
    [
        (Relocatable(MIB, 0xFFFFFFFF, 4096, 2), None, MIB),  # any PC: nobody knows where the highest place is
        (Relocatable(0, 0xFFFFFFFF, 1, 1), None, MIB),
        (Relocatable(0, 0xFFFFFFFF, 0, 0), None, MIB),
        (Relocatable(2 * MIB + 1, 0xFFFFFFFF, 4096, 0), None, 2 * MIB + 4096),
        (Relocatable(MIB, 0xFFFFFFFF, 4096, 2), QEMU_96M, 0x5FDD000),
        (Relocatable(MIB, 0xFFFFFFFF, 2 * MIB, 2), QEMU_96M, 94 * MIB),
        (Relocatable(MIB, 32 * MIB, 4096, 2), QEMU_96M, 32 * MIB - 0x3000),
        (Relocatable(MIB, 32 * MIB - 1, 4096, 2), QEMU_96M, 32 * MIB - 0x4000),
        (Relocatable(MIB, 0xFFFFFFFF, 4096, 1), QEMU_96M, MIB),
        (Relocatable(5 * MIB, 5 * MIB + 0x3000, 4096, 0), QEMU_96M, 5 * MIB),
        (Relocatable(MIB, 0xFFFFFFFF, 3, 1), QEMU_96M, MIB + 2),  # 0x100002 is a multiple of 3
        (Relocatable(MIB, 0xFFFFFFFF, 4096, 1), ram((MIB, MIB + 0x2FFF), (8 * MIB, 16 * MIB)), 8 * MIB),
    ],
)
def test_relocatable(tag, memory, base):
    assert places(relocated(tag, memory), "k") == [(base, 0x1000, 0x2000)]


@pytest.mark.parametrize(
    ("tag", "memory"),
    [
        (Relocatable(5 * MIB, 5 * MIB + 0x2FFF, 1, 0), None),
        (Relocatable(5 * MIB + 1, 5 * MIB + 0x3FFF, 4096, 0), None),
        (Relocatable(5 * MIB, MIB, 1, 0), None),
        (Relocatable(MIB, 0xFFFFFFFF, 128 * MIB, 0), QEMU_96M),
        (Relocatable(96 * MIB, 0xFFFFFFFF, 1, 0), QEMU_96M),
    ],
)
def test_relocatable_nowhere(tag, memory):
    with pytest.raises(RefusedError, match="the kernel is too big by"):
        relocated(tag, memory)


def test_address_tag():
    tags = (Address(MIB + 0x40, MIB, MIB + 0x800, MIB + 0x1000), EntryAddress(MIB + 0x44))
    plan = plan2.plan("flat", 0x900, header2(*tags), 0x140, None, "")
    check(plan)
    assert plan.loads[1] == Load("flat", MIB, Part("flat", 0x100, 0x800), 0x800)
    assert plan.registers.eip == MIB + 0x44

    whole = plan2.plan("flat", 0x900, header2(Address(MIB + 0x40, FROM_START, 0, 0), tags[1]), 0x40, None, "")
    assert whole.loads[1] == Load("flat", MIB, Part("flat", 0, 0x900))

    moved = Relocatable(8 * MIB, 0xFFFFFFFF, 4096, 0)
    plan = plan2.plan("flat", 0x900, header2(*tags, moved), 0x140, None, "")
    assert plan.loads[1] == Load("flat", 8 * MIB, Part("flat", 0x100, 0x800), 0x800)
    assert plan.registers.eip == 8 * MIB + 0x44


@pytest.mark.parametrize(
    "address",
    [
        Address(MIB + 0x41, MIB, 0, 0),  # from before the file's start
        Address(MIB, MIB, MIB + 0x8C1, 0),
        Address(MIB, MIB, MIB - 1, 0),
        Address(0x3F, FROM_START, 0, 0),
    ],
)
def test_address_tags_that_do_not_fit_the_file(address):
    with pytest.raises(RefusedError, match="the address tag does not fit the file"):
        plan2.plan("flat", 0x900, header2(address, EntryAddress(MIB)), 0x40, None, "")


def test_address_tag_needs_an_entry_address():
    with pytest.raises(RefusedError, match="load address tag without entry address tag"):
        plan2.plan("flat", 0x900, header2(Address(MIB, MIB, 0, 0)), 0, None, "")


def test_an_entry_address_tag_goes_before_the_elf_entry():
    file, size = KERNEL
    assert plan2.plan("k", size, header2(EntryAddress(MIB + 4)), 0, file, "").registers.eip == MIB + 4


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (UnknownTag(99, b""), "unsupported tag; found 0x63"),
        (header_tags.InformationRequest((4, 22)), "unsupported information tag; found 0x16"),
        (header_tags.ConsoleFlags(1), "requires a console"),
    ],
)
def test_required_tags(value, message):
    file, size = KERNEL
    with pytest.raises(RefusedError, match=message):
        plan2.plan("k", size, header2(value), 0, file, "")
    plan2.plan("k", size, header2(value, optional=True), 0, file, "")


@pytest.mark.parametrize(
    "value",
    [
        header_tags.ConsoleFlags(0),
        header_tags.ConsoleFlags(2),
        header_tags.ConsoleFlags(3),
        header_tags.PreferredFramebuffer(1024, 768, 32),
        header_tags.ModuleAlign(),
        header_tags.EfiBootServices(),
        header_tags.EntryAddressEfi32(1),
        header_tags.EntryAddressEfi64(1),
        header_tags.InformationRequest(tuple(range(22))),
    ],
)
def test_required_tags_that_can_be_met_or_do_not_matter_on_a_bios(value):
    file, size = KERNEL
    plan = plan2.plan("k", size, header2(value), 0, file, "")
    assert plan.registers.eip == MIB + 0x10


words = st.sampled_from([0, 1, 7, 0xFFF, MIB - 1, MIB, MIB + 0x100, 2**31, 2**32 - 1])


@given(words, words, words, words, words, st.integers(0, 0x1000), st.sampled_from([None, QEMU_96M, usable()]))
def test_hostile_addresses_give_a_sound_plan_or_an_error(header, load, load_end, bss_end, align, at, memory):
    fields = AddressFields(header, load, load_end, bss_end, load)
    tags = (Address(header, load, load_end, bss_end), EntryAddress(load), Relocatable(load, bss_end, align, 2))
    makers: tuple[Callable[[], LoadPlan], ...] = (
        lambda: plan1.plan("k", 0x1000, Multiboot1Header(1 << 16, fields), at, None, "", MODULES, memory),
        lambda: plan2.plan("k", 0x1000, header2(*tags[:2]), at, None, "", MODULES, memory),
        lambda: plan2.plan("k", 0x1000, header2(*tags), at, None, "", MODULES, memory),
    )
    for make in makers:
        try:
            plan = make()
        except MbtoolError:
            continue
        check(plan, memory)


@given(st.lists(st.tuples(words, words, words), max_size=3), words, st.sampled_from([None, QEMU_96M]))
def test_hostile_segments_give_a_plan_within_memory_or_an_error(segments, entry, memory):
    file, size = elf(*((at, min(filesz, 0x1000), memsz) for at, filesz, memsz in segments), entry=entry)
    for planner in BOTH:
        try:
            plan = planner((file, size), MODULES, memory)
        except MbtoolError:
            continue
        for load in plan.loads:
            assert load.range.end <= 4 * GIB
            assert memory is None or any(span.covers(load.range) for span in memory.usable())
            if isinstance(load.content, Part) and load.content.file == "k":
                assert load.content.offset + load.content.size <= size


def test_header_is_the_real_one():
    """The numbers of the specification, not those of the code."""
    assert multiboot1.BOOTLOADER_MAGIC == 0x2BADB002
    assert multiboot2.BOOTLOADER_MAGIC == 0x36D76289
    assert Range(0x30000, 0x80000).covers(Range.at(0x30000, 24 * 128))
