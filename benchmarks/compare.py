"""Time one command against another, in turn, and compare the ratio with a target."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mbtool.source import MIB

MBTOOL = (sys.executable, "-m", "mbtool")
Command = Sequence[str] | Callable[[], float]
"""An argument list, without a shell; or something that takes so many seconds."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ours against theirs: at most ``target`` times their time, and at most ``memory`` bytes at our peak.

    ``settle``: what earlier runs wrote reaches the disk before each run, so that it holds nobody up.
    """

    name: str
    ours: Command
    theirs: Command
    target: float
    memory: int = 150 * MIB
    settle: bool = False
    rounds: int | None = None
    """Rounds at most."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Medians in seconds, the median of the ratios taken pair by pair, and our peak memory in bytes."""

    ours: float
    theirs: float
    ratio: float
    peak: int


def run(comparison: Comparison, rounds: int) -> Outcome:
    """Run both commands ``rounds`` times in turn (ours, theirs, ours, …) after one warm-up of each."""
    ours, theirs, peaks = [], [], []
    for turn in range(min(rounds, comparison.rounds or rounds) + 1):
        our_time, our_peak = _timed(comparison.ours, comparison.settle)
        their_time, _ = _timed(comparison.theirs, comparison.settle)
        if turn:
            ours.append(our_time)
            theirs.append(their_time)
            peaks.append(our_peak)
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    return Outcome(statistics.median(ours), statistics.median(theirs), ratio, max(peaks))


def _timed(command: Command, settle: bool) -> tuple[float, int]:
    """Wall seconds and peak resident bytes of one run; RuntimeError when the command fails."""
    if settle:
        os.sync()
    if callable(command):
        return command(), 0
    done = subprocess.run(
        [sys.executable, "-S", "-c", _TIMER, *command], stdout=subprocess.PIPE, env=_environment(), check=True
    )
    took, peak, status = done.stdout.split()
    if int(status):
        raise RuntimeError(f"{' '.join(command)} exited with {int(status)}")
    return float(took), int(peak) * (1 if sys.platform == "darwin" else 1024)


_TIMER = """
import os, subprocess, sys, time
begin = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - begin, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""
"""Run by a small program of its own: a process starts as a copy, so its peak is never below that of its parent."""


def _environment() -> dict[str, str]:
    """As installed programs run: with compiled modules, which a source tree may be told not to keep."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
