"""Running the program as its user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def mbtool(
    *arguments: str | Path, stdin: bytes | None = None, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """``mbtool ARGUMENTS…`` of this tree in a process of its own; a traceback is a failure whatever the status."""
    done = subprocess.run(
        [sys.executable, "-m", "mbtool", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env={**(os.environ if env is None else env), "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    text = subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8")
    )
    assert "Traceback" not in text.stderr, text.stderr
    return text
