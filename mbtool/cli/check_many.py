"""Carrying out ``mbtool check --recursive``: files by the thousand, told as they come."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from mbtool.check.many import check_files, walk
from mbtool.check.policy import Policy
from mbtool.cli.check_report import Checked, Output, checked_json, show, write
from mbtool.model import Severity
from mbtool.render.json import dumps, error_json
from mbtool.render.style import printable
from mbtool.source import Limits


def conduct(
    paths: Sequence[str], policy: Policy, least: Severity, limits: Limits, output: Output, jobs: int
) -> int:
    """Check every file at or below the paths; the exit status, the worst of all.

    What is found is told at once and not kept, unless a report needs it.
    """
    files = (each for path in paths for each in (walk(Path(path)) if Path(path).is_dir() else (path,)))
    kept: list[Checked] = []
    status = images = 0
    progress = Progress(sys.stderr)
    for number, found in enumerate(check_files(files, limits, jobs), 1):
        progress.show(number, found.path)
        if not found.known:
            continue
        images += 1
        problems, ignored = policy.judge(found.problems)
        result = Checked(found.path, problems, ignored, found.error)
        status = max(status, result.status(least))
        if output.reports:
            kept.append(result)
        if not output.json and not problems and result.error is None:
            continue
        progress.clear()
        if output.json:
            _line(result, output)
        show(result, output)
    progress.clear()
    if output.text:
        print(f"{images} images checked", file=output.out)
    if output.reports:
        write(kept, output, least)
    return status


def _line(result: Checked, output: Output) -> None:
    """One line of JSON: what stands in the document's lists for one file."""
    line = checked_json(result) if result.error is None else {"error": error_json(result.subject, result.error)}
    print(dumps(line), file=output.out, flush=True)


class Progress:
    """How many files were checked, and the last one, on a terminal's last line."""

    def __init__(self, out: TextIO) -> None:
        self._out = out if out.isatty() else None

    def show(self, number: int, path: str) -> None:
        if self._out:
            self._out.write(f"\r\x1b[K{number} files: {printable(path)[-60:]}")
            self._out.flush()

    def clear(self) -> None:
        if self._out:
            self._out.write("\r\x1b[K")
            self._out.flush()
