"""SBAT: whether shim still starts a program, at a level that the user names."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path

from mbtool.check.boot_set import BootSet
from mbtool.check.image import Image
from mbtool.check.rule import Evidence, set_rule
from mbtool.errors import InputError, MbtoolError
from mbtool.formats import sbat_level
from mbtool.formats.sbat_level import SbatLevel
from mbtool.source import read_file

MAX_LEVEL = 1 << 16
"""Bytes of a level in a file."""
LATEST = "latest"


@cache
def levels() -> dict[str, SbatLevel]:
    """The levels that were published, by date, the newest last."""
    text = (files("mbtool.check") / "sbat_levels.toml").read_text(encoding="utf-8")
    return {date: SbatLevel(date, tuple(least.items())) for date, least in tomllib.loads(text).items()}


def level(wanted: str) -> SbatLevel:
    """A published level by its date, the newest ("latest"), or one from a file. Raises MbtoolError for no level."""
    known = levels()
    if wanted == LATEST:
        return list(known.values())[-1]
    if wanted in known:
        return known[wanted]
    if wanted.isdigit() and not Path(wanted).exists():
        raise InputError("no SbatLevel of this date is known", source=wanted, expected=", ".join(known))
    return sbat_level.parse(read_file(wanted, MAX_LEVEL), wanted)


def revoked(image: Image, least: SbatLevel) -> Iterator[Evidence]:
    """The components of an image, or of the programs in it, whose generation is too low."""
    for place in image.places:
        if place.node.kind != "sbat-entry":
            continue
        component, generation = place.node["component_name"], place.node.get("component_generation")
        wanted = least.least(component) if isinstance(component, str) else 0
        told = generation if isinstance(generation, int) else 0
        if told < wanted:
            yield Evidence(
                f"generation {told} of {component!s} is revoked",
                image.path,
                place.path,
                place.start,
                "component_generation",
                expected=f"at least {wanted}" + (f" (SbatLevel {least.date})" if least.date else ""),
                found=str(told),
                id="SBAT-REVOKED",
            )


@set_rule("SBAT-REVOKED")
def set_revoked(boot: BootSet) -> Iterator[Evidence]:
    """A program of the set whose generation is too low."""
    for image in boot.images if boot.sbat_level else ():
        assert boot.sbat_level is not None
        try:
            yield from revoked(image, boot.sbat_level)
        except MbtoolError:
            continue  # UNREADABLE says so
