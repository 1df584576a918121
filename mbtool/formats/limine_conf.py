"""Limine's configuration, since version 8: entries behind ``/``, options as ``name: value``, macros.

Source: Limine, CONFIG.md; common/lib/config.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from mbtool.record import record

MAX_LINE, MAX_MACRO = 1 << 13, 2047
"""Characters of a line, and of a macro's value (Limine's own limit): many macros could fill any memory."""
MACRO = re.compile(r"\$\{([^}\n]*)\}")
PATHS = ("path", "kernel_path", "image_path")
"""Names of the option that says what is loaded; versions before 9 know only the longer ones."""
CMDLINES = ("cmdline", "kernel_cmdline")
STRINGS = ("module_string", "module_cmdline")
LOCATION = re.compile(r"\$?(?P<resource>[a-z]+)\((?P<argument>[^)]*)\):(?P<path>/?[^#]*)(?:#[0-9a-fA-F]*)?")


@record
class LimineEntry:
    """``title`` with those of the entries above in front, joined by ``>``; ``modules``: paths and strings."""

    title: str
    line: int
    protocol: str = ""
    path: str = ""
    cmdline: str = ""
    modules: tuple[tuple[str, str], ...] = ()


def location(path: str) -> tuple[str, str]:
    """The path on its volume, and what names the volume, "" for the one of the configuration."""
    match = LOCATION.fullmatch(path.strip())
    if match is None:
        return path, ""
    volume = f"{match['resource']}({match['argument']})" if match["argument"] else ""
    return match["path"], volume


def unpacked(path: str) -> bool:
    """Whether Limine, from 12.0 on, is told to unpack the file."""
    return path.lstrip().startswith("$")


@dataclass
class _Open:
    titles: list[str]
    line: int
    options: list[tuple[str, str]] = field(default_factory=list)


def parse(text: str) -> tuple[LimineEntry, ...]:
    """The entries that load something, in order. Any text is a configuration."""
    entries: list[_Open] = []
    for number, line in _lines(text):
        if line.startswith("/"):
            depth = len(line) - len(line.lstrip("/"))
            title = line[depth:].lstrip("+").strip()
            above = entries[-1].titles[: depth - 1] if entries else []
            entries.append(_Open([*above, title], number))
        elif entries:
            name, colon, value = line.partition(":")
            if colon:
                entries[-1].options.append((name.strip().lower(), value.strip()))
    return tuple(entry for each in entries if (entry := _entry(each)).path)


def _entry(opened: _Open) -> LimineEntry:
    def first(names: tuple[str, ...]) -> str:
        return next((value for name, value in opened.options if name in names), "")

    modules: list[tuple[str, str]] = []
    for name, value in opened.options:
        if name == "module_path":
            modules.append((value, ""))
        elif name in STRINGS and modules:
            modules[-1] = (modules[-1][0], value)
    return LimineEntry(
        ">".join(opened.titles),
        opened.line,
        first(("protocol",)).lower(),
        first(PATHS),
        first(CMDLINES),
        tuple(modules),
    )


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that say something, with their numbers (from 1), macros filled in."""
    lines = [line.strip(" \t\r") for line in text.split("\n")]
    macros = {"ARCH": "x86-64"}
    for line in lines:
        if (match := MACRO.match(line)) and line[match.end() : match.end() + 1] == "=":
            macros[match[1]] = line[match.end() + 1 :][:MAX_MACRO]
    for number, line in enumerate(lines, 1):
        match = MACRO.match(line)
        if line and not line.startswith("#") and not (match and line[match.end() : match.end() + 1] == "="):
            yield number, MACRO.sub(lambda found: macros.get(found[1], ""), line[:MAX_LINE])
