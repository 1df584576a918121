"""What Xen prints about dom0's start of day, read back from its console."""

from __future__ import annotations

import re

FIRST = " Dom0 kernel:"
LAST = " ENTRY ADDRESS:"


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


def differences(planned: list[str], observed: list[str], masked: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Lines that differ, as (planned, observed) pairs; "" where one side has no such line.

    Lines beginning with one of ``masked`` are compared by their first word pair only: their addresses are the
    machine's to decide.
    """
    pairs = []
    for at in range(max(len(planned), len(observed))):
        ours = planned[at] if at < len(planned) else ""
        theirs = observed[at] if at < len(observed) else ""
        if ours != theirs and not any(ours.startswith(label) and theirs.startswith(label) for label in masked):
            pairs.append((ours, theirs))
    return pairs
