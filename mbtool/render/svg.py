"""Memory maps as a picture: a column per address space, the lowest address at the top, 800 units wide.

Bands are as high as the logarithm of their size, and never lower than a line of text, or without one: so no label
meets another. Addresses left out are a torn strip. Colours are those of Okabe and Ito, which colour-blind people
tell apart; reserved memory and what is set aside are hatched as well. The text is ASCII XML, the same for the same
plan, and refers to nothing outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from mbtool.plan.outline import Outline, Use
from mbtool.record import record
from mbtool.render.memory_map import Band, MemoryMap, lay_out
from mbtool.render.style import human_size, printable

WIDTH, MARGIN, GAP = 800, 16, 24
TITLE, LEGEND, ROW = 28, 42, 20
"""Where the title and the legend's first row stand, and how far its rows are apart."""
LINE = 20
"""The least height of a band."""
GROWTH = 64
"""What the largest band is higher than that."""
BREAK, PADDING = 26, 6
SIZE = 12
"""Of the text; a character is ADVANCE wide in addresses, LABEL in labels and SMALL in small text (or less)."""
ADVANCE, LABEL, SMALL = 6.7, 6.6, 6.4
GROUND = 10
"""Width of the strip that shows what a region lies on."""

FILLS = {
    Use.KERNEL: "#0072b2",
    Use.MODULE: "#e69f00",
    Use.INFO: "#009e73",
    Use.PAGE_TABLES: "#cc79a7",
    Use.P2M: "#56b4e9",
    Use.STACK: "#d55e00",
    Use.SPARE: "url(#spare)",
    Use.RAM: "#e9edf0",
    Use.RESERVED: "url(#reserved)",
}
WORDS = {
    Use.KERNEL: "kernel",
    Use.MODULE: "initrd, modules",
    Use.INFO: "boot information",
    Use.PAGE_TABLES: "page tables",
    Use.P2M: "P2M",
    Use.STACK: "stack",
    Use.SPARE: "set aside",
    Use.RAM: "usable memory",
    Use.RESERVED: "reserved",
}
STYLE = f"""\
<style>
text {{ font: {SIZE}px "DejaVu Sans", Verdana, sans-serif; fill: #1a1a1a }}
.address {{ font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: 11px; fill: #444 }}
.title {{ font-size: 16px; font-weight: bold }}
.space {{ font-size: 13px; font-weight: bold }}
.size, .small {{ fill: #555 }}
.small {{ font-size: 11px }}
.ground {{ fill: #555 }}
rect {{ stroke: #333; stroke-width: 0.6 }}
.torn {{ fill: none; stroke: #333; stroke-width: 1 }}
</style>
<defs>
<pattern id="reserved" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<path d="M0 0H7V7H0Z" fill="#d0d0d0"/><path d="M0 0V7" stroke="#8c8c8c" stroke-width="3"/></pattern>
<pattern id="spare" width="6" height="6" patternUnits="userSpaceOnUse">
<path d="M0 0H6V6H0Z" fill="#f7f7f7"/><circle cx="2" cy="2" r="1" fill="#7a7a7a"/></pattern>
</defs>"""


def draw(outline: Outline) -> str:
    """The picture as one XML document."""
    maps = [lay_out(space) for space in outline.spaces]
    legend = _legend(maps)
    top = LEGEND + ROW * (1 + max((patch.row for patch in legend), default=0)) + 36
    width = (WIDTH - 2 * MARGIN - GAP * (len(maps) - 1)) / len(maps)
    columns = [_Column(drawn, MARGIN + number * (width + GAP), top, width) for number, drawn in enumerate(maps)]
    height = round(max(column.bottom for column in columns) + 44)
    title = _xml(outline.title)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title">',
        f'<title id="title">{title}</title>',
        STYLE,
        f'<path d="M0 0H{WIDTH}V{height}H0Z" fill="#fff"/>',
        f'<text class="title" x="{MARGIN}" y="{TITLE}">{_xml(_cut(outline.title, 80))}</text>',
        *(line for patch in legend for line in patch.lines()),
        *(line for column in columns for line in column.lines()),
        f'<text class="small" x="{MARGIN}" y="{height - 14}">Low addresses at the top. Heights grow '
        "with the logarithm of sizes. Torn: addresses left out. Slit: less than a page.</text>",
        "</svg>\n",
    ]
    return "\n".join(parts)


@record
class _Patch:
    """One entry of the legend."""

    use: Use
    x: float
    row: int

    def lines(self) -> Iterator[str]:
        y = LEGEND + ROW * self.row
        yield f'<rect x="{self.x:.1f}" y="{y}" width="14" height="12" fill="{FILLS[self.use]}"/>'
        yield f'<text class="small" x="{self.x + 19:.1f}" y="{y + 10}">{WORDS[self.use]}</text>'


