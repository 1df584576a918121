"""What ``mbtool explain`` knows, as text for people and as JSON (mbtool/schemas/explain.schema.json)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from mbtool.check.catalogue import Words
from mbtool.check.explain import Answer, Message
from mbtool.render.style import Style

WIDTH = 100


def answer_lines(answer: Answer, style: Style) -> Iterator[str]:
    """Every rule and message at length, a blank line between them."""
    parts = [
        *(list(_message_lines(message, style)) for message in answer.messages),
        *(list(_rule_lines(words, style)) for words in answer.rules),
    ]
    if answer.rules and len(answer.rules) == 1 and answer.messages:
        parts = [parts[-1], *parts[:-1]]  # a rule was asked for: it first
    for number, lines in enumerate(parts):
        if number:
            yield ""
        yield from lines
    if not parts:
        yield "nothing is known about this"
        for text in answer.near:
            yield f"  near: {text}"


def list_lines(answer: Answer, style: Style) -> Iterator[str]:
    """A line for each rule, then for each message."""
    subject = ""
    width = max((len(words.id) for words in answer.rules), default=0)
    for words in answer.rules:
        if words.subject != subject:
            subject = words.subject
            yield style.bold(subject)
        yield f"  {words.id:{width}}  {words.title}"
    by = ""
    for message in answer.messages:
        if message.by != by:
            by = message.by
            yield style.bold(f"messages of {by}")
        yield f"  {message.text}"


def _rule_lines(words: Words, style: Style) -> Iterator[str]:
    severity = f" ({words.severity})" if words.severity else ""
    yield f"{style.bold(words.id)}{severity}: {words.title}"
    yield from _paragraph("", words.meaning)
    yield from _paragraph("at boot", words.boot)
    yield from _paragraph("console", words.console)
    yield from _paragraph("remedy", words.remedy)
    yield from _several("source", words.sources)


def _message_lines(message: Message, style: Style) -> Iterator[str]:
    yield f"{style.bold(message.by)}: {message.text}"
    yield from _paragraph("", message.meaning)
    yield from _several("cause", message.causes)
    yield from _several("verify", message.verify)
    yield from _paragraph("remedy", message.remedy)
    yield from _several("rule", message.rules)
    yield from _several("source", message.sources)


def _several(name: str, texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        yield from _paragraph(name, text)


def _paragraph(name: str, text: str) -> Iterator[str]:
    if text:
        indent = f"  {name:7}  " if name else "  "
        yield from textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=" " * len(indent))


def answer_json(question: str, answer: Answer) -> dict[str, Any]:
    """The answer with the question."""
    return {
        "schema": "mbtool/explain/1",
        "question": question,
        "rules": [
            {
                "id": words.id,
                "subject": words.subject,
                "severity": None if words.severity is None else str(words.severity),
                "title": words.title,
                "meaning": words.meaning,
                "boot": words.boot,
                "console": words.console,
                "remedy": words.remedy,
                "sources": list(words.sources),
            }
            for words in answer.rules
        ],
        "messages": [
            {
                "by": message.by,
                "text": message.text,
                "meaning": message.meaning,
                "causes": list(message.causes),
                "verify": list(message.verify),
                "remedy": message.remedy,
                "rules": list(message.rules),
                "sources": list(message.sources),
            }
            for message in answer.messages
        ],
        "near": list(answer.near),
    }
