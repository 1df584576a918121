"""Decoded page tables as text and as JSON (part of ``mbtool/decode/1``, mbtool/schemas/decode.schema.json)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mbtool.plan.memory import PAGE, TOP, Range
from mbtool.plan.page_table_dump import FRAME, Mapped, Walk, flag_names
from mbtool.render.json import range_json
from mbtool.render.style import Style, human_size


def walk_lines(walk: Walk) -> Iterator[str]:
    """An entry a line, then where it ends."""
    yield f"{walk.address:#018x}"
    for step in walk.steps:
        frame = step.entry & FRAME
        names = " ".join(flag_names(step.entry & ~FRAME))
        yield f"  {step.level} {step.table:#x}[{step.slot}] = {step.entry:#018x}  {frame:#x} {names}"
    yield f"  machine address {walk.target:#x}" if walk.target is not None else f"  not mapped: {walk.why}"


def range_lines(mapped: Mapped, style: Style) -> Iterator[str]:
    """A line per range: virtual addresses, size, machine address, flags; then what is not in the dump."""
    for mapping in mapped.mappings:
        flags = " ".join(flag_names(mapping.flags))
        pages = "" if mapping.page == PAGE else f"  {human_size(mapping.page)} pages"
        size = human_size(mapping.range.size)
        yield f"{_span(mapping.range)} {size:>11}  -> {mapping.target:#014x}  {flags}{pages}"
    for missing in mapped.missing:
        size = human_size(missing.range.size)
        yield style.dim(f"{_span(missing.range)} {size:>11}  the table at {missing.table:#x} is not in the dump")


def walk_json(walk: Walk) -> dict[str, Any]:
    return {
        "address": f"{walk.address:#x}",
        "steps": [
            {
                "level": step.level,
                "table": f"{step.table:#x}",
                "slot": step.slot,
                "entry": f"{step.entry:#x}",
                "flags": list(flag_names(step.entry & ~FRAME)),
            }
            for step in walk.steps
        ],
        "target": None if walk.target is None else f"{walk.target:#x}",
        "why": walk.why,
    }


def mapped_json(mapped: Mapped) -> dict[str, Any]:
    return {
        "tables": len(mapped.tables),
        "ranges": [
            {
                **range_json(mapping.range),
                "target": f"{mapping.target:#x}",
                "flags": list(flag_names(mapping.flags)),
                "page": mapping.page,
            }
            for mapping in mapped.mappings
        ],
        "missing": [{**range_json(item.range), "table": f"{item.table:#x}"} for item in mapped.missing],
    }


def _span(span: Range) -> str:
    """First byte and the one behind the last."""
    return f"{span.start:#018x} {span.end % TOP:#018x}"
