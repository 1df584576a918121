"""Shell completion, as the shells ask for it: every verb and its options."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mbtool.cli.app import VERBS
from tests.conftest import ROOT

ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


def complete(line: str) -> list[str]:
    """What bash is offered for the last word of a line."""
    words = line.split(" ")
    env = {**ENV, "_MBTOOL_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run([sys.executable, "-m", "mbtool"], env=env, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_verbs() -> None:
    assert complete("mbtool ") == list(VERBS)
    assert complete("mbtool build-") == [verb for verb in VERBS if verb.startswith("build-")]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_offers_its_options_or_verbs(verb: str) -> None:
    assert "--help" in complete(f"mbtool {verb} --")


def test_choices() -> None:
    assert complete("mbtool prove --firmware ") == ["bios", "uefi", "both"]
    assert complete("mbtool build-disk --format q") == ["qcow2"]


def test_bash_itself_completes(tmp_path: Path, tool) -> None:
    (tmp_path / "mbtool").write_text(f'#!/bin/sh\nexec {sys.executable} -m mbtool "$@"\n')
    (tmp_path / "mbtool").chmod(0o755)
    script = """
        eval "$(mbtool --show-completion)"
        COMP_WORDS=(mbtool prove --fir); COMP_CWORD=2; _mbtool_completion mbtool; echo "${COMPREPLY[@]}"
    """
    env = {**ENV, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([tool("bash"), "-c", script], env=env, capture_output=True, text=True)
    assert done.stdout == "--firmware\n", done.stderr


def test_it_installs_for_the_shell_that_runs(tmp_path: Path, tool) -> None:
    env = {**ENV, "HOME": str(tmp_path)}
    command = f"{sys.executable} -m mbtool --install-completion; true"
    subprocess.run([tool("bash"), "-c", command], env=env, capture_output=True, text=True, check=True)
    assert "_MBTOOL_COMPLETE=complete_bash" in (tmp_path / ".bash_completions" / "mbtool.sh").read_text()
