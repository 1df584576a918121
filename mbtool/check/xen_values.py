"""Values of Xen's options that Xen refuses, where its code tells for certain what it takes (xen_values.toml).

Xen: xen/common/kernel.c, ``parse_params``, ``parse_boolean``, ``cmdline_strcmp``. Of a list Xen takes the parts one
by one: those before and after a bad one count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from difflib import get_close_matches
from functools import cache

from mbtool.check.boot_set import BootSet
from mbtool.check.command_lines import LINUX_CONSOLES, XEN, known_options
from mbtool.check.option_lists import Release, in_words, option_list, within
from mbtool.check.rule import Evidence, set_rule
from mbtool.plan import xen_options
from mbtool.plan.xen_options import FALSE, TRUE
from mbtool.record import record

VALUES, OF_KINDS = "xen_values.toml", "kinds"
ALIKE = 0.66
"""How much a word must be like another to be taken for it, misspelt (difflib)."""
MOST_TOLD = 10
"""Words in a remedy."""
YES, NO = ("|".join(sorted(word.decode() for word in words)) for words in (TRUE, FALSE))
DIGITS = "(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)?"
"""What simple_strtoull() takes for a number, with base 0; nothing is 0."""
PLACES = {
    "<true>": YES,
    "<false>": NO,
    "<bool>": f"{YES}|{NO}",
    "<number>": f"-?{DIGITS}",
    "<size>": f"{DIGITS}[bBkKmMgGtT]?",
}
"""What stands for more than one word, as a regular expression."""
KINDS = {"boolean": ("", "<true>", "<false>"), "number": ("<number>",), "size": ("<size>",)}
"""The forms of boolean_param(), integer_param() and size_param()."""


@record
class Grammar:
    """What an option's value may be; see xen_values.toml."""

    always: Sequence[str]
    some: Mapping[str, str] = field(default_factory=dict)
    read: str = "whole"
    custom: bool = True
    """Read by a function of the option's own, for which ``no-name`` is the value ``no``."""
    last: bool = False
    since: str = ""
    console: str = ""

    def forms(self, release: Release | None) -> list[str]:
        """What a part may be in one release, or in any."""
        some = (form for form, span in self.some.items() if release is None or within(release, span))
        return [*self.always, *some]

    def parts(self, value: str) -> list[str]:
        """What is compared with the forms."""
        match self.read:
            case "list":
                return value.split(",")
            case "pair":
                return value.split("/")
            case "first":
                return re.split("[,:;=]", value)[:1]
            case _:
                return [value]

    def takes(self, part: str, forms: Iterable[str]) -> bool:
        """Whether the part has one of the forms."""
        return any(_pattern(form, self.read == "list").fullmatch(part) for form in forms)


@record
class Word:
    """An option as it stands on the line."""

    name: str
    value: str
    wanted: bool
    """Without ``no-`` in front."""

    def __str__(self) -> str:
        return f"{self.key}={self.value}" if self.value else self.key

    @property
    def key(self) -> str:
        return self.name if self.wanted else f"no-{self.name}"


@cache
def grammar(name: str) -> Grammar | None:
    """That of an option; None where it is not known for certain."""
    table = option_list(VALUES)
    for kind, names in table[OF_KINDS].items():
        if name in names:
            return Grammar(KINDS[kind], custom=False)
    told = table.get(name)
    return Grammar(**told, custom="last" not in told) if told and name != OF_KINDS else None


@set_rule("XEN-OPTION-VALUE")
def values(boot: BootSet) -> Iterator[Evidence]:
    """Values that this Xen does not take: misspelt, or of another release."""
    if boot.xen is not None and not (boot.version.text and boot.version.known):
        return  # nobody has read what that one takes
    release = boot.version.release if boot.xen is not None else None
    words = [
        Word(name.decode("utf-8", "replace"), value.decode("utf-8", "replace"), wanted)
        for name, value, wanted in xen_options.options(boot.options)
    ]
    last = {word.name: word for word in words}
    for word in words:
        told = grammar(word.name)
        if told is None or (told.last and word is not last[word.name]) or _said_elsewhere(word, release):
            continue
        if not told.since or (release is not None and within(release, f"{told.since}-")):
            yield from _judged(boot, word, told, release)


