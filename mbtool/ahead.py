"""Unpacking ahead of the reader: a decoder lets go of the interpreter, so it can have a processor of its own."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from threading import Semaphore
from typing import TypeVar

from mbtool.beside import begin

T = TypeVar("T")
ROOM = 16
"""Most items made that nobody has asked for yet."""
SWITCH = 20e-6
"""Seconds for which a decoder that wants the interpreter back leaves it to another thread.

It needs it for a moment every few milliseconds. Python's own choice would let it wait for five.
"""


def ahead(items: Iterator[T], room: int = ROOM) -> Generator[T, None, None]:
    """The same items, made in a thread of their own, up to ``room`` of them before they are asked for.

    What making them raises is raised in their place. The first is made when it is asked for; when this iterator is
    closed, one that is being made may still be finished. Where there can be no more threads, each is made when
    it is asked for.
    """
    made: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()
    free = Semaphore(room)
    closed = False

    def make() -> None:
        try:
            for item in items:
                made.put((item,))
                free.acquire()
                if closed:
                    return
        except BaseException as error:  # raised again where the item is asked for
            made.put(error)
        else:
            made.put(None)

    sys.setswitchinterval(SWITCH)
    if begin(make) is None:
        yield from items
        return
    try:
        while (entry := made.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            free.release()
            yield entry[0]
    finally:
        closed = True
        free.release()
