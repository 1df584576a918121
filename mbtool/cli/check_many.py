"""Carrying out ``mbtool check --recursive``: files by the thousand, told as they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mbtool.check.many import check_files, walk
from mbtool.check.policy import Policy
from mbtool.cli.check_report import Checked, Output, checked_json, show, write
from mbtool.cli.progress import Bar
from mbtool.model import Severity
from mbtool.render.json import dumps, error_json
from mbtool.source import Limits


def conduct(
    paths: Sequence[str], policy: Policy, least: Severity, limits: Limits, output: Output, jobs: int
) -> int:
    """Check every file at or below the paths; the exit status, the worst of all.

    What is found is told at once and not kept, unless a report needs it.
    """
    kept: list[Checked] = []
    status = images = 0
    with Bar("checking", "files") as bar:
        total = sum(1 for _ in _files(paths)) if bar.shows else 0
        for number, found in enumerate(check_files(_files(paths), limits, jobs), 1):
            bar(number, max(number, total))
            if not found.known:
                continue
            images += found.error is None
            problems, ignored = policy.judge(found.problems)
            result = Checked(found.path, problems, ignored, found.error)
            status = max(status, result.status(least))
            if output.reports:
                kept.append(result)
            if not output.json and not problems and result.error is None:
                continue
            bar.clear()
            if output.json:
                _line(result, output)
            show(result, output)
    if output.text:
        print(f"{images} images checked", file=output.out)
    if output.reports:
        write(kept, output, least)
    return status


def _files(paths: Sequence[str]) -> Iterator[str]:
    """The files at or below the paths, in order."""
    for path in paths:
        yield from walk(Path(path)) if Path(path).is_dir() else (path,)


def _line(result: Checked, output: Output) -> None:
    """One line of JSON: what stands in the document's lists for one file."""
    line = checked_json(result) if result.error is None else {"error": error_json(result.subject, result.error)}
    print(dumps(line), file=output.out, flush=True)
