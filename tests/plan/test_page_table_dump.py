"""Page tables read back: recordings of real Xen, entries by hand from the SDM, tables that lie."""

from __future__ import annotations

import itertools
import re
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbtool.errors import FormatError
from mbtool.plan import page_tables
from mbtool.plan.page_table_dump import MAX_TABLES, Mapped, PageTables, flag_names
from mbtool.source import BytesSource
from tests.oracle.recording import ORACLE, Recording, load
from tests.plan.kernels import kernel, planned
from tests.plan.walk import FRAME, Tables

RECORDINGS = sorted(path.with_suffix("").with_suffix("") for path in ORACLE.glob("*.pt.gz"))
PAGE = 4096
BASE = 0x7000_0000
P, RW, US, PS = 1, 2, 4, 0x80
NX = 1 << 63
XENS_SLOTS = range(256, 272)
"""Of the L4: what Xen maps for itself, its linear map of the tables among it."""


def tables(*frames: dict[int, int], pae: bool = False) -> PageTables:
    """Tables by their entries (slot: entry), one behind the other from BASE on."""
    blob = b"".join(struct.pack("<512Q", *(entries.get(slot, 0) for slot in range(512))) for entries in frames)
    return PageTables(BytesSource(blob, "dump"), BASE, BASE, pae=pae)


def shown(mapped: Mapped) -> list[tuple[int, int, int, str]]:
    return [(m.range.start, m.range.end, m.target, " ".join(flag_names(m.flags))) for m in mapped.mappings]


# ---- real Xen ------------------------------------------------------------------------------------------------


def machine_of(recording: Recording) -> tuple[int, int]:
    """The machine address of the first page table, by the recorded P2M; and where the initial mapping begins."""
    total = next(line for line in recording.console if line.startswith(" TOTAL:"))
    match = re.search(r"([0-9a-f]{16})->", total)
    assert match
    start = int(match[1], 16)
    pfn = (recording.word(88) - start) >> 12  # pt_base
    if 8 * pfn < len(recording.p2m):
        return struct.unpack_from("<Q", recording.p2m, 8 * pfn)[0] << 12, start
    return recording.alloc_base + pfn * PAGE, start  # no initrd is mapped before it


@pytest.mark.parametrize("stem", RECORDINGS, ids=lambda stem: stem.name)
def test_what_xen_built_is_read_as_a_walk_of_our_own_reads_it(stem: Path) -> None:
    recording = load(stem)
    base, start = machine_of(recording)
    dump = PageTables(BytesSource(recording.page_tables, "pt"), base, base)
    mapped = dump.mapped()
    assert mapped.findings == ()  # Xen maps no page table writable
    pages: dict[int, tuple[int, bool]] = {}
    for mapping in mapped.mappings:
        if mapping.range.start >> 39 & 511 in XENS_SLOTS:
            assert "US" not in flag_names(mapping.flags)
            continue
        assert mapping.page == PAGE
        for offset in range(0, mapping.range.size, PAGE):
            pages[mapping.range.start + offset] = mapping.target + offset, bool(mapping.flags & RW)
    in_dump = range(base, base + len(recording.page_tables), PAGE)
    assert set(mapped.tables) == set(in_dump)

    class Known(Tables):
        """Tables that are not in the dump (Xen's own, those of the P2M) map nothing."""

        def _entries(self, address: int) -> tuple[int, ...]:
            return super()._entries(address) if address in in_dump else (0,) * 512

        def leaves(self, address: int | None = None, shift: int = 39, va: int = 0):
            if address is None or address in in_dump:
                yield from super().leaves(address, shift, va)

    blob = bytearray(recording.page_tables)
    for slot in XENS_SLOTS:
        blob[slot * 8 : slot * 8 + 8] = bytes(8)
    expected = {va: (entry & FRAME, bool(entry & RW)) for va, entry in Known(bytes(blob), base).leaves()}
    assert pages == expected
    assert pages[start][0] == struct.unpack_from("<Q", recording.p2m)[0] << 12
    rip = recording.registers["rip"]
    walk = dump.walk(rip)
    assert walk.target == pages[rip & -PAGE][0] + rip % PAGE
    assert [step.level for step in walk.steps] == ["L4", "L3", "L2", "L1"]


# ---- by hand -------------------------------------------------------------------------------------------------


