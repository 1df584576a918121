"""What an unpacked Linux kernel says about itself: banner, embedded config."""

from __future__ import annotations

from mbtool.model import Node
from mbtool.source import Source


def find(source: Source, start: int, stop: int) -> Node | None:
    """The kernel's details found in the bytes [start, stop) of a vmlinux, None when it is no Linux kernel."""
    return None
