"""What a Xen hypervisor image says about itself: version, compiler line, debug or not, build-id."""

from __future__ import annotations

from mbtool.model import Node
from mbtool.source import Source


def find(source: Source, start: int, stop: int) -> Node | None:
    """Xen's own details found in the bytes [start, stop) of its ELF or PE image, None when it is not Xen."""
    return None
