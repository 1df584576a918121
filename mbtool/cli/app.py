"""The command ``mbtool``: its verbs, and what they share."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from inspect import cleandoc
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from mbtool import __version__

VERBS = {
    "inspect": "inspect",
    "check": "check",
    "explain": "explain",
    "can-boot": "can_boot",
    "build-dom0": "build_dom0",
    "build-disk": "build_disk",
    "plan": "plan",
    "decode": "decode",
    "prove": "prove",
    "schema": "schema",
}
"""Verb to the module of ``mbtool.cli`` that has it as a function of the same name."""

OF_TEXT = ("explain",)
"""Verbs that take any text: what a console says may begin with dashes."""

_MARKUP: Literal["rich"] | None = "rich" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else None
"""rich takes longer to load than the rest of the program: only where its colours can be seen."""


class Verbs(TyperGroup):
    """Loads a verb when it is asked for: typer needs longer to digest all of them than a verb needs to run."""

    verbs: Mapping[str, str] = VERBS

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.verbs)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.verbs:
            return None
        name = self.verbs[cmd_name]
        verb = getattr(import_module(f"mbtool.cli.{name}"), name)
        if not isinstance(verb, typer.Typer):
            function = verb
            verb = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=_MARKUP)
            text = {"ignore_unknown_options": True} if cmd_name in OF_TEXT else None
            verb.command(cmd_name, help=_flowing(function.__doc__ or ""), context_settings=text)(function)
        return typer.main.get_command(verb)

    def invoke(self, ctx: Any) -> Any:
        """Run the verb, and say how it ended.

        click would say nothing of an interrupt, and give a reader that went away the status of findings.
        """
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except KeyboardInterrupt:
            print("mbtool: interrupted", file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:  # that is the reader's right
            print_no_more()
            sys.exit(141)


def print_no_more() -> None:
    """What cannot be printed shall not be tried again at exit, which would be one more complaint."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _flowing(text: str) -> str:
    """A help text with each paragraph in one line, but for those set line by line (click's ``\\b``).

    rich would keep the source's line ends.
    """
    paragraphs = cleandoc(text).split("\n\n")
    return "\n\n".join(part if part.startswith("\b") else " ".join(part.split()) for part in paragraphs)


def group(name: str, verbs: Mapping[str, str], text: str) -> typer.Typer:
    """A verb that has verbs of its own, by the module of each; ``text`` is its help."""
    kind = type("Verbs", (Verbs,), {"verbs": verbs})
    made = typer.Typer(
        cls=kind,
        name=name,
        help=_flowing(text),
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=_MARKUP,
        context_settings=_CONTEXT,
    )
    made.callback()(lambda: None)
    return made


_CONTEXT = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    cls=Verbs,
    help="See, check, plan, build and prove x86 boot images.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=_MARKUP,
    context_settings=_CONTEXT,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mbtool {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """See, check, plan, build and prove x86 boot images.

    Exit status: 0 fine, 1 findings or a failed proof, 2 unusable input or usage.
    """
