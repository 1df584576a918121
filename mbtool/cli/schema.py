"""``mbtool schema``: print the JSON Schema of a verb's ``--json`` output."""

from __future__ import annotations

from typing import Annotated

import typer

from mbtool.errors import InputError


def schema(
    name: Annotated[str, typer.Argument(help="The verb whose output is described, for instance: inspect.")],
) -> None:
    """Print the JSON Schema of what a verb prints with --json.

    \b
    Examples:
      mbtool schema inspect
      mbtool schema inspect > inspect.schema.json
    """
    from importlib.resources import files

    folder = files("mbtool") / "schemas"
    known = sorted(entry.name.removesuffix(".schema.json") for entry in folder.iterdir())
    if name not in known:
        raise InputError(f"no schema called {name!r}", expected=f"one of: {', '.join(known)}")
    print((folder / f"{name}.schema.json").read_text(encoding="utf-8"), end="")
