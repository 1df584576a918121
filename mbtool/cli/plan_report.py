"""What the verbs of ``mbtool plan`` share: options, and how a plan is shown and drawn."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    """Print the plan, and write the picture and the ``also`` files, each whole or not at all."""
    from mbtool.build.output import write_file

    if svg is not None:
        from mbtool.render.svg import draw

        also = {**also, svg: draw(outline).encode()}
    for path, data in also.items():
        write_file(path, data, force=force)
    if json:
        from mbtool.render.json import dumps
        from mbtool.render.outline_json import outline_json

        print(dumps(outline_json(outline)))
    else:
        from mbtool.render.outline_text import outline_lines
        from mbtool.render.style import Style

        for line in outline_lines(outline, Style.of(sys.stdout)):
            print(line)
