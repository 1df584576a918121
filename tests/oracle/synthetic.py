"""Kernels made to order: they need no code, for a recording ends at their entry.

    python -m tests.oracle.synthetic NAME FILE

writes one of them.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.oracle.made_kernel import (
    BSD_SYMTAB,
    FEATURES,
    GUEST_OS,
    HV_START_LOW,
    HYPERCALL_PAGE,
    INIT_P2M,
    MOD_START_PFN,
    PADDR_OFFSET,
    PAE_MODE,
    PHYS32_ENTRY,
    PHYS32_RELOC,
    SHT_NOTE,
    SHT_STRTAB,
    SHT_SYMTAB,
    SUPPORTED_FEATURES,
    VIRT_BASE,
    XEN_VERSION,
    Notes,
    Section,
    Segment,
    elf,
    every_note,
    kernel,
    legacy,
)


@dataclass(frozen=True, slots=True)
class Case:
    """A kernel and the memory to boot it with."""

    image: bytes
    dom0_mem: str = "513M"


def case(segments: Iterable[Segment], notes: Notes, *, entry: int, dom0_mem: str = "513M") -> Case:
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
    # In the upper half behind Xen's addresses, where Linux has its direct map; all is mapped.
    "upper": case(
        [(0x123000, 0x2FEDC)],
        {VIRT_BASE: 0xFFFF_8800_0000_0000, SUPPORTED_FEATURES: 1 << 11},
        entry=0xFFFF_8800_0012_3000,
        dom0_mem="200M",
    ),
    # Notes in a section only, no segment for them; an initrd that is mapped, a P2M that is not.
    "section-notes": Case(
        elf(
            64,
            [(0x200000, 0x10001)],
            entry=TOP_2G + 0x200000,
            sections=[
                Section(".note.other", SHT_NOTE, struct.pack("<III4sI", 4, 4, 1, b"GNU\0", 0)),
                Section(
                    ".note.Xen", SHT_NOTE, every_note({VIRT_BASE: TOP_2G, INIT_P2M: 1 << 40}, TOP_2G + 0x200000)
                ),
            ],
        )
    ),
    # No notes: a string, as before 2006. Physical addresses are virtual ones unless it says otherwise.
    "legacy": Case(
        legacy(
            [(TOP_2G + 0x100000, 0x3000)],
            f"VIRT_BASE={TOP_2G:#x},PAE=yes,HYPERCALL_PAGE=0x102",
            entry=TOP_2G + 0x100000,
        )
    ),
    "legacy-offset": Case(
        legacy(
            [(0x100000, 0x3000)],
            f"VIRT_BASE={TOP_2G:#x},ELF_PADDR_OFFSET=0x0,VIRT_ENTRY={TOP_2G + 0x100010:#x}",
            entry=0x100000,
        )
    ),
    # Its symbols are loaded behind it, as BSD kernels want.
    "symbols": Case(
        kernel(
            [(0x100000, 0x12345)],
            {VIRT_BASE: TOP_2G, BSD_SYMTAB: "yes", MOD_START_PFN: 1},
            entry=TOP_2G + 0x100000,
            sections=[
                Section(".symtab", SHT_SYMTAB, bytes(24) + struct.pack("<IBBHQQ", 1, 0x12, 0, 1, TOP_2G, 5), 2),
                Section(".strtab", SHT_STRTAB, b"\0start\0"),
            ],
        )
    ),
    # Many small segments, out of order, with holes; the P2M begins where the initial mapping's L3 ends.
    "segments": case(
        [(0x700000, 0x1000), (0x100000, 0x800), (0x101000, 0x1), (0x300FFF, 0x2), (0x500000, 0)],
        {VIRT_BASE: (1 << 39) - (64 << 20), INIT_P2M: 1 << 39, HYPERCALL_PAGE: (1 << 39) - (64 << 20)},
        entry=(1 << 39) - (64 << 20) + 0x100000,
        dom0_mem="300M",
    ),
}

TOP_1G = 0xC000_0000


def case_32(segments: Iterable[Segment], notes: Notes, *, entry: int, dom0_mem: str = "513M") -> Case:
    return Case(kernel(segments, {PAE_MODE: "yes", **notes}, entry=entry, bits=32), dom0_mem)


CASES_32: dict[str, Case] = {
    # As Linux had it: virtual 3 GiB + 1 MiB, INIT_P2M ignored, one L2 table with pages and three without.
    "pv32-linux": case_32(
        [(0x100000, 0x501234)],
        {VIRT_BASE: TOP_1G, INIT_P2M: 0xD000_0000, MOD_START_PFN: 1, HYPERCALL_PAGE: TOP_1G + 0x102000},
        entry=TOP_1G + 0x100000,
    ),
    # The mapping crosses a 1 GiB boundary, and begins in the middle of an L1; bimodal, HV_START_LOW as in Linux.
    "pv32-two-l2": case_32(
        [(0, 0x3F0000), (0x400000, 0x123)],
        {VIRT_BASE: TOP_1G - 0x355000, HV_START_LOW: 0xF580_0000, PAE_MODE: "yes,bimodal"},
        entry=TOP_1G,
        dom0_mem="100001K",
    ),
    # At 0, with everything mapped.
    "pv32-zero": case_32([(0, 0x300000)], {VIRT_BASE: 0}, entry=0x1000, dom0_mem="700M"),
    # Up to where Xen's own addresses begin.
    "pv32-top": case_32([(0, 0x1000)], {VIRT_BASE: 0xF500_0000, MOD_START_PFN: 1}, entry=0xF500_0000),
}


REFUSED: dict[str, tuple[bytes, str]] = {
    # What Xen refuses, and its words.
    "not-xen": (
        elf(64, [(0, 4096)], entry=0),
        "ERROR: Not a Xen-ELF image: No ELF notes or '__xen_guest' section found",
    ),
    "os": (
        kernel([(0, 4096)], {GUEST_OS: "plan9", VIRT_BASE: TOP_2G}, entry=TOP_2G),
        "ERROR: Will only load images built for the generic loader or Linux images (Not '' and 'plan9')"
        " or with PHYS32_ENTRY set",
    ),
    "xen-version": (
        kernel([(0, 4096)], {XEN_VERSION: "xen-2.0", VIRT_BASE: TOP_2G}, entry=TOP_2G),
        "ERROR: Xen will only load images built for Xen v3.0 (Not 'xen-2.0')",
    ),
    "offset-without-base": (
        kernel([(0, 4096)], {PADDR_OFFSET: 0}, entry=0),
        "ERROR: ELF_PADDR_OFFSET set, VIRT_BASE unset",
    ),
    "entry": (
        kernel([(0, 4096)], {VIRT_BASE: TOP_2G}, entry=TOP_2G + 4097),
        "ERROR: ELF start or entries are out of bounds",
    ),
    "p2m-in-kernel": (
        kernel([(0, 4096)], {VIRT_BASE: TOP_2G, INIT_P2M: TOP_2G}, entry=TOP_2G),
        "ERROR: P->M table base is out of bounds",
    ),
    "p2m-overlap": (
        kernel([(0, 4096)], {VIRT_BASE: TOP_2G, INIT_P2M: TOP_2G + (4 << 20)}, entry=TOP_2G),
        "DOM0 P->M table overlaps initial mapping",
    ),
    "private-area": (
        kernel([(0, 4096)], {VIRT_BASE: 0xFFFF_87FF_FFFF_F000, INIT_P2M: 1 << 39}, entry=0xFFFF_87FF_FFFF_F000),
        "DOM0 image overlaps with Xen private area.",
    ),
    "hypercall-page": (
        kernel([(0, 4096)], {VIRT_BASE: TOP_2G, INIT_P2M: 1 << 39, HYPERCALL_PAGE: 0x1000}, entry=TOP_2G),
        "Invalid HYPERCALL_PAGE field in ELF notes.",
    ),
    "supervisor-mode": (
        kernel([(0, 4096)], {VIRT_BASE: TOP_2G, FEATURES: "!supervisor_mode_kernel"}, entry=TOP_2G),
        "Dom0 requires supervisor-mode execution",
    ),
    "no-dom0": (
        kernel([(0, 4096)], {VIRT_BASE: TOP_2G, SUPPORTED_FEATURES: 1}, entry=TOP_2G),
        "Kernel does not support Dom0 operation",
    ),
    "32-bit": (CASES_32["pv32-zero"].image, "Found 32-bit PV kernel, but CONFIG_PV32 missing"),
}


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


def main(name: str, path: str) -> None:
    images = {name: case.image for name, case in (CASES | CASES_32).items()}
    Path(path).write_bytes((images | PVH_CASES)[name])


if __name__ == "__main__":
    main(*sys.argv[1:])
