"""A plan as it is shown, whatever it is a plan for: address spaces with regions in them, entry states, a structure.

LinuxPlan, LoadPlan, pv_dom0.Plan ──▶ Outline ──▶ text with a chart, JSON, SVG
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mbtool.formats.linux_setup_data_types import E820_TYPES
from mbtool.model import Finding, Node
from mbtool.plan.e820 import RAM, E820Map
from mbtool.plan.memory import Range


class Use(StrEnum):
    """What memory is for; the values are what JSON calls it."""

    KERNEL = "kernel"
    MODULE = "module"
    """An initrd too."""
    INFO = "boot-information"
    """What the loader or Xen tells the kernel."""
    PAGE_TABLES = "page-tables"
    P2M = "p2m"
    STACK = "stack"
    SPARE = "spare"
    """Set aside, with nothing in it yet."""
    RAM = "ram"
    RESERVED = "reserved"
    """Anything but RAM, by the machine's own map."""


@dataclass(frozen=True, slots=True)
class Region:
    """A named piece of an address space."""

    name: str
    use: Use
    range: Range


@dataclass(frozen=True, slots=True)
class AddressSpace:
    """``regions`` may lie in one another: the smaller one is seen. ``ground`` is what they lie on.

    Where the ground overlaps itself the later region counts. ``void`` says what is in between.
    """

    name: str
    regions: tuple[Region, ...]
    ground: tuple[Region, ...] = ()
    void: str = ""


@dataclass(frozen=True, slots=True)
class EntryState:
    """The registers at one way into the kernel, in the order in which to show them."""

    name: str
    registers: dict[str, int]


@dataclass(frozen=True, slots=True)
class Outline:
    """``structure`` is what is built for the kernel, as the tree that ``mbtool decode`` shows."""

    kind: str
    title: str
    spaces: tuple[AddressSpace, ...]
    entries: tuple[EntryState, ...]
    structure: Node
    memory: E820Map | None = None
    lines: tuple[str, ...] = ()
    """What the hypervisor itself says of it, line by line."""
    assumptions: tuple[str, ...] = ()
    """What nobody said and was taken for granted, in words."""
    findings: tuple[Finding, ...] = ()


def physical(name: str, regions: tuple[Region, ...], memory: E820Map | None) -> AddressSpace:
    """Memory as a machine has it, with its map for ground when there is one."""
    return AddressSpace(name, regions, ground(memory), "no memory" if memory else "not used")


def ground(memory: E820Map | None) -> tuple[Region, ...]:
    """The machine's memory map to lay regions on: what is not RAM wins where entries overlap."""
    entries = sorted(memory.entries if memory else (), key=lambda entry: entry.type)
    return tuple(
        Region(
            E820_TYPES.get(entry.type, f"type {entry.type}"),
            Use.RAM if entry.type == RAM else Use.RESERVED,
            entry.range,
        )
        for entry in entries
    )
