"""Copying content onto a disk, with its CRC-32 on the way: every byte is read once, and what was summed is written.

Large files are copied in stripes, one thread each: reading, summing and writing all run outside of Python's lock.
Where the file system can share blocks between files (reflink), they are shared and only summed.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from collections.abc import Callable
from threading import Event

from mbtool.disk.content import Content, FileSlice, Joined, changed, opened, size_of
from mbtool.disk.crc32 import combine, crc32
from mbtool.errors import InputError

PIECE = 512 << 10
"""Bytes read, summed and written at a time: they stay in the processor's cache."""
ZEROS = bytes(PIECE)
STRIPE = 16 << 20
"""Bytes worth a thread of their own."""
MAX_STRIPES = 4
FICLONERANGE = 0x4020940D
"""Linux's ioctl: share blocks of one file with another (linux/fs.h, struct file_clone_range)."""
BLOCK = 4096
"""Bytes that shared ranges start and end at multiples of."""


Counter = Callable[[int], None]
"""Told each number of bytes that is done, by several threads."""


def copy_content(content: Content, fd: int, offset: int, count: Counter = lambda done: None) -> int:
    """Copy a content to ``offset`` of an open file that has only zeros there; the CRC-32 of what was copied.

    Zeros are left as holes. Raises InputError when the input cannot be read or changed since it was looked at,
    OSError when the output cannot be written (disk full).
    """
    crc = 0
    for part in content.parts if isinstance(content, Joined) else (content,):
        if isinstance(part, bytes):
            write_at(fd, part, offset)
            crc = crc32(part, crc)
            count(len(part))
        else:
            crc = combine(crc, _copy_slice(part, fd, offset, count), part.size)
        offset += size_of(part)
    return crc


def extend(fd: int, size: int) -> None:
    """Make a file at least ``size`` bytes long; a device is as long as it is."""
    info = os.fstat(fd)
    if stat.S_ISREG(info.st_mode) and info.st_size < size:
        os.truncate(fd, size)


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``; OSError when that cannot be done."""
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count


def _copy_slice(content: FileSlice, fd: int, offset: int, count: Counter) -> int:
    """Copy it, and look again afterwards: the file must still be the one that was looked at, unchanged."""
    extend(fd, offset + content.size)
    with opened(content) as source:
        crc = _Copy(content, source, fd, offset, count).run()
    with opened(content):
        return crc


class _Copy:
    """One file on its way to the disk."""

    def __init__(self, content: FileSlice, source: int, fd: int, offset: int, count: Counter) -> None:
        self._content = content
        self._source = source
        self._fd = fd
        self._offset = offset
        self._count = count
        self._shared = _share(source, content, fd, offset)
        self._stop = Event()

    def run(self) -> int:
        """Copy all of it; its CRC-32."""
        size = self._content.size
        count = max(1, min(MAX_STRIPES, len(os.sched_getaffinity(0)), size // STRIPE))
        step = -(-size // count // PIECE) * PIECE
        stripes = [(start, min(size, start + step)) for start in range(0, size, step)] if size else []
        if len(stripes) <= 1:
            return self._stripe((0, size))
        from concurrent.futures import ThreadPoolExecutor

        crc = 0
        with ThreadPoolExecutor(len(stripes)) as pool:
            try:
                for (start, end), part in zip(stripes, pool.map(self._stripe, stripes), strict=True):
                    crc = combine(crc, part, end - start)
            except BaseException:
                self._stop.set()
                raise
        return crc

    def _stripe(self, stripe: tuple[int, int]) -> int:
        """Copy the bytes [start, end) of the content; their CRC-32."""
        start, end = stripe
        crc = 0
        buffer = bytearray(min(PIECE, end - start))
        whole = memoryview(buffer)
        while start < end and not self._stop.is_set():
            piece = whole[: min(PIECE, end - start)]
            piece = piece[: self._read(piece, start)]
            crc = crc32(piece, crc)
            hole = len(piece) == PIECE and buffer == ZEROS
            if start + len(piece) > self._shared and not hole:
                write_at(self._fd, piece, self._offset + start)
            start += len(piece)
            self._count(len(piece))
        return crc

    def _read(self, piece: memoryview, at: int) -> int:
        try:
            count = os.preadv(self._source, [piece], self._content.offset + at)
        except OSError as error:
            raise InputError(f"cannot read: {error.strerror}", source=str(self._content.path)) from error
        if not count:
            raise changed(self._content)
        return count


def _share(source: int, content: FileSlice, fd: int, offset: int) -> int:
    """Let the file system share blocks instead of copying; bytes from the start that need no copying."""
    size = content.size // BLOCK * BLOCK
    if not size or content.offset % BLOCK or offset % BLOCK:
        return 0
    try:
        fcntl.ioctl(fd, FICLONERANGE, struct.pack("=qQQQ", source, content.offset, size, offset))
    except OSError:  # other file system, or one that cannot
        return 0
    return size
