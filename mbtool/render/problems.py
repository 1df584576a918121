"""What ``mbtool check`` found, as text for people and as JSON (mbtool/schemas/check.schema.json)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from mbtool.check.report import Problem
from mbtool.model import Severity
from mbtool.render.style import Style, printable


def problem_lines(problem: Problem, style: Style) -> Iterator[str]:
    """A problem on a headline and a line for each thing known about it."""
    evidence = problem.evidence
    paint = {Severity.ERROR: style.error, Severity.WARNING: style.warning, Severity.INFO: style.dim}
    head = paint[problem.severity](f"{problem.severity}:")
    line = f"line {evidence.line}: " if evidence.line and not evidence.written else ""
    field = line + (f"{evidence.field}: " if evidence.field else "")
    yield f"{printable(evidence.file)}: {head} {printable(field + evidence.message)} {style.dim(f'[{problem.id}]')}"
    rows = (
        ("where", where(problem)),
        ("expected", evidence.expected),
        ("found", evidence.found),
        ("at boot", problem.words.boot),
        ("console", problem.console),
        ("remedy", problem.remedy),
    )
    for name, text in rows:
        if text:
            yield f"    {name:8}  {printable(text)}"


def where(problem: Problem) -> str:
    """Node and offset, or where a command line is written; "" when neither is known."""
    evidence = problem.evidence
    if evidence.written:
        return evidence.written + (f", line {evidence.line}" if evidence.line else "")
    at = "" if evidence.offset is None else f"at {evidence.offset:#x}"
    return " ".join(part for part in (evidence.node, at) if part)


def summary(problems: Sequence[Problem], ignored: int) -> str:
    """How many of each severity, in words."""
    counts = Counter(problem.severity for problem in problems)
    names = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "remark"}
    parts = [
        f"{counts[severity]} {name}{'s' if counts[severity] > 1 else ''}"
        for severity, name in names.items()
        if counts[severity]
    ]
    if ignored:
        parts.append(f"{ignored} ignored")
    return ", ".join(parts) or "nothing found"


def problem_json(problem: Problem, ignored: str | None = None) -> dict[str, Any]:
    """A problem; parts it does not have are empty strings, an absent offset is null."""
    evidence = problem.evidence
    return {
        "rule": problem.id,
        "severity": str(problem.severity),
        "title": problem.words.title,
        "message": evidence.message,
        "file": evidence.file,
        "node": evidence.node,
        "offset": evidence.offset,
        "line": evidence.line or None,
        "written": evidence.written,
        "field": evidence.field,
        "expected": evidence.expected,
        "found": evidence.found,
        "boot": problem.words.boot,
        "console": problem.console,
        "remedy": problem.remedy,
        "ignored": ignored,
    }
