"""Carrying out ``mbtool prove``: boot on each machine, show progress, report the verdicts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from mbtool.build.output import writable_target, write_file
from mbtool.errors import InputError
from mbtool.prove.qemu import End, Firmware, Machine, Run, boot, drive_arguments
from mbtool.prove.stages import Stage, plain, reached
from mbtool.prove.target import Target
from mbtool.prove.verdict import Outcome, Verdict, enough, judge
from mbtool.render.style import Style, printable


@dataclass(frozen=True, slots=True)
class Reports:
    """What to write beside or instead of text: JSON on standard output, the console, a JUnit file."""

    json: bool = False
    log: Path | None = None
    junit: Path | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """One boot and what it proved."""

    machine: Machine
    run: Run
    verdict: Verdict


def conduct(path: Path, what: Target, machines: Sequence[Machine], timeout: float, reports: Reports) -> int:
    """Boot ``what`` (at ``path``, for the user) on every machine and report; the exit status, the worst verdict's.

    Raises InputError when a report cannot be written. The console is kept even when the user interrupts.
    """
    for report in (reports.log, reports.junit):
        if report is not None:
            target = writable_target(report, force=True)  # better now than after the boot
            if target.exists() and target.samefile(what.image):
                raise InputError("is what is to be proven", source=str(report), remedy="choose another file")
    proofs: list[Proof] = []
    console: list[str] = []
    try:
        for machine in machines:
            proofs.append(_prove(machine, what, timeout, console))
            if not reports.json:
                _text(path, proofs[-1], sys.stdout)
    finally:
        if reports.log is not None:
            _write(reports.log, plain("".join(console)))
    if reports.junit is not None:
        _write(reports.junit, _junit(path, proofs))
    if reports.json:
        from mbtool.render.json import dumps

        print(dumps({"schema": "mbtool/prove/1", "target": str(path), "boots": [_json(proof) for proof in proofs]}))
    return max(proof.verdict.exit_code for proof in proofs)


def _prove(machine: Machine, what: Target, timeout: float, console: list[str]) -> Proof:
    if machine.firmware is Firmware.BIOS and not what.boot_code:
        run = Run(message="the disk has no boot code for a BIOS")
        return Proof(machine, run, Verdict(Outcome.FAILED, Stage.NOTHING, run.message, run.end, run.seconds))
    console.append(f"# {machine.firmware}\n")
    run = _boot(machine, what, timeout, console)
    console.append("\n")
    return Proof(machine, run, judge(run, what.expected, timeout))


def _boot(machine: Machine, what: Target, timeout: float, console: list[str]) -> Run:
    """A run; one that could not even begin says why. ``console`` grows as the machine speaks."""
    show = _Progress(sys.stderr) if sys.stderr.isatty() else None

    def progress(text: str) -> None:
        console.append(text)
        if show:
            show(text)

    try:
        return boot(
            machine,
            drive_arguments(what.image, machine.bus, what.driver),
            timeout=timeout,
            seen=lambda text: enough(text, what.expected),
            settle=what.expected.settle,
            progress=progress,
        )
    except InputError as error:
        return Run(end=End.QEMU, message=str(error))
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
        with suppress(OSError):
            self._out.write("\r\x1b[K")
            self._out.flush()


def _text(path: Path, proof: Proof, out: TextIO) -> None:
    style = Style.of(out)
    machine, verdict = proof.machine, proof.verdict
    paint = style.bold if verdict.outcome is Outcome.PROVEN else style.error
    head = f"{paint(str(verdict.outcome))}: {path} on {machine.firmware} ({machine.accel}, {verdict.seconds:.1f} s)"
    print(f"{head}: {printable(verdict.reason)}", file=out)
    for planned, observed, placed in verdict.differences:
        print(f"  planned   {printable(planned) or '(no such line)'}", file=out)
        label = "machine " if placed else "observed"
        print(f"  {label}  {printable(observed) or '(no such line)'}", file=out)
    for pattern in verdict.missing:
        print(f"  not seen  {printable(pattern)}", file=out)
    out.flush()


def _json(proof: Proof) -> dict[str, Any]:
    machine, verdict = proof.machine, proof.verdict
    return {
        "firmware": str(machine.firmware),
        "accel": machine.accel,
        "memory": machine.memory,
        "cpu": machine.cpu,
        "smp": machine.smp,
        "bus": machine.bus,
        "outcome": str(verdict.outcome),
        "stage": str(verdict.stage),
        "end": str(verdict.end),
        "reason": verdict.reason,
        "seconds": round(verdict.seconds, 3),
        "differences": [difference._asdict() for difference in verdict.differences],
        "missing": list(verdict.missing),
    }


def _junit(path: Path, proofs: Sequence[Proof]) -> str:
    from mbtool.render.junit import Case, junit

    cases = []
    for proof in proofs:
        verdict = proof.verdict
        bad = "" if verdict.outcome is Outcome.PROVEN else f"{verdict.outcome}: {verdict.reason}"
        failure, error = ("", bad) if verdict.outcome is Outcome.UNABLE else (bad, "")
        name = f"{path} on {proof.machine.firmware}"
        cases.append(Case(name, verdict.seconds, failure, error, plain(proof.run.console)))
    return junit("mbtool prove", cases)


def _write(path: Path, text: str) -> None:
    write_file(path, text.encode("utf-8", "replace"), force=True)
