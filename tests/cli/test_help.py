"""What ``--help`` says: of every verb a line, examples of its own, an exit status, no made-up names."""

from __future__ import annotations

import os
import re

import pytest

from mbtool.cli.app import VERBS
from tests.cli.run import mbtool

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


@pytest.mark.parametrize("verb", ["inspect", "plan dom0"])
def test_help_of_one_letter(verb: str) -> None:
    assert mbtool(*verb.split(), "-h").stdout == words(verb)


def test_the_schema_of_what_a_verb_prints() -> None:
    assert mbtool("schema", "build-dom0").stdout == mbtool("schema", "manifest").stdout
