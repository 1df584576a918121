"""The PVH planner's rules, row by row. Expected numbers are worked out by hand from Xen's dom0_build.c."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbtool.errors import InputError, MbtoolError, RefusedError
from mbtool.formats import acpi, hvm_start_info, xen_versions
from mbtool.formats.dom_parms import DomParms, LoadSegment
from mbtool.plan import machines, pvh_dom0, pvh_machine, pvh_place, pvh_versions
from mbtool.plan.e820 import E820Entry, E820Map
from mbtool.plan.memory import PAGE, Range, overlapping
from mbtool.plan.pvh_dom0 import PvhPlan
from mbtool.plan.pvh_machine import HostTable, PvhHost
from mbtool.plan.pvh_map import GuestMap, firmware_areas, firmware_owns, sanitized

MIB = 1 << 20
RAM, RESERVED, ACPI, NVS, UNUSABLE = 1, 2, 3, 4, 5


def kernel(start: int = 16 * MIB, size: int = 4 * MIB, **values: object) -> DomParms:
    """As derived for PVH: one segment, entered at its start."""
    parms = DomParms(
        elf_class=64,
        machine=62,
        segments=(LoadSegment(0, start, start, 0, size, 7, 0x1000),),
        pstart=start,
        pend=start + size,
        virt_base=0,
        elf_paddr_offset=0,
        virt_offset=0,
        virt_kstart=start,
        virt_kend=start + size,
        virt_entry=start,
        phys_entry=start,
    )
    return replace(parms, **values)  # type: ignore[arg-type]


def plan(parms: DomParms | None = None, *, version: str = "4.22", **values: object) -> PvhPlan:
    given: dict[str, object] = {"initrd_len": 5000, "nr_pages": 131072, "cmdline": b"quiet", **values}
    return pvh_dom0.plan(parms or kernel(), version=xen_versions.parse(version), **given)  # type: ignore[arg-type]


def entries(*rows: tuple[int, int, int]) -> E820Map:
    return E820Map(tuple(E820Entry(Range(start, end), kind) for start, end, kind in rows))


def rows(found: object) -> list[tuple[int, int, int]]:
    return [(entry.range.start, entry.range.end, entry.type) for entry in found]  # type: ignore[attr-defined]


# ---- the memory map


def test_overlaps_go_to_the_higher_type_and_neighbours_join() -> None:
    host = entries(
        (0x8000, 0xC000, RAM),
        (0x1000, 0x5000, RAM),
        (0x2000, 0x3000, RESERVED),
        (0x2800, 0x4000, ACPI),
        (0x5000, 0x6000, RAM),
        (0x7000, 0x7000, RESERVED),
        (0xB000, 0xD000, UNUSABLE),
        (0x8000, 0x9000, RAM),
    )
    assert rows(sanitized(host)) == [
        (0x1000, 0x2000, RAM),
        (0x2000, 0x2800, RESERVED),
        (0x2800, 0x4000, ACPI),
        (0x4000, 0x6000, RAM),
        (0x8000, 0xB000, RAM),
        (0xB000, 0xD000, UNUSABLE),
    ]


def test_ram_is_cut_to_pages_and_to_dom0s_size() -> None:
    host = entries(
        (0, 0x9FC00, RAM), (0x9FC00, 0xA0000, RESERVED), (0x100000, 0x900000, RAM), (0x900000, 0xA00000, RAM)
    )
    guest = GuestMap(host, 0x9F + 0x100)
    assert rows(guest.entries) == [
        (0, 0x9F000, RAM),
        (0x9FC00, 0xA0000, RESERVED),
        (0x100000, 0x200000, RAM),
        (0x200000, 0xA00000, UNUSABLE),
    ]


def test_ram_beyond_dom0s_size_is_unusable_and_scraps_go() -> None:
    host = entries((0x1000, 0x3000, RAM), (0x3800, 0x4800, RESERVED), (0x5100, 0x5F00, RAM), (0x8000, 0x8800, RAM))
    assert rows(GuestMap(host, 2).entries) == [
        (0x1000, 0x3000, RAM),
        (0x3800, 0x4800, RESERVED),
        (0x5100, 0x5F00, UNUSABLE),
        (0x8000, 0x8800, UNUSABLE),
    ]
    with pytest.raises(InputError, match="less memory"):
        GuestMap(host, 3)


def test_stolen_memory_comes_from_the_highest_entry_below_the_limit() -> None:
    guest = GuestMap(entries((0, 0x80000, RAM), (0x200000, 0x300000, RAM), (1 << 32, (1 << 32) + PAGE, RAM)), 0x181)
    assert guest.steal(100) == 0x300000 - 100
    assert guest.steal(265, 128) == 0x2FFE80
    assert guest.steal(0x100000) is None, "neither below 1 MiB nor above 4 GiB"


def test_range_before_one_of_its_type_moves_its_start_but_not_its_size() -> None:
    guest = GuestMap(entries((0x200000, 0x300000, RAM)), 0x100)
    for size in (0x7A, 0x3C, 0x24):
        at = guest.steal(size)
        assert at is not None
        assert guest.add(Range.at(at, size), ACPI)
    assert rows(guest.entries) == [(0x200000, 0x2FFF26, RAM), (0x2FFF26, 0x2FFFA0, ACPI)]


@pytest.mark.parametrize(
    ("span", "added", "expected"),
    [
        ((0x3000, 0x4000), True, [(0x1000, 0x2000, ACPI), (0x3000, 0x4000, ACPI), (0x5000, 0x6000, RESERVED)]),
        ((0x2000, 0x3000), True, [(0x1000, 0x3000, ACPI), (0x5000, 0x6000, RESERVED)]),
        ((0x1800, 0x2800), False, [(0x1000, 0x2000, ACPI), (0x5000, 0x6000, RESERVED)]),
        ((0x7000, 0x8000), True, [(0x1000, 0x2000, ACPI), (0x5000, 0x6000, RESERVED), (0x7000, 0x8000, ACPI)]),
        ((0, 0x800), True, [(0, 0x800, ACPI), (0x1000, 0x2000, ACPI), (0x5000, 0x6000, RESERVED)]),
    ],
)
def test_adding_a_range(span: tuple[int, int], added: bool, expected: list[tuple[int, int, int]]) -> None:
    guest = GuestMap(entries((0x1000, 0x2000, ACPI), (0x5000, 0x6000, RESERVED)), 0)
    assert guest.add(Range(*span), ACPI) is added
    assert rows(guest.entries) == expected


def test_tables_count_only_in_whole_firmware_pages() -> None:
    host = firmware_areas(entries((0x1000, 0x3000, ACPI), (0x3000, 0x4800, RESERVED), (0x8000, 0x9000, RAM)))
    assert firmware_owns(host, Range(0x1FFF, 0x3001))
    assert not firmware_owns(host, Range(0x4000, 0x4010)), "its page is not whole"
    assert not firmware_owns(host, Range(0x8000, 0x8010))


# ---- placement


@pytest.mark.parametrize(
    ("span", "size", "below_first", "expected"),
    [
        # RAM from 1 MiB to 64 MiB, a kernel from 16 to 20
        ((16, 20), 4 * MIB, True, 1 * MIB),
        ((16, 20), 4 * MIB, False, 20 * MIB),
        ((16, 20), 15 * MIB, True, 1 * MIB),
        ((16, 20), 15 * MIB + 1, True, 20 * MIB),
        ((40, 44), 4 * MIB, False, 1 * MIB),
        ((40, 44), 39 * MIB + 1, False, 0x1000_0000),
        ((16, 20), 44 * MIB + 1, True, 0x1000_0000),
        ((16, 20), 256 * MIB, True, 0x1000_0000),
        ((16, 20), 256 * MIB + 1, True, None),
        # both sides alike: before 4.19 the upper one
        ((30, 35), 4 * MIB, False, 35 * MIB),
    ],
)
def test_room(span: tuple[int, int], size: int, below_first: bool, expected: int | None) -> None:
    memory = entries((0, 0x9F000, RAM), (MIB, 64 * MIB, RAM), (0x1000_0000, 0x2000_0000, RAM)).entries
    occupied = Range(span[0] * MIB, span[1] * MIB)
    assert pvh_place.find_room(memory, occupied, size, below_first=below_first) == expected


def test_room_stays_clear_of_the_kernels_pages() -> None:
    memory = entries((MIB, 64 * MIB, RAM)).entries
    occupied = Range(MIB + 0x10, 2 * MIB + 1)
    assert pvh_place.find_room(memory, occupied, 100, below_first=True) == 2 * MIB + PAGE


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        ({"phys_align": 0x1000}, 0x1000_0000 - 4 * MIB),
        ({"phys_align": 0x100_0000}, 0x0F00_0000),
        ({"palign": 0x40_0000}, 0x0FC0_0000),
        ({"palign": 16}, 0x0FC0_0000),
        ({"phys_align": 0x1000, "phys_max": 0xFF_FFFF}, 12 * MIB),
        ({"phys_align": 0x1000, "phys_max": 0xFF_FFFE}, 12 * MIB - 0x1000),
        ({"phys_align": 0x1000, "phys_min": 0x0FC0_0000}, 0x0FC0_0000),
        ({"phys_align": 0x1000, "phys_min": 0x0FC0_0001}, None),
        ({"phys_align": 0x2000_0000}, None),
    ],
)
def test_relocation(note: dict[str, int], expected: int | None) -> None:
    memory = entries((0, 0x9F000, RAM), (MIB, 0x1000_0000, RAM), (0x2000_0000, 0x3000_0000, RESERVED)).entries
    assert pvh_place.find_kernel(memory, kernel(phys_reloc=True, **note), 4 * MIB) == expected


def test_moved_kernel_takes_its_entry_along() -> None:
    parms = kernel(0x4000_0000, phys_reloc=True, phys_align=0x20_0000, phys_entry=0x4000_0123)
    moved = plan(parms)
    assert moved.kernel == Range.at(0x1FC0_0000, 4 * MIB)
    assert moved.entry == 0x1FC0_0123
    assert moved.registers["eip"] == moved.entry


@pytest.mark.parametrize(
    ("version", "parms", "message"),
    [
        ("4.22", kernel(0x4000_0000), "d0 kernel: Address conflict and not relocatable"),
        ("4.19", kernel(0x4000_0000, phys_reloc=True, phys_max=0xFFFF), "d0 kernel: Failed find a load address"),
        ("4.18", kernel(0x4000_0000), "Failed to load kernel: -1"),
        ("4.18", kernel(phys_entry=None), "Unable to find XEN_ELFNOTE_PHYS32_ENTRY address"),
        ("4.20.4", kernel(has_supported_features_note=True), "Kernel does not support Dom0 operation"),
    ],
)
def test_refusals_in_xens_words(version: str, parms: DomParms, message: str) -> None:
    with pytest.raises(RefusedError) as caught:
        plan(parms, version=version)
    assert str(caught.value).startswith(message)


def test_feature_is_asked_for_only_from_some_point_releases_on() -> None:
    parms = kernel(has_supported_features_note=True)
    for version in ("4.18", "4.20.3", "4.21.1"):
        assert plan(parms, version=version)


def test_too_large_an_initrd_is_refused() -> None:
    with pytest.raises(RefusedError, match="Unable to find a memory region to load initrd and metadata"):
        plan(initrd_len=600 * MIB)


@pytest.mark.parametrize("vcpus", [0, 129])
def test_vcpus_beyond_xens_limit(vcpus: int) -> None:
    with pytest.raises(InputError, match="vCPUs"):
        plan(host=replace(pvh_machine.q35(1024), vcpus=vcpus))


# ---- the region


def test_region_with_everything() -> None:
    got = plan(initrd_len=5001, initrd_cmdline=b"four", cmdline=b"x" * 8).region
    assert got.initrd == Range.at(MIB, 5001)
    assert got.initrd_cmdline == Range.at(MIB + 5008, 5)
    assert got.cmdline == Range.at(MIB + 2 * PAGE, 9)
    assert got.modlist == Range.at(MIB + 2 * PAGE + 16, 32)
    assert got.start_info == Range.at(MIB + 2 * PAGE + 48, 56)


def test_region_with_nothing() -> None:
    got = plan(initrd_len=None, cmdline=None)
    assert got.region.range == got.region.start_info == Range.at(MIB, 56)
    assert (got.info.nr_modules, got.info.modlist_paddr, got.info.cmdline_paddr) == (0, 0, 0)


def test_words_of_a_32_bit_kernel() -> None:
    got = plan(kernel(elf_class=32), initrd_len=5001, initrd_cmdline=b"four", cmdline=b"x" * 8).region
    assert got.initrd_cmdline == Range.at(MIB + 5004, 5)
    assert got.modlist == Range.at(MIB + 2 * PAGE + 12, 32)


@pytest.mark.parametrize(
    ("version", "string", "address"),
    [
        ("4.14", b"words", None),
        ("4.15", b"words", MIB * 20 + 5000),
        ("4.15", b"", MIB * 20 + 5000),
        ("4.15", None, None),
        ("4.18.4", b"", MIB * 20 + 5000),
        ("4.18.5", b"", None),
        ("4.19.1", b"", MIB + 5000),
        ("4.19.2", b"", None),
        ("4.20.0", b"", MIB + 5000),
        ("4.20", b"", None),
        ("4.22", b"words", MIB + 5000),
    ],
)
def test_initrds_string(version: str, string: bytes | None, address: int | None) -> None:
    region = plan(version=version, initrd_cmdline=string).region
    assert (region.initrd_cmdline.start if region.initrd_cmdline else None) == address


def test_empty_initrd_is_none_where_its_string_counts() -> None:
    assert plan(version="4.20.0", initrd_len=0, initrd_cmdline=None).info.nr_modules == 1
    assert plan(version="4.21", initrd_len=0, initrd_cmdline=b"").info.nr_modules == 0
    assert plan(version="4.21", initrd_len=0, initrd_cmdline=b"x").info.nr_modules == 1


def test_forgotten_string_can_run_into_the_kernel() -> None:
    """Up to 4.20.0 the room below the kernel is chosen without counting the initrd's string."""
    parms = kernel(MIB + 2 * PAGE)
    string = b"s" * 4000
    got = plan(parms, version="4.20.0", initrd_len=4000, initrd_cmdline=string, cmdline=b"x")
    assert got.region.initrd == Range.at(MIB, 4000)
    assert [finding.id for finding in got.findings] == ["PVH-OVERWRITTEN"]
    assert plan(parms, version="4.20.1", initrd_len=4000, initrd_cmdline=string, cmdline=b"x").findings == ()


