"""Work beside other work: its outcome, its errors, and a budget that is spent in a fixed order."""

from __future__ import annotations

import threading

import pytest

from mbtool.beside import Afterwards, Beside, at_work
from mbtool.errors import FormatError, LimitError
from mbtool.source import Budget, Limits


def test_runs_meanwhile():
    begun, allowed = threading.Event(), threading.Event()

    def work() -> int:
        begun.set()
        assert allowed.wait(60)
        return 42

    with Beside(work) as beside:
        assert begun.wait(60)
        allowed.set()
        assert beside.result() == beside.result() == 42


def test_waiting_for_a_while():
    allowed = threading.Event()
    with Beside(lambda: allowed.wait(60)) as beside:
        done = [beside.done]
        for seconds in (0.01, 60):
            beside.wait(seconds)
            done.append(beside.done)
            allowed.set()
        assert done == [False, False, True]


def test_raises_where_the_outcome_is_asked_for():
    def work() -> None:
        raise FormatError("broken")

    with Beside(work) as beside, pytest.raises(FormatError, match="broken"):
        beside.result()


def test_where_there_can_be_no_more_threads(monkeypatch):
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def fail() -> None:
        raise FormatError("broken")

    monkeypatch.setattr(threading.Thread, "start", start)
    with Beside(lambda: 42) as beside:
        beside.wait(60)
        assert beside.done and not beside.failed and beside.result() == 42
    with Beside(fail) as broken, pytest.raises(FormatError, match="broken"):
        assert broken.done and broken.failed
        broken.result()


def test_whether_it_failed_and_is_still_at_work():
    allowed = threading.Event()

    def fail() -> None:
        assert allowed.wait(60)
        raise FormatError("broken")

    with Beside(fail) as beside:
        states = [(beside.failed, at_work())]
        allowed.set()
        beside.wait(60)
        states.append((beside.failed, at_work()))
    assert states == [(False, True), (True, False)]


def test_nothing_is_left_running():
    done = []
    allowed = threading.Event()
    with pytest.raises(FormatError), Beside(lambda: done.append(allowed.wait(60))):
        allowed.set()
        raise FormatError("the other work went wrong")
    assert done == [True]


def test_an_interrupt_does_not_wait():
    allowed = threading.Event()
    with pytest.raises(KeyboardInterrupt), Beside(lambda: allowed.wait(60)):
        raise KeyboardInterrupt
    allowed.set()


def test_budget_is_spent_after_the_work_beside():
    budget = Budget(Limits(max_output=10_000, max_files=1))
    allowed = threading.Event()

    def work() -> None:
        assert allowed.wait(60)
        budget.spend(6000, 6000, 6000, "first")
        budget.look("first")

    with Beside(work) as beside:
        threading.Timer(0.05, allowed.set).start()
        with pytest.raises(LimitError) as error:
            Afterwards(budget, beside).spend(5000, 5000, 5000, "second")
        assert error.value.source == "second"
        with pytest.raises(LimitError):
            Afterwards(budget, beside).look("second")
