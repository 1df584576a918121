"""Whatever is to be printed can be printed: names that are no text, terminals of little encoding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("name", [b"k\xc3\xa9rnel.elf", b"kernel\xff.elf"])
@pytest.mark.parametrize("verb", [["inspect"], ["plan", "multiboot", "--kernel"]])
def test_file_names_of_any_bytes(
    samples: Path, tmp_path: Path, encoding: str, name: bytes, verb: list[str]
) -> None:
    path = os.fsencode(tmp_path) + b"/" + name
    Path(os.fsdecode(path)).write_bytes((samples / "multiboot1/multiboot1.elf").read_bytes())
    command = [os.fsencode(word) for word in (sys.executable, "-m", "mbtool", *verb)]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([*command, path], capture_output=True, env=environment, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"kernel" in done.stdout or b"rnel.elf" in done.stdout
