"""Configurations that GRUB does not read: mbtool, grub-script-check and GRUB itself say so of the same."""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.check.catalogue import catalogue
from mbtool.formats import grub_cfg
from tests import grub
from tests.check.test_grub_verdicts import MODULES
from tests.conftest import ROOT
from tests.qemu import run

DEBIAN = (ROOT / "tests" / "data" / "boot" / "debian12-grub.cfg").read_text()
MENU = """\
function again { if [ -f $prefix/x ]; then source $prefix/x; else true; fi; }
for i in a b c; do echo $i; done
while [ x = y ]; do
  echo "hi # there"
done
menuentry "A" --class x { # a comment's quote
  linux /vmlinuz root=UUID=1 "a b" 'c d' e\\ f ${y} $z
  initrd /initrd.img }
submenu 'S' {
  menuentry 'B' { linux /b; initrd /c; }
}
"""
FAULTS = {
    "brace": "menuentry 'a' {\n linux /x\n",
    "quote": 'menuentry "a {\n linux /x\n}\n',
    "end": "echo one\n}\necho two\n",
    "fi": "echo one\nfi\necho two\n",
    "if": "if true; then\n echo x\n",
    "done": "for i in a; do echo; fi\n",
}
LINES = ("fi", "}", "done", "{", "if true; then", "initrd /a }", "menuentry x {", "echo '")


def refused(tool: Callable[[str], str], text: str) -> bool:
    """By grub-script-check."""
    return subprocess.run([tool("grub-script-check")], input=text, text=True, capture_output=True).returncode != 0


@pytest.mark.parametrize("text", [DEBIAN, MENU, *FAULTS.values()])
def test_grub_script_check_agrees(tool: Callable[[str], str], text: str) -> None:
    assert bool(grub_cfg.faults(text)) == refused(tool, text) == (text in FAULTS.values())


@pytest.mark.parametrize("seed", range(60))
def test_nothing_is_blamed_that_is_none(tool: Callable[[str], str], seed: int) -> None:
    """A character or a line taken out, or put in: what is called a fault is one."""
    chance = random.Random(seed)
    lines = chance.choice((DEBIAN, MENU)).splitlines(keepends=True)
    at = chance.randrange(len(lines))
    line = lines[at]
    where = chance.randrange(len(line))
    lines[at] = chance.choice(
        (
            "",
            f"{chance.choice(LINES)}\n{line}",
            line[:where] + line[where + 1 :],
            line[:where] + chance.choice("{}'\";#$\\") + line[where:],
            re.sub(r"[{}'\"]|\b(?:fi|then|do|done)\b", "", line, count=1),
        )
    )
    text = "".join(lines) + "\n"
    assert not grub_cfg.faults(text) or refused(tool, text)


@pytest.mark.boot
def test_grub_says_so(tmp_path: Path, tool: Callable[[str], str]) -> None:
    script = ["serial --unit=0", "terminal_output serial"]
    for name, text in FAULTS.items():
        (tmp_path / name).write_text(text)
        script += [f"echo '<{name}>'", f"configfile (hd1)/{name}"]
    (tmp_path / "script").write_text("\n".join((*script, "echo '<over>'\n")))
    modules = (*MODULES, "configfile")
    image = grub.disk(tmp_path, tool, "normal (memdisk)/script", [tmp_path / "script"], modules)
    files = grub.archive(tmp_path / "files.tar", [tmp_path / name for name in FAULTS])
    drives = [f"file={path},format=raw,if=ide" for path in (image, files)]
    console = run(["-machine", "pc", "-m", "256", "-drive", drives[0], "-drive", drives[1]], until="<over>").console
    said = dict(re.findall(r"<([a-z]+)>(.*?)(?=<)", console, re.DOTALL))
    assert {name for name, words in said.items() if catalogue()["ENTRY-SYNTAX"].console in words} == set(FAULTS)
