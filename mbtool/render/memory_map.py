"""How an address space is drawn, as a value that the chart in the terminal and the picture share.

Bands in the order of addresses: regions, the ground that shows between them, and breaks where there is nothing.
What lies in something else cuts it in pieces; how large a band is drawn grows with the logarithm of its size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from mbtool.plan.memory import PAGE, Range
from mbtool.plan.outline import AddressSpace, Region, Use
from mbtool.record import record

MAX_REGIONS = 200
"""Regions and ground drawn at most, the largest of each."""
LEAST, MOST = 4, 40
"""Powers of two between which sizes are told apart: 16 bytes, 1 TiB."""


@record
class Band:
    """``use`` None: a break, nothing is here. ``ground``: what the band lies on, None when nobody knows.

    ``padding``: less than a page that is left between others, not worth a line or a label.
    """

    range: Range
    name: str = ""
    use: Use | None = None
    ground: Use | None = None
    padding: bool = False

    @property
    def weight(self) -> float:
        """From 0 (16 bytes or less) to 1 (1 TiB or more), by the logarithm of the size."""
        power = self.range.size.bit_length() - 1
        return min(max(power - LEAST, 0) / (MOST - LEAST), 1.0)

    @property
    def is_region(self) -> bool:
        """Something that the plan puts here, and no ground or break."""
        return self.use not in (None, Use.RAM, Use.RESERVED)


@record
class MemoryMap:
    """``omitted``: how many regions are not drawn, being too many."""

    name: str
    bands: tuple[Band, ...]
    omitted: int


def lay_out(space: AddressSpace) -> MemoryMap:
    """The bands of an address space, in order and without overlap."""
    regions, grounds = _largest(space.regions), _largest(space.ground)
    omitted = len(space.regions) + len(space.ground) - len(regions) - len(grounds)
    pieces = _flat((region, -region.range.size) for region in regions)
    floor = _flat((region, number) for number, region in enumerate(grounds))
    bands: list[Band] = []
    for span, region in pieces:
        under = next((below.use for ground, below in floor if span.start in ground), None)
        bands.append(Band(span, region.name, region.use, under))
    free = floor
    for span, _ in pieces:
        free = [(rest, region) for old, region in free for rest in _outside(old, span)]
    bands += (
        Band(span, region.name, region.use, region.use, padding=span.size < PAGE and span != region.range)
        for span, region in free
    )
    bands.sort(key=lambda band: band.range)
    return MemoryMap(space.name, tuple(_with_breaks(bands, space.void)), omitted)


def _largest(regions: Sequence[Region]) -> list[Region]:
    """The largest, in the order in which they come; none that is empty."""
    wanted = sorted((region for region in regions if region.range), key=lambda region: -region.range.size)
    if len(wanted) == len(regions) <= MAX_REGIONS:
        return list(regions)
    kept = set(map(id, wanted[:MAX_REGIONS]))
    return [region for region in regions if id(region) in kept]


def _flat(ranked: Iterable[tuple[Region, int]]) -> list[tuple[Range, Region]]:
    """Disjoint pieces in order: where regions overlap, the one of the highest rank."""
    waiting = sorted(ranked, key=lambda item: item[0].range.start)
    edges = sorted({edge for region, _ in waiting for edge in (region.range.start, region.range.end)})
    here: list[tuple[Region, int]] = []
    pieces: list[tuple[Range, Region]] = []
    begun = 0
    for start, end in pairwise(edges):
        here = [item for item in here if item[0].range.end > start]
        while begun < len(waiting) and waiting[begun][0].range.start <= start:
            here.append(waiting[begun])
            begun += 1
        if not here:
            continue
        top = max(here, key=lambda item: item[1])[0]
        if pieces and pieces[-1][1] is top and pieces[-1][0].end == start:
            pieces[-1] = (Range(pieces[-1][0].start, end), top)
        else:
            pieces.append((Range(start, end), top))
    return pieces


def _outside(span: Range, taken: Range) -> list[Range]:
    if not span.overlaps(taken):
        return [span]
    parts = (Range(span.start, max(span.start, taken.start)), Range(min(taken.end, span.end), span.end))
    return [part for part in parts if part]


def _with_breaks(bands: list[Band], void: str) -> Iterable[Band]:
    last = None
    for band in bands:
        if last is not None and last.range.end < band.range.start:
            gap = Range(last.range.end, band.range.start)
            yield Band(gap, void, padding=gap.size < PAGE)
        yield band
        last = band
