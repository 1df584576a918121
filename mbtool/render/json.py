"""Trees as JSON: ``mbtool/inspect/1`` (mbtool/schemas/inspect.schema.json)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mbtool.errors import MbtoolError
from mbtool.model import Field, Finding, Hex, Node, Value

if TYPE_CHECKING:
    from mbtool.plan.memory import Range


def node_json(node: Node) -> dict[str, Any]:
    """A node and all below it. Addresses and masks become ``0x…`` strings, byte strings plain hexadecimal."""
    return {
        "kind": node.kind,
        "offset": node.offset,
        "size": node.size,
        "fields": {field.name: field_json(field) for field in node.fields},
        "children": [node_json(child) for child in node.children],
        "findings": [finding_json(finding) for finding in node.findings],
    }


def field_json(field: Field) -> dict[str, Any]:
    """Value, place and meaning of a field; a derived field has offset and size null."""
    return {
        "value": value_json(field.value),
        "offset": field.offset,
        "size": field.size,
        "meaning": field.meaning,
    }


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding; parts it does not have are empty strings, an absent offset is null."""
    return {
        "id": finding.id,
        "severity": str(finding.severity),
        "message": finding.message,
        "field": finding.field,
        "offset": finding.offset,
        "expected": finding.expected,
        "found": finding.found,
        "remedy": finding.remedy,
    }


def error_json(path: str, error: MbtoolError) -> dict[str, Any]:
    """Why a file could not be shown; ``reasons`` lists, per format, why the file is not that."""
    reasons: tuple[tuple[str, str], ...] = getattr(error, "reasons", ())
    return {
        "path": path,
        "message": error.problem,
        "offset": error.offset,
        "field": error.field,
        "expected": error.expected,
        "found": error.found,
        "remedy": error.remedy,
        "reasons": [{"kind": kind, "reason": reason} for kind, reason in reasons],
    }


def value_json(value: Value) -> Any:
    """A field's value as JSON knows it."""
    match value:
        case Hex():
            return f"{int(value):#x}"
        case bytes():
            return value.hex()
        case tuple():
            return [value_json(item) for item in value]
        case _:
            return value


def hex_json(value: int) -> str:
    """An address or mask."""
    return f"{value:#x}"


def range_json(span: Range) -> dict[str, Any]:
    """Start, end (0x0 for 2^64) and size in bytes of a half-open range."""
    return {"start": hex_json(span.start), "end": hex_json(span.end % (1 << 64)), "size": span.size}


def dumps(document: Any, *, pretty: bool = False) -> str:
    """JSON text: on one line for programs, indented for people; never depends on the locale."""
    return json.dumps(document, indent=2 if pretty else None, ensure_ascii=True)