def _said_elsewhere(word: Word, release: Release | None) -> bool:
    """Whether XEN-OPTION-UNKNOWN, XEN-OPTION-LONG or CMDLINE-WRONG-SIDE tells of it."""
    unknown = release is not None and word.name not in known_options(release)
    long = len(str(word).encode()) >= xen_options.MAX_PARAM_SIZE - 1
    linux = word.name == "console" and word.value.split(",")[0].rstrip("0123456789") in LINUX_CONSOLES
    return unknown or long or linux


def _judged(boot: BootSet, word: Word, told: Grammar, release: Release | None) -> Iterator[Evidence]:
    denied = told.custom and not word.wanted
    if denied and word.value:
        yield _evidence(boot, word, word.value, remedy=f"write {word.name}={word.value}, or no-{word.name} alone")
        return
    value = "no" if denied else word.value
    forms = told.forms(release)
    for part in told.parts(value):
        if told.takes(part, forms):
            continue
        elsewhere = next((in_words(span) for form, span in told.some.items() if told.takes(part, [form])), "")
        near = "" if elsewhere else _near(part, forms)
        yield _evidence(
            boot,
            word,
            part,
            expected=near,
            console=told.console.format(value=value, part=part),
            remedy=f"releases {elsewhere} take it: leave it out" if elsewhere else _remedy(word, near, forms),
        )


def _evidence(
    boot: BootSet, word: Word, part: str, *, remedy: str, expected: str = "", console: str = ""
) -> Evidence:
    told = f"{word.name}={part}" if word.wanted else str(word)
    if not part:
        told = f"{word.name} with an empty part" if word.value else f"{word.name} without a value"
    name = f"Xen {boot.version.name}" if boot.xen is not None else "Xen"
    return Evidence(
        f"{name} does not take {told}",
        XEN,
        field=word.name,
        expected=expected,
        found=part,
        console=console,
        remedy=remedy,
    )


@cache
def _pattern(form: str, open_end: bool) -> re.Pattern[str]:
    """A form as a regular expression. ``open_end``: a word may be followed by : ; or = and anything."""
    named = _named(form)
    if named:
        before, name, kind = named
        plain = f"{name}|" if kind == "<bool>" else ""
        return re.compile(f"{re.escape(before)}(?:{plain}no-{name}|(?:no-)?{name}=(?:{PLACES[kind]}))")
    if form.endswith("*"):
        return re.compile(re.escape(form[:-1]) + ".*")
    pieces = re.split("(<[a-z]+>)", form)
    text = "".join(f"(?:{PLACES[piece]})" if piece in PLACES else re.escape(piece) for piece in pieces)
    return re.compile(text + ("(?:[:;=].*)?" if open_end and form and len(pieces) == 1 else ""))


def _named(form: str) -> tuple[str, str, str] | None:
    """``before=name=<bool>`` in its three parts, of which the first may be empty, with its ``=``."""
    whole, mark, kind = form.rpartition("=")
    if not mark or kind not in PLACES:
        return None
    before, mark, name = whole.rpartition("=")
    return before + mark, name, kind


def _near(part: str, forms: Iterable[str]) -> str:
    """The word that was meant, "" where none is like it."""
    words = list(dict.fromkeys(word for form in forms for word in _spelt(form, "=" in part)))
    swapped = [word for word in words if len(word) > 2 and sorted(word) == sorted(part)]  # "no" is not "on"
    return next(iter([*swapped, *get_close_matches(part, words, 1, ALIKE)]), "")


def _spelt(form: str, with_value: bool) -> Iterator[str]:
    """The words that a form stands for, for the most part."""
    named = _named(form)
    if named:
        before, name, kind = named
        if kind == "<bool>":
            yield before + name
        yield f"{before}no-{name}"
        if with_value:
            yield from (f"{before}{name}={word}" for word in (("no", "yes") if kind == "<bool>" else ("no",)))
    elif form in PLACES:
        yield from (word for word in PLACES[form].split("|") if word.isalpha())
    else:
        yield form.rstrip("*")


def _remedy(word: Word, near: str, forms: Sequence[str]) -> str:
    """What to write; "" where there is too much to choose from."""
    if near:
        return f"write {word.name}={near}"
    shown = [{"<true>": "yes", "<false>": "no"}.get(form, form.rstrip("*")) for form in forms if form]
    return f"it takes {', '.join(shown)}" if len(shown) <= MOST_TOLD else ""
