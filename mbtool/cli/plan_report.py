"""What the verbs of ``mbtool plan`` share: options, and how a plan is shown and drawn."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mbtool.errors import InputError

if TYPE_CHECKING:
    from mbtool.plan.e820 import E820Map
    from mbtool.plan.outline import Outline

E820 = Annotated[
    str | None,
    typer.Option(
        "--e820",
        metavar="MAP",
        help="The machine's memory: a map (text or JSON), /proc/iomem, a Xen or Linux boot log (or - for a pipe), "
        "or a machine that is known (qemu-q35:1024M).",
    ),
]
Cmdline = Annotated[str, typer.Option("--cmdline", metavar="TEXT", help="The kernel's command line.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document (mbtool schema plan).")]
Svg = Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Draw the memory maps.")]
Force = Annotated[bool, typer.Option("--force", help="Replace older files.")]


def memory_map(word: str | None) -> E820Map | None:
    """What ``--e820`` asks for."""
    if word is None:
        return None
    from mbtool.plan.machines import memory_map

    return memory_map(word)


def show(outline: Outline, *, json: bool, svg: Path | None, force: bool, also: dict[Path, bytes]) -> None:
    """Print the plan, and write the picture and the ``also`` files, each whole or not at all.

    Ends in exit status 1 when the plan has an error: the kernel would be started, and fail.
    """
    if svg is not None:
        from mbtool.render.svg import draw

        if svg in also:
            raise InputError("two outputs have the same name", source=str(svg))
        also = {**also, svg: draw(outline).encode()}
    _write(also, force)
    if json:
        from mbtool.render.json import dumps
        from mbtool.render.outline_json import outline_json

        print(dumps(outline_json(outline)))
    else:
        from mbtool.render.outline_text import outline_lines
        from mbtool.render.style import Style

        for line in outline_lines(outline, Style.of(sys.stdout)):
            print(line)
    if any(finding.severity == "error" for finding in outline.findings):
        raise typer.Exit(1)


def _write(files: dict[Path, bytes], force: bool) -> None:
    """All of the files; none when one of them cannot be written where it is wanted."""
    from mbtool.build.output import writable_target, write_file

    for path in files:
        writable_target(path, force=force)
    for path, data in files.items():
        write_file(path, data, force=force)
