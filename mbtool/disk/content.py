"""What goes onto a disk: bytes, or (part of) a file; how it gets there is ``mbtool.disk.copying``'s."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mbtool.errors import InputError

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class FileSlice:
    """``size`` bytes of a file from ``offset``; ``stamp`` tells whether it changed since it was looked at."""

    path: Path
    offset: int
    size: int
    stamp: tuple[int, int, int]
    """Inode, size in bytes and modification time in ns."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Several pieces one after the other, as one file."""

    parts: tuple[bytes | FileSlice, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(size_of(part) for part in self.parts)


Content = bytes | FileSlice | Joined


def file_content(path: Path) -> FileSlice:
    """A whole regular file. Raises InputError when it cannot be read or is no regular file."""
    import stat

    try:
        info = path.stat()
    except OSError as error:
        raise InputError(f"cannot open: {error.strerror}", source=str(path)) from error
    if not stat.S_ISREG(info.st_mode):
        raise InputError("is not a regular file", source=str(path))
    return FileSlice(path, 0, info.st_size, (info.st_ino, info.st_size, info.st_mtime_ns))


def size_of(content: Content) -> int:
    """Bytes."""
    return len(content) if isinstance(content, bytes) else content.size


def chunks(content: Content, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
    """The bytes [offset, offset + size) in pieces of at most CHUNK; InputError when the file ends too soon."""
    end = size_of(content) if size is None else offset + size
    if isinstance(content, Joined):
        start = 0
        for part in content.parts:
            first, last = max(offset - start, 0), min(end - start, size_of(part))
            if first < last:
                yield from chunks(part, first, last - first)
            start += size_of(part)
        return
    if isinstance(content, bytes):
        for at in range(offset, end, CHUNK):
            yield content[at : min(end, at + CHUNK)]
        return
    with opened(content) as fd:
        while offset < end:
            piece = os.pread(fd, min(CHUNK, end - offset), content.offset + offset)
            if not piece:
                raise changed(content)
            yield piece
            offset += len(piece)


class opened:
    """A file open for reading, refused when it is not the one that was looked at."""

    def __init__(self, content: FileSlice) -> None:
        self._content = content

    def __enter__(self) -> int:
        try:
            self._fd = os.open(self._content.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(f"cannot open: {error.strerror}", source=str(self._content.path)) from error
        info = os.fstat(self._fd)
        if (info.st_ino, info.st_size, info.st_mtime_ns) != self._content.stamp:
            os.close(self._fd)
            raise changed(self._content)
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def changed(content: FileSlice) -> InputError:
    """The error for an input that is not what it was when it was looked at."""
    return InputError("changed while it was being read", source=str(content.path), remedy="start again")
