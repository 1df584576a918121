"""GRUB's configuration: the menu entries and the commands in them, as grub-mkconfig and people write them.

GRUB's own language is a shell. What is needed of it to see what an entry loads is followed: quoting, comments,
``set``, variables, submenus, functions, ``source``, ``configfile``, ``load_env``. Conditions are not: the commands
of all their branches count, in order, so that of two assignments the later wins, unless the first came from
``load_env``. Source: GRUB manual, "Writing full configuration files directly", "The GRUB environment block".

A volume that is searched for is the device ``uuid=…``, ``label=…`` or ``file=…`` here; the value of a variable that
only GRUB knows, once it runs, is its name with a dollar sign in front.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from mbtool.record import record

MAX_DEPTH = 16
"""Submenus within submenus."""
MAX_FILES, MAX_CALLS, MAX_ADDED = 64, 256, 1 << 19
"""Other files that are read, functions that are called, and words that come in so, within one configuration."""
MAX_WORD = 1 << 16
"""Characters of a word: variables made of variables could fill any memory."""
Load = Callable[[str], str | None]
"""The text of another file by the name that a configuration gives it, None when it is not there.

"" stands for one that is not to be read here, too.
"""
SOURCING = ("source", ".", "configfile", "extract_entries_source", "extract_entries_configfile")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SPECIAL = "{};\n"
GRUBS_OWN = ("cmdpath", "grub_cpu", "grub_platform", "net_default_ip", "net_default_mac", "net_default_server")
"""Variables that GRUB sets by itself, to what it finds."""
SEARCHES = {"search.fs_uuid": "uuid", "search.fs_label": "label", "search.file": "file"}
SEARCHED = {"--fs-uuid": "uuid", "-u": "uuid", "--label": "label", "-l": "label", "--file": "file", "-f": "file"}
"""Commands, and options of search, that tell what a volume is known by."""
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
ADDING = ("blscfg", "for", "while", "until", "eval", "legacy_configfile", "syslinux_configfile")
"""Commands after which the menu may have other entries than those that are seen."""
CONDITIONS = {"if", "then", "else", "elif", "fi", "while", "do", "done", "!"}

OPENS = ("{", "if", "while", "until", "for")
CLOSES = {"}": ("{",), "fi": ("if",), "done": ("while", "until", "for")}
"""Words at the start of a command, and braces, that close others."""


@record
class Command:
    """A command with its words, variables filled in, and the line (from 1) on which it begins.

    Where all its words were variables without a value it has none, and "" for a name. ``root``: the device on which
    paths without one are then, "" for the volume that GRUB came from.
    """

    words: tuple[str, ...]
    line: int
    root: str = ""

    @property
    def name(self) -> str:
        return self.words[0] if self.words else ""

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
    file: str = ""
    """The other file in which it stands, as the configuration names it; ``line`` is then a line of that."""

    def named(self, *names: str) -> tuple[Command, ...]:
        """The commands with one of these names."""
        return tuple(command for command in self.commands if command.name in names)


@record
class MenuItem:
    """A line of a menu: what it can be named by, and the lines of the menu that it opens."""

    names: tuple[str, ...]
    items: list[MenuItem]


@record
class GrubMenu:
    """``variables``: as they are at the end, as ``blscfg`` finds them. ``whole``: no command may add entries.

    ``lost``: configurations that are not there and were to be opened in place of this one.
    """

    entries: tuple[GrubEntry, ...]
    variables: dict[str, str]
    items: tuple[MenuItem, ...] = ()
    whole: bool = False
    lost: tuple[str, ...] = ()

    @property
    def lost_default(self) -> str:
        """What ``default`` names and the menu has not: GRUB starts the first entry then. "" where all is well.

        Source: GRUB, grub-core/normal/menu.c, get_entry_number and menuentry_eq.
        """
        told = self.variables.get("default", "").replace("\0", " ").strip()
        known = self.whole and self.items and not self.lost and "$" not in told and KEEP not in told
        return told if known and not _names(told.replace(">>", "\0"), self.items) else ""


def _names(default: str, items: Sequence[MenuItem]) -> bool:
    head, _, rest = default.partition(">")
    if not head.strip():
        return True
    if head.isdecimal():
        found = items[int(head[:9]) :][:1]
    else:
        found = [item for item in items if head.replace("\0", ">") in item.names][:1]
    return bool(found) and (not found[0].items or _names(rest, found[0].items))


def parse(text: str) -> tuple[GrubEntry, ...]:
    """The entries, in order. Any text is a configuration; what makes no sense in it is passed over."""
    return menu(text).entries


@record
class Fault:
    """What GRUB does not take for a script, and the line (from 1) on which it begins."""

    message: str
    line: int


def faults(text: str) -> tuple[Fault, ...]:
    """Why GRUB refuses the text or parts of it: quotes, braces and conditions that do not go together.

    Source: GRUB, grub-core/script/parser.y, yylex.l. What else may be wrong with it is not looked for.
    """
    odd: list[int] = []
    tokens = list(_tokens(text, odd))
    if odd:  # everything behind it is inside of the quotes
        return (Fault("a quote is not closed", odd[0]),)
    found: list[Fault] = []
    opened: list[tuple[str, int]] = []
    first = True
    for token in tokens:
        closes = CLOSES.get(token.text) if token.special or first else None
        if closes:
            if opened and opened[-1][0] in closes:
                opened.pop()
            else:
                found.append(Fault(f"{token.text} closes nothing", token.line))
        elif token.text in OPENS and (first or token.special):
            opened.append((token.text, token.line))
        first = token.special or (first and token.text in CONDITIONS)
    found += [Fault(f"{text} is not closed", line) for text, line in opened]
    return tuple(found)


def menu(text: str, load: Load = lambda name: None, folder: str = "") -> GrubMenu:
    """The entries, also of the files that are sourced. ``folder``: what $prefix stands for until it is set."""
    parser = _Parser(text, load)
    parser.variables.update({name: f"{KEEP}{name}" for name in GRUBS_OWN})
    parser.variables.update({"prefix": folder, "config_directory": folder} if folder else {})
    entries = tuple(parser.entries())
    return GrubMenu(entries, parser.variables, tuple(parser.items), parser.whole, tuple(parser.lost))


@record
class _Token:
    text: str
    line: int
    special: bool = False
    file: str = ""


class _Parser:
    def __init__(self, text: str, load: Load) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0
        self._load = load
        self._files = self._calls = self._added = 0
        self._functions: dict[str, list[_Token]] = {}
        self._kept: set[str] = set()
        self._conditions = 0
        self._before: list[dict[str, str | None]] = []
        self.variables: dict[str, str] = {}
        self.items: list[MenuItem] = []
        self.whole = True
        self.lost: list[str] = []

    def entries(self, above: str = "", depth: int = 0) -> Iterator[GrubEntry]:
        """Those up to the end of the block."""
        groups = 0
        while self._at < len(self._tokens):
            file = self._tokens[self._at].file
            command = self._command()
            if command is None or self._closes():
                groups += self._opens() - self._closes()
                if groups < 0:
                    if depth:
                        return
                    groups = 0
                continue
            if not command.words or not self._opens():
                self.whole &= command.name not in ADDING
                self._follow(command, SOURCING)
                continue
            if command.name == "function":
                self._define(command)
                continue
            if command.name not in ("menuentry", "submenu"):
                groups += 1
                continue
            title = f"{above}>{_title(command)}" if above else _title(command)
            item = MenuItem(tuple(word for word in command.words[1:] if not word.startswith("-")), [])
            self.items.append(item)
            beside, self.items = self.items, item.items
            if command.name == "menuentry":
                yield from self._entry(title, command.line, file)
                item.items.clear()  # those of a file that it opens
            elif depth < MAX_DEPTH:
                yield from self.entries(title, depth + 1)
            self.items = beside

    def _entry(self, title: str, line: int, file: str) -> Iterator[GrubEntry]:
        """A menu entry; those of the file that it opens as a menu of its own. What it sets is gone behind it."""
        self._before.append({})
        commands = tuple(self._block())
        yield GrubEntry(title, line, commands, file)
        opened = [command for command in commands if command.name == "configfile"]
        if opened and not any(command.name in LOADING for command in commands):
            rest, self._tokens, self._at = (self._tokens, self._at), [], 0
            for command in opened:
                self._follow(command, SOURCING)
            yield from self.entries(title, 1)
            self._tokens, self._at = rest
        for variable, value in self._before.pop().items():
            if value is None:
                self.variables.pop(variable, None)
            else:
                self.variables[variable] = value

    def _set(self, name: str, value: str) -> None:
        if self._before:
            self._before[-1].setdefault(name, self.variables.get(name))
        self.variables[name] = value

    def _follow(self, command: Command, sourcing: tuple[str, ...]) -> None:
        """Put what a command stands for in front of what follows: a function's body, another file's text."""
        body: list[_Token] = []
        if command.name in self._functions and self._calls < MAX_CALLS:
            self._calls += 1
            body = self._functions[command.name]
            for number, word in enumerate(command.words[1:], 1):
                self._set(str(number), word)
        elif command.name in sourcing and command.arguments and self._files < MAX_FILES:
            self._files += 1
            name = command.arguments[0]
            text = self._load(name)
            if command.name == "configfile" and not self._before:
                self.lost += [name] if text is None else []
                self.whole &= text != ""
            body = [_Token(t.text, t.line, t.special, name) for t in _tokens(text or "")]
        elif command.name == "load_env":
            self._environment(command)
        self._added += len(body)
        if body and self._added <= MAX_ADDED:
            self._tokens[self._at : self._at] = body

    def _define(self, command: Command) -> None:
        """Keep a function's body, up to the brace that closes it."""
        start, depth = self._at, 1
        while self._at < len(self._tokens) and depth:
            token = self._tokens[self._at]
            self._at += 1
            depth += (token.text == "{") - (token.text == "}") if token.special else 0
        if len(command.words) > 1:
            self._functions[command.words[1]] = [*self._tokens[start : self._at - 1], _Token("\n", 0, special=True)]

    def _environment(self, command: Command) -> None:
        """Take over the variables of an environment block, all or those that are named."""
        words = list(command.words[1:])
        name = "$prefix/grubenv"
        for option in ("-f", "--file"):
            if option in words[:-1]:
                at = words.index(option)
                name = words[at + 1]
                del words[at : at + 2]
        wanted = [word for word in words if not word.startswith("-")]
        text = self._load(name.replace("$prefix", self.variables.get("prefix", ""))) or ""
        for line in text.replace("\\\n", "").splitlines():
            key, equals, value = line.partition("=")
            if equals and NAME.fullmatch(key) and key in (wanted or [key]):
                self._set(key, re.sub(r"\\(.)", r"\1", value))
                self._kept.add(key)

    def _block(self) -> Iterator[Command]:
        """The commands up to the brace that closes the entry."""
        depth = 1
        while self._at < len(self._tokens) and depth:
            command = self._command()
            if command is not None:
                opens, closes = self._opens(), self._closes()
                if command.words:
                    yield command
                    if not (opens or closes):
                        self._follow(command, SOURCING[:2])
                depth += opens - closes
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
            word = _filled(token.text, self.variables)
            if not words and (word in CONDITIONS):
                self._conditions += (word == "if") - (word == "fi")
                continue
            words.append(word)
        if not words:
            return None
        assignment = words[1] if words[0] == "set" and len(words) == 2 else words[0] if len(words) == 1 else ""
        name, equals, value = assignment.partition("=")
        if equals and NAME.fullmatch(name) and not (self._conditions > 0 and name in self._kept):
            self._set(name, value)
        flat = tuple(word for item in words for word in ([item] if "\0" not in item else item.split("\0")) if word)
        for name, value in _given(flat):
            self._set(name, value)
        return Command(flat, line, self.variables.get("root", "").strip("()").replace(KEEP, "$"))


