"""The long answer: what a rule or a line from a console means, where it comes from, what to do.

Console messages are data, ``messages/*.toml``: a file per program that prints them. ``*`` in a text stands for what
differs each time.
"""

from __future__ import annotations

import re
import tomllib
from difflib import SequenceMatcher
from functools import cache
from importlib.resources import files

from mbtool.check.catalogue import Words, catalogue
from mbtool.check.loaders import loaders
from mbtool.record import record

LEAST = 6
"""Characters of a message that must be there for a part of it to count."""
LONGEST, LONGEST_NEAR = 1 << 12, 300
"""Characters of a text that are looked at, and of one for which texts that are alike are looked for."""
NEAR = 0.75
"""How alike two texts are when one is taken for the other misspelt."""
REFUSES = "LOADER-REFUSES"
"""The rule that a file breaks which its loader does not take."""
LISTS = ("causes", "verify", "rules", "sources")
PREFIX = re.compile(
    r"^\s*(qemu(-system-\w+)?:)?\s*(\(XEN\)|\(d\d+\))?\s*(\[[^\]]*\]\s*)?"
    r"(error:|panic on cpu \d+:|kernel panic - not syncing:)?\s*",
    re.I,
)
"""What consoles and programs put in front of a message."""
NAMELESS = ("GRUB",)
"""Programs that put no name in front of what they say: with another's there, a line is not theirs."""
NAME = re.compile(
    r"(?:^|.* )(?:\(\S+\)|\[[^\]]*\d\]|(?!error:|grub:)[\w.-]*[a-z][\w.-]*:)\s*(?:(?:error|warning): *)?"
)
"""A program's name, or the mark of Xen's or Linux' console, right before a message."""
MARKS = {"Xen": "(XEN)", "QEMU": "qemu-system-"}
"""What marks a line as a program's own, whatever others say in the same words."""
QUOTES = str.maketrans("`\u2018\u2019\u00b4\u201c\u201d", "''''\"\"")
"""As programs, and those who quote them, write them in one way or another."""


@record
class Message:
    """A message of the program ``by``; ``verify``: commands that show the cause; ``rules``: what then is broken.

    ``progress``: no error, but what comes before the next step of a boot; an error in the same line goes first.
    """

    by: str
    text: str
    meaning: str
    causes: tuple[str, ...] = ()
    verify: tuple[str, ...] = ()
    remedy: str = ""
    rules: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    progress: bool = False

    @property
    def pattern(self) -> re.Pattern[str]:
        """What finds the message in a line."""
        parts = (re.escape(part) for part in re.split(r"\*+", _bare(self.text).strip("*")))
        return re.compile(".*?".join(parts))


@record
class Answer:
    """What was found for a question, the best first; ``near``: nothing fits, but these are alike."""

    rules: tuple[Words, ...] = ()
    messages: tuple[Message, ...] = ()
    near: tuple[str, ...] = ()


@cache
def messages() -> tuple[Message, ...]:
    """All of them, in the files' order."""
    found = []
    folder = files("mbtool.check") / "messages"
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        table = tomllib.loads(entry.read_text(encoding="utf-8"))
        for item in table["message"]:
            for key in LISTS:
                item[key] = tuple(item.get(key, ()))
            found.append(Message(by=table["by"], **item))
    return tuple(found)


@cache
def known() -> tuple[Message, ...]:
    """The messages, and what else the loaders of ``can-boot`` print of files that they do not take."""
    said: dict[tuple[str, str, str], list[str]] = {}
    rows = {(loader.name, loader.mode): loader for loader in loaders()}
    for loader in loaders():
        for reason, text in loader.says:
            if not any(message.pattern.search(_bare(text)) for message in messages()):
                said.setdefault((loader.name, loader.mode, text.strip()), []).append(reason.replace("*", "…"))
    return (
        *messages(),
        *(
            Message(
                by=rows[name, mode].title,
                text=text,
                meaning="The loader does not take the file.",
                causes=tuple(dict.fromkeys(reasons)),
                verify=(f"mbtool can-boot FILE --loader {name}:{mode}",),
                rules=(REFUSES,),
                sources=rows[name, mode].sources,
            )
            for (name, mode, text), reasons in said.items()
        ),
    )


def explain(question: str) -> Answer:
    """What there is about a rule's id, a line from a console, or a part of either."""
    question = question[:LONGEST]
    id_ = question.strip().upper()
    if id_ in catalogue():
        about = tuple(message for message in messages() if id_ in message.rules)
        return Answer((catalogue()[id_],), about)
    line = _bare(question)
    if len(line) < LEAST:
        return Answer(near=tuple(rule for rule in catalogue() if id_ and id_ in rule)[:20])
    foreign = [message for message in known() if _of_another(message, question)]
    spoken = [message for message in known() if message not in foreign]
    exact = [message for message in spoken if message.pattern.search(line)]
    exact.sort(key=lambda message: (message.progress, not _marked(message, question), -len(message.text)))
    part = [message for message in spoken if message not in exact and line in _bare(message.text)]
    printed = [words for words in catalogue().values() if words.console and _bare(words.console) in line]
    if exact or part or printed:
        found = (*exact, *part)
        told = {id_ for message in (*found, *foreign) for id_ in message.rules}
        return Answer(tuple(words for words in printed if words.id not in told), found)
    return Answer(near=_near(line) if len(line) <= LONGEST_NEAR else ())


def _marked(message: Message, question: str) -> bool:
    """Whether the line bears the mark of the message's program."""
    return message.by in MARKS and MARKS[message.by] in question


def _of_another(message: Message, question: str) -> bool:
    """Whether the line names another program than the message's where that one names none."""
    if message.by not in NAMELESS:
        return False
    line = _plain(question).lower()
    found = message.pattern.search(line)
    return found is not None and NAME.fullmatch(line[: found.start()]) is not None


def _near(line: str) -> tuple[str, ...]:
    """Texts that are alike, the most alike first."""
    scored = []
    for message in known():
        score = SequenceMatcher(None, line, _bare(message.text)).ratio()
        if score >= NEAR:
            scored.append((-score, message.text))
    return tuple(text for _, text in sorted(scored)[:5])


def _bare(text: str) -> str:
    """For comparing: no prefix unless that is all, small letters, one kind of quotes and blanks, no full stop."""
    text = _plain(text)
    return (PREFIX.sub("", text) or text).lower().rstrip(".")


def _plain(text: str) -> str:
    """One kind of quotes and blanks."""
    return re.sub(r"\s+", " ", text.translate(QUOTES)).strip()
