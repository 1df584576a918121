"""Items made ahead of who asks for them: the same ones, errors in their place, no more than there is room for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.ahead import ahead
from mbtool.errors import FormatError


@given(st.integers(0, 40), st.integers(1, 8))
def test_the_same_items(count, room):
    assert list(ahead(iter(range(count)), room)) == list(range(count))


def test_an_error_comes_in_its_place():
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise FormatError("broken")

    made = ahead(items())
    assert [next(made), next(made)] == [1, 2]
    with pytest.raises(FormatError, match="broken"):
        next(made)
    assert list(made) == []


def test_no_more_is_made_than_there_is_room_for():
    made = 0
    full = threading.Event()

    def items() -> Iterator[int]:
        nonlocal made
        for made in range(1, 1000):
            if made == 5:
                full.set()
            yield made

    reader = ahead(items(), room=4)
    assert made == 0
    assert next(reader) == 1
    assert full.wait(60)
    time.sleep(0.05)  # too short to see that more is made would only hide it
    assert made <= 6
    assert list(reader) == list(range(2, 1000))


def test_when_closed_nothing_more_is_made():
    ended = threading.Event()

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            ended.set()

    reader = ahead(items(), room=2)
    assert next(reader) == 1
    reader.close()
    assert ended.wait(60)


def test_where_there_can_be_no_more_threads(monkeypatch):
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert list(ahead(iter(range(40)), 4)) == list(range(40))
