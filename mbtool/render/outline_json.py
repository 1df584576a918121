"""An outline as the JSON document ``mbtool/plan/1`` (mbtool/schemas/plan.schema.json)."""

from __future__ import annotations

from typing import Any

from mbtool.plan.e820_text import type_name
from mbtool.plan.outline import AddressSpace, Outline, Region
from mbtool.render.json import finding_json, hex_json, node_json, range_json


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
            {"name": entry.name, "registers": {name: hex_json(value) for name, value in entry.registers.items()}}
            for entry in outline.entries
        ],
        "structure": node_json(outline.structure),
        "assumptions": list(outline.assumptions),
        "findings": [finding_json(finding) for finding in outline.findings],
    }


def _space(space: AddressSpace) -> dict[str, Any]:
    return {"name": space.name, "regions": [_region(region) for region in space.regions]}


def _region(region: Region) -> dict[str, Any]:
    return {"name": region.name, "use": str(region.use), **range_json(region.range)}
