"""Modules: files that a loader puts beside the kernel, each on a page of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mbtool.plan.load import Load, Part
from mbtool.plan.memory import PAGE, Range, up
from mbtool.plan.room import HIGH, Room

BEHIND_KERNEL = 1 << 20
"""The first module starts at a multiple of this: it leaves a kernel a little room behind itself."""


@dataclass(frozen=True, slots=True)
class ModuleFile:
    """A module: the name of its file, bytes, the text that goes with it."""

    file: str
    size: int
    cmdline: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """A module and where it starts (physical, bytes)."""

    module: ModuleFile
    start: int

    @property
    def end(self) -> int:
        """One past its last byte."""
        return self.start + self.module.size

    @property
    def load(self) -> Load:
        return Load(self.module.file, self.start, Part(self.module.file, 0, self.module.size))


def behind(kernel_end: int) -> Range:
    """Where modules go: all that is above the kernel."""
    return Range(min(up(kernel_end, BEHIND_KERNEL), HIGH.end), HIGH.end)


def place(modules: Sequence[ModuleFile], within: Range, room: Room, kernel: str) -> tuple[Placed, ...]:
    """Each module at the lowest free page above the one before. RefusedError when they do not fit below 4 GiB."""
    placed = []
    for module in modules:
        start = room.find(f"module {module.file}", module.size, kernel, align=PAGE, within=within)
        placed.append(Placed(module, start))
        within = Range(start + module.size, within.end)
    return tuple(placed)


def after(placed: Sequence[Placed], within: Range) -> Range:
    """What is left of ``within`` on the pages above the modules."""
    return Range(min(up(placed[-1].end), within.end), within.end) if placed else within