def test_blob_reads_back() -> None:
    got = plan(initrd_len=5001, initrd_cmdline=b"four", cmdline=b"root=/dev/sda quiet")
    assert got.region.initrd is not None
    start = got.region.initrd.end
    blob = pvh_dom0.tail(got)
    info, memmap = hvm_start_info.parse(blob, got.registers["ebx"] - start)
    assert info == got.info
    assert memmap is None
    module = hvm_start_info.MODLIST_ENTRY.parse(blob, info.modlist_paddr - start)
    assert (module.paddr, module.size) == (MIB, 5001)
    assert blob[module.cmdline_paddr - start :].startswith(b"four\0")
    assert blob[info.cmdline_paddr - start :].startswith(b"root=/dev/sda quiet\0")


# ---- ACPI


def test_tables_sum_to_zero_and_name_each_other() -> None:
    got = plan(host=replace(pvh_machine.q35(1024), vcpus=3)).acpi
    rsdp = got.content[: got.rsdp.size]
    xsdt = got.content[got.xsdt.start - got.rsdp.start :][: got.xsdt.size]
    madt = got.content[got.madt.start - got.rsdp.start :]
    assert sum(rsdp[:20]) % 256 == sum(rsdp) % 256 == sum(xsdt) % 256 == sum(madt) % 256 == 0
    assert acpi.RSDP.parse(rsdp).xsdt_address == got.xsdt.start
    assert int.from_bytes(xsdt[36:44], "little") == got.madt.start
    # header and address, one I/O APIC, three processors, five overrides
    assert len(madt) == got.madt.size == 44 + 12 + 3 * 16 + 5 * 10
    ids = [acpi.LOCAL_X2APIC.parse(madt, 56 + 16 * i) for i in range(3)]
    assert [(cpu.x2apic_id, cpu.uid) for cpu in ids] == [(0, 0), (2, 1), (4, 2)]


