"""construct's words for layouts of nothing but numbers, bytes and padding, without construct.

The standard library's ``struct`` reads and builds those in a tenth of the time, and construct takes longer to load
than most images take to read. It is asked only which value does not fit its field, and why.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any


class Kind:
    """What a field holds, as struct says it (``code``, ``order``) and as construct does (``word``, ``arguments``).

    ``count``: of numbers in an array, 0 when it is none; ``size`` in bytes.
    """

    __slots__ = ("arguments", "code", "count", "order", "size", "word")

    def __init__(self, code: str, order: str, word: str, *arguments: Any, count: int = 0) -> None:
        self.code = code
        self.order = order
        self.word = word
        self.arguments = arguments
        self.count = count
        self.size = struct.calcsize(order + code)

    def __rtruediv__(self, name: str) -> Part:
        return Part(name, self)

    def in_construct(self) -> Any:
        """The same in construct's terms."""
        import construct

        given = [part.in_construct() if isinstance(part, Kind) else part for part in self.arguments]
        word = getattr(construct, self.word)
        return word(*given) if given else word


class Part:
    """A named field."""

    __slots__ = ("kind", "name")

    def __init__(self, name: str, kind: Kind) -> None:
        self.name = name
        self.kind = kind

    def in_construct(self) -> Any:
        """The same in construct's terms."""
        return self.name / self.kind.in_construct()


class Struct:
    """Fields and padding one after another.

    ``offsets``: field name to (offset, size), ``size``: of all; in bytes. Raises ValueError when it is made of
    numbers of two byte orders.
    """

    __slots__ = ("_arrays", "_packer", "_parts", "offsets", "size")

    def __init__(self, *parts: Part | Kind) -> None:
        self._parts = parts
        self.offsets: dict[str, tuple[int, int]] = {}
        self._arrays: dict[str, struct.Struct] = {}
        codes, orders, at = [], set(), 0
        for part in parts:
            kind = part.kind if isinstance(part, Part) else part
            orders.add(kind.order)
            if isinstance(part, Part):
                self.offsets[part.name] = (at, kind.size)
                if kind.count:
                    self._arrays[part.name] = struct.Struct(kind.order + kind.code)
            codes.append(f"{kind.size}s" if kind.count else kind.code)
            at += kind.size
        self.size = at
        order, *more = sorted(orders - {"="}) or ["="]
        if more:
            raise ValueError("a plain Struct has numbers of one byte order")
        self._packer = struct.Struct(order + "".join(codes))

    def parse(self, data: bytes, at: int) -> dict[str, Any]:
        """The fields at ``data[at:]``, which has ``size`` bytes there, by name."""
        values = dict(zip(self.offsets, self._packer.unpack_from(data, at), strict=True))
        for name, array in self._arrays.items():
            values[name] = array.unpack(values[name])
        return values

    def build(self, values: Mapping[str, Any]) -> bytes | None:
        """The bytes of these fields, given in their order; None when one does not fit."""
        stored = dict(values)
        with suppress(struct.error, TypeError):
            for name, array in self._arrays.items():
                stored[name] = array.pack(*stored[name])
            for name, value in stored.items():
                if isinstance(value, (bytes, bytearray)) and len(value) != self.offsets[name][1]:
                    return None  # struct would pad it, or cut it
            return self._packer.pack(*stored.values())
        return None

    def in_construct(self) -> Any:
        """The same in construct's terms."""
        import construct

        return construct.Struct(*(part.in_construct() for part in self._parts))


Int8ub = Kind("B", "=", "Int8ub")
Int8ul = Kind("B", "=", "Int8ul")
Int16ub = Kind("H", ">", "Int16ub")
Int16ul = Kind("H", "<", "Int16ul")
Int32ub = Kind("I", ">", "Int32ub")
Int32ul = Kind("I", "<", "Int32ul")
Int64ub = Kind("Q", ">", "Int64ub")
Int64ul = Kind("Q", "<", "Int64ul")


def Bytes(size: int) -> Kind:
    """So many bytes."""
    return Kind(f"{size}s", "=", "Bytes", size)


def Padding(size: int) -> Kind:
    """So many bytes that hold nothing."""
    return Kind(f"{size}x", "=", "Padding", size)


def Array(count: int, kind: Kind) -> Kind:
    """So many numbers."""
    return Kind(f"{count}{kind.code}", kind.order, "Array", count, kind, count=count)