def _given(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What a command other than set gives to variables.

    Source: GRUB, grub-core/commands/search_wrap.c, grub_cmd_search; search.c, grub_cmd_do_search.
    """
    command, *rest = words or ("",)
    if command in SEARCHES and len(rest) > 1:
        yield rest[1], f"{SEARCHES[command]}={rest[0]}"
    elif command in ("for", "read", "getenv") and rest:
        yield rest[0], f"{KEEP}{rest[0]}"
    options = [word.partition("=") for word in rest if word.startswith("-")]
    name = next((value or "root" for option, _, value in options if option in ("--set", "-s")), "")
    if command != "search":
        told = name if name != "root" else next((rest[at + 1] for at in _at(rest, "--set", "-s")), "")
        told = told.rpartition(":")[2]  # regexp has the group's number in front
        if NAME.fullmatch(told):
            yield told, f"{KEEP}{told}"
        return
    hints = {at + 1 for at, word in enumerate(rest) if word.startswith("--hint") and "=" not in word}
    wanted = next((word for at, word in enumerate(rest) if word[0] != "-" and at not in hints), "")
    kind = next((SEARCHED[option] for option, _, _ in options if option in SEARCHED), "")
    if name and wanted and kind:
        yield name, f"{kind}={wanted}"


def _at(words: Sequence[str], *wanted: str) -> Iterator[int]:
    """Where words stand that have another one behind them."""
    return (at for at, word in enumerate(words[:-1]) if word in wanted)


def _title(command: Command) -> str:
    return next((word for word in command.words[1:] if not word.startswith("-")), "")


_PIECE = re.compile(
    r"""'(?P<single>[^']*)'
    | "(?P<double>(?:\\.|[^"\\])*)"
    | \\(?P<escape>.)
    | (?P<plain>[^\s'"\\;{}$]+|\$)""",
    re.DOTALL | re.VERBOSE,
)
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*|\d+))")
KEEP = "\x01"
"""Stands for a dollar sign that begins no variable."""


