"""What the tests of the loaders' plans share: made-up kernels, a machine, what every plan must keep."""

from __future__ import annotations

from mbtool.formats.elf_build import build_elf
from mbtool.formats.elf_file import ElfFile, parse_elf
from mbtool.formats.elf_headers import SHT_STRTAB, SHT_SYMTAB, Phdr, Shdr
from mbtool.plan.e820 import RAM, E820Entry, E820Map
from mbtool.plan.load import LoadPlan, MapShape
from mbtool.plan.memory import Range, overlapping
from mbtool.source import BytesSource

MIB = 1 << 20
GIB = 1 << 30
LOW = Range(0x30000, 0x80000)
"""What the boot stub leaves free below 1 MiB."""
MAP_ENTRY = {MapShape.MULTIBOOT1: 24, MapShape.MULTIBOOT2: 24, MapShape.LINUX: 20, MapShape.PVH: 24}

QEMU_96M = E820Map(
    tuple(
        E820Entry(Range.at(start, size), kind)
        for start, size, kind in (
            (0, 0x9FC00, 1),
            (0x9FC00, 0x400, 2),
            (0xF0000, 0x10000, 2),
            (0x100000, 0x5EE0000, 1),
            (0x5FE0000, 0x20000, 2),
            (0xFFFC0000, 0x40000, 2),
            (0xFD00000000, 0x300000000, 2),
        )
    )
)
"""As GRUB 2.06 reports it on ``qemu-system-x86_64 -m 96`` with SeaBIOS (the Multiboot 2 sample prints it)."""


def ram(*spans: tuple[int, int]) -> E820Map:
    """A machine with usual low memory and RAM at these (start, end)."""
    entries = [E820Entry(Range(0, 0x9FC00)), *(E820Entry(Range(start, end)) for start, end in spans)]
    return E820Map((*entries, E820Entry(Range(0xF0000, 0x100000), 2)))


def elf(
    *segments: tuple[int, int, int],
    entry: int = 0,
    virt: int = 0,
    notes: bytes = b"",
    symbols: bytes = b"",
    content: bytes = b"",
) -> tuple[ElfFile, int]:
    """An ELF32 kernel and its size: (p_paddr, bytes in the file, bytes in memory) each; linked ``virt`` above that.

    ``content`` begins the first segment; ``symbols`` is the content of a symbol table.
    """
    parts = [
        (Phdr(p_paddr=at, p_vaddr=at + virt, p_memsz=memsz), content[:size].ljust(size, b"\xcc"))
        for at, size, memsz in segments
    ]
    if notes:
        parts.append((Phdr(p_type=4, p_align=4), notes))
    tables = [
        (".symtab", Shdr(sh_type=SHT_SYMTAB, sh_link=2, sh_entsize=16), symbols),
        (".strtab", Shdr(sh_type=SHT_STRTAB), b"\0start\0"),
    ]
    data = build_elf(parts, tables if symbols else (), elf_class=32, entry=entry)
    return parse_elf(BytesSource(data, "kernel.elf")), len(data)


def check(plan: LoadPlan, memory: E820Map | None = None) -> None:
    """What holds for every plan: nothing overlaps, all is where memory is (or may be), nothing is forgotten."""
    spans = [(load.name, load.range) for load in plan.loads]
    assert overlapping(spans) is None
    for _, span in spans:
        assert LOW.covers(span) or (span.start >= MIB and span.end <= 4 * GIB) or memory
        if memory and span:
            assert any(usable.covers(span) for usable in memory.usable())
    if memory:
        assert plan.map_shape is MapShape.NONE
        assert not plan.patches
    else:
        size = 128 * MAP_ENTRY[plan.map_shape]
        assert any(span.covers(Range.at(plan.map_address, size)) for _, span in spans)
        for patch in plan.patches:
            assert any(span.covers(Range.at(patch.address, 4)) for _, span in spans)


def usable(*spans: tuple[int, int]) -> E820Map:
    """RAM at these (start, end) and nothing else."""
    return E820Map(tuple(E820Entry(Range(start, end), RAM) for start, end in spans))
