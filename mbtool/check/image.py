"""An image to be checked: its file, open, and its tree, made when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from mbtool.errors import MbtoolError, UnknownFormatError
from mbtool.formats.end_to_end import end_to_end
from mbtool.model import OTHER_CONTENT, STREAM_KINDS, Node
from mbtool.record import record
from mbtool.source import Budget, Limits, Source

if TYPE_CHECKING:
    from mbtool.build.kernel import Kernel
    from mbtool.formats.xen_versions import XenVersion

INITRD_ALIGN = 4
"""Where loaders begin a further initrd: at a multiple of so many bytes."""


@record
class Place:
    """A node, the kinds from the root down to it, and where it begins in its file or innermost stream (bytes)."""

    node: Node
    path: str
    start: int


class Image:
    """``path``: as the user named it. Raises MbtoolError where the tree is asked for and there is none."""

    def __init__(self, path: str, source: Source, limits: Limits | None = None) -> None:
        self.path = path
        self.source = source
        self.limits = limits or Limits()
        self._kernels: dict[str, Kernel | MbtoolError] = {}

    @classmethod
    def joined(cls, images: Sequence[Image], limits: Limits) -> Image:
        """The initrd that Linux gets of several."""
        name = " + ".join(image.path for image in images)
        return cls(name, end_to_end([image.source for image in images], name, INITRD_ALIGN), limits)

    @cached_property
    def root(self) -> Node:
        """The tree that ``inspect`` shows."""
        from mbtool.identify import inspect

        return inspect(self.source, self.limits)

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """All nodes with their places, in order."""
        return tuple(_places(self.root, "", 0))

    @property
    def told(self) -> tuple[str, str]:
        """The file's kind, and what it holds; "" and what it looks like, where its format is not known.

        Raises MbtoolError when it cannot be read.
        """
        try:
            return self.root.kind, str(self.content.get("seems") or self.content.kind)
        except UnknownFormatError as error:
            return "", error.found or "no known format"

    def place(self, kind: str) -> Place | None:
        """The first node of this kind, depth first."""
        return next((place for place in self.places if place.node.kind == kind), None)

    def find(self, kind: str) -> Node | None:
        """The first node of this kind, depth first."""
        return self.root.find(kind)

    def section(self, name: str) -> Image | None:
        """What a section of a unified kernel image holds, with its places in this file; None when there is none."""
        try:
            sections = [node for node in self.root.children if node.kind == "pe-section" and node.children]
        except MbtoolError:
            return None  # said of the file itself
        for node in sections:
            if node.get("name") == name:
                content = node.children[0]
                image = Image(self.path, self.source.part(node.offset, content.size), self.limits)
                image.root = content
                image.places = tuple(_places(content, f"{self.root.kind}/{node.kind}", node.offset))
                return image
        return None

    def dom0_kernel(self, version: XenVersion) -> Kernel:
        """The kernel in it, unpacked once as a release of Xen does it. Raises what ``open_kernel`` raises."""
        known = self._kernels.get(str(version))
        if known is None:
            from mbtool.build.kernel import open_kernel

            try:
                known = open_kernel(self.source, Budget(self.limits), version)
            except MbtoolError as error:
                known = error
            self._kernels[str(version)] = known
        if isinstance(known, MbtoolError):
            raise known.with_traceback(None)
        return known

    @property
    def codec(self) -> str:
        """The kind of stream that the whole file is, "" for none."""
        return self.root.kind if self.root.kind in STREAM_KINDS else ""

    @property
    def content(self) -> Node:
        """What the file holds once it is unpacked."""
        node = self.root
        while node.kind in STREAM_KINDS and node.children:
            node = node.children[0]
        return node


def _places(node: Node, above: str, base: int) -> Iterator[Place]:
    path = f"{above}/{node.kind}" if above else node.kind
    start = base + node.offset
    yield Place(node, path, start)
    for child in node.children:
        yield from _places(child, path, 0 if node.kind in OTHER_CONTENT else start)
