"""GRUB's configuration: the menu entries and the commands in them, as grub-mkconfig and people write them.

GRUB's own language is a shell. What is needed of it to see what an entry loads is followed: quoting, comments,
``set``, variables, submenus. Conditions are not: the commands of all their branches count, in order, so that of
two assignments the later wins. Source: GRUB manual, "Writing full configuration files directly".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mbtool.record import record

MAX_DEPTH = 16
"""Submenus within submenus."""
MAX_WORD = 1 << 16
"""Characters of a word: variables made of variables could fill any memory."""
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SPECIAL = "{};\n"
LOADING = ("linux", "linux16", "linuxefi", "multiboot", "multiboot2", "chainloader")
"""Commands that load what is started."""
WITH = {
    "initrd": LOADING[:3],
    "initrd16": LOADING[:3],
    "initrdefi": LOADING[:3],
    "module": ("multiboot",),
    "module2": ("multiboot2",),
}
"""Commands that load more, and the loading commands that they go with."""
CONDITIONS = {"if", "then", "else", "elif", "fi", "while", "do", "done", "!"}


@record
class Command:
    """A command with its words, variables filled in, and the line (from 1) on which it begins."""

    words: tuple[str, ...]
    line: int

    @property
    def name(self) -> str:
        return self.words[0]

    @property
    def arguments(self) -> tuple[str, ...]:
        """The words behind the name, options of GRUB's left out."""
        rest = list(self.words[1:])
        while rest and rest[0].startswith("--"):
            rest.pop(0)
        return tuple(rest)


@record
class GrubEntry:
    """A menu entry: ``title`` with those of its submenus in front, joined by ``>`` as GRUB does."""

    title: str
    line: int
    commands: tuple[Command, ...] = ()

    def named(self, *names: str) -> tuple[Command, ...]:
        """The commands with one of these names."""
        return tuple(command for command in self.commands if command.name in names)


def parse(text: str) -> tuple[GrubEntry, ...]:
    """The entries, in order. Any text is a configuration; what makes no sense in it is passed over."""
    return tuple(_Parser(text).entries())


@record
class _Token:
    text: str
    line: int
    special: bool = False


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0
        self._variables: dict[str, str] = {}

    def entries(self, above: str = "", depth: int = 0) -> Iterator[GrubEntry]:
        """Those up to the end of the block."""
        while self._at < len(self._tokens):
            command = self._command()
            if command is None:
                if self._closes() and depth:
                    return
                continue
            if not command.words or command.name not in ("menuentry", "submenu") or not self._opens():
                continue
            title = f"{above}>{_title(command)}" if above else _title(command)
            if command.name == "menuentry":
                yield GrubEntry(title, command.line, tuple(self._block()))
            elif depth < MAX_DEPTH:
                yield from self.entries(title, depth + 1)

    def _block(self) -> Iterator[Command]:
        """The commands up to the brace that closes the entry."""
        depth = 1
        while self._at < len(self._tokens) and depth:
            command = self._command()
            if command is not None:
                if command.words:
                    yield command
                depth += self._opens()
            elif self._closes():
                depth -= 1

    def _opens(self) -> bool:
        """Whether the last command ended at an opening brace."""
        return self._tokens[self._at - 1].special and self._tokens[self._at - 1].text == "{"

    def _closes(self) -> bool:
        return self._tokens[self._at - 1].special and self._tokens[self._at - 1].text == "}"

    def _command(self) -> Command | None:
        """The next command, and what ends it taken; None for a special character alone."""
        words: list[str] = []
        line = self._tokens[self._at].line
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            self._at += 1
            if token.special:
                break
            word = _filled(token.text, self._variables)
            if not words and (word in CONDITIONS):
                continue
            words.append(word)
        if not words:
            return None
        assignment = words[1] if words[0] == "set" and len(words) == 2 else words[0] if len(words) == 1 else ""
        name, equals, value = assignment.partition("=")
        if equals and NAME.fullmatch(name):
            self._variables[name] = value
        flat = tuple(word for item in words for word in ([item] if "\0" not in item else item.split("\0")) if word)
        return Command(flat, line)


def _title(command: Command) -> str:
    return next((word for word in command.words[1:] if not word.startswith("-")), "")


_PIECE = re.compile(
    r"""'(?P<single>[^']*)'
    | "(?P<double>(?:\\.|[^"\\])*)"
    | \\(?P<escape>.)
    | (?P<plain>[^\s'"\\;{}$]+|\$)""",
    re.DOTALL | re.VERBOSE,
)
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
KEEP = "\x01"
"""Stands for a dollar sign that begins no variable."""


def _tokens(text: str) -> Iterator[_Token]:
    """Words (quotes taken off, dollars that are quoted hidden) and special characters."""
    at, line = 0, 1
    word: list[str] = []
    begun = False
    start = 1
    text = text.replace("\\\n", "  ")
    while at < len(text):
        char = text[at]
        brace = char == "{" and text[at - 1 : at] == "$"
        if char == "#" and not begun:
            at = text.find("\n", at)
            if at < 0:
                break
            continue
        if brace:
            end = text.find("}", at)
            end = len(text) if end < 0 else end + 1
            word.append(text[at:end])
            at = end
            continue
        if char.isspace() or char in SPECIAL:
            if begun:
                yield _Token("".join(word), start)
                word, begun = [], False
            if char in SPECIAL:
                yield _Token(char, line, special=True)
            line += char == "\n"
            at += 1
            continue
        match = _PIECE.match(text, at)
        if match is None:  # a quote without end
            at += 1
            continue
        if not begun:
            begun, start = True, line
        if match["single"] is not None:
            word.append(match["single"].replace("$", KEEP))
        elif match["double"] is not None:
            word.append(re.sub(r"\\(.)", lambda m: KEEP if m[1] == "$" else m[1], match["double"]))
        else:
            word.append(match["escape"].replace("$", KEEP) if match["escape"] else match["plain"])
        line += match[0].count("\n")
        at = match.end()
    if begun:
        yield _Token("".join(word), start)
    yield _Token("\n", line, special=True)


def _filled(text: str, variables: dict[str, str]) -> str:
    """The word with its variables; what a variable adds may be several words (``\\0`` between them)."""
    room = MAX_WORD

    def value(match: re.Match[str]) -> str:
        nonlocal room
        found = variables.get(match[1] or match[2], "")[:room].strip().replace(" ", "\0")
        room -= len(found)
        return found

    return _VARIABLE.sub(value, text)[:MAX_WORD].replace(KEEP, "$")
