"""``mbtool schema``: print the JSON Schema of a verb's ``--json`` output."""

from __future__ import annotations

from typing import Annotated

import typer

from mbtool.errors import InputError

DOCUMENTS = {"build-dom0": "manifest"}
"""What a verb prints, where that has a name of its own."""


def schema(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="The verb; or layout, manifest: what build-dom0 writes.", show_default=False
        ),
    ],
) -> None:
    """Print the JSON Schema of what a verb prints with --json.

    \b
    Examples:
      mbtool schema inspect
      mbtool schema inspect > inspect.schema.json
      mbtool schema layout
    """
    from importlib.resources import files

    folder = files("mbtool") / "schemas"
    known = sorted(entry.name.removesuffix(".schema.json") for entry in folder.iterdir())
    if name not in (*known, *DOCUMENTS):
        raise InputError(
            f"no schema called {name!r}", expected=f"one of: {', '.join(sorted([*known, *DOCUMENTS]))}"
        )
    print((folder / f"{DOCUMENTS.get(name, name)}.schema.json").read_text(encoding="utf-8"), end="")
