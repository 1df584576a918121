"""An outline as the JSON document ``mbtool/plan/1`` (mbtool/schemas/plan.schema.json)."""

from __future__ import annotations

from typing import Any

from mbtool.model import Hex
from mbtool.plan.e820_text import type_name
from mbtool.plan.memory import TOP, Range
from mbtool.plan.outline import AddressSpace, Outline, Region
from mbtool.render.json import finding_json, node_json, value_json


def outline_json(outline: Outline) -> dict[str, Any]:
    """The whole plan; its ``memory_map`` is one that ``--e820`` reads."""
    memory = outline.memory
    return {
        "schema": "mbtool/plan/1",
        "kind": outline.kind,
        "title": outline.title,
        "lines": list(outline.lines),
        "spaces": [_space(space) for space in outline.spaces],
        "memory_map": None
        if memory is None
        else [{**range_json(entry.range), "type": type_name(entry.type)} for entry in memory.entries],
        "entries": [
            {"name": entry.name, "registers": {name: _hex(value) for name, value in entry.registers.items()}}
            for entry in outline.entries
        ],
        "structure": node_json(outline.structure),
        "assumptions": list(outline.assumptions),
        "findings": [finding_json(finding) for finding in outline.findings],
    }


def range_json(span: Range) -> dict[str, Any]:
    """A half-open range; an end of 2^64 is 0x0."""
    return {"start": _hex(span.start), "end": _hex(span.end % TOP), "size": span.size}


def _space(space: AddressSpace) -> dict[str, Any]:
    return {"name": space.name, "regions": [_region(region) for region in space.regions]}


def _region(region: Region) -> dict[str, Any]:
    return {"name": region.name, "use": str(region.use), **range_json(region.range)}


def _hex(value: int) -> Any:
    return value_json(Hex(value))
