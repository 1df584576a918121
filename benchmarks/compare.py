"""Time one command against another, in turn, and compare the ratio with a target."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
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
    begin = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_environment()
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    took = time.perf_counter() - begin
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} exited with {process.returncode}")
    return took, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _environment() -> dict[str, str]:
    """As installed programs run: with compiled modules, which a source tree may be told not to keep."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def floor_peak() -> int:
    """Peak bytes of this process: a child's peak is never shown below it, as it starts as a copy."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
