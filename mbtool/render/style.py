"""Colour and line drawing where they can be seen, plain text where they cannot."""

from __future__ import annotations

import os
from typing import TextIO

from mbtool.record import record


@record
class Style:
    """How to write to one stream: ``colour`` for ANSI attributes, ``unicode`` for box-drawing characters."""

    colour: bool = False
    unicode: bool = True

    @staticmethod
    def of(stream: TextIO) -> Style:
        """Colour only on a terminal (NO_COLOR and TERM=dumb respected), box drawing where the encoding has it."""
        colour = stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        return Style(colour, (stream.encoding or "").lower().startswith("utf"))

    def paint(self, code: str, text: str) -> str:
        """With an ANSI attribute, by its number."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text

    def bold(self, text: str) -> str:
        return self.paint("1", text)

    def dim(self, text: str) -> str:
        return self.paint("2", text)

    def kind(self, text: str) -> str:
        return self.paint("1;36", text)

    def error(self, text: str) -> str:
        return self.paint("1;31", text)

    def warning(self, text: str) -> str:
        return self.paint("33", text)


def printable(text: str) -> str:
    """Text from a file made safe for a terminal: control and undecodable characters become escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def human_size(size: int) -> str:
    """Bytes for people: exact below 10 KiB, else with a binary unit."""
    if size < 10240:
        return f"{size} B"
    value = float(size)
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} EiB"
