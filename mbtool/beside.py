"""Work beside other work: unpacking and hashing let go of the interpreter, so two threads do use two processors."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from threading import enumerate as enumerate_threads
from typing import Any, Generic, TypeVar

from mbtool.source import Budget

T = TypeVar("T")


class Worker(Thread):
    """A thread that the program need not wait for."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(target=work, daemon=True)


def at_work() -> bool:
    """Whether one of them still runs: if the interpreter ended then, it would take from a decoder what it uses."""
    return any(isinstance(thread, Worker) for thread in enumerate_threads())


def begin(work: Callable[[], None]) -> Thread | None:
    """A thread that does the work; None when the system has no room for one more (ulimit -u, ulimit -v)."""
    thread = Worker(work)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread


class Beside(Generic[T]):
    """A computation in a thread of its own, from now on and until the ``with`` block ends at the latest.

    Where there can be no more threads, it is done at once.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = begin(self._run)
        if self._thread is None:
            self._run()

    def _run(self) -> None:
        try:
            self._outcome = self._work()
        except BaseException as error:  # raised again where the outcome is asked for
            self._error = error

    def wait(self, seconds: float) -> None:
        """Let it have the interpreter alone for so long, or until it is done."""
        if self._thread is not None:
            self._thread.join(seconds)

    @property
    def done(self) -> bool:
        """Whether the outcome is there: ``result`` would not wait."""
        return self._thread is None or not self._thread.is_alive()

    @property
    def failed(self) -> bool:
        """Whether ``result`` would raise without waiting."""
        return self._error is not None

    def result(self) -> T:
        """The outcome, waited for; raises what the computation raised."""
        self._join()
        if self._error is not None:
            raise self._error
        return self._outcome

    def __enter__(self) -> Beside[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, Exception):  # who interrupts the program need not wait
            self._join()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()


class Afterwards(Budget):
    """A budget that is shared with work beside, and spent only when that is done.

    So what is left for whom does not depend on which of two threads is faster.
    """

    __slots__ = ("_budget", "_other")

    def __init__(self, budget: Budget, other: Beside[Any]) -> None:
        super().__init__(budget.limits)
        self._budget = budget
        self._other = other

    def look(self, source: str) -> None:
        self._other.result()
        self._budget.look(source)

    def spend(self, size: int, produced: int, packed: int, source: str) -> None:
        self._other.result()
        self._budget.spend(size, produced, packed, source)
