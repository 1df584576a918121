"""x86-64 page tables read back from a dump of their frames: what they map, where one address leads.

The dump is machine memory from ``base`` on; its tables of 512 entries are followed as a CPU does: four levels, or
the three of a 32-bit kernel (PAE). A dump may be hostile: at most MAX_TABLES tables are read and MAX_RANGES ranges
found, however they refer to each other. Intel SDM volume 3, section 4.5 "4-Level Paging and 5-Level Paging", table
4-19 and the formats before it; section 4.4 "PAE Paging".
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from mbtool.errors import FormatError
from mbtool.formats.memory import Memory
from mbtool.model import Finding, Severity
from mbtool.plan.e820 import FOUR_GIB
from mbtool.plan.memory import PAGE, TOP, Range
from mbtool.plan.page_tables import ENTRIES, VA_MASK
from mbtool.plan.pv_width import HYPERVISOR_COMPAT_VIRT_START, L1_SHIFT, L2_SHIFT, L3_SHIFT, L4_SHIFT
from mbtool.source import Source

MAX_TABLES = 8192
MAX_RANGES = 65536
PRESENT, WRITABLE, USER, LARGE = 1 << 0, 1 << 1, 1 << 2, 1 << 7
NO_EXECUTE = 1 << 63
FRAME = 0x000F_FFFF_FFFF_F000
"""The bits of an entry that are an address."""
PAE_ENTRIES = 4
LEVELS = {L4_SHIFT: "L4", L3_SHIFT: "L3", L2_SHIFT: "L2", L1_SHIFT: "L1"}
BLANK = bytes(PAGE)

FLAGS = {
    0: "P",
    1: "RW",
    2: "US",
    3: "PWT",
    4: "PCD",
    5: "A",
    6: "D",
    7: "PAT",
    8: "G",
    52: "GUEST_KERNEL",
    63: "NX",
}
"""The bits of an entry that maps a page; bit 52 is Xen's (_PAGE_GUEST_KERNEL). In larger pages PAT is bit 12."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """``range`` (virtual) leads to as many bytes from machine address ``target`` on, in pages of one size.

    ``flags``: those of the pages, with RW, US and NX as all levels together have it.
    """

    range: Range
    target: int
    flags: int
    page: int = PAGE

    @property
    def targets(self) -> Range:
        """The machine memory."""
        return Range.at(self.target, self.range.size)


@dataclass(frozen=True, slots=True)
class Missing:
    """Addresses whose table, at machine address ``table``, is not in the dump."""

    range: Range
    table: int


@dataclass(frozen=True, slots=True)
class Step:
    """One entry on the way to an address: the table and the slot in it, machine address of the table."""

    level: str
    table: int
    slot: int
    entry: int


@dataclass(frozen=True, slots=True)
class Walk:
    """The way to an address: ``target`` is the machine address, None with a reason in ``why``."""

    address: int
    steps: tuple[Step, ...]
    target: int | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Mapped:
    """All that tables map, in order; ``tables``: machine addresses of the tables, in order."""

    mappings: tuple[Mapping, ...]
    missing: tuple[Missing, ...]
    tables: tuple[int, ...]
    findings: tuple[Finding, ...]


class PageTables:
    """Tables in a dump whose first byte is machine address ``base``; the topmost is at machine address ``root``.

    ``pae``: of a 32-bit kernel, an L3 of four entries.
    """

    def __init__(self, dump: Source, base: int, root: int, *, pae: bool = False) -> None:
        self._memory = Memory(dump, base)
        if root % PAGE:
            raise FormatError("page tables begin on a page", source=dump.name, found=f"{root:#x}")
        self.top = L3_SHIFT if pae else L4_SHIFT
        self._memory.exact(root, PAGE, f"the {LEVELS[self.top]}")
        self.root = root

    def walk(self, address: int) -> Walk:
        """Translate one virtual address. Raises FormatError for one that is not canonical."""
        pae = self.top == L3_SHIFT
        if not 0 <= address < (FOUR_GIB if pae else TOP) or _canonical(address & VA_MASK) != address:
            bits = "32 bits" if pae else "48 bits: bits 63 to 47 are not all the same"
            raise FormatError(f"is no address of {bits}", found=f"{address:#x}")
        table = self.root
        steps: list[Step] = []
        for shift, level in LEVELS.items():
            if shift > self.top:
                continue
            slot = (address & VA_MASK) >> shift & ENTRIES - 1
            raw = self._memory.read(table + 8 * slot, 8)
            if len(raw) < 8:
                return Walk(address, tuple(steps), None, f"the {level} at {table:#x} is not in the dump")
            entry = int.from_bytes(raw, "little")
            steps.append(Step(level, table, slot, entry))
            if not entry & PRESENT:
                return Walk(address, tuple(steps), None, f"the {level}'s entry is not present")
            if _is_page(entry, shift, self.top):
                size = 1 << shift
                return Walk(address, tuple(steps), (entry & FRAME & -size) + (address & size - 1))
            table = entry & FRAME
        raise AssertionError

    def mapped(self) -> Mapped:
        """Everything: neighbours with the same flags that go on to neighbouring memory are one mapping."""
        scan = _Scan(self._memory, self.top)
        scan.table(self.root, self.top, 0, WRITABLE | USER)
        return scan.mapped()


@dataclass(slots=True)
class _Run:
    """A mapping that may still grow."""

    start: int
    size: int
    target: int
    flags: int
    page: int


@dataclass(slots=True)
class _Scan:
    memory: Source
    top: int
    runs: list[_Run] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    tables: set[int] = field(default_factory=set)
    read: int = 0
    full: bool = False

    def table(self, at: int, shift: int, start: int, upper: int) -> None:
        """All entries of the table at machine address ``at``, which maps ``start`` on; ``upper``: rights above."""
        raw = self.memory.read(at, PAGE)
        if len(raw) < PAGE:
            self.missing.append(Missing(Range.at(_canonical(start), ENTRIES << shift), at))
            self.full |= len(self.missing) >= MAX_RANGES
            return
        self.read += 1
        self.tables.add(at)
        if raw == BLANK:
            return
        entries = array("Q", raw)
        if sys.byteorder == "big":
            entries.byteswap()
        if shift == L1_SHIFT and _counts_up(entries):
            self.pages(start, PAGE, entries[0], _rights(upper, entries[0]), ENTRIES)
            return
        pae_top = shift == self.top == L3_SHIFT  # its entries say nothing of rights
        for slot, entry in enumerate(entries[:PAE_ENTRIES] if pae_top else entries):
            if not entry & PRESENT:
                continue
            if self.full or self.read >= MAX_TABLES:
                self.full = True
                return
            rights = upper if pae_top else _rights(upper, entry)
            if _is_page(entry, shift, self.top):
                self.pages(start + (slot << shift), 1 << shift, entry, rights)
            else:
                self.table(entry & FRAME, shift - 9, start + (slot << shift), rights)

    def pages(self, start: int, size: int, entry: int, rights: int, count: int = 1) -> None:
        """Add ``count`` pages of ``size`` bytes, to the run before them where they go on."""
        flags = entry & ~(FRAME | WRITABLE | USER | NO_EXECUTE) | rights
        if size > PAGE:
            flags = flags & ~LARGE | (entry >> 5 & LARGE)  # PAT, which is elsewhere in these
        start, target = _canonical(start), entry & FRAME & -size
        last = self.runs[-1] if self.runs else None
        here = start, target, flags, size
        if last and (last.start + last.size, last.target + last.size, last.flags, last.page) == here:
            last.size += size * count
        else:
            self.runs.append(_Run(start, size * count, target, flags, size))
            self.full |= len(self.runs) >= MAX_RANGES

    def mapped(self) -> Mapped:
        mappings = tuple(
            Mapping(Range.at(run.start, run.size), run.target, run.flags, run.page) for run in self.runs
        )
        tables = tuple(sorted(self.tables))
        findings = [*_writable_tables(mappings, tables, pae=self.top == L3_SHIFT)]
        if self.full:
            findings.append(
                Finding(
                    "PAGE-TABLES-LIMIT",
                    Severity.ERROR,
                    "there is more than was read: tables that refer to each other, or very many",
                    expected=f"at most {MAX_TABLES} tables, {MAX_RANGES} ranges",
                    found=f"{self.read} tables, {len(mappings)} ranges so far",
                )
            )
        return Mapped(mappings, tuple(self.missing), tables, tuple(findings))


def _rights(upper: int, entry: int) -> int:
    """RW, US and NX of an entry below entries whose rights together are ``upper``."""
    return (upper & entry & (WRITABLE | USER)) | (upper | entry) & NO_EXECUTE


def _counts_up(entries: array[int]) -> bool:
    """Whether an L1 maps one stretch of memory with the same flags: most do, and are done with at once."""
    first, step = entries[0], (ENTRIES - 1) * PAGE
    if not first & PRESENT or (first & FRAME) + step > FRAME or entries[-1] != first + step:
        return False
    return entries == array("Q", range(first, first + ENTRIES * PAGE, PAGE))


def _is_page(entry: int, shift: int, top: int) -> bool:
    """Whether an entry of the level ``shift`` maps a page and leads to no table: never one of the topmost."""
    return shift == L1_SHIFT or bool(entry & LARGE and shift != top)


def _writable_tables(mappings: tuple[Mapping, ...], tables: tuple[int, ...], *, pae: bool) -> Iterator[Finding]:
    """Page tables that a PV guest can write to: none may be, as it could map anything with them.

    Xen's own mappings, its linear map of the tables among them, are not the guest's: a 64-bit kernel runs as a user
    of the CPU, a 32-bit one reaches no address above HYPERVISOR_COMPAT_VIRT_START.
    """
    needed = WRITABLE if pae else WRITABLE | USER
    for mapping in mappings:
        if mapping.flags & needed != needed or (pae and mapping.range.start >= HYPERVISOR_COMPAT_VIRT_START):
            continue
        targets = mapping.targets
        first = bisect_left(tables, targets.start)
        if first < len(tables) and tables[first] in targets:
            table = tables[first]
            yield Finding(
                "PAGE-TABLE-WRITABLE",
                Severity.ERROR,
                "a page table is mapped writable for the guest: Xen lets none have that",
                expected="read-only",
                found=f"the table at {table:#x}, mapped at {mapping.range.start + table - targets.start:#x}",
            )


def flag_names(flags: int) -> tuple[str, ...]:
    """The names of set bits; ``bit N`` for those that have none."""
    return tuple(FLAGS.get(bit, f"bit {bit}") for bit in range(64) if flags >> bit & 1)


def _canonical(address: int) -> int:
    """A 48-bit address with its highest bit repeated above."""
    return address | -(address >> 47 & 1) << 48 & TOP - 1
