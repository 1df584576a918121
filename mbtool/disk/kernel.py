"""The files a disk boots, opened and made ready: unpacked where no loader would unpack them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mbtool.disk.content import Content, Joined, chunks, file_content, size_of
from mbtool.errors import FormatError, LimitError
from mbtool.source import MIB, Budget, Source, StreamSource, open_file

MAX_UNPACKED = 64 * MIB
"""A packed kernel is unpacked in memory; none that a Multiboot loader takes comes near this."""
PIECE = MIB
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,63}")


@dataclass(frozen=True, slots=True)
class BootFile:
    """A file as it goes onto the disk, and the same bytes to look at. ``name`` is safe in every configuration."""

    name: str
    content: Content
    source: Source


@contextmanager
def boot_file(path: Path, fallback: str, *, unpack: bool = False) -> Iterator[BootFile]:
    """Open a file for the disk; with ``unpack`` a gzip or other stream is unpacked. ``fallback`` is a spare name.

    Raises InputError when it cannot be read, FormatError when its stream is damaged, LimitError when too large.
    """
    from mbtool.formats import compression

    stamped = file_content(path) if path.is_file() else None  # before the first look, to notice what changes later
    with open_file(path) as source:
        name = path.name if SAFE_NAME.fullmatch(path.name) else fallback
        if unpack and compression.detect(source.read(0, 64)):
            content = _unpacked(compression.open_stream(source, Budget()), path)
            name = re.sub(r"\.(gz|xz|zst|bz2|lz4|lzma|lzo)$", "", name)
            yield BootFile(name, content, _ContentSource(content, str(path)))
        else:
            yield BootFile(name, stamped or file_content(path), source)


def _unpacked(stream: StreamSource, path: Path) -> Content:
    """All of a stream, held once: a large one is let go of by the stream piece by piece."""
    pieces: list[bytes] = []
    size = 0
    for piece in stream.chunks(step=PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_UNPACKED:
            raise LimitError(f"unpacks to more than {MAX_UNPACKED // MIB} MiB", source=str(path))
        stream.forget(size)
    if stream.damage is not None:
        raise FormatError("the compressed stream is damaged", source=str(path)) from stream.damage
    return pieces[0] if len(pieces) == 1 else Joined(tuple(pieces))


class _ContentSource(Source):
    """A content to look at."""

    def __init__(self, content: Content, name: str) -> None:
        self.name = name
        self._content = content

    def read(self, offset: int, size: int) -> bytes:
        size = min(size, self.size - offset)
        return b"".join(chunks(self._content, offset, size)) if offset >= 0 and size > 0 else b""

    @property
    def size(self) -> int:
        return size_of(self._content)
