"""An outline as text for people: the hypervisor's own lines, a chart per address space, entry states, structure."""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.plan.outline import EntryState, Outline
from mbtool.render.chart import chart_lines
from mbtool.render.style import Style, printable
from mbtool.render.text import finding_lines, tree_lines


def outline_lines(outline: Outline, style: Style) -> Iterator[str]:
    """Every line of the plan, without line ends."""
    if outline.lines:
        yield from outline.lines
    else:
        yield style.bold(printable(outline.title))
    for space in outline.spaces:
        yield ""
        yield from chart_lines(space, style)
    yield ""
    yield style.bold("entry")
    width = max(len(entry.name) for entry in outline.entries)
    yield from (f"  {entry.name:{width}}  {_registers(entry)}" for entry in outline.entries)
    yield ""
    yield from tree_lines(outline.structure, style)
    yield from (style.dim(f"assumed: {printable(words)}") for words in outline.assumptions)
    yield from finding_lines(outline.findings, style)


def _registers(entry: EntryState) -> str:
    """Registers of one value together: ``ds=es=fs=0x10``."""
    names: dict[int, list[str]] = {}
    for name, value in entry.registers.items():
        names.setdefault(value, []).append(name)
    return "  ".join(f"{'='.join(same)} {value:#x}" for value, same in names.items())
