"""A memory map for the terminal: a line per band with its addresses, a bar, its size and what it is.

Bars grow with the logarithm of the size, as the picture's bands do.
"""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.plan.outline import AddressSpace, Use
from mbtool.render.memory_map import Band, lay_out
from mbtool.render.style import Style, human_size, printable

WIDTH = 18
"""Cells of the longest bar."""
BLOCK = {True: "█", False: "#"}
SHADES = {Use.RAM: ("░", "."), Use.RESERVED: ("▒", "="), Use.SPARE: ("▒", ":")}
COLOURS = {
    Use.KERNEL: "34",
    Use.MODULE: "33",
    Use.INFO: "32",
    Use.PAGE_TABLES: "35",
    Use.P2M: "36",
    Use.STACK: "31",
}


def chart_lines(space: AddressSpace, style: Style) -> Iterator[str]:
    """The space's name, then its bands from the lowest address on."""
    drawn = lay_out(space)
    yield style.bold(drawn.name)
    digits = max((len(f"{band.range.end:x}") for band in drawn.bands), default=1)
    for band in drawn.bands:
        if band.padding:
            continue  # the lines around it say where they end and begin
        if band.use is None:
            mark = "⋮" if style.unicode else ":"
            text = f"{'':{2 * digits + 5}}  {mark:{WIDTH}} {human_size(band.range.size):>11}  {band.name}"
            yield style.dim(f"  {text}")
            continue
        place = f"{band.range.start:#0{digits + 2}x} {band.range.end:#0{digits + 2}x}"
        line = f"{place}  {_bar(band, style)} {human_size(band.range.size):>11}  {printable(band.name)}"
        yield f"  {line}" if band.is_region else style.dim(f"  {line}")
    if drawn.omitted:
        yield style.dim(f"  {drawn.omitted} smaller ones are not shown")


def _bar(band: Band, style: Style) -> str:
    assert band.use is not None
    cells = 1 + round(band.weight * (WIDTH - 1))
    glyph = SHADES[band.use][not style.unicode] if band.use in SHADES else BLOCK[style.unicode]
    bar = glyph * cells
    painted = style.paint(COLOURS[band.use], bar) if band.use in COLOURS else bar
    return painted + " " * (WIDTH - cells)
