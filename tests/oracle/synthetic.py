"""PV kernels made to order: any segments, any Xen notes. They need no code: a recording ends at their entry."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

ENTRY, HYPERCALL_PAGE, VIRT_BASE, PADDR_OFFSET, XEN_VERSION, GUEST_OS = 1, 2, 3, 4, 5, 6
PAE_MODE, BSD_SYMTAB, INIT_P2M, MOD_START_PFN, SUPPORTED_FEATURES = 9, 11, 15, 16, 17
PT_LOAD, PT_NOTE = 1, 4
RWX = 7

Segment = tuple[int, int]
"""(p_paddr, p_memsz): a loadable segment without content."""


def note(kind: int, value: int | str | bytes) -> bytes:
    """One note of the owner ``Xen``."""
    if isinstance(value, int):
        desc = struct.pack("<Q", value)
    else:
        desc = value if isinstance(value, bytes) else value.encode() + b"\0"
    return struct.pack("<III4s", 4, len(desc), kind, b"Xen\0") + desc.ljust(len(desc) + 3 & ~3, b"\0")


def kernel(segments: Iterable[Segment], notes: Mapping[int, int | str | bytes], *, entry: int) -> bytes:
    """An ELF64 kernel for x86-64 with these segments and the notes that every PV kernel has, plus ``notes``."""
    given: dict[int, int | str | bytes] = {XEN_VERSION: "xen-3.0", GUEST_OS: "linux", ENTRY: entry, **notes}
    data = b"".join(note(kind, value) for kind, value in given.items())
    loads = list(segments)
    start = 64 + 56 * (len(loads) + 1)
    phdrs = [struct.pack("<IIQQQQQQ", PT_LOAD, RWX, start, 0, paddr, 0, size, 4096) for paddr, size in loads]
    phdrs.append(struct.pack("<IIQQQQQQ", PT_NOTE, 4, start, 0, 0, len(data), len(data), 4))
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, entry, 64, 0, 0, 64, 56, len(phdrs), 64, 0, 0)
    return header + b"".join(phdrs) + data


@dataclass(frozen=True, slots=True)
class Case:
    """A kernel and the memory to boot it with."""

    image: bytes
    dom0_mem: str = "513M"


def case(segments: Iterable[Segment], notes: dict[int, int | str], *, entry: int, dom0_mem: str = "513M") -> Case:
    return Case(kernel(segments, notes, entry=entry), dom0_mem)


GIB = 1 << 30
TOP_2G = 0xFFFF_FFFF_8000_0000

CASES: dict[str, Case] = {
    # The mapping crosses a 1 GiB boundary: two L2 tables. A hole between segments, a hypercall page in it.
    "two-l2": case(
        [(0x100000, 0x1800), (0x200000, 0x3000)],
        {VIRT_BASE: 0x1_3FF0_0000, HYPERCALL_PAGE: 0x1_3FF0_0000 + 0x180000, PAE_MODE: "yes"},
        entry=0x1_3FF0_0000 + 0x100000,
    ),
    # It crosses a 512 GiB boundary, and begins in the middle of an L1.
    "two-l3": case([(0, 0x400123)], {VIRT_BASE: (1 << 39) - 0x155000, MOD_START_PFN: 1}, entry=(1 << 39)),
    # The P2M shares an L2 with the initial mapping, and begins and ends off a 2 MiB boundary.
    "p2m-same-l2": case(
        [(0, 0x300000)],
        {VIRT_BASE: TOP_2G, INIT_P2M: TOP_2G + 0x1000_1000, MOD_START_PFN: 1},
        entry=TOP_2G,
    ),
    # The P2M shares an L3 with it, below, and has 2 MiB leaves.
    "p2m-same-l3": case([(0, 0x300000)], {VIRT_BASE: TOP_2G, INIT_P2M: TOP_2G - 4 * GIB}, entry=TOP_2G + 0x10),
    # The P2M ends in the L1 in which the initial mapping begins.
    "p2m-same-l1": case(
        [(0, 0x300000)],
        {VIRT_BASE: TOP_2G + 0x1F5000, INIT_P2M: TOP_2G + 0x1F4000 - 512 * 1024, MOD_START_PFN: 1},
        entry=TOP_2G + 0x1F5000,
        dom0_mem="256M",
    ),
    # Physical addresses that are virtual ones, as old kernels have them.
    "paddr-offset": case(
        [(TOP_2G + 0x200000, 0x5000)], {VIRT_BASE: TOP_2G, PADDR_OFFSET: TOP_2G}, entry=TOP_2G + 0x200000
    ),
    # The padding behind the stack falls short of 512 KiB: 4 MiB more.
    "padding": case([(0, 0x3F0000)], {VIRT_BASE: TOP_2G, INIT_P2M: 1 << 39, MOD_START_PFN: 1}, entry=TOP_2G),
    # Up to the very end of the address space.
    "top": case(
        [(0, 0x300000)],
        {VIRT_BASE: (1 << 64) - (4 << 20), INIT_P2M: 1 << 39, MOD_START_PFN: 1},
        entry=(1 << 64) - (4 << 20),
    ),
}

PHYS32_ENTRY, PHYS32_RELOC = 18, 19


def pvh_kernel(start: int, size: int, *, entry: int, reloc: tuple[int, ...] | None = None) -> bytes:
    """A PVH kernel of one segment; ``reloc``: alignment, lowest and highest address, as far as its note goes."""
    notes: dict[int, int | str | bytes] = {PHYS32_ENTRY: entry, SUPPORTED_FEATURES: struct.pack("<I", 1 << 11)}
    if reloc is not None:
        notes[PHYS32_RELOC] = struct.pack(f"<{len(reloc)}I", *reloc)
    return kernel([(start, size)], notes, entry=entry)


PVH_CASES: dict[str, bytes] = {
    # Linked where dom0 has no memory, and movable: to the highest address of its alignment.
    "moved": pvh_kernel(0x3000_0000, 0x12_3456, entry=0x3000_1000, reloc=(0x20_0000, 0x10_0000, 0xFFFF_FFFF)),
    # The same with a limit, and the alignment of its segment.
    "moved-low": pvh_kernel(0x3000_0000, 0x12_3000, entry=0x3000_0000, reloc=(0xFFFF_FFFF, 0, 0xFF_FFFF)),
    # To the very end of dom0's memory, which Xen then takes for its ACPI tables.
    "moved-top": pvh_kernel(0x3000_0000, 0x1_0000, entry=0x3000_0000, reloc=(0x1000,)),
    # So large that the initrd fits on neither side of it but behind.
    "low": pvh_kernel(0x14_0000, 0x8_0000, entry=0x14_0000),
    "fixed": pvh_kernel(0x3000_0000, 0x1000, entry=0x3000_0000),
}
