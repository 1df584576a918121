"""The tree that every format is shown as: nodes with fields, children and findings.

An image is a tree. A node has a kind, a place in its parent and named fields; each field knows the bytes it
came from. The same tree feeds text, JSON, checks, diffs and extraction. Nothing here knows any format.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mbtool.errors import MbtoolError


class Hex(int):
    """An address, mask or magic number: shown in hexadecimal, a ``0x…`` string in JSON.

    Plain ``int`` values are sizes and counts and are shown in decimal.
    """


Value = int | str | bytes | bool | None | tuple["Value", ...]


@dataclass(frozen=True, slots=True)
class Field:
    """One named value and where it came from.

    ``offset`` (bytes, in the node's content) and ``raw`` are those of the stored form; a derived value has
    ``offset`` None and no ``raw``. ``size`` (bytes) is the stored size; for a long field ``raw`` may hold only
    its head. ``meaning`` is the value in words. ``telling`` fields are the ones shown without being asked.
    """

    name: str
    value: Value
    offset: int | None = None
    size: int | None = None
    meaning: str = ""
    raw: bytes = b""
    telling: bool = False


class Severity(StrEnum):
    """How much a finding matters: ``error`` means that it will not boot or cannot be read."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something worth knowing about a node: a stable rule id, where (offset in the node, bytes) and what to do."""

    id: str
    severity: Severity
    message: str
    field: str = ""
    offset: int | None = None
    expected: str = ""
    found: str = ""
    remedy: str = ""

    @staticmethod
    def of(error: MbtoolError, id: str = "DAMAGED", severity: Severity = Severity.ERROR) -> Finding:  # noqa: A002
        """An error met while reading part of a node, kept as a finding so that the rest is still shown."""
        return Finding(
            id,
            severity,
            error.problem,
            error.field,
            error.offset,
            error.expected,
            error.found,
            error.remedy,
        )


@dataclass(frozen=True, slots=True)
class Node:
    """A part of an image: ``size`` bytes at ``offset`` in its parent's content.

    The content of a compression node (kinds in ``STREAM_KINDS``) is the decompressed stream, so its children's
    offsets are in that stream; that of a hypervisor's image (``VIRTUAL_DISK_KINDS``) is the disk. Any other node's
    content is its own bytes.
    """

    kind: str
    offset: int
    size: int
    fields: tuple[Field, ...] = ()
    children: tuple[Node, ...] = ()
    findings: tuple[Finding, ...] = ()

    def at(self, offset: int) -> Node:
        """The same node, placed at ``offset`` in another parent."""
        return replace(self, offset=offset)

    def __getitem__(self, name: str) -> Value:
        """The value of the field called ``name``; KeyError when there is none."""
        for field in self.fields:
            if field.name == name:
                return field.value
        raise KeyError(name)

    def get(self, name: str) -> Value:
        """The value of the field called ``name``, or None."""
        return next((field.value for field in self.fields if field.name == name), None)

    def walk(self) -> Iterator[Node]:
        """This node, then all nodes below it, in order."""
        yield self
        for child in self.children:
            yield from child.walk()

    def find(self, kind: str) -> Node | None:
        """The first node of this kind, this one included, depth first."""
        return next((node for node in self.walk() if node.kind == kind), None)


STREAM_KINDS = frozenset({"gzip", "xz", "lzma", "bzip2", "lzo", "lz4", "zstd"})
"""Kinds whose children live in the decompressed stream."""
VIRTUAL_DISK_KINDS = frozenset({"qcow2", "vhd", "vmdk"})
"""Kinds whose children live in the disk that the image stands for."""
OTHER_CONTENT = STREAM_KINDS | VIRTUAL_DISK_KINDS
"""Kinds whose children's offsets are not in the node's own bytes."""
