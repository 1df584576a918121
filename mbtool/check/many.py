"""Many files, on all cores: each checked for itself, the results in the order of the files.

Neither files nor results pile up: no more than a few batches of files per process are under way at any time.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

from mbtool.check.image import Image
from mbtool.check.report import Problem, check_asked
from mbtool.errors import MbtoolError, UnknownFormatError
from mbtool.record import record
from mbtool.source import MIB, Limits, open_file

AHEAD = 4
"""Batches per process that wait or whose results do."""
BATCH = 16
"""Files at most that a process gets at once: to hand over one takes a tenth of the time to check a small one."""
PER_CORE = 4
"""Processes at most for each of the machine's cores, however many are asked for: all are there from the start."""
FULL = MIB
"""Bytes of files that are enough for a batch: a kernel is one by itself."""


@record
class FileResult:
    """``error``: why a file could not be checked; ``known`` is False for a file of no known format."""

    path: str
    problems: tuple[Problem, ...] = ()
    error: MbtoolError | None = None
    known: bool = True


def check_file(path: str, limits: Limits) -> FileResult:
    """One file; no error of its own gets out."""
    try:
        with open_file(path) as source:
            return FileResult(path, tuple(check_asked(Image(path, source, limits), {})))
    except UnknownFormatError:
        return FileResult(path, known=False)
    except MbtoolError as error:
        # A plain error goes from process to process; its subclasses may not.
        parts = ("source", "offset", "field", "expected", "found", "remedy")
        return FileResult(path, error=MbtoolError(error.problem, **{name: getattr(error, name) for name in parts}))


def check_files(paths: Iterable[str], limits: Limits, jobs: int) -> Iterator[FileResult]:
    """Every file in ``jobs`` processes, the results in order."""
    jobs = min(jobs, PER_CORE * (os.cpu_count() or 1))
    if jobs == 1:
        yield from (check_file(path, limits) for path in paths)
        return
    waiting: deque[tuple[list[str], Future[list[FileResult]]]] = deque()
    pool = _pool(jobs)
    try:
        for batch in _batches(paths):
            try:
                future = pool.submit(_check_batch, batch, limits)
            except BrokenProcessPool:
                pool = _pool(jobs)
                future = pool.submit(_check_batch, batch, limits)
            waiting.append((batch, future))
            if len(waiting) >= AHEAD * jobs:
                yield from _results(*waiting.popleft(), limits)
        while waiting:
            yield from _results(*waiting.popleft(), limits)
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(paths: Iterable[str]) -> Iterator[list[str]]:
    """The files in order, BATCH of them at once or as many as hold FULL bytes."""
    batch: list[str] = []
    size = 0
    for path in paths:
        batch.append(path)
        with suppress(OSError):
            size += Path(path).stat().st_size
        if len(batch) == BATCH or size >= FULL:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _check_batch(paths: list[str], limits: Limits) -> list[FileResult]:
    return [check_file(path, limits) for path in paths]


def _pool(jobs: int) -> ProcessPoolExecutor:
    # Not Python 3.14's own choice, forkserver, whose resource tracker prints tracebacks when a terminal hangs up.
    fork = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(jobs, mp_context=fork, initializer=_start)


def _start() -> None:
    """A process ends with the first one, and for no signal that a terminal sends to all."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # One that unwinds while it asks for work would stop the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _end_with_parent() -> None:
    """Nobody else ends this process when its parent is killed; it would wait for work, and keep its files open."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _results(paths: list[str], future: Future[list[FileResult]], limits: Limits) -> Iterator[FileResult]:
    """The results; where a process was killed, which fails all that its pool has, each file has another try."""
    try:
        yield from future.result()
    except BrokenProcessPool:
        yield from (_alone(path, limits) for path in paths)


def _alone(path: str, limits: Limits) -> FileResult:
    with _pool(1) as pool, suppress(BrokenProcessPool):
        return pool.submit(check_file, path, limits).result()
    return FileResult(path, error=MbtoolError("the process that checked it was killed", source=path))


def walk(folder: Path) -> Iterator[str]:
    """The regular files below a directory, in order of name; symbolic links are not followed."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            try:
                yield from walk(Path(entry.path))
            except PermissionError:
                yield entry.path  # to be told as a file that cannot be read
        elif entry.is_file(follow_symlinks=False):
            yield entry.path
