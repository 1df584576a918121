"""What Xen prints about dom0's start of day: read back from its console, and held against the plan."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

FIRST = " Dom0 kernel:"
LAST = " ENTRY ADDRESS:"
PHYSICAL = "PHYSICAL MEMORY ARRANGEMENT:"
HEADINGS = (PHYSICAL, "VIRTUAL MEMORY ARRANGEMENT:")


class Difference(NamedTuple):
    """A line as planned and as observed, "" where one side has none.

    ``placed``: only where in the machine's memory it lies differs, which the machine decides and no image.
    """

    planned: str
    observed: str
    placed: bool


def arrangement(console: str) -> list[str]:
    """Xen's lines from `` Dom0 kernel:`` to `` ENTRY ADDRESS:``, without prefix and trailing blanks; [] if absent.

    A console may carry time stamps (``(XEN) [2026-01-01 00:00:00] …``); they are taken off.
    """
    lines = [
        re.sub(r"^\[[^\]]*\] ", "", match[1]).rstrip()
        for match in re.finditer(r"^\(XEN\) ((?:\[[^\]\n]*\] )?.*)$", console, re.MULTILINE)
    ]
    start = next((at for at, line in enumerate(lines) if line.startswith(FIRST)), None)
    if start is None:
        return []
    end = next((at for at in range(start, len(lines)) if lines[at].startswith(LAST)), len(lines) - 1)
    return lines[start : end + 1]


def differences(planned: Iterable[str], observed: Iterable[str]) -> list[Difference]:
    """All lines that are not the same, matched by heading and label, in the plan's order."""
    ours, theirs = _labelled(planned), _labelled(observed)
    found = []
    for key in dict.fromkeys([*ours, *theirs]):
        pair = ours.get(key, ""), theirs.get(key, "")
        if pair[0] != pair[1]:
            found.append(Difference(*pair, key[0] == PHYSICAL and _same_but_place(pair)))
    return found


def _labelled(lines: Iterable[str]) -> dict[tuple[str, str], str]:
    """Lines by the heading above them and by what stands before their first colon or digit."""
    heading = ""
    found = {}
    for line in lines:
        heading = line if line in HEADINGS else heading
        found[heading, re.split(r"[:0-9]", line, maxsplit=1)[0]] = line
    return found


def _same_but_place(pair: Sequence[str]) -> bool:
    one, other = (
        re.sub(r"([0-9a-f]{16})->([0-9a-f]{16})", lambda m: f"{int(m[2], 16) - int(m[1], 16)} bytes", line)
        for line in pair
    )
    return one == other