def test_pages_of_all_sizes():
    dump = tables(
        {0: BASE + PAGE | P | RW | US, 511: BASE + PAGE | P | RW},
        {0: BASE + 2 * PAGE | P | RW | US, 2: 0x4000_0000 | P | RW | US | PS, 3: 0x1_0000_0000 | P | RW | US | PS},
        {0: BASE + 3 * PAGE | P | RW | US, 1: 0x20_0000 | P | PS | 1 << 12 | NX},
        {0: 0x1000 | P | US, 1: 0x2000 | P | US, 2: 0x3000 | P | RW | US, 4: 0x5000 | RW | US},
    )
    low = [
        (0, 0x2000, 0x1000, "P US"),
        (0x2000, 0x3000, 0x3000, "P RW US"),
        (0x20_0000, 0x40_0000, 0x20_0000, "P PAT NX"),
        (0x8000_0000, 0xC000_0000, 0x4000_0000, "P RW US"),
        (0xC000_0000, 0x1_0000_0000, 0x1_0000_0000, "P RW US"),
    ]
    # the same tables once more at the top, where the L4 denies them to users
    high = [
        (0xFFFF_FF80_0000_0000 + start, 0xFFFF_FF80_0000_0000 + end, target, flags.replace(" US", ""))
        for start, end, target, flags in low
    ]
    assert shown(dump.mapped()) == low + high
    assert dump.walk(0x1234).target == 0x2234
    assert dump.walk(0x20_1234).target == 0x20_1234
    assert dump.walk(0xBFFF_FFFF).target == 0x7FFF_FFFF
    assert dump.walk(0x4000).why == "the L1's entry is not present"
    assert dump.walk(0x4000_0000).why == "the L3's entry is not present"
    assert len(dump.walk(0x4000_0000).steps) == 2


def test_the_last_page_of_all():
    dump = tables({511: BASE + PAGE | P}, {511: BASE + 2 * PAGE | P}, {511: BASE + 3 * PAGE | P}, {511: 0x9000 | P})
    assert shown(dump.mapped()) == [((1 << 64) - PAGE, 1 << 64, 0x9000, "P")]
    assert dump.walk((1 << 64) - 1).target == 0x9FFF


def test_a_whole_table_of_neighbours_and_their_neighbours():
    full = {slot: slot * PAGE | P for slot in range(512)}
    more = {0: 512 * PAGE | P, 1: 513 * PAGE | P | RW}
    dump = tables(
        {0: BASE + PAGE | P}, {0: BASE + 2 * PAGE | P}, {0: BASE + 3 * PAGE | P, 1: BASE + 4 * PAGE | P}, full, more
    )
    assert shown(dump.mapped()) == [(0, 514 * PAGE, 0, "P")]  # writable in the L1 alone does not count


def test_addresses_that_run_into_the_flags_do_not_count_up():
    top = 0x000F_FFFF_FFFF_F000
    wrapped = {slot: top + slot * PAGE + P for slot in range(512)}
    dump = tables({0: BASE + PAGE | P}, {0: BASE + 2 * PAGE | P}, {0: BASE + 3 * PAGE | P}, wrapped)
    assert shown(dump.mapped()) == [(0, PAGE, top, "P"), (PAGE, 512 * PAGE, 0, "P GUEST_KERNEL")]


def test_a_table_that_is_mapped_writable_is_found():
    entries = {0: BASE + 3 * PAGE | P | RW | US, 1: BASE + 4 * PAGE | P | RW | US}
    all_rights = P | RW | US
    levels = [{0: BASE + number * PAGE | all_rights} for number in (1, 2, 3)]
    (finding,) = tables(*levels, entries).mapped().findings
    assert finding.id == "PAGE-TABLE-WRITABLE"
    assert finding.found == f"the table at {BASE + 3 * PAGE:#x}, mapped at 0x0"
    for rights in (P | US, P | RW):  # a level above takes a right away
        levels[1] = {0: BASE + 2 * PAGE | rights}
        assert tables(*levels, entries).mapped().findings == ()


def test_tables_that_are_not_there():
    dump = tables({0: 0x1000 | P, 300: BASE + PAGE | P}, {5: 0 | P})
    mapped = dump.mapped()
    assert mapped.mappings == ()
    assert [(item.range.start, item.range.size, item.table) for item in mapped.missing] == [
        (0, 1 << 39, 0x1000),
        (0xFFFF_9600_0000_0000 + (5 << 30), 1 << 30, 0),
    ]
    assert dump.walk(0).why == "the L3 at 0x1000 is not in the dump"


@pytest.mark.parametrize("address", [1 << 47, (1 << 64) - (1 << 47) - 1, 1 << 64, -1])
def test_addresses_that_are_none(address):
    with pytest.raises(FormatError, match="is no address of 48 bits"):
        tables({}).walk(address)


