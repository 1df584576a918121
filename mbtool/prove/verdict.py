"""What a boot proved: how far it came, whether it is what the plan said, and if not, why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from mbtool.prove import observe, stages
from mbtool.prove.observe import Difference
from mbtool.prove.qemu import End, Run
from mbtool.prove.stages import Stage

SILENT = " (is the serial port its console? Xen: console=com1, Linux: console=ttyS0)"


class Outcome(StrEnum):
    """The verdicts, told apart."""

    PROVEN = "proven"
    DIFFERS = "differs"
    """It booted, but not as planned."""
    FAILED = "failed"
    TIMEOUT = "timeout"
    UNABLE = "unable"
    """QEMU is missing or cannot run this."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a boot must show: a last ``stage``, ``patterns`` on the console, Xen's ``arrangement`` lines."""

    stage: Stage = Stage.NOTHING
    patterns: Sequence[str] = ()
    arrangement: Sequence[str] = ()
    settle: float = 0
    """Seconds to go on watching for a failure once all has been seen."""

    @property
    def by_itself(self) -> bool:
        """Whether nothing is asked for by name: a kernel that speaks no known words then has to power off."""
        return not self.patterns and not self.arrangement


@dataclass(frozen=True, slots=True)
class Verdict:
    """``reason`` is one line; ``differences`` are lines of the plan seen otherwise, those that only tell where the
    machine placed something among them; ``missing`` the patterns not seen.
    """

    outcome: Outcome
    stage: Stage
    reason: str
    end: End
    seconds: float
    differences: Sequence[Difference] = field(default=())
    missing: Sequence[str] = ()

    @property
    def exit_code(self) -> int:
        """0 proven, 1 not proven, 2 not even tried."""
        return {Outcome.PROVEN: 0, Outcome.UNABLE: 2}.get(self.outcome, 1)


def enough(console: str, expected: Expectation) -> bool:
    """Whether all that is expected has been seen, or a failure that nothing can follow."""
    text = stages.plain(console)
    if stages.hopeless(text):
        return True
    if _unseen(text, expected):
        return False
    if expected.arrangement and not observe.complete(text):
        return False
    # With nothing asked for by name, a boot is watched until it ends by itself.
    return bool(expected.patterns or expected.stage) and stages.reached(text) >= expected.stage


def judge(run: Run, expected: Expectation, timeout: float) -> Verdict:
    """The verdict on a run."""
    text = stages.plain(run.console)
    stage = stages.reached(text)
    known = stages.failure(text)
    missing = _unseen(text, expected)

    def verdict(outcome: Outcome, reason: str, differences: Sequence[Difference] = ()) -> Verdict:
        return Verdict(outcome, stage, reason, run.end, run.seconds, differences, missing)

    if run.end is End.QEMU:
        message = run.message.splitlines() or ["QEMU ended without a word"]
        return verdict(Outcome.UNABLE, message[-1])
    failed_after_all = expected.settle and stages.hopeless(text)
    if not missing and stage >= expected.stage and (expected.patterns or expected.stage) and not failed_after_all:
        found = observe.differences(expected.arrangement, observe.arrangement(text)) if expected.arrangement else []
        wrong = sum(not difference.placed for difference in found)
        if wrong:
            return verdict(
                Outcome.DIFFERS, f"dom0's start of day is not as planned: {_count(wrong, 'line')}", found
            )
        return verdict(Outcome.PROVEN, f"reached {stage}, as planned", found)
    if known is None and run.end is End.POWER_OFF and stage <= Stage.LOADER and expected.by_itself:
        return verdict(Outcome.PROVEN, "powered off by itself")
    if known is not None:
        failure, words = known
        return verdict(Outcome.FAILED, f"failed in {failure.by}, after {stage}: {words} ({failure.meaning})")
    if run.end is End.TRIPLE_FAULT:
        return verdict(Outcome.FAILED, f"failed after {stage}: the processor gave up (triple fault)")
    if run.end is End.TIMEOUT:
        last = next((line for line in reversed(text.splitlines()) if line.strip()), "nothing")
        hint = SILENT if stage <= Stage.LOADER else ""
        return verdict(
            Outcome.TIMEOUT, f"still at {stage} after {timeout:.0f} s; last line: {last.strip()[:120]}{hint}"
        )
    if run.end is End.RESET:
        return verdict(Outcome.FAILED, f"the machine reset after {stage}")
    if missing:
        return verdict(Outcome.FAILED, f"ended ({run.end}) after {stage} without showing {missing[0]!r}")
    return verdict(Outcome.FAILED, f"ended ({run.end}) after {stage}, before {expected.stage}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _unseen(text: str, expected: Expectation) -> list[str]:
    return [pattern for pattern in expected.patterns if not re.search(pattern, text, re.MULTILINE)]