@pytest.mark.parametrize(
    ("version", "signature", "listed"),
    [
        ("4.14", "SSDT", True),
        ("4.17", "VFCT", False),
        ("4.18", "VFCT", True),
        ("4.20", "OEM1", True),
        ("4.20.0", "OEM1", False),
        ("4.19.4", "TPM2", False),
        ("4.19.5", "TPM2", True),
        ("4.21.0", "TPM2", False),
        ("4.22", "TCPA", True),
        ("4.22", "DMAR", False),
        ("4.22", "FACS", False),
    ],
)
def test_listed_tables(version: str, signature: str, listed: bool) -> None:
    host = pvh_machine.q35(1024)
    without = plan(version=version, host=host).acpi.xsdt.size
    more = HostTable(signature, Range.at(0x3FFE_3000, 0x100))
    facts = replace(host.acpi, tables=(*host.acpi.tables, more))
    assert plan(version=version, host=replace(host, acpi=facts)).acpi.xsdt.size - without == (8 if listed else 0)


def test_table_in_ram_is_not_listed() -> None:
    host = pvh_machine.q35(1024)
    facts = replace(host.acpi, tables=(HostTable("SSDT", Range.at(0x300_0000, 64)),))
    assert plan(host=replace(host, acpi=facts)).acpi.xsdt.size == 44


