"""The one door between construct and everything else: fixed layouts, parsed and built from one declaration.

A ``Layout`` ties a ``Struct``, construct's or a plain one (``wire_plain``), to a frozen dataclass with the same
field names. construct's containers and errors do not pass this door: values come out as the dataclass, errors as
FormatError with the absolute offset and the field's path.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Generic, TypeVar

from mbtool.errors import FormatError
from mbtool.formats import wire_plain
from mbtool.model import Field, Hex, Value
from mbtool.source import Source

T = TypeVar("T")
Meaning = Callable[[Any], str]
"""Turns a field's value into words ("" when there is nothing to add)."""


class Layout(Generic[T]):
    """A structure of fixed size: ``parse`` and ``build`` are inverse, ``fields`` shows where each value lies.

    ``hex``: names of addresses, masks and magics. ``telling``: names shown without being asked.
    ``meanings``: how to put a field's value in words.
    ``computed``: stored fields that the dataclass does not have (magic numbers, sizes, counts, checksums) and how
    they follow from a value: filled in on build, verified on parse.
    ``beyond``: fields of the dataclass that are not stored here (what follows the structure, what it points at):
    ``parse`` is given them.
    """

    def __init__(
        self,
        cls: type[T],
        struct: Any,
        *,
        hex: Collection[str] = (),  # noqa: A002
        telling: Collection[str] = (),
        meanings: Mapping[str, Meaning] | None = None,
        computed: Mapping[str, Callable[[T], int | bytes]] | None = None,
        beyond: Collection[str] = (),
    ) -> None:
        self.cls = cls
        self.struct = struct
        self._plain = struct if isinstance(struct, wire_plain.Struct) else None
        self.offsets: dict[str, tuple[int, int]] = self._plain.offsets if self._plain else _offsets(struct)
        """Field name to (offset, size) in bytes."""
        self.size: int = self._plain.size if self._plain else struct.sizeof()
        self._hex = frozenset(hex)
        self._telling = frozenset(telling)
        self._meanings = dict(meanings or {})
        self._computed = dict(computed or {})
        names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        assert names >= set(beyond), f"{cls.__name__}: no such fields {sorted(set(beyond) - names)}"
        names = names - set(beyond) | set(self._computed)
        unknown = (set(self.offsets) ^ names) | ((self._hex | self._telling | set(self._meanings)) - names)
        assert not unknown, f"{cls.__name__}: layout and dataclass differ in {sorted(unknown)}"

    def values(self, data: bytes, at: int = 0, *, source: str = "", base: int = 0) -> dict[str, Any]:
        """The stored fields at ``data[at:]`` by name, as they are; ``base`` is the absolute offset of ``data[0]``.

        Raises FormatError when the data is too short.
        """
        if self._plain and at + self.size <= len(data):
            return self._plain.parse(data, at)
        piece = data[at : at + self.size]
        if len(piece) < self.size:
            raise FormatError(
                f"{self.cls.__name__} is cut short",
                source=source,
                offset=base + at,
                expected=f"{self.size} bytes",
                found=f"{len(piece)}",
            )
        from construct import ConstructError

        try:
            wire = self.struct.parse(piece)
        except ConstructError as error:
            raise FormatError(
                str(error).splitlines()[-1], source=source, offset=base + at, field=error.path or ""
            ) from error
        return {name: _plain(wire[name]) for name in self.offsets}

    def parse(
        self,
        data: bytes,
        at: int = 0,
        *,
        source: str = "",
        base: int = 0,
        beyond: Mapping[str, Any] | None = None,
    ) -> T:
        """The structure at ``data[at:]``; ``base`` is the absolute offset of ``data[0]``, for the error.

        ``beyond`` gives the fields that are not stored here; those it leaves out keep their defaults. Raises
        FormatError when the data is too short or a computed field is not what it should be.
        """
        stored = self.values(data, at, source=source, base=base)
        value = self.cls(
            **{name: stored[name] for name in self.offsets if name not in self._computed}, **(beyond or {})
        )
        for error in self.mismatches(value, stored, source=source, base=base + at):
            raise error
        return value

    def mismatches(
        self, value: T, stored: Mapping[str, Any], *, source: str = "", base: int = 0
    ) -> Iterator[FormatError]:
        """One error per computed field whose stored value does not follow from ``value``."""
        for name, compute in self._computed.items():
            expected, found = compute(value), stored[name]
            if found != expected:
                yield FormatError(
                    "is wrong",
                    source=source,
                    offset=base + self.offsets[name][0],
                    field=f"{self.cls.__name__}.{name}",
                    expected=self._words(name, expected),
                    found=self._words(name, found),
                )

    def _words(self, name: str, value: int | bytes) -> str:
        if isinstance(value, bytes):
            return value.hex(" ")
        return f"{value:#x}" if name in self._hex else str(value)

    def read(self, source: Source, at: int) -> T:
        """The structure at offset ``at`` of a source; FormatError when cut short."""
        return self.parse(source.read(at, self.size), source=source.name, base=at)

    def build(self, value: T) -> bytes:
        """The bytes of the structure; FormatError when a value does not fit its field."""
        computed = {name: compute(value) for name, compute in self._computed.items()}
        stored = {name: computed[name] if name in computed else getattr(value, name) for name in self.offsets}
        if self._plain and (plain := self._plain.build(stored)) is not None:
            return plain
        from construct import ConstructError

        try:
            built: bytes = (self._plain.in_construct() if self._plain else self.struct).build(stored)
        except ConstructError as error:
            raise FormatError(
                str(error).splitlines()[-1], field=f"{self.cls.__name__}.{error.path or ''}"
            ) from error
        return built

    def fields(self, data: bytes, at: int = 0, *, base: int = 0) -> tuple[Field, ...]:
        """Every field of the structure at ``data[at:]`` for a node whose content starts at ``data[0] - base``.

        ``base`` (bytes) is added to the fields' offsets.
        """
        stored = self.values(data, at, base=base)
        return tuple(
            self.field(name, stored[name], data[at + start : at + start + size], base + at + start)
            for name, (start, size) in self.offsets.items()
        )

    def field(self, name: str, value: Value, raw: bytes, offset: int) -> Field:
        """One field of this layout, shown the way the layout says."""
        meaning = self._meanings[name](value) if name in self._meanings else ""
        if name in self._hex:
            value = _hexed(value)
        return Field(name, value, offset, len(raw), meaning, raw, name in self._telling)


def _offsets(struct: Any) -> dict[str, tuple[int, int]]:
    """Where the named fields of a construct Struct lie."""
    offsets, at = {}, 0
    for part in struct.subcons:
        size = part.sizeof()
        if part.name:
            offsets[part.name] = (at, size)
        at += size
    return offsets


def _plain(value: Any) -> Any:
    """construct's lists as tuples, its int subclasses as int."""
    if isinstance(value, list):
        return tuple(_plain(item) for item in value)
    return value


def _hexed(value: Value) -> Value:
    if isinstance(value, tuple):
        return tuple(_hexed(item) for item in value)
    return Hex(value) if isinstance(value, int) and not isinstance(value, bool) else value


def flag_names(names: Mapping[int, str]) -> Meaning:
    """Words for a mask: the names of its set bits (bit number to name), unknown ones as ``bit N``."""

    def words(mask: int) -> str:
        return ", ".join(names.get(bit, f"bit {bit}") for bit in range(mask.bit_length()) if mask >> bit & 1)

    return words


def choice_names(names: Mapping[int, str], unknown: str = "unknown") -> Meaning:
    """Words for a number out of a list."""
    return lambda value: names.get(value, unknown)