@pytest.mark.parametrize(("root", "message"), [(BASE + 8, "begin on a page"), (BASE + PAGE, "the L4 is cut short")])
def test_an_l4_that_is_none(root, message):
    with pytest.raises(FormatError, match=message):
        PageTables(BytesSource(bytes(PAGE), "dump"), BASE, root)


def test_a_32_bit_kernel_has_three_levels():
    l3 = {0: BASE + PAGE | P, 3: BASE + 2 * PAGE | P, 4: BASE + PAGE | P}  # four entries, without rights
    low = {0: BASE + 3 * PAGE | P | RW, 1: 0x40_0000 | P | RW | PS}
    high = {0: BASE + 3 * PAGE | P, 511: 0x60_0000 | P | RW | PS}
    l1 = {0: 0x1000 | P | RW, 1: BASE | P | RW}
    dump = tables(l3, low, high, l1, pae=True)
    mapped = dump.mapped()
    assert shown(mapped) == [
        (0, 0x1000, 0x1000, "P RW"),
        (0x1000, 0x2000, BASE, "P RW"),
        (0x20_0000, 0x40_0000, 0x40_0000, "P RW"),
        (0xC000_0000, 0xC000_1000, 0x1000, "P"),
        (0xC000_1000, 0xC000_2000, BASE, "P"),
        (0xFFE0_0000, 0x1_0000_0000, 0x60_0000, "P RW"),
    ]
    (finding,) = mapped.findings  # RW is enough: such a kernel is no user of the CPU
    assert finding.found == f"the table at {BASE:#x}, mapped at 0x1000"
    assert dump.walk(0x20_0123).target == 0x40_0123
    assert [step.level for step in dump.walk(0xC000_0000).steps] == ["L3", "L2", "L1"]
    with pytest.raises(FormatError, match="is no address of 32 bits"):
        dump.walk(1 << 32)


@pytest.mark.parametrize("bits", [64, 32])
def test_planned_tables_map_the_initial_mapping_and_nothing_else(bits):
    width = {"elf_class": 32, "virt_base": (3 << 30) - 7 * PAGE} if bits == 32 else {}
    plan = planned(kernel(p2m_base=None, unmapped_initrd=False, **width), initrd_len=PAGE + 1, nr_pages=20000)
    blob = b"".join(page_tables.frames(plan))
    base = plan.page_table_base
    mapped = PageTables(BytesSource(blob, "pt"), base, base, pae=bits == 32).mapped()
    assert mapped.findings == ()
    spans = [mapping.range for mapping in mapped.mappings]
    assert (spans[0].start, spans[-1].end) == (plan.space.total.start, plan.space.total.end)
    assert all(before.end == after.start for before, after in itertools.pairwise(spans))
    (own,) = (mapping for mapping in mapped.mappings if mapping.range.start == plan.space.page_tables.start)
    assert (own.range, own.target, own.flags & RW) == (plan.space.page_tables, base, 0)


# ---- hostile -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entries",
    [
        dict.fromkeys(range(512), BASE | P | RW | US),  # every entry leads back
        {slot: BASE | P | RW | (US if slot % 2 else 0) for slot in range(512)},
        {510: BASE | P, 511: BASE | P | NX},
    ],
)
def test_tables_that_lead_to_themselves_are_left_in_time(entries):
    begin = time.monotonic()
    mapped = tables(entries).mapped()
    assert time.monotonic() - begin < 20
    limited = [finding for finding in mapped.findings if finding.id == "PAGE-TABLES-LIMIT"]
    assert len(limited) == (len(entries) == 512)
    assert len(mapped.mappings) <= 65536 and MAX_TABLES < 65536


@settings(deadline=None)
@given(st.binary(min_size=8, max_size=64), st.integers(0, 3))
def test_noise(noise, level):
    blob = (noise * (PAGE * 4 // len(noise) + 1))[: PAGE * 4]
    head = struct.pack("<Q", BASE + PAGE | P | RW)
    blob = b"".join(
        head + blob[n * PAGE + 8 : (n + 1) * PAGE] if n < level else blob[n * PAGE : (n + 1) * PAGE]
        for n in range(4)
    )
    dump = PageTables(BytesSource(blob, "dump"), BASE, BASE)
    mapped = dump.mapped()
    for mapping in mapped.mappings[:20]:
        assert dump.walk(mapping.range.start).target == mapping.target
        assert dump.walk(mapping.range.end - 1).target == mapping.targets.end - 1
