"""Multiboot 2 boot information: what the loader tells the image, as a chain of tags.

Multiboot2 Specification 2.0, section "Boot information format". The tags' values are in multiboot2_info_tags.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mbtool.errors import FormatError
from mbtool.formats.multiboot2_info_tags import TAGS
from mbtool.formats.multiboot2_tags import HEAD_SIZE, Tag
from mbtool.formats.wire import Layout
from mbtool.formats.wire_plain import Int32ul, Struct
from mbtool.model import Finding, Node, Severity
from mbtool.source import MIB, Source

T = TypeVar("T")

MAX_SIZE = MIB
"""More boot information than this is not read: modules lie elsewhere, so loaders write a few KiB."""


@dataclass(frozen=True, slots=True)
class Multiboot2Info:
    """``tags`` without the end tag; ``rest`` are bytes after it that the total size still covers."""

    tags: tuple[Tag, ...] = ()
    reserved: int = 0
    rest: bytes = b""

    @staticmethod
    def of(*values: Any) -> Multiboot2Info:
        """The information made of these tag values, in order."""
        return Multiboot2Info(tuple(Tag(value) for value in values))

    def find_all(self, cls: type[T]) -> tuple[T, ...]:
        """The values of all tags of this class, in order."""
        return tuple(tag.value for tag in self.tags if isinstance(tag.value, cls))


INFO = Layout(
    Multiboot2Info,
    Struct("total_size" / Int32ul, "reserved" / Int32ul),
    telling=("total_size",),
    computed={"total_size": lambda info: HEAD_SIZE + len(TAGS.build(info.tags)) + len(info.rest)},
    beyond=("tags", "rest"),
)


def parse(data: bytes, at: int = 0, *, source: str = "", base: int = 0) -> Multiboot2Info:
    """The boot information at ``data[at:]``; ``base`` is the absolute offset of ``data[0]``, for the error.

    Raises FormatError when the total size, the chain or a tag is damaged.
    """
    size = INFO.values(data, at, source=source, base=base)["total_size"]
    whole = data[at : at + size]
    if len(whole) < size:
        raise FormatError(
            "Multiboot2Info is cut short",
            source=source,
            offset=base + at,
            field="total_size",
            expected=f"{size} bytes",
            found=f"{len(whole)}",
        )
    tags, end = TAGS.parse(whole, INFO.size, source=source, base=base + at)
    return INFO.parse(data, at, source=source, base=base, beyond={"tags": tags, "rest": whole[end:]})


def build(info: Multiboot2Info) -> bytes:
    """The whole block, total size and end tag filled in; it may be placed at any multiple of 8. FormatError."""
    return INFO.build(info) + TAGS.build(info.tags) + info.rest


def inspect(source: Source, offset: int = 0) -> Node:
    """The node of the boot information at ``offset`` of a source, with a child per tag.

    Raises FormatError when there are not even the 8 fixed bytes; other damage becomes findings.
    """
    stored = INFO.values(source.read(offset, INFO.size), source=source.name, base=offset)
    size = stored["total_size"]
    data = source.read(offset, min(size, MAX_SIZE) if size >= INFO.size + HEAD_SIZE else MAX_SIZE)
    walk = TAGS.walk(data, INFO.size)
    findings = [_wrong_size(stored, len(data))] if not INFO.size + HEAD_SIZE <= size <= len(data) else []
    if walk.error:
        findings.append(Finding.of(walk.error, "MULTIBOOT2-TAGS"))
    nodes = tuple(TAGS.nodes(data, walk))
    end = min(size, len(data)) if size >= walk.end else walk.end
    return Node("multiboot2-info", offset, end, INFO.fields(data), nodes, tuple(findings))


def _wrong_size(stored: Mapping[str, int], room: int) -> Finding:
    return Finding(
        "MULTIBOOT2-LENGTH",
        Severity.ERROR,
        "the total size makes no sense" if room == MAX_SIZE else "the information is cut short",
        "total_size",
        0,
        expected=f"{INFO.size + HEAD_SIZE} to {room} bytes",
        found=f"{stored['total_size']}",
    )
