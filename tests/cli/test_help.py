"""What ``--help`` says: of every verb a line, examples of its own, an exit status, no made-up names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress

import pytest

from mbtool.cli.app import VERBS
from tests.cli.run import mbtool
from tests.conftest import ROOT

PLANS = ("plan dom0", "plan linux", "plan multiboot")
PRINTERS = ("plan", "schema")
"""Verbs that do nothing by themselves, or cannot fail but by usage."""


def words(verb: str) -> str:
    done = mbtool(*verb.split(), "--help", env={**os.environ, "COLUMNS": "80"})
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("verb", [*VERBS, *PLANS])
def test_help(verb: str) -> None:
    text = words(verb)
    examples = text.partition("Examples:\n")[2].partition("\n\n")[0]
    assert f"mbtool {verb} " in examples
    assert verb in PRINTERS or "Exit status: 0" in re.sub(r"\s+", " ", text)
    assert not re.search(r"\{[a-z]|<path>|<text>|<int|<float", text)  # names that click makes up


def test_every_verb_is_told_in_a_line() -> None:
    for text in (words(""), words("plan")):
        commands = text.partition("Commands:\n")[2].splitlines()
        assert len(commands) > 2
        assert all(line.endswith(".") and not line.endswith("...") for line in commands)


def test_paragraphs_flow_on_a_terminal() -> None:
    """rich would end lines of the help where the source does."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "mbtool", "decode", "--help"]
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm", "PYTHONPATH": str(ROOT)}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(command, stdout=theirs, env=environment):
        os.close(theirs)
        text = b""
        with suppress(OSError):  # how a terminal says that nobody is there any more
            while piece := os.read(ours, 65536):
                text += piece
    os.close(ours)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text.decode()).splitlines()
    assert any("╭─ Options" in line for line in lines)
    assert any("0 sound, 1 something is wrong with it, 2" in line for line in lines)
    assert any(line.strip() == "mbtool decode boot_params zero-page.bin --fields" for line in lines)


@pytest.mark.parametrize("verb", ["inspect", "plan dom0"])
def test_help_of_one_letter(verb: str) -> None:
    assert mbtool(*verb.split(), "-h").stdout == words(verb)


def test_the_schema_of_what_a_verb_prints() -> None:
    assert mbtool("schema", "build-dom0").stdout == mbtool("schema", "manifest").stdout
