"""A progress bar for work that takes its time, on terminals alone."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from types import TracebackType

WAIT = 1.0
"""Seconds before the bar shows: quicker work needs none."""
STEP = 0.1
"""Seconds between two drawings."""
WIDTH = 30


class Bar:
    """Called with what is done and what there is in all: bytes, or what ``unit`` names.

    Use with ``with``, which takes the bar away in the end.
    """

    def __init__(self, what: str, unit: str = "") -> None:
        self._what = what
        self._unit = unit
        self._out = sys.stderr if sys.stderr.isatty() else None
        self._next = time.monotonic() + WAIT
        self._drawn = False

    def __enter__(self) -> Bar:
        return self

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._out is None or now < self._next:
            return
        self._next = now + STEP
        self._drawn = True
        share = done / total if total else 1.0
        bar = ("=" * int(share * WIDTH)).ljust(WIDTH)
        amount = f"{total} {self._unit}" if self._unit else f"{total >> 20} MiB"
        self._write(f"\r\x1b[K{self._what} [{bar}] {share:4.0%} of {amount}")

    @property
    def shows(self) -> bool:
        """Whether there is a terminal to draw on."""
        return self._out is not None

    def clear(self) -> None:
        """Make room for a line; the bar comes again with the next call."""
        if self._drawn:
            self._write("\r\x1b[K")
            self._drawn, self._next = False, 0.0

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.clear()

    def _write(self, text: str) -> None:
        with suppress(OSError):
            if self._out is not None:
                self._out.write(text)
                self._out.flush()