def _legend(maps: list[MemoryMap]) -> list[_Patch]:
    """A patch for each colour in use, in as many rows as it takes."""
    used = {band.use for drawn in maps for band in drawn.bands}
    x, row = float(MARGIN), 0
    patches = []
    for use, words in WORDS.items():
        if use not in used:
            continue
        width = 19 + len(words) * SMALL
        if x + width > WIDTH - MARGIN:
            x, row = float(MARGIN), row + 1
        patches.append(_Patch(use, x, row))
        x += width + 12
    return patches


class _Column:
    """One address space from ``left`` on, ``width`` wide: addresses, bar, labels."""

    def __init__(self, drawn: MemoryMap, left: float, top: float, width: float) -> None:
        self.drawn = drawn
        digits = max((len(f"{band.range.end:x}") for band in drawn.bands), default=1)
        self.digits = digits
        self.left = left
        self.bar = left + (digits + 2) * ADVANCE + 8
        self.bar_width = min(150.0, (width - (self.bar - left)) * 0.34)
        self.label = self.bar + self.bar_width + 8
        self.room = int((left + width - self.label) / LABEL)
        """Characters of a label."""
        self.places: list[tuple[float, float, Band]] = []
        y = self.top = top
        for band in drawn.bands:
            height = _height(band)
            self.places.append((y, height, band))
            y += height
        self.bottom = y + (LINE if drawn.omitted else 0)

    def lines(self) -> Iterator[str]:
        yield f'<text class="space" x="{self.left:.1f}" y="{self.top - 14:.1f}">{_xml(self.drawn.name)}</text>'
        for y, height, band in self.places:
            if band.use is not None:
                yield from self._band(y, height, band)
            elif not band.padding:
                yield from self._break(y, band)
        if self.places:
            y, height, band = self.places[-1]
            yield self._address(y + height, band.range.end)
        if self.drawn.omitted:
            yield (
                f'<text class="small" x="{self.label:.1f}" y="{self.bottom:.1f}">'
                f"{self.drawn.omitted} smaller ones are not drawn</text>"
            )

    def _band(self, y: float, height: float, band: Band) -> Iterator[str]:
        assert band.use is not None
        size = human_size(band.range.size)
        span = f"{band.range.start:#x} to {band.range.end:#x}"
        yield f"<g><title>{_xml(f'{band.name}: {span}, {size}')}</title>"
        yield (
            f'<rect x="{self.bar:.1f}" y="{y:.1f}" width="{self.bar_width:.1f}" height="{height:.1f}" '
            f'fill="{FILLS[band.use]}"/>'
        )
        if band.is_region and band.ground is not None:
            yield (
                f'<rect x="{self.bar:.1f}" y="{y:.1f}" width="{GROUND}" height="{height:.1f}" '
                f'fill="{FILLS[band.ground]}"/>'
            )
        if band.padding:
            yield "</g>"
            return
        kind = "" if band.is_region else ' class="ground"'
        name = _cut(band.name, self.room - len(size) - 2)
        yield (
            f'<text{kind} x="{self.label:.1f}" y="{y + height / 2 + 4:.1f}">{_xml(name)}'
            f'<tspan class="size" dx="8">{size}</tspan></text></g>'
        )
        yield self._address(y, band.range.start)

    def _break(self, y: float, band: Band) -> Iterator[str]:
        yield self._address(y, band.range.start)
        for edge in (y + 9, y + 17):
            teeth = 10
            step = self.bar_width / teeth
            points = " ".join(
                f"{self.bar + step * number:.1f},{edge + (3 if number % 2 else -3):.1f}"
                for number in range(teeth + 1)
            )
            yield f'<polyline class="torn" points="{points}"/>'
        text = f"{band.name}, {human_size(band.range.size)}" if band.name else human_size(band.range.size)
        yield f'<text class="small" x="{self.label:.1f}" y="{y + 17:.1f}">{_xml(text)}</text>'

    def _address(self, y: float, address: int) -> str:
        text = f"0x{address:0{self.digits}x}"
        return f'<text class="address" x="{self.bar - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'


def _height(band: Band) -> float:
    if band.padding:
        return PADDING
    return BREAK if band.use is None else LINE + GROWTH * band.weight**2


def _cut(text: str, room: int) -> str:
    """Text that fits into ``room`` characters when it is written."""
    text = printable(text)
    return text if len(text) <= room else text[: max(1, room - 1)] + "…"


def _xml(text: str) -> str:
    """Text as XML can hold it: control characters as escapes, all that is not ASCII as references."""
    return escape(printable(text)).encode("ascii", "xmlcharrefreplace").decode()
