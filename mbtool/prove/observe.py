"""What Xen prints about dom0's start of day: read back from its console, and held against the plan."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

PHYSICAL, MAP = "PHYSICAL MEMORY ARRANGEMENT:", "Dom0 memory map:"
HEADINGS = (PHYSICAL, "VIRTUAL MEMORY ARRANGEMENT:", MAP)
FIRST, LAST = " Dom0 kernel:", " ENTRY ADDRESS:"
"""Of a PV dom0."""
PVH = re.compile(r"ELF: addresses:|    \w+ += 0x|d0 kernel: Moving ")
MAP_ENTRY = re.compile(r" \[([0-9a-f]{16}), ([0-9a-f]{16})\] \((.*)\)")
ACPI_ROOM = 1 << 20
"""Bytes that Xen may take of a PVH dom0's memory for the tables that it makes; the machine's decide how many."""


class Difference(NamedTuple):
    """A line as planned and as observed, "" where one side has none.

    ``placed``: only where in the machine's memory it lies differs, which the machine decides and no image.
    """

    planned: str
    observed: str
    placed: bool


def arrangement(console: str) -> list[str]:
    """Xen's lines about dom0, without prefix and trailing blanks; [] if there are none.

    Of a PV dom0 all from ``Dom0 kernel:`` to ``ENTRY ADDRESS:``, of a PVH dom0 its addresses and memory map.
    """
    lines = _xen_lines(console)
    start = next((at for at, line in enumerate(lines) if line.startswith(FIRST)), None)
    if start is None:
        return _pvh(lines)
    end = next((at for at in range(start, len(lines)) if lines[at].startswith(LAST)), len(lines) - 1)
    return lines[start : end + 1]


def complete(console: str) -> bool:
    """Whether Xen has printed all of its lines about dom0."""
    lines = _xen_lines(console)
    if MAP in lines:
        return any(not MAP_ENTRY.match(line) for line in lines[lines.index(MAP) + 1 :])
    return any(line.startswith(LAST) for line in lines)


def differences(planned: Iterable[str], observed: Iterable[str]) -> list[Difference]:
    """All lines that are not the same, matched by heading and label, in the plan's order.

    A PVH dom0's memory map is cut from the machine's: how much of it is usable may not differ.
    """
    ours, theirs = _labelled(planned), _labelled(observed)
    same_amount = abs(_usable(ours.values()) - _usable(theirs.values())) < ACPI_ROOM
    found = []
    for key in dict.fromkeys([*ours, *theirs]):
        pair = ours.get(key, ""), theirs.get(key, "")
        if pair[0] != pair[1]:
            placed = same_amount if key[0] == MAP else key[0] == PHYSICAL and _same_but_place(pair)
            found.append(Difference(*pair, placed))
    return found


def _xen_lines(console: str) -> list[str]:
    """Whole lines of Xen's; a console may carry time stamps, ``(XEN) [2026-01-01 00:00:00] …``."""
    found = re.finditer(r"^\(XEN\) (?:\[[^\]\n]*\] )?(.*)\n", console, re.MULTILINE)
    return [match[1].rstrip() for match in found]


def _pvh(lines: Iterable[str]) -> list[str]:
    found = []
    in_map = False
    for line in lines:
        in_map = line == MAP or (in_map and MAP_ENTRY.match(line) is not None)
        if in_map or PVH.match(line):
            found.append(line)
    return found


def _labelled(lines: Iterable[str]) -> dict[tuple[str, str], str]:
    """Lines by the heading above them and their label: what stands before the first colon or digit, or the comma of
    an entry of a map.
    """
    heading = ""
    found = {}
    for line in lines:
        heading = line if line in HEADINGS else heading
        found[heading, re.split(r"," if MAP_ENTRY.match(line) else r"[:0-9]", line, maxsplit=1)[0]] = line
    return found


def _usable(lines: Iterable[str]) -> int:
    entries = filter(None, map(MAP_ENTRY.match, lines))
    return sum(int(entry[2], 16) - int(entry[1], 16) + 1 for entry in entries if entry[3] == "usable")


def _same_but_place(pair: Sequence[str]) -> bool:
    one, other = (
        re.sub(r"([0-9a-f]{16})->([0-9a-f]{16})", lambda m: f"{int(m[2], 16) - int(m[1], 16)} bytes", line)
        for line in pair
    )
    return one == other
