"""An image as one loader sees it, and the register of predicates.

A predicate takes an image so seen and returns "" or the reason why not. Those that end in ``planned`` ask the
planner; for Xen the domain builder's own steps decide.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from mbtool.check.image import Image
from mbtool.check.loader import Loader
from mbtool.check.multiboot import headers, only_low, past_memory, unpacked
from mbtool.errors import FormatError, MbtoolError, RefusedError, UnsupportedError
from mbtool.model import Node
from mbtool.source import Source

Predicate = Callable[["Seen"], str]
PREDICATES: dict[str, Predicate] = {}


def predicate(name: str) -> Callable[[Predicate], Predicate]:
    """Makes a function a predicate that rows can name."""
    return lambda function: PREDICATES.setdefault(name, function)


class Seen:
    """An image as one loader sees it."""

    def __init__(self, image: Image, loader: Loader) -> None:
        self.image = image
        self.loader = loader

    @property
    def content(self) -> Node:
        """What is there when a stream around it is unpacked."""
        return self.image.content

    @cached_property
    def source(self) -> Source | None:
        """The bytes of ``content``, None when they cannot be had."""
        return unpacked(self.image)

    def header(self, version: int) -> Node | None:
        """The Multiboot header of a version."""
        return next((node for node in headers(self.image) if node.kind == f"multiboot{version}-header"), None)

    @property
    def is_xen(self) -> bool:
        return self.content.find("xen-hypervisor") is not None


def planned(seen: Seen, protocol: str) -> str:
    """Why the planner refuses the image, by name of its protocol, or that no machine has memory where it goes."""
    from mbtool.plan.protocols import Protocol, load_plan

    if seen.source is None:
        return "what is inside cannot be unpacked"
    try:
        return past_memory(load_plan(Protocol[protocol], seen.source, seen.image.path, ""))
    except (RefusedError, FormatError, UnsupportedError) as error:
        return "" if only_low(error) else error.problem + (f": {error.found}" if error.found else "")
    except MbtoolError:
        return ""


def flat(seen: Seen) -> bool:
    """Whether a Multiboot 1 header says by itself where the image goes."""
    header = seen.header(1)
    return header is not None and header.get("load_addr") is not None
