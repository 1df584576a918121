"""Chains of Multiboot 2 tags, in the header and in the boot information: walked, parsed and built in one place.

Multiboot2 Specification 2.0, "General tag structure" and "Basic tags structure". A tag is an 8-byte head that
says its type and size (bytes, head included, padding not), then a body. Each tag begins at a multiple of 8 from
the chain's start; a tag of type 0 and size 8 ends the chain::

    header       type u16, flags u16, size u32
    information  type u32,            size u32

The whole chain is walked and proved before a body is looked at. A value of an unknown type is an ``UnknownTag``;
bytes after what the specification describes stay in ``Tag.rest``; both are built back as they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from mbtool.errors import FormatError
from mbtool.formats.wire import Layout
from mbtool.model import Field, Finding, Node, Severity
from mbtool.record import record

T = TypeVar("T")

ALIGN = 8
HEAD_SIZE = 8
END = 0
MAX_TAGS = 4096
"""A chain of more tags is refused. A header has room for fewer; no loader passes so many."""


@record
class TagHead:
    """What every tag begins with; the flags exist in header tags only."""

    type: int
    size: int
    flags: int = 0


@record
class UnknownTag:
    """A tag of a type that is not in the specification: its body as it is."""

    type: int
    payload: bytes


@record
class Tag:
    """One tag of a chain: what it says, its flags (header only), and bytes after what the specification knows."""

    value: Any
    flags: int = 0
    rest: bytes = b""


class Tail:
    """What follows the fixed part of a tag's body and fills ``field`` of its value."""

    field: str

    def parse(self, data: bytes, stored: Mapping[str, Any]) -> tuple[Any, int]:
        """The value in ``data`` and how many bytes it took; ``stored`` are the fixed fields.

        Raises FormatError, with offsets relative to ``data``.
        """
        raise NotImplementedError

    def build(self, value: Any, whole: Any) -> bytes:
        """The bytes of the value; ``whole`` is the tag's value. FormatError when they do not agree."""
        raise NotImplementedError

    def fields(self, data: bytes, stored: Mapping[str, Any], base: int) -> tuple[Field, ...]:
        """What to show of it, damaged or not; ``data`` begins at ``base`` of the node."""
        return (Field(self.field, data, base, len(data), "", data),) if data else ()

    def children(self, data: bytes, stored: Mapping[str, Any], base: int) -> tuple[Node, ...]:
        """Parts that are nodes of their own."""
        return ()


class TagType(Generic[T]):
    """One type of tag: its number, the fixed part of its body, and what follows."""

    def __init__(self, number: int, layout: Layout[T], tail: Tail | None = None) -> None:
        self.number = number
        self.cls = layout.cls
        self.layout = layout
        self.tail = tail

    def parse(self, body: bytes, *, source: str = "", base: int = 0) -> tuple[T, bytes]:
        """The value of a tag's body and the bytes left over. Raises FormatError."""
        used = self.layout.size
        if not self.tail:
            return self.layout.parse(body, source=source, base=base), body[used:]
        stored = self.layout.values(body, source=source, base=base)
        try:
            end, taken = self.tail.parse(body[used:], stored)
        except FormatError as error:
            at = base + used + (error.offset or 0)
            raise FormatError(
                error.problem,
                source=source,
                offset=at,
                field=f"{self.cls.__name__}.{error.field or self.tail.field}",
                expected=error.expected,
                found=error.found,
            ) from error
        value = self.layout.parse(body, source=source, base=base, beyond={self.tail.field: end})
        return value, body[used + taken :]

    def build(self, value: T) -> bytes:
        """The body of a tag with this value. Raises FormatError."""
        body = self.layout.build(value)
        return body + self.tail.build(getattr(value, self.tail.field), value) if self.tail else body

    def show(self, body: bytes) -> tuple[tuple[Field, ...], tuple[Node, ...], tuple[Finding, ...]]:
        """Fields, children and findings of a tag's body, for a node that begins with the tag's head."""
        fixed = self.layout.size
        try:
            fields = self.layout.fields(body, base=HEAD_SIZE)
        except FormatError as error:
            return _payload(body), (), (Finding.of(error, "MULTIBOOT2-TAG"),)
        children: tuple[Node, ...] = ()
        if self.tail:
            stored = self.layout.values(body)
            fields += self.tail.fields(body[fixed:], stored, HEAD_SIZE + fixed)
            children = self.tail.children(body[fixed:], stored, HEAD_SIZE + fixed)
        try:
            _, rest = self.parse(body, base=HEAD_SIZE)
        except FormatError as error:
            return fields, children, (Finding.of(error, "MULTIBOOT2-TAG"),)
        findings = (_longer(rest, HEAD_SIZE + len(body)),) if rest else ()
        return fields, children, findings


class Walk(NamedTuple):
    """A chain that was walked: heads with their offsets, where it ends, and why it ends early if it does."""

    heads: tuple[tuple[int, TagHead], ...]
    end: int
    error: FormatError | None = None


