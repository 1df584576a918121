"""What goes onto a disk: bytes, or (part of) a file, copied without passing through memory where it can be."""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

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
    with _opened(content) as fd:
        while offset < end:
            piece = os.pread(fd, min(CHUNK, end - offset), content.offset + offset)
            if not piece:
                raise _changed(content)
            yield piece
            offset += len(piece)


def copy_content(content: Content, fd: int, offset: int) -> int:
    """Copy a content to ``offset`` of an open file; its CRC-32, computed meanwhile.

    Raises InputError when the input cannot be read or changed since it was looked at, or the output cannot be
    written (disk full).
    """
    crc = _Crc(content)
    crc.start()
    try:
        for part in content.parts if isinstance(content, Joined) else (content,):
            if isinstance(part, bytes):
                write_at(fd, part, offset)
            else:
                with _opened(part) as source:
                    _copy_range(source, part, fd, offset)
            offset += size_of(part)
    finally:
        crc.join()
    if crc.error is not None:
        raise crc.error
    for part in content.parts if isinstance(content, Joined) else (content,):
        if isinstance(part, FileSlice):
            with _opened(part):  # a last look: the same file, unchanged
                pass
    return crc.value


class _Crc(Thread):
    """The CRC-32 of a content, beside its copying: the copy is the kernel's work, this one is a core's."""

    def __init__(self, content: Content) -> None:
        super().__init__(daemon=True)
        self._content = content
        self.value = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            for piece in chunks(self._content):
                self.value = zlib.crc32(piece, self.value)
        except (InputError, OSError) as error:
            self.error = error


def _copy_range(source: int, content: FileSlice, fd: int, offset: int) -> None:
    done = 0
    while done < content.size:
        try:
            count = os.copy_file_range(source, fd, content.size - done, content.offset + done, offset + done)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM):
                raise _unwritable(error) from error
            piece = os.pread(source, min(CHUNK, content.size - done), content.offset + done)
            write_at(fd, piece, offset + done)
            count = len(piece)
        if count == 0:
            raise _changed(content)
        done += count


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset``; InputError when that cannot be done."""
    view = memoryview(data)
    while view:
        try:
            count = os.pwrite(fd, view, offset)
        except OSError as error:
            raise _unwritable(error) from error
        view, offset = view[count:], offset + count


class _opened:
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
            raise _changed(self._content)
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _changed(content: FileSlice) -> InputError:
    return InputError("changed while it was being read", source=str(content.path), remedy="start again")


def _unwritable(error: OSError) -> InputError:
    return InputError(f"cannot write the image: {error.strerror}")
