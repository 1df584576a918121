"""Limine's configuration, since version 8: entries behind ``/``, options as ``name: value``, macros.

Source: Limine, CONFIG.md; common/lib/config.c (names of options are taken without case, and no blank stands before
the colon; what is for all entries stands before the first); common/lib/uri.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from mbtool.record import record

MAX_LINE, MAX_MACRO = 1 << 13, 2047
"""Characters of a line, and of a macro's value (Limine's own limit): many macros could fill any memory."""
MACRO = re.compile(r"\$\{([^}\n]*)\}")
EFI = ("efi", "uefi", "efi_chainload")
"""Names of the protocol that starts an EFI program."""
PATHS = {True: ("path", "image_path"), False: ("path", "kernel_path")}
"""Options that say what is loaded, of an EFI program or else; versions before 9 know only the longer names."""
CMDLINES = ("kernel_cmdline", "cmdline")
STRINGS = ("module_string", "module_cmdline")
X86 = {"x86-64", "ia-32"}
"""What ``if_arch`` names that this is about."""
HASH = re.compile("[0-9a-fA-F]{128}")
"""Of BLAKE2b. Newer versions take BLAKE3, too, in 64 or 256 characters."""


@record
class LimineEntry:
    """``title`` with those of the entries above in front, joined by ``>``; ``modules``: paths and strings.

    ``path`` None where there is no such option; ``hash_panic``: a file with another hash than its path says is not
    loaded, else Limine asks; ``bare``: there is nothing but a title, and comments.
    """

    title: str
    line: int
    protocol: str | None = None
    path: str | None = None
    cmdline: str = ""
    modules: tuple[tuple[str, str], ...] = ()
    hash_panic: bool = True
    bare: bool = False


@record
class Location:
    """A path as Limine reads it, ``resource(argument):/path#hash``; ``hash`` None where there is none."""

    resource: str
    argument: str
    path: str
    hash: str | None = None

    @property
    def volume(self) -> str:
        """What names the volume, "" for the one of the configuration."""
        own = self.resource == "boot" and not self.argument
        return "" if own else f"{self.resource}({self.argument})"


def location(uri: str) -> Location | None:
    """The parts of a path, None for what Limine takes for a file that is not there (uri.c, ``uri_resolve``)."""
    resource, opened, rest = uri.partition("(")
    argument, closed, path = rest.partition("):/")
    if not (opened and closed and path):
        return None
    path, sharp, tail = path.rpartition("#") if "#" in path else (path, "", "")
    return Location(resource.removeprefix("$"), argument, f"/{path}", tail if sharp else None)


def unpacked(path: str) -> bool:
    """Whether Limine, from 12.0 on, is told to unpack the file."""
    return path.startswith("$")


@dataclass
class _Open:
    titles: list[str]
    line: int
    options: list[tuple[str, str]] = field(default_factory=list)
    bare: bool = True

    def first(self, names: tuple[str, ...]) -> str | None:
        """The first value of the first of some options that is there."""
        return next((value for wanted in names for name, value in self.options if name == wanted), None)


def parse(text: str) -> tuple[LimineEntry, ...]:
    """The entries that can be chosen on x86, in order, so none that has others below it.

    Any text is a configuration.
    """
    everywhere = _Open([], 0)
    entries: list[_Open] = []
    for number, line in _lines(text):
        if line.startswith("/"):
            depth = len(line) - len(line.lstrip("/"))
            title = line[depth:].lstrip("+").strip()
            above = entries[-1].titles[: depth - 1] if entries else []
            entries.append(_Open([*above, title], number))
        else:
            name, colon, value = line.partition(":")
            into = entries[-1] if entries else everywhere
            into.bare = into.bare and name.lower() == "comment"
            if colon:
                into.options.append((name.lower(), value.strip()))
    panic = everywhere.first(("hash_mismatch_panic",)) in (None, "yes")
    depths = [*(len(entry.titles) for entry in entries[1:]), 0]
    found = [entry for entry, behind in zip(entries, depths, strict=False) if len(entry.titles) >= behind]
    return tuple(_entry(entry, panic) for entry in found if _is_here(entry))


def _is_here(entry: _Open) -> bool:
    machines = entry.first(("if_arch",))
    return machines is None or not X86.isdisjoint(machines.lower().split())


def _entry(opened: _Open, panic: bool) -> LimineEntry:
    modules: list[tuple[str, str]] = []
    for name, value in opened.options:
        if name == "module_path":
            modules.append((value, ""))
        elif name in STRINGS and modules:
            modules[-1] = (modules[-1][0], value)
    protocol = opened.first(("protocol",))
    return LimineEntry(
        ">".join(opened.titles),
        opened.line,
        protocol,
        opened.first(PATHS[protocol in EFI]),
        opened.first(CMDLINES) or "",
        tuple(modules),
        panic,
        opened.bare,
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
