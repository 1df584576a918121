"""Files by the thousand: the results stay in order whatever becomes of a process."""

from __future__ import annotations

import os
import signal
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import pytest

from mbtool.check import many
from mbtool.check.many import FileResult, check_file
from mbtool.source import Limits
from tests.check.sets import vmlinuz


def check_or_die(path: str, limits: Limits) -> FileResult:
    """One file ends the process that checks it, as the kernel does when memory runs out."""
    if path.endswith("07"):
        os.kill(os.getpid(), signal.SIGKILL)
    return check_file(path, limits)


def test_a_process_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file costs its process: it is told so, all others are checked."""

    monkeypatch.setattr(many, "check_file", check_or_die)
    paths = [str(tmp_path / f"{number:02}") for number in range(40)]
    for path in paths:
        Path(path).write_bytes(vmlinuz())
    found = list(many.check_files(paths, Limits(), 2))
    assert [result.path for result in found] == paths
    assert [result.path for result in found if result.error] == [paths[7]]
    assert "killed" in str(found[7].error)


def test_a_batch_ends_when_it_holds_enough(tmp_path: Path) -> None:
    """Small files go together, a large one takes no others with it, one that is not there is in its place."""
    small = [tmp_path / f"small{number}" for number in range(20)]
    for path in small:
        path.write_bytes(b"x")
    large = tmp_path / "large"
    large.write_bytes(bytes(many.FULL))
    paths = [str(path) for path in (large, *small, tmp_path / "missing", large, small[0])]
    batches = list(many._batches(paths))
    assert [path for batch in batches for path in batch] == paths
    assert [len(batch) for batch in batches] == [1, many.BATCH, 6, 1]


def test_no_more_processes_than_are_of_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def pool(jobs: int) -> Executor:
        asked.append(jobs)
        return ThreadPoolExecutor(1)

    monkeypatch.setattr(many, "_pool", pool)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    (tmp_path / "file").write_bytes(b"x")
    assert [result.known for result in many.check_files([str(tmp_path / "file")], Limits(), 1000)] == [False]
    assert asked == [8]
