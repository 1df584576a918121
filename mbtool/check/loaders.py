"""Loaders as data: ``loaders/*.toml``, one table per loader and way of loading, and files of users in that shape.

::

    [[loader]]
    name = "qemu"
    versions = ["7.2"]              # what was looked at, the newest last
    mode = "multiboot"              # which of its ways
    firmware = ["bios", "uefi"]     # left out: it does not matter
    title = "QEMU -kernel, Multiboot 1"
    unpacks = ["gzip"]              # streams around the whole file that it unpacks; left out: see needs
    payloads = ["xz"]               # streams inside a bzImage that it unpacks
    protocol = "2.08"               # the least version of the Linux boot protocol
    needs = ["multiboot1"]          # names of predicates (mbtool.check.needs), all of which must hold
    sources = ["the file and function that decides it"]

    [loader.says]                   # what it prints, by how a reason begins (*: anything), or by a rule's id
    "no Multiboot 1 header" = "no multiboot header found"
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from mbtool.check.loader import Loader
from mbtool.errors import InputError
from mbtool.source import read_file

MAX_FILE = 1 << 20
FIRMWARE = ("bios", "uefi")
_LISTS = ("versions", "firmware", "unpacks", "payloads", "needs", "sources")
_TEXTS = ("name", "mode", "title", "protocol")
_TABLES = ("says",)


@cache
def loaders() -> tuple[Loader, ...]:
    """All rows of the package, in the files' order."""
    folder = files("mbtool.check") / "loaders"
    found: list[Loader] = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        found += _rows(entry.name, entry.read_text(encoding="utf-8"))
    return tuple(found)


def load(path: Path) -> tuple[Loader, ...]:
    """A user's rows. Raises InputError, with row and key, for what makes no sense in the file."""
    try:
        text = read_file(path, MAX_FILE).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8", source=str(path)) from error
    return tuple(_rows(str(path), text))


def _rows(source: str, text: str) -> Iterable[Loader]:
    from mbtool.check.capabilities import PREDICATES

    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"is not TOML: {error}", source=source) from error
    rows = table.pop("loader", [])
    if table or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError("loaders are tables headed [[loader]], and nothing else", source=source)
    for number, row in enumerate(rows, 1):
        yield _row(source, f"loader {number}", row, tuple(PREDICATES))


def _row(source: str, where: str, row: dict[str, Any], predicates: tuple[str, ...]) -> Loader:
    def wrong(key: str, expected: str) -> InputError:
        return InputError("makes no sense", source=source, field=f"{where}.{key}", expected=expected)

    for key, value in row.items():
        if key in _TEXTS:
            if not isinstance(value, str) or not value:
                raise wrong(key, "text")
        elif key in _TABLES:
            if not isinstance(value, dict) or not all(isinstance(text, str) and text for text in value.values()):
                raise wrong(key, "a table of texts")
        elif key not in _LISTS:
            raise wrong(key, f"one of: {', '.join((*_TEXTS, *_LISTS, *_TABLES))}")
        elif not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise wrong(key, "a list of texts")
    for key in ("name", "mode", "title", "needs", "sources"):
        if not row.get(key):
            raise wrong(key, "to be there")
    for need in row["needs"]:
        if need not in predicates:
            raise wrong("needs", f"some of: {', '.join(predicates)}")
    if not set(row.get("firmware", ())) <= set(FIRMWARE):
        raise wrong("firmware", f"some of: {', '.join(FIRMWARE)}")
    major, _, minor = row.pop("protocol", "0.0").partition(".")
    if not (major.isdecimal() and minor.isdecimal()):
        raise wrong("protocol", "a version like 2.08")
    lists = {key: tuple(row[key]) for key in _LISTS if key in row}
    says = tuple(row.get("says", {}).items())
    return Loader(row["name"], row["mode"], row["title"], protocol=(int(major), int(minor)), says=says, **lists)


def choose(rows: Sequence[Loader], wanted: str) -> list[Loader]:
    """The rows that ``NAME[-VERSION][:MODE][:FIRMWARE]`` stands for, one per way and firmware.

    Without a version the newest is taken. Raises InputError with what there is, when nothing fits.
    """
    head, *rest = wanted.split(":")
    found = []
    for row in _spread(rows):
        version = next((each for each in row.versions if head == f"{row.name}-{each}"), None)
        if head == row.name and _newest(rows, row):
            version = row.version
        if version is not None and all(part in (row.mode, row.on) for part in rest):
            found.append(replace(row, versions=(version,)))
    if not found:
        raise InputError(f"no loader {wanted!r} is known", expected=f"one of: {', '.join(map(str, _spread(rows)))}")
    return found


def newest(rows: Sequence[Loader]) -> list[Loader]:
    """Every way of every loader in its newest version."""
    return [replace(row, versions=row.versions[-1:]) for row in _spread(rows) if _newest(rows, row)]


def _newest(rows: Sequence[Loader], row: Loader) -> bool:
    """Whether no other row tells of a newer version of the same: rows go from old to new."""
    same = [other for other in rows if (other.name, other.mode) == (row.name, row.mode)]
    return same[-1].version == row.version


def _spread(rows: Iterable[Loader]) -> list[Loader]:
    """A row for each firmware."""
    return [replace(row, firmware=(each,)) if each else row for row in rows for each in row.firmware or ("",)]