def _tokens(text: str, odd: list[int] | None = None) -> Iterator[_Token]:
    """Words (quotes taken off, dollars that are quoted hidden) and special characters.

    ``odd``: gets the lines of quotes that have no end.
    """
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
            if odd is not None:
                odd.append(line)
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


def _filled(text: str, variables: Mapping[str, str]) -> str:
    """The word with its variables; what a variable adds may be several words (``\\0`` between them)."""
    room = MAX_WORD

    def value(match: re.Match[str]) -> str:
        nonlocal room
        found = variables.get(match[1] or match[2], "")[:room].strip().replace(" ", "\0")
        room -= len(found)
        return found

    return _VARIABLE.sub(value, text)[:MAX_WORD].replace(KEEP, "$")


def filled(text: str, variables: Mapping[str, str]) -> str:
    """A text outside of GRUB's shell with its variables filled in."""
    return _filled(text, variables).replace("\0", " ").strip()


def alternatives(entry: GrubEntry) -> tuple[GrubEntry, ...]:
    """The entry once for each of its commands that load what is started: one per branch of a condition.

    The commands in front of the first are part of all.
    """
    at = [number for number, command in enumerate(entry.commands) if command.name in LOADING]
    if len(at) < 2:
        return (entry,)
    ends = [*at[1:], len(entry.commands)]
    parts = [entry.commands[: at[0]] + entry.commands[start:end] for start, end in zip(at, ends, strict=True)]
    return tuple(GrubEntry(entry.title, entry.line, commands, entry.file) for commands in parts)
