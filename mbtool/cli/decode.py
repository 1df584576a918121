"""``mbtool decode``: read the structures of the start of day back from raw dumps."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mbtool.build.placed import Placed
    from mbtool.model import Finding
    from mbtool.plan.page_table_dump import PageTables
    from mbtool.source import Source


class Kind(StrEnum):
    """What the dump holds."""

    START_INFO = "start_info"
    HVM_START_INFO = "hvm_start_info"
    BOOT_PARAMS = "boot_params"
    MULTIBOOT1 = "multiboot1-info"
    MULTIBOOT2 = "multiboot2-info"
    PAGE_TABLES = "page-tables"


def decode(
    kind: Annotated[
        Kind, typer.Argument(metavar="KIND", help=f"What the dump holds: {', '.join(Kind)}.", show_default=False)
    ],
    file: Annotated[str, typer.Argument(metavar="FILE", help="The dump; - is standard input.", show_default=False)],
    at: Annotated[
        str | None,
        typer.Option(metavar="OFFSET", help="Where in the file it begins (default: 0); page tables: the top."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Physical address of the file's first byte, to follow pointers; for page tables and "
            "hvm_start_info from build-dom0 this and the offset are by default those in layout.json beside them.",
        ),
    ] = None,
    walk: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="Page tables: translate this address (repeat).")
    ] = None,
    pae: Annotated[
        bool, typer.Option("--pae", help="Page tables: three levels, of a 32-bit kernel (default: by layout.json).")
    ] = False,
    ranges: Annotated[
        bool, typer.Option("--ranges", help="Page tables: all that is mapped (the default without --walk).")
    ] = False,
    fields: Annotated[bool, typer.Option("--fields", help="Every field, with its offset and raw bytes.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document (mbtool schema decode).")] = False,
) -> None:
    """Read boot structures or page tables back from a memory dump.

    Ranges of page tables are merged, and no table may be mapped writable. Exit status: 0 sound, 1 something is
    wrong with it, 2 there is no such structure.

    \b
    Examples:
      mbtool decode start_info dom0/start_info.bin
      mbtool decode page-tables dom0/pagetables.bin --walk 0xffffffff81000000
      mbtool decode page-tables memory.bin --base 0 --at 0x1234000 --ranges
      mbtool decode boot_params zero-page.bin --fields
      mbtool decode multiboot1-info memory.bin --at 0x9500
      mbtool decode multiboot2-info info.bin --json | jq '.structure.children[].fields.type.meaning'
    """
    from mbtool.cli.dom0_options import address
    from mbtool.errors import InputError
    from mbtool.source import open_file, open_stdin

    offset, start = address("--at", at), address("--base", base)
    if (offset or 0) < 0 or (start or 0) < 0:
        raise InputError("an offset or address cannot be negative")
    addresses = [address("--walk", word) or 0 for word in walk or ()]
    if kind is not Kind.PAGE_TABLES and (addresses or ranges):
        raise InputError("--walk and --ranges are for page tables")
    with open_stdin() if file == "-" else open_file(file) as dump:
        known = _placed(kind, file)
        if known is not None:
            offset, start = known.at if offset is None else offset, known.base if start is None else start
        offset = offset or 0
        document: dict[str, Any] = {"schema": "mbtool/decode/1", "kind": str(kind), "file": file, "offset": offset}
        if kind is Kind.PAGE_TABLES:
            tables = _page_tables(
                dump, file, offset, start, pae or (base is None and known is not None and known.pae)
            )
            findings = _show_page_tables(tables, addresses, ranges or not addresses, document, json)
        else:
            findings = _structure(str(kind), dump, offset, start, fields, document, json)
    if json:
        from mbtool.render.json import dumps, finding_json

        document["findings"] = [finding_json(finding) for finding in findings]
        print(dumps(document))
    raise typer.Exit(int(any(finding.severity == "error" for finding in findings)))


def _structure(
    kind: str, dump: Source, at: int, base: int | None, fields: bool, document: dict[str, Any], json: bool
) -> list[Finding]:
    from mbtool.formats.dumped import decode
    from mbtool.render.json import node_json
    from mbtool.render.style import Style
    from mbtool.render.text import tree_lines

    node = decode(kind, dump, at, base)
    if json:
        document |= {"structure": node_json(node), "page_tables": None}
    else:
        for line in tree_lines(node, Style.of(sys.stdout), every_field=fields):
            print(line)
    return [finding for part in node.walk() for finding in part.findings]


def _placed(kind: Kind, file: str) -> Placed | None:
    """Where the file lies, when build-dom0 wrote it."""
    from mbtool.build import placed

    if file == "-":
        return None
    if kind is Kind.PAGE_TABLES:
        return placed.page_tables(Path(file))
    return placed.hvm_start_info(Path(file)) if kind is Kind.HVM_START_INFO else None


def _page_tables(dump: Source, file: str, at: int, base: int | None, pae: bool) -> PageTables:
    from mbtool.errors import InputError
    from mbtool.plan.page_table_dump import PageTables

    if base is None:
        raise InputError(
            "the machine address of the first byte is not known, and tables refer to each other by it",
            source=file,
            remedy="say --base ADDRESS",
        )
    return PageTables(dump, base, base + at, pae=pae)


def _show_page_tables(
    tables: PageTables, addresses: list[int], ranges: bool, document: dict[str, Any], json: bool
) -> list[Finding]:
    from mbtool.render import page_tables as render
    from mbtool.render.style import Style
    from mbtool.render.text import finding_lines

    walks = [tables.walk(address) for address in addresses]
    mapped = tables.mapped() if ranges else None
    findings = list(mapped.findings) if mapped else []
    if json:
        document["structure"] = None
        document["page_tables"] = {
            "root": f"{tables.root:#x}",
            "walks": [render.walk_json(walk) for walk in walks],
            "mapped": render.mapped_json(mapped) if mapped else None,
        }
        return findings
    style = Style.of(sys.stdout)
    for walk in walks:
        print("\n".join(render.walk_lines(walk)))
    if mapped:
        for line in render.range_lines(mapped, style):
            print(line)
        print(
            f"{len(mapped.tables)} table{'' if len(mapped.tables) == 1 else 's'}, the first at {tables.root:#x}"
            + ("" if findings else "; none is writable")
        )
    for line in finding_lines(findings, style):
        print(line)
    return findings