class Chain:
    """The tags that may follow each other in one place. ``names``: type to what it is called."""

    def __init__(self, head: Layout[TagHead], types: Iterable[TagType[Any]], names: Mapping[int, str]) -> None:
        self._head = head
        self._by_number = {tag_type.number: tag_type for tag_type in types}
        self._by_class = {tag_type.cls: tag_type for tag_type in self._by_number.values()}
        self._names = names
        assert len(self._by_class) == len(self._by_number), "two tag types share a class"

    def walk(self, data: bytes, at: int, *, source: str = "", base: int = 0) -> Walk:
        """The chain that begins at ``data[at:]`` and may use all of ``data``; tags before damage are kept."""
        heads: list[tuple[int, TagHead]] = []
        while True:
            try:
                if len(data) - at < HEAD_SIZE:
                    raise FormatError("no end tag", source=source, offset=base + min(at, len(data)))
                if len(heads) >= MAX_TAGS:
                    raise FormatError(f"more than {MAX_TAGS} tags", source=source, offset=base + at)
                head = self._head.parse(data, at)
                self._check(head, len(data) - at, source, base + at)
            except FormatError as error:
                return Walk(tuple(heads), min(at, len(data)), error)
            heads.append((at, head))
            if head.type == END:
                return Walk(tuple(heads), at + HEAD_SIZE)
            at += -(-head.size // ALIGN) * ALIGN

    def _check(self, head: TagHead, room: int, source: str, at: int) -> None:
        problem = expected = ""
        if head.type == END and head.size != HEAD_SIZE:
            problem, expected = "end tag of a wrong size", f"{HEAD_SIZE}"
        elif head.size < HEAD_SIZE:
            problem, expected = "tag is smaller than its own head", f"at least {HEAD_SIZE}"
        elif head.size > room:
            problem, expected = "tag runs past the end", f"at most {room}"
        if problem:
            where = f"tag {head.type}.size"
            raise FormatError(
                problem, source=source, offset=at + 4, field=where, expected=expected, found=f"{head.size}"
            )

    def parse(self, data: bytes, at: int, *, source: str = "", base: int = 0) -> tuple[tuple[Tag, ...], int]:
        """The tags of the chain at ``data[at:]`` without the end tag, and where the chain ends.

        Raises FormatError when the chain or a tag's body is damaged.
        """
        walk = self.walk(data, at, source=source, base=base)
        if walk.error:
            raise walk.error
        tags = []
        for start, head in walk.heads[:-1]:
            body = data[start + HEAD_SIZE : start + head.size]
            value, rest = self._value(head, body, source, base + start + HEAD_SIZE)
            tags.append(Tag(value, head.flags, rest))
        return tuple(tags), walk.end

    def _value(self, head: TagHead, body: bytes, source: str, base: int) -> tuple[Any, bytes]:
        tag_type = self._by_number.get(head.type)
        if tag_type is None:
            return UnknownTag(head.type, body), b""
        return tag_type.parse(body, source=source, base=base)

    def build(self, tags: Iterable[Tag]) -> bytes:
        """The bytes of a chain, end tag included. FormatError for a value that does not belong in it."""
        built = b""
        for tag in tags:
            number, body = self._body(tag.value)
            body += tag.rest
            if number == END:
                raise FormatError("the end tag is added by itself", field="type")
            if tag.flags and "flags" not in self._head.offsets:
                raise FormatError("tags of this chain have no flags", field=f"{type(tag.value).__name__}.flags")
            built += self._head.build(TagHead(number, HEAD_SIZE + len(body), tag.flags)) + body
            built += bytes(-len(built) % ALIGN)
        return built + self._head.build(TagHead(END, HEAD_SIZE))

    def _body(self, value: Any) -> tuple[int, bytes]:
        if isinstance(value, UnknownTag):
            return value.type, value.payload
        if tag_type := self._by_class.get(type(value)):
            return tag_type.number, tag_type.build(value)
        raise FormatError(f"{type(value).__name__} is no tag of this chain")

    def nodes(self, data: bytes, walk: Walk) -> Iterator[Node]:
        """One node per tag that was walked, the end tag included, placed as in ``data``."""
        for start, head in walk.heads:
            body = data[start + HEAD_SIZE : start + head.size]
            fields = tuple(
                field if field.name != "type" else self._typed(field, head.type)
                for field in self._head.fields(data[start : start + HEAD_SIZE])
            )
            children: tuple[Node, ...] = ()
            findings: tuple[Finding, ...] = ()
            if tag_type := self._by_number.get(head.type):
                more, children, findings = tag_type.show(body)
                fields += more
            else:
                fields += _payload(body)
            yield Node("multiboot2-tag", start, head.size, fields, children, findings)

    def _typed(self, field: Field, number: int) -> Field:
        name = self._names.get(number, "unknown")
        return Field(field.name, number, field.offset, field.size, name, field.raw, telling=True)


def _payload(body: bytes) -> tuple[Field, ...]:
    return (Field("payload", body, HEAD_SIZE, len(body), "", body, telling=True),) if body else ()


def _longer(rest: bytes, size: int) -> Finding:
    return Finding(
        "MULTIBOOT2-TAG-LONGER",
        Severity.INFO,
        "the tag holds more than the specification describes",
        offset=size - len(rest),
        expected=f"{size - len(rest)} bytes",
        found=f"{size}",
    )
