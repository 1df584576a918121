"""SBAT: the generation numbers by which shim revokes boot programs, a table in the PE section ``.sbat``.

Source: rhboot/shim, SBAT.md (the columns) and csv.c (how shim reads it: a line ends at CR or LF, values are not
quoted, a NUL ends the data).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

from mbtool.errors import FormatError
from mbtool.model import Field, Finding, Node, Severity

MAX_SIZE = 1 << 16
"""Bytes looked at: real tables have a few hundred."""
MAX_ENTRIES = 256
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SbatEntry:
    """One line of the table. A component below the revoked generation is not started."""

    component_name: str
    component_generation: int
    vendor_name: str
    vendor_package_name: str
    vendor_version: str
    vendor_url: str


COLUMNS = tuple(column.name for column in fields(SbatEntry))
TELLING = ("component_name", "component_generation", "vendor_version")


def parse_line(line: bytes) -> SbatEntry:
    """One line. FormatError unless six columns are filled and the generation is a positive number."""
    cells = [cell.decode("utf-8", "surrogateescape") for cell in line.split(b",", len(COLUMNS) - 1)]
    if len(cells) < len(COLUMNS):
        raise FormatError("SBAT line lacks columns", expected=f"{len(COLUMNS)}", found=f"{len(cells)}")
    for column, cell in zip(COLUMNS, cells, strict=True):
        if not cell:
            raise FormatError("SBAT column is empty", field=column)
    name, generation, vendor_name, package, version, url = cells
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", generation, re.ASCII):
        raise FormatError(
            "SBAT generation is no positive number",
            field="component_generation",
            found=generation[:20] or "nothing",
        )
    return SbatEntry(name, int(generation), vendor_name, package, version, url)


def parse(data: bytes) -> tuple[SbatEntry, ...]:
    """All lines of a table; FormatError at the first bad one."""
    return tuple(parse_line(line) for _, line in _lines(data))


def build(entries: Iterable[SbatEntry]) -> bytes:
    """The table's bytes. FormatError when a value is empty or holds what separates values (comma, CR, LF, NUL)."""
    table = b""
    for entry in entries:
        cells = [str(getattr(entry, column)) for column in COLUMNS]
        for column, cell in zip(COLUMNS, cells, strict=True):
            if not cell or re.search(r"[\r\n\0]" if column == COLUMNS[-1] else r"[\r\n\0,]", cell):
                raise FormatError("SBAT value is empty or holds a separator", field=column, found=repr(cell))
        table += ",".join(cells).encode("utf-8", "surrogateescape") + b"\n"
    return table


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The table's lines with their offsets (bytes), empty ones left out."""
    start = len(BOM) if data.startswith(BOM) else 0
    for match in re.finditer(rb"[^\r\n]+", data[:MAX_SIZE].partition(b"\0")[0][start:]):
        yield start + match.start(), match[0]


def inspect(data: bytes) -> Node:
    """The node of a ``.sbat`` section's content, a child per line."""
    children: list[Node] = []
    findings: list[Finding] = []
    for at, line in _lines(data):
        if len(children) == MAX_ENTRIES:
            findings.append(Finding("SBAT-LONG", Severity.WARNING, f"only {MAX_ENTRIES} lines are shown"))
            break
        wrong: tuple[Finding, ...] = ()
        try:
            parse_line(line)
        except FormatError as error:
            wrong = (Finding.of(error, "SBAT-LINE", Severity.WARNING),)
        children.append(Node("sbat-entry", at, len(line), tuple(_cells(line)), (), wrong))
    names = [str(child["component_name"]) for child in children]
    if names[:1] != ["sbat"]:
        findings.append(
            Finding(
                "SBAT-FIRST",
                Severity.WARNING,
                "the first line is to be the one of sbat itself",
                expected="sbat,1,...",
                found=names[0] if names else "nothing",
            )
        )
    components = tuple(f"{name},{_generation(child)}" for name, child in zip(names, children, strict=True))
    field = Field("components", components, meaning="name, generation", telling=True)
    return Node("sbat", 0, len(data), (field,), tuple(children), tuple(findings))


def _generation(entry: Node) -> str:
    return str(entry.get("component_generation") or "")


def _cells(line: bytes) -> Iterator[Field]:
    """The columns that a line has, as far as it has them."""
    at = 0
    for column, cell in zip(COLUMNS, line.split(b",", len(COLUMNS) - 1), strict=False):
        text = cell.decode("utf-8", "backslashreplace")
        value = int(text) if column == "component_generation" and re.fullmatch("[0-9]{1,9}", text) else text
        yield Field(column, value, at, len(cell), raw=cell[:64], telling=column in TELLING)
        at += len(cell) + 1
