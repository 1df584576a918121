"""What a loader puts into memory before it starts a kernel, as one value.

Every protocol's planner (``multiboot``, ``linux_boot``, ``pvh``) ends in a ``LoadPlan``; the boot stub carries it
out on a BIOS machine, and ``mbtool plan`` shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum

from mbtool.plan.memory import Range


class MapShape(IntEnum):
    """How the machine's memory map is written for the kernel."""

    NONE = 0
    MULTIBOOT1 = 1
    """24 bytes an entry: size (20), base, length, type."""
    MULTIBOOT2 = 2
    """24 bytes an entry: base, length, type, zero; the end tag follows the last."""
    LINUX = 3
    """20 bytes an entry: base, length, type (``boot_e820_entry``)."""
    PVH = 4
    """24 bytes an entry: base, length, type, zero (``hvm_memmap_table_entry``)."""


MAP_MAX = 128
"""Entries of the memory map that are handed on at most."""


class MachineValue(IntEnum):
    """Numbers that only the machine knows."""

    MAP_ENTRIES = 0
    MEM_LOWER = 1
    """KiB of memory from 0."""
    MEM_UPPER = 2
    """KiB of memory from 1 MiB up to the first hole."""
    RSDP = 3
    """Physical address of the ACPI RSDP, 0 when there is none."""


@dataclass(frozen=True, slots=True)
class Part:
    """``size`` bytes from ``offset`` of the file called ``file``."""

    file: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Load:
    """``content`` goes to physical ``address``, followed by ``zero`` bytes of zeros."""

    name: str
    address: int
    content: bytes | Part
    zero: int = 0

    @property
    def size(self) -> int:
        """Bytes of content, without the zeros."""
        return self.content.size if isinstance(self.content, Part) else len(self.content)

    @property
    def range(self) -> Range:
        """All physical bytes that are written."""
        return Range.at(self.address, self.size + self.zero)


@dataclass(frozen=True, slots=True)
class MachinePatch:
    """The 32-bit word at physical ``address`` becomes ``base + factor * value``."""

    address: int
    value: MachineValue
    factor: int = 1
    base: int = 0


@dataclass(frozen=True, slots=True)
class Registers:
    """Entry state: 32-bit protected mode, paging and interrupts off, flat segments."""

    eip: int
    eax: int = 0
    ebx: int = 0
    ecx: int = 0
    edx: int = 0
    esi: int = 0
    edi: int = 0
    ebp: int = 0
    esp: int = 0


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """Loads in order, then the memory map at ``map_address`` in ``map_shape``, the patches, the jump."""

    protocol: str
    loads: tuple[Load, ...]
    registers: Registers
    map_shape: MapShape = MapShape.NONE
    map_address: int = 0
    patches: tuple[MachinePatch, ...] = field(default=())


def moved_into(plan: LoadPlan, file: str, places: Mapping[str, int]) -> LoadPlan:
    """The same plan for files that lie inside another one: ``places`` has their offsets in it, by name."""

    def moved(content: bytes | Part) -> bytes | Part:
        if isinstance(content, bytes):
            return content
        return Part(file, places[content.file] + content.offset, content.size)

    return replace(plan, loads=tuple(replace(load, content=moved(load.content)) for load in plan.loads))
