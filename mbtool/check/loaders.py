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

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from mbtool.check.loader import Loader
from mbtool.errors import InputError
from mbtool.source import read_file

MAX_FILE = 1 << 20
FIRMWARE = ("bios", "uefi")
VERSION = re.compile(r"[0-9][0-9A-Za-z.+~_-]*")
"""A version as programs and packages have it: 4.17.7, 2.12~rc1, 2.06-13+deb12u1."""
DOM0 = "dom0-"
"""How Xen's ways of starting dom0 begin; its mode follows."""
LIST = "mbtool can-boot --list shows all"
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

    A version belongs to the newest row that is not newer than it: a point release to its release, a later one to
    the last that was looked at. Without a version the newest row is taken. Raises InputError when nothing fits.
    """
    head, *rest = wanted.split(":")
    named = [way for way in _ways(rows) if _asked(way, head) is not None]
    fitting = [way for way in named if all(part in (way[0].mode, way[0].on) for part in rest)]
    found = [row for way in fitting if (row := _held(way, _asked(way, head) or "")) is not None]
    if not found:
        raise InputError(f"no loader {wanted!r} is known", expected=_near(rows, named, fitting, head), remedy=LIST)
    return found


def choose_for(rows: Sequence[Loader], wanted: str, firmware: str, mode: str) -> list[Loader]:
    """As ``choose``, without what is for other firmware, or starts dom0 in another mode ("": either will do).

    Raises InputError when nothing is left: what was asked for contradicts itself.
    """
    found = choose(rows, wanted)
    left = [row for row in found if not firmware or row.on in ("", firmware)]
    if not left:
        raise InputError(f"--loader {wanted} and --firmware {firmware} contradict each other")
    left = [row for row in left if not mode or not row.mode.startswith(DOM0) or row.mode == DOM0 + mode]
    if not left:
        raise InputError(f"--loader {wanted} and --mode {mode} contradict each other")
    return left


def newest(rows: Sequence[Loader]) -> list[Loader]:
    """Every way of every loader in its newest version."""
    return [way[-1] for way in _ways(rows)]


def _ways(rows: Iterable[Loader]) -> list[list[Loader]]:
    """Each way of a loader on each firmware: a row per version, from old to new."""
    ways: dict[tuple[str, str, str], list[Loader]] = {}
    for row in rows:
        for on in row.firmware or ("",):
            for version in row.versions or ("",):
                each = replace(row, firmware=(on,) if on else (), versions=(version,) if version else ())
                ways.setdefault((row.name, row.mode, on), []).append(each)
    return [sorted(way, key=lambda row: _numbers(row.version)) for way in ways.values()]


def _asked(way: Sequence[Loader], head: str) -> str | None:
    """The version that is asked for, "" for the newest; None when it is another loader."""
    name, mark, version = head[: len(way[0].name)], head[len(way[0].name) :][:1], head[len(way[0].name) + 1 :]
    if name != way[0].name or mark not in ("", "-") or bool(mark) != bool(version):
        return None
    known = not version or VERSION.fullmatch(version) or any(row.version == version for row in way)
    return version if known else None


def _held(way: Sequence[Loader], version: str) -> Loader | None:
    """The row that holds a version, None when all are newer."""
    same = [row for row in way if row.version == version]
    older = [row for row in way if not version or _numbers(row.version) <= _numbers(version)]
    return next(reversed(same or older), None)


def _numbers(version: str) -> tuple[int, ...]:
    """For comparing: 2.06 is older than 2.12, and 4.17.7 newer than 4.17."""
    return tuple(map(int, re.findall("[0-9]{1,9}", version)))


def _near(rows: Sequence[Loader], named: list[list[Loader]], fitting: list[list[Loader]], head: str) -> str:
    """What might have been meant, in a few words."""
    if fitting:
        oldest = min((way[0] for way in fitting), key=lambda row: _numbers(row.version))
        return f"{oldest.name}-{oldest.version} or later"
    if named:
        return f"one of: {', '.join(dict.fromkeys(_way(way[0]) for way in named))}"
    names = sorted({row.name for row in rows})
    return f"one of: {', '.join(get_close_matches(head, names, 3) or names)}"


def _way(row: Loader) -> str:
    return ":".join(part for part in (row.name, row.mode, row.on) if part)


def listing(rows: Iterable[Loader]) -> list[tuple[str, list[str], str]]:
    """Each way of each loader: how it is asked for, the versions that were looked at, and its title."""
    return [(_way(way[-1]), [row.version for row in way], way[-1].title) for way in _ways(rows)]