@pytest.mark.parametrize(
    ("version", "more"), [("4.16.2", 8), ("4.16.3", 0), ("4.17.0", 8), ("4.17.1", 0), ("4.18", 0)]
)
def test_nmi_sources(version: str, more: int) -> None:
    host = pvh_machine.q35(1024)
    facts = replace(host.acpi, nmi_sources=(acpi.NmiSource(0, 7),))
    assert plan(version=version, host=replace(host, acpi=facts)).acpi.madt.size == 122 + more


def test_processor_without_unrestricted_guest_costs_two_pages_at_the_top() -> None:
    got = plan(host=replace(pvh_machine.q35(1024), vmx_helpers=True))
    top = [row for row in rows(got.memory_map) if MIB < row[0] < 0x3000_0000]
    # the page tables first, as they are lower; the TSS ends at the end of RAM, 128-aligned
    assert (0x2005_F000, 0x2006_0000, RESERVED) in top
    assert (0x2006_0E80, 0x2006_0F89, RESERVED) in top


# ---- versions


@pytest.mark.parametrize(
    ("rows_of", "with_it", "without"),
    [
        (
            pvh_versions.STRING_COUNTED,
            ["4.18", "4.18.6", "4.19.2", "4.20.1", "4.21.0", "4.23"],
            ["4.18.4", "4.17.9"],
        ),
        (pvh_versions.TPM_TABLES, ["4.19.5", "4.20.3", "4.21.1", "4.22"], ["4.18.6", "4.20.2", "4.21.0"]),
        (pvh_versions.CHECKED_ADDRESS, ["4.19", "4.19.0", "4.22"], ["4.18", "4.18.6"]),
    ],
)
def test_point_releases(rows_of: tuple[tuple[int, int, int], ...], with_it: list[str], without: list[str]) -> None:
    assert all(pvh_versions._has(xen_versions.parse(text), rows_of) for text in with_it)
    assert not any(pvh_versions._has(xen_versions.parse(text), rows_of) for text in without)


