"""Work beside other work: unpacking and hashing let go of the interpreter, so two threads do use two processors."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any, Generic, TypeVar

from mbtool.source import Budget

T = TypeVar("T")


class Beside(Generic[T]):
    """A computation in a thread of its own, from now on and until the ``with`` block ends at the latest."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcome = self._work()
        except BaseException as error:  # raised again where the outcome is asked for
            self._error = error

    def wait(self, seconds: float) -> None:
        """Let it have the interpreter alone for so long, or until it is done."""
        self._thread.join(seconds)

    @property
    def done(self) -> bool:
        """Whether the outcome is there: ``result`` would not wait."""
        return not self._thread.is_alive()

    def result(self) -> T:
        """The outcome, waited for; raises what the computation raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._outcome

    def __enter__(self) -> Beside[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, Exception):  # who interrupts the program need not wait
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
