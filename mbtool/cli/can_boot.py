"""``mbtool can-boot``: which loaders can start an image, and why the others cannot."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mbtool.check.loader import Loader


def can_boot(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="The image; - is standard input.", show_default=False)
    ] = None,
    loader: Annotated[
        list[str] | None,
        typer.Option(
            "--loader",
            metavar="NAME[-VERSION][:MODE][:FIRMWARE]",
            help="Ask for this loader (repeat); without a version its newest. Default: all.",
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="List the loaders, with the versions looked at.")] = False,
    loaders: Annotated[
        Path | None,
        typer.Option("--loaders", metavar="FILE", help="More loaders, in the shape of mbtool's own (TOML)."),
    ] = None,
    sources: Annotated[bool, typer.Option("--sources", help="Show where each row comes from.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON document (mbtool schema can-boot, loaders).")
    ] = False,
    max_output: Annotated[
        int, typer.Option("--max-output", min=1, metavar="MIB", help="Most that the image may unpack to.")
    ] = 2048,
    max_ratio: Annotated[
        int, typer.Option("--max-ratio", min=1, metavar="N", help="Most that a stream may expand, times its size.")
    ] = 400,
) -> None:
    """Say which loaders can start an image, and why others cannot.

    The loaders are data with a source for each row; a row says what was looked at, in which version. Any other
    version is judged as the last one before it that was looked at, which the answer names.

    Exit status: 0 every loader that was asked for can (asked for none: at least one can), 1 not so, 2 unusable
    input.

    \b
    Examples:
      mbtool can-boot vmlinuz
      mbtool can-boot vmlinuz --loader xen-4.14:dom0-pv --loader pvgrub-2.06
      mbtool can-boot xen.gz --loader grub:multiboot2:uefi --loader limine
      mbtool can-boot --list
    """
    from mbtool.check import capabilities
    from mbtool.check import loaders as rows
    from mbtool.check.image import Image
    from mbtool.errors import InputError
    from mbtool.render.json import dumps
    from mbtool.render.style import Style, printable
    from mbtool.source import MIB, Limits, open_file, open_stdin

    known = (*rows.loaders(), *(rows.load(loaders) if loaders else ()))
    if show:
        _list(known, json)
        return
    if file is None:
        raise InputError("no image to look at", expected="a file, - for standard input, or --list")
    asked = [row for text in loader or () for row in rows.choose(known, text)]
    with open_stdin() if file == "-" else open_file(file) as source:
        image = Image(file, source, Limits(max_output * MIB, max_ratio))
        verdicts = [(row, capabilities.why_not(image, row)) for row in asked or rows.newest(known)]
    if json:
        document = {
            "schema": "mbtool/can-boot/1",
            "file": file,
            "loaders": [
                {
                    "loader": row.name,
                    "version": row.version,
                    "mode": row.mode,
                    "firmware": row.on or None,
                    "title": row.title,
                    "can_boot": not reason,
                    "reason": reason,
                    "console": row.words_for(reason) if reason else "",
                    "sources": list(row.sources),
                }
                for row, reason in verdicts
            ],
        }
        print(dumps(document, pretty=sys.stdout.isatty()))
    else:
        style = Style.of(sys.stdout)
        width = max(len(str(row)) for row, _ in verdicts)
        for row, reason in verdicts:
            word = style.error("no ") if reason else style.bold("yes")
            print(f"{word}  {row!s:{width}}  {printable(reason)}".rstrip())
            for text in row.sources if sources else ():
                print(f"       {style.dim(text)}")
    good = [not reason for _, reason in verdicts]
    raise typer.Exit(0 if (all(good) if asked else any(good)) else 1)


def _list(known: Iterable[Loader], json: bool) -> None:
    from mbtool.check.loaders import listing
    from mbtool.render.json import dumps
    from mbtool.render.style import printable

    rows = listing(known)
    if json:
        found = [{"loader": name, "versions": versions, "title": title} for name, versions, title in rows]
        print(dumps({"schema": "mbtool/loaders/1", "loaders": found}, pretty=sys.stdout.isatty()))
        return
    lines = [(name, " ".join(versions), title) for name, versions, title in rows]
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    for name, versions, title in lines:
        print(printable(f"{name:{widths[0]}}  {versions:{widths[1]}}  {title}"))
