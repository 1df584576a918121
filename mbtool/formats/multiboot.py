"""Multiboot headers, version 1 and 2, wherever they stand at the start of an image."""

from __future__ import annotations

from mbtool.formats.context import Context
from mbtool.model import Node
from mbtool.source import Source


def headers(source: Source) -> tuple[Node, ...]:
    """The Multiboot header nodes of an image, placed at their offsets in ``source``; () when there are none."""
    return ()


def reject(source: Source) -> str:
    """Why this is not a flat image with a Multiboot header ("" when it is one)."""
    return "no Multiboot header"


def inspect(source: Source, context: Context) -> Node:
    """A flat (not ELF) Multiboot image."""
    return Node("multiboot-image", 0, source.size, (), headers(source))
