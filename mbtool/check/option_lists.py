"""Lists of options by release, as the files ``*_options.toml`` beside this one hold them."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

Release = tuple[int, int]
"""Major and minor number."""


@cache
def option_list(name: str) -> dict[str, Any]:
    """``always``: names that every release knows; ``some``: name to the releases that know it, ``first-last``."""
    table: dict[str, Any] = tomllib.loads((files("mbtool.check") / name).read_text(encoding="utf-8"))
    return table


def options_of(name: str, release: Release) -> frozenset[str]:
    """The options in the list ``name`` that one release knows."""
    table = option_list(name)
    return frozenset(
        (*table["always"], *(option for option, span in table["some"].items() if within(release, span)))
    )


def within(release: Release, span: str) -> bool:
    """Whether a release lies in ``first-last``, of which either may be left out."""
    first, _, last = span.partition("-")
    return (not first or _pair(first) <= release) and (not last or release <= _pair(last))


def in_words(span: str) -> str:
    """``first-last`` as in a sentence about releases."""
    first, _, last = span.partition("-")
    return " ".join(part for part in (f"from {first} on" if first else "", f"up to {last}" if last else "") if part)


def _pair(text: str) -> Release:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


@cache
def of_linux() -> frozenset[str]:
    """Every word, ``plain``, that some Linux, initrd, init or installer reads."""
    table = option_list("linux_options.toml")
    return frozenset(plain(name) for part in ("always", "some", "undocumented", "userland") for name in table[part])


def plain(name: str) -> str:
    """The name as Linux compares it: - and _ are the same (kernel/params.c, parameq)."""
    return name.replace("-", "_")
