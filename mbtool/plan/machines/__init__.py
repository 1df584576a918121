"""Memory maps by name: those of machines that ship with mbtool, each recorded from a real boot, or in a file.

A file beside this one is the map of the machine called so (``qemu-q35-1024M.map`` is ``qemu-q35:1024M``), in
mbtool's own form; its comments name the command that made it. ``python -m tests.plan.record_machines`` makes them.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from mbtool.errors import InputError
from mbtool.plan import e820_text
from mbtool.plan.e820 import E820Map
from mbtool.record import record
from mbtool.source import open_stdin, read_file

SUFFIX = ".map"


def names() -> tuple[str, ...]:
    """The machines that ship, by kind and size."""
    stems = (entry.name.removesuffix(SUFFIX) for entry in files(__name__).iterdir() if entry.name.endswith(SUFFIX))
    named = [stem.rpartition("-")[::2] for stem in stems]
    return tuple(f"{kind}:{size}" for kind, size in sorted(named, key=lambda item: (item[0], int(item[1][:-1]))))


@record
class Described:
    """A machine as its user describes it. ``text``: the file, which may say more; None for one that ships."""

    name: str
    memory: E820Map
    text: bytes | None = None


def described(word: str) -> Described:
    """The machine called ``word``: one that ships, else a file, - for standard input (see ``e820_text``).

    A pipe can be read but once. Raises InputError when there is neither or the file is no memory map, LimitError
    when it is too large.
    """
    known = names()
    if word in known:
        data = (files(__name__) / (word.replace(":", "-") + SUFFIX)).read_bytes()
        return Described(word, e820_text.parse(data, word))
    if word == "-":
        with open_stdin() as source:
            text, name = source.read(0, e820_text.MAX_TEXT), "standard input"
    elif Path(word).exists():
        text, name = read_file(word, e820_text.MAX_TEXT), word
    else:
        raise InputError(
            "no such file, and no machine that is known",
            source=word,
            expected=f"a memory map, a boot log, or one of {', '.join(known)}",
        )
    return Described(name, e820_text.parse(text, name), text)


def memory_map(word: str) -> E820Map:
    """The memory of the machine called ``word``. Raises what ``described`` raises."""
    return described(word).memory
