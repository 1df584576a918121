"""The matrix: sets that differ from a good one in one thing, each with mbtool's verdict and what came of its boot.

    python -m tests.check.matrix [xen|qemu]…

boots every set and prints the table. The tests do the same, set by set.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """What mbtool says of a set and what happened. ``predicted``: what is to be on the console, "" for nothing."""

    sound: bool
    rules: frozenset[str]
    predicted: str
    booted: bool
    console: str

    @property
    def agree(self) -> bool:
        """Whether verdict and boot are the same, and the predicted message was seen."""
        return self.sound == self.booted and self.predicted in self.console


def table(results: Iterable[tuple[str, Result]]) -> Iterator[str]:
    """A line per set, with the seconds that it took."""
    begin = time.monotonic()
    for name, result in results:
        verdict = "boots" if result.sound else "does not boot"
        outcome = "booted" if result.booted else "did not boot"
        now = time.monotonic()
        mark = "" if result.agree else "  DISAGREE"
        yield f"{name:34} {verdict:14} {outcome:13} {now - begin:5.1f} s  {', '.join(sorted(result.rules))}{mark}"
        begin = now


def main() -> None:
    """Print the matrix; exit 1 when a verdict and a boot disagree."""
    from tests.check import test_matrix_qemu, test_matrix_xen

    parts = {"xen": test_matrix_xen.results, "qemu": test_matrix_qemu.results}
    disagree = 0
    for part in sys.argv[1:] or parts:
        with tempfile.TemporaryDirectory() as folder:
            for line in table(parts[part](Path(folder))):
                print(line, flush=True)
                disagree += line.endswith("DISAGREE")
    sys.exit(1 if disagree else 0)


if __name__ == "__main__":
    main()
