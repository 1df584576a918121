"""The command ``mbtool``: its verbs, and what they share."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from mbtool import __version__
from mbtool.cli.build_disk import build_disk
from mbtool.cli.build_dom0 import build_dom0
from mbtool.cli.inspect import inspect
from mbtool.cli.prove import prove
from mbtool.cli.schema import schema

_RICH_HELP = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
"""rich takes longer to load than the rest of the program: only where its colours can be seen."""

app = typer.Typer(
    help="See, check, plan, build and prove x86 boot images.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if _RICH_HELP else None,
    context_settings={"help_option_names": ["-h", "--help"]},
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


app.command()(inspect)
app.command("build-dom0")(build_dom0)
app.command("build-disk")(build_disk)
app.command()(prove)
app.command()(schema)
