"""Multiboot headers, version 1 and 2, wherever they stand at the start of an image; flat Multiboot images."""

from __future__ import annotations

from mbtool.formats.context import Context
from mbtool.formats.multiboot_search import MULTIBOOT1, MULTIBOOT2, near_misses
from mbtool.model import Field, Finding, Node, Severity
from mbtool.source import Source

__all__ = ["headers", "inspect", "near_misses", "reject"]

HEADER_READ = 2 * MULTIBOOT2.limit
"""Bytes read of one header: its tags may run past the limit, and are then shown all the same."""


def headers(source: Source, file_size: int | None = None) -> tuple[Node, ...]:
    """The Multiboot header nodes of an image, placed at their offsets in ``source``; () when there are none.

    ``file_size`` (bytes), where it is known, lets the address fields of a flat image be judged.
    """
    data = source.read(0, MULTIBOOT2.limit)
    nodes: list[Node] = []
    # Each version's module is only loaded for an image that has its header.
    if (at := MULTIBOOT1.first(data)) is not None:
        from mbtool.formats import multiboot1

        nodes.append(multiboot1.inspect(source.read(at, 48), at, file_size))
    if (at := MULTIBOOT2.first(data)) is not None:
        from mbtool.formats import multiboot2

        nodes.append(multiboot2.inspect(source.read(at, HEADER_READ), at, file_size))
    return tuple(nodes)


def reject(source: Source) -> str:
    """Why this is not a flat image with a Multiboot header ("" when it is one)."""
    data = source.read(0, MULTIBOOT2.limit)
    if MULTIBOOT1.first(data) is not None or MULTIBOOT2.first(data) is not None:
        return ""
    for miss in near_misses(source):
        return f"{miss.message} (at {miss.offset or 0:#x}; expected {miss.expected}, found {miss.found})"
    return f"no Multiboot header in the first {MULTIBOOT1.limit} or {MULTIBOOT2.limit} bytes"


def inspect(source: Source, context: Context) -> Node:
    """A flat (not ELF) Multiboot image: loaders place it by the address fields of its header."""
    size = source.size
    nodes = headers(source, size)
    named = ", ".join("Multiboot 1" if node.kind == "multiboot1-header" else "Multiboot 2" for node in nodes)
    fields = (Field("protocols", named, telling=True),)
    findings = () if any(map(_has_addresses, nodes)) else (_unplaced(),)
    return Node("multiboot-image", 0, size, fields, nodes, (*findings, *near_misses(source)))


def _has_addresses(header: Node) -> bool:
    return any(node.get("load_addr") is not None for node in (header, *header.children))


def _unplaced() -> Finding:
    return Finding(
        "MULTIBOOT-NO-ADDRESSES",
        Severity.ERROR,
        "no header says where to load the image, and it is no ELF file: loaders refuse it",
        remedy="add the address fields (Multiboot 1: flag bit 16; Multiboot 2: address and entry address tags)",
    )
