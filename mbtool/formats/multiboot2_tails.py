"""The variable parts of Multiboot 2 information tags: strings, entries of a stated size, colours, copies of tables.

Each is the ``Tail`` of a tag type in multiboot2_info.py, which says where it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mbtool.errors import FormatError
from mbtool.formats.multiboot2_tags import Tail
from mbtool.formats.multiboot_shared import RGB_INFO, Palette, RgbInfo, bytes_of, shown, text_of
from mbtool.formats.wire import Layout
from mbtool.model import Field, Node

INDEXED, DIRECT_RGB = 0, 1


class Text(Tail):
    """A zero-terminated UTF-8 string."""

    def __init__(self, field: str) -> None:
        self.field = field

    def parse(self, data: bytes, stored: Mapping[str, Any]) -> tuple[str, int]:
        end = data.find(0)
        if end < 0:
            raise FormatError("string is not zero-terminated", offset=len(data))
        return text_of(data[:end]), end + 1

    def build(self, value: str, whole: Any) -> bytes:
        return bytes_of(value, self.field)

    def fields(self, data: bytes, stored: Mapping[str, Any], base: int) -> tuple[Field, ...]:
        text, zero, _ = data.partition(b"\0")
        size = len(text) + len(zero)
        return (Field(self.field, shown(text), base, size, "", data[:size], telling=True),)


class Blob(Tail):
    """All bytes up to the tag's end; ``words`` puts them in words."""

    def __init__(self, field: str, words: Callable[[bytes], str] | None = None) -> None:
        self.field = field
        self._words = words

    def parse(self, data: bytes, stored: Mapping[str, Any]) -> tuple[bytes, int]:
        return data, len(data)

    def build(self, value: bytes, whole: Any) -> bytes:
        return value

    def fields(self, data: bytes, stored: Mapping[str, Any], base: int) -> tuple[Field, ...]:
        words = self._words(data) if self._words else ""
        return (Field(self.field, data, base, len(data), words, data, telling=bool(words)),)


class Entries(Tail):
    """Entries of one layout, each ``size_field`` bytes long: what a longer entry adds goes to its ``extra``."""

    def __init__(self, field: str, layout: Layout[Any], size_field: str, kind: str) -> None:
        self.field = field
        self._layout = layout
        self._size_field = size_field
        self._kind = kind

    def _places(self, data: bytes, stored: Mapping[str, Any]) -> Iterator[bytes]:
        size = stored[self._size_field]
        if size >= self._layout.size:
            for at in range(0, len(data) - size + 1, size):
                yield data[at : at + size]

    def parse(self, data: bytes, stored: Mapping[str, Any]) -> tuple[tuple[Any, ...], int]:
        size = stored[self._size_field]
        if size < self._layout.size:
            raise FormatError(
                "entries are too small",
                offset=0,
                field=self._size_field,
                expected=f"at least {self._layout.size}",
                found=f"{size}",
            )
        entries = tuple(
            self._layout.parse(entry, beyond={"extra": entry[self._layout.size :]})
            for entry in self._places(data, stored)
        )
        return entries, len(entries) * size

    def build(self, value: tuple[Any, ...], whole: Any) -> bytes:
        size = getattr(whole, self._size_field)
        built = [self._layout.build(entry) + entry.extra for entry in value]
        if size < self._layout.size or any(len(entry) != size for entry in built):
            raise FormatError("entries do not have the stated size", field=self._size_field, expected=f"{size}")
        return b"".join(built)

    def fields(self, data: bytes, stored: Mapping[str, Any], base: int) -> tuple[Field, ...]:
        count = sum(1 for _ in self._places(data, stored))
        return (Field("entries", count, base, len(data), "", data, telling=True),)

    def children(self, data: bytes, stored: Mapping[str, Any], base: int) -> tuple[Node, ...]:
        size = stored[self._size_field]
        return tuple(
            Node(self._kind, base + number * size, size, self._layout.fields(entry))
            for number, entry in enumerate(self._places(data, stored))
        )


class ColorInfo(Tail):
    """What the framebuffer's type adds: a palette (count in 16 bits, then colours), colour fields, or nothing."""

    field = "color_info"

    def parse(self, data: bytes, stored: Mapping[str, Any]) -> tuple[Palette | RgbInfo | bytes, int]:
        if stored["framebuffer_type"] == DIRECT_RGB:
            return RGB_INFO.parse(data), RGB_INFO.size
        if stored["framebuffer_type"] != INDEXED:
            return data, len(data)
        end = 2 + 3 * int.from_bytes(data[:2], "little")
        if len(data) < end:
            raise FormatError("palette is cut short", offset=0, expected=f"{end} bytes", found=f"{len(data)}")
        return Palette.parse(data[2:end]), end

    def build(self, value: Palette | RgbInfo | bytes, whole: Any) -> bytes:
        kinds = {INDEXED: Palette, DIRECT_RGB: RgbInfo}
        expected = kinds.get(whole.framebuffer_type, bytes)
        if not isinstance(value, expected):
            raise FormatError(
                "colour information does not go with the framebuffer's type",
                field=self.field,
                expected=expected.__name__,
                found=type(value).__name__,
            )
        if isinstance(value, RgbInfo):
            return RGB_INFO.build(value)
        if isinstance(value, Palette):
            if len(value.colors) > 0xFFFF:
                raise FormatError("more than 65535 colours", field=self.field)
            return len(value.colors).to_bytes(2, "little") + value.build()
        return value

    def fields(self, data: bytes, stored: Mapping[str, Any], base: int) -> tuple[Field, ...]:
        if stored["framebuffer_type"] == DIRECT_RGB and len(data) >= RGB_INFO.size:
            return RGB_INFO.fields(data, base=base)
        if stored["framebuffer_type"] == INDEXED and len(data) >= 2:
            count, palette = int.from_bytes(data[:2], "little"), data[2:]
            return (
                Field("framebuffer_palette_num_colors", count, base, 2, "", data[:2]),
                Field("framebuffer_palette", palette, base + 2, len(palette), "", palette),
            )
        return Tail.fields(self, data, stored, base)


class SectionHeaders(Tail):
    """``num`` ELF section headers of ``entsize`` bytes."""

    field = "sections"

    def parse(self, data: bytes, stored: Mapping[str, Any]) -> tuple[bytes, int]:
        end = stored["num"] * stored["entsize"]
        if len(data) < end:
            raise FormatError(
                "section headers are cut short", offset=0, expected=f"{end} bytes", found=f"{len(data)}"
            )
        return data[:end], end

    def build(self, value: bytes, whole: Any) -> bytes:
        if len(value) % (whole.entsize or 1) or (value and not whole.entsize):
            raise FormatError("not a whole number of section headers", field="entsize", found=f"{len(value)} bytes")
        return value
