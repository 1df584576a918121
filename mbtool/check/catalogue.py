"""The words about every rule: ``rules/*.toml``, one table per id, for the rules of ``check`` and the formats' own.

::

    [XEN-CODEC]
    title = "what is wrong, in a few words"
    severity = "error"             # left out: the format that finds it says
    boot = "what happens at boot because of it"
    console = "what the machine prints then"
    remedy = "what to do about it"
    meaning = "the long answer"
    sources = ["the specification or the file and function that decides it"]
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from mbtool.model import Severity
from mbtool.record import record


@record
class Words:
    """What the catalogue says about one rule; ``severity`` None: as the finding says."""

    id: str
    subject: str
    title: str
    severity: Severity | None = None
    boot: str = ""
    console: str = ""
    remedy: str = ""
    meaning: str = ""
    sources: tuple[str, ...] = ()


@cache
def catalogue() -> dict[str, Words]:
    """Rule id to its words, by subject and in the files' order."""
    found = {}
    folder = files("mbtool.check") / "rules"
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        subject = entry.name.removesuffix(".toml")
        for id_, table in tomllib.loads(entry.read_text(encoding="utf-8")).items():
            found[id_] = _words(id_, subject, table)
    return found


def _words(id_: str, subject: str, table: dict[str, Any]) -> Words:
    severity = table.pop("severity", None)
    sources = tuple(table.pop("sources", ()))
    return Words(id_, subject, severity=None if severity is None else Severity(severity), sources=sources, **table)