@pytest.mark.parametrize("size", [512, 1024, 2048, 4096, 8192])
def test_default_machine_is_the_recorded_one(size: int) -> None:
    assert pvh_machine.q35(size).e820 == machines.memory_map(f"qemu-q35:{size}M")


# ---- what always holds


@st.composite
def hosts(draw: st.DrawFn) -> PvhHost:
    at, found = 0, []
    for _ in range(draw(st.integers(1, 8))):
        at += draw(st.integers(0, 3 * MIB))
        size = draw(st.integers(1, 96 * MIB))
        found.append(E820Entry(Range.at(at, size), draw(st.sampled_from([1, 1, 1, 2, 3, 4, 5, 12]))))
        at += size
    base = pvh_machine.q35(1024)
    return replace(
        base, e820=E820Map(tuple(found)), vcpus=draw(st.integers(1, 128)), vmx_helpers=draw(st.booleans())
    )


@settings(max_examples=300, deadline=None)
@given(
    hosts(),
    st.integers(0, 128 * MIB),
    st.integers(1, 8 * MIB),
    st.none() | st.integers(0, 16 * MIB),
    st.integers(1, 40000),
    st.none() | st.binary(max_size=3000),
    st.none() | st.binary(max_size=5000),
    st.sampled_from(["4.14", "4.17.7", "4.18", "4.19.0", "4.20.0", "4.22"]),
    st.booleans(),
)
def test_plans_hold_together(
    host: PvhHost,
    start: int,
    size: int,
    initrd_len: int | None,
    nr_pages: int,
    cmdline: bytes | None,
    string: bytes | None,
    version: str,
    reloc: bool,
) -> None:
    try:
        got = plan(
            kernel(start, size, phys_reloc=reloc),
            version=version,
            host=host,
            initrd_len=initrd_len,
            nr_pages=nr_pages,
            cmdline=cmdline,
            initrd_cmdline=string,
        )
    except MbtoolError:
        return
    before = [entry.range for entry in GuestMap(host.e820, nr_pages).entries if entry.type == RAM]
    assert sum(span.size for span in before) == nr_pages * PAGE
    if not got.findings:
        assert overlapping(got.regions) is None
    for name, span in got.regions:
        if name != "kernel" or got.rules.checked_address:
            assert any(ram.covers(span) for ram in before), name
    ram = [entry.range for entry in got.memory_map if entry.type == RAM]
    assert not any(span.overlaps(got.acpi.range) for span in ram)
    starts = [entry.range.start for entry in got.memory_map]
    assert starts == sorted(starts)
    assert got.kernel.size == size
    assert (
        len(pvh_dom0.tail(got))
        == got.region.range.end - (got.region.initrd or Range.at(got.region.range.start, 0)).end
    )


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40 * MIB), st.integers(0, 40 * MIB))
def test_larger_initrd_never_needs_less(first: int, second: int) -> None:
    small, large = sorted((first, second))
    host = pvh_machine.q35(1024)
    ends = []
    for size in (small, large):
        got = plan(kernel(100 * MIB), host=host, initrd_len=size, initrd_cmdline=b"x")
        ends.append(got.region.range.end)
    assert ends[0] <= ends[1]
