"""Carrying out ``mbtool prove``: boot on each machine, show progress, report the verdicts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from mbtool.errors import InputError
from mbtool.prove.qemu import Machine, Run, boot, drive_arguments
from mbtool.prove.stages import plain, reached
from mbtool.prove.target import Target, target
from mbtool.prove.verdict import Outcome, Verdict, enough, judge
from mbtool.render.style import Style, printable


def conduct(
    path: Path,
    machines: Sequence[Machine],
    patterns: tuple[str, ...],
    timeout: float,
    log: Path | None,
    as_json: bool,
    junit: Path | None,
    out: TextIO,
) -> int:
    """Boot ``path`` on every machine and report; the exit status, the worst of all verdicts."""
    _check_patterns(patterns)
    what = target(path, patterns)
    results: list[tuple[Machine, Run, Verdict]] = []
    for machine in machines:
        run = _boot(machine, what, timeout)
        verdict = judge(run, what.expected, timeout)
        results.append((machine, run, verdict))
        if not as_json:
            _text(path, machine, verdict, out)
    if log is not None:
        _write(log, "".join(f"# {machine.firmware}\n{plain(run.console)}\n" for machine, run, _ in results))
    if junit is not None:
        _write(junit, _junit(path, results))
    if as_json:
        from mbtool.render.json import dumps

        verdicts = [_json(machine, verdict) for machine, _, verdict in results]
        print(dumps({"schema": "mbtool/prove/1", "target": str(path), "boots": verdicts}), file=out)
    return max(verdict.exit_code for _, _, verdict in results)


def _check_patterns(patterns: tuple[str, ...]) -> None:
    import re

    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise InputError(f"--expect: not a regular expression: {error}", found=pattern) from error


def _boot(machine: Machine, what: Target, timeout: float) -> Run:
    bus = "cdrom" if what.cdrom and machine.bus == "ahci" else machine.bus
    drive = drive_arguments(what.image, bus, what.driver)
    show = _Progress(sys.stderr) if sys.stderr.isatty() else None
    try:
        return boot(
            machine,
            drive,
            timeout=timeout,
            seen=lambda console: enough(console, what.expected),
            progress=show or (lambda text: None),
        )
    finally:
        if show:
            show.clear()


class _Progress:
    """The stage reached and the console's last line, on one terminal line."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._text = ""

    def __call__(self, text: str) -> None:
        self._text = (self._text + text)[-200_000:]
        console = plain(self._text)
        last = next((line for line in reversed(console.splitlines()) if line.strip()), "")
        self._out.write(f"\r\x1b[K{reached(console)}: {printable(last.strip())[:70]}")
        self._out.flush()

    def clear(self) -> None:
        self._out.write("\r\x1b[K")
        self._out.flush()


def _text(path: Path, machine: Machine, verdict: Verdict, out: TextIO) -> None:
    style = Style.of(out)
    paint = style.bold if verdict.outcome is Outcome.PROVEN else style.error
    head = f"{paint(str(verdict.outcome))}: {path} on {machine.firmware} ({machine.accel}, {verdict.seconds:.1f} s)"
    print(f"{head}: {printable(verdict.reason)}", file=out)
    for planned, observed in verdict.differences:
        print(f"  planned   {printable(planned) or '(no such line)'}", file=out)
        print(f"  observed  {printable(observed) or '(no such line)'}", file=out)
    for pattern in verdict.missing:
        print(f"  not seen  {printable(pattern)}", file=out)


def _json(machine: Machine, verdict: Verdict) -> dict[str, Any]:
    return {
        "firmware": str(machine.firmware),
        "accel": machine.accel,
        "memory": machine.memory,
        "cpu": machine.cpu,
        "smp": machine.smp,
        "outcome": str(verdict.outcome),
        "stage": str(verdict.stage),
        "end": str(verdict.end),
        "reason": verdict.reason,
        "seconds": round(verdict.seconds, 3),
        "differences": [{"planned": planned, "observed": observed} for planned, observed in verdict.differences],
        "missing": list(verdict.missing),
    }


def _junit(path: Path, results: Sequence[tuple[Machine, Run, Verdict]]) -> str:
    from mbtool.render.junit import Case, junit

    cases = []
    for machine, run, verdict in results:
        bad = "" if verdict.outcome is Outcome.PROVEN else f"{verdict.outcome}: {verdict.reason}"
        unable = verdict.outcome is Outcome.UNABLE
        cases.append(
            Case(
                f"{path} on {machine.firmware}",
                verdict.seconds,
                "" if unable else bad,
                bad if unable else "",
                plain(run.console),
            )
        )
    return junit("mbtool prove", cases)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write: {error.strerror}", source=str(path)) from error
