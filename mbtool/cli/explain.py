"""``mbtool explain``: what a rule, or a message on a console, means."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def explain(
    question: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RULE|TEXT]", help="A rule's id, or what a console says; none: list all."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document (mbtool schema explain).")] = False,
) -> None:
    """Explain a rule of mbtool check, or a message on a console.

    Messages are those of GRUB, Xen, QEMU, kexec, Linux and other loaders: what they mean, what mostly causes them,
    how to verify that, what to do. Without an argument all are listed.

    Exit status: 0 found, 1 nothing is known about it.

    \b
    Examples:
      mbtool explain XEN-CODEC
      mbtool explain "error: no multiboot header found."
      mbtool explain linux kernel too old to load a ram disk
    """
    from mbtool.check.explain import Answer, messages
    from mbtool.check.explain import explain as ask
    from mbtool.render.answers import answer_json, answer_lines, list_lines
    from mbtool.render.json import dumps
    from mbtool.render.style import Style

    text = " ".join(question or ())
    if text:
        answer = ask(text)
    else:
        from mbtool.check.catalogue import catalogue

        answer = Answer(tuple(catalogue().values()), messages())
    if json:
        print(dumps(answer_json(text, answer), pretty=sys.stdout.isatty()))
    else:
        style = Style.of(sys.stdout)
        lines = answer_lines(answer, style) if text else list_lines(answer, style)
        for line in lines:
            print(line)
    raise typer.Exit(0 if answer.rules or answer.messages else 1)
