"""``mbtool inspect``: explain boot images down to the byte."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mbtool.errors import InputError, MbtoolError


def inspect(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Images to show; - is standard input.", show_default=False),
    ],
    json: Annotated[bool, typer.Option("--json", help="One JSON document (mbtool schema inspect).")] = False,
    fields: Annotated[bool, typer.Option("--fields", help="Every field, with its offset and raw bytes.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Unpack and read everything, whatever it takes.")] = False,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look into directories.")] = False,
    max_output: Annotated[
        int, typer.Option("--max-output", min=1, metavar="MIB", help="Most that one image may unpack to.")
    ] = 2048,
    max_ratio: Annotated[
        int, typer.Option("--max-ratio", min=1, metavar="N", help="Most that a stream may expand, times its size.")
    ] = 400,
) -> None:
    """Explain boot images down to the byte.

    What they are, what they hold, what is wrong with them.

    Exit status: 0 all shown, 1 something in an image is damaged, 2 a file could not be read or is of no known
    format (in a directory looked through with --recursive, files of no known format are passed over).

    \b
    Examples:
      mbtool inspect /boot/xen.gz
      mbtool inspect --fields /boot/vmlinuz
      mbtool inspect --json /boot/vmlinuz | jq '.images[0].root.fields.kernel_version_string.value'
      mbtool inspect --recursive /boot
      zcat xen.gz | mbtool inspect -
    """
    from mbtool.cli.report import JsonReport, TextReport, show
    from mbtool.source import MIB, Limits

    limits = Limits(max_output * MIB, max_ratio)
    report = JsonReport(sys.stdout) if json else TextReport(sys.stdout, every_field=fields)
    status = 0
    with report:
        for name in files:
            inside = False
            paths = [name]
            if name not in ("-", "") and Path(name).is_dir():
                inside = True
                if recursive:
                    paths = sorted(str(path) for path in Path(name).rglob("*") if path.is_file())
            for path in paths:
                try:
                    if inside and not recursive:
                        raise InputError("is a directory", source=name, remedy="look into it with --recursive")
                    status = max(status, show(path, limits, report, full=full, tolerant=inside))
                except MbtoolError as error:
                    report.error(path, error)
                    status = 2
    raise typer.Exit(status)
