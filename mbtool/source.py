"""Where bytes come from: files, byte strings, parts of either, and decompressed streams, all under a budget.

A source is read by range; nothing is read or decompressed before it is asked for, and a stream is unpacked only
as far as the furthest byte that was asked for. Reads return fewer bytes only at the end of the data.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mbtool.errors import FormatError, InputError, LimitError, MbtoolError
from mbtool.record import record

MIB = 1 << 20
STEP = 128 * 1024
"""Bytes that data is gone through in: what is larger gets pages of its own from the system each time."""
RATIO_GRACE = 128 * MIB
"""Output below this is never judged by its ratio: padding and zero-filled sections pack very well."""

GRAIN = 4096
"""Least that a piece of output counts (bytes): millions of tiny pieces cost time too."""


@record
class Limits:
    """What one image may cost: decompressed bytes in total, their ratio to the packed bytes, nesting depth.

    ``max_files``: files in file systems that are looked into.
    """

    max_output: int = 2048 * MIB
    max_ratio: int = 400
    max_depth: int = 16
    max_files: int = 4096


@dataclass(slots=True)
class Budget:
    """What has been spent of the limits by all streams of one image together."""

    limits: Limits = field(default_factory=Limits)
    output: int = 0
    files: int = 0

    def look(self, source: str) -> None:
        """Account for one more file that is looked into; LimitError when there are too many."""
        self.files += 1
        if self.files > self.limits.max_files:
            raise LimitError(f"more than {self.limits.max_files} files to look into", source=source)

    def spend(self, size: int, produced: int, packed: int, source: str) -> None:
        """Account for ``size`` more bytes of a stream that has given ``produced`` from ``packed`` bytes.

        Raises LimitError when the total or the ratio passes its limit.
        """
        self.output += max(size, GRAIN)
        if self.output > self.limits.max_output:
            raise LimitError(
                f"decompressed output passes {self.limits.max_output // MIB} MiB",
                source=source,
                remedy="raise the limit with --max-output if the file is to be trusted",
            )
        if produced > RATIO_GRACE and produced > packed * self.limits.max_ratio:
            raise LimitError(
                f"decompressed output passes {self.limits.max_ratio} times the packed size",
                source=source,
                found=f"{produced} bytes from {packed}",
                remedy="raise the limit with --max-ratio if the file is to be trusted",
            )


class Source:
    """Bytes that can be read by range. ``name`` is what messages call them."""

    name: str
    streamed = False
    """Do the bytes come out of a decompressor?"""

    def read(self, offset: int, size: int) -> bytes:
        """The bytes [offset, offset + size), fewer only where the data ends."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """Total size in bytes. A stream is unpacked to its end to know it."""
        raise NotImplementedError

    @property
    def at_hand(self) -> int:
        """How far (bytes from the start) this can be read without unpacking more."""
        return self.size

    @property
    def known_size(self) -> int | None:
        """Total size in bytes when it is known without unpacking more, else None."""
        return self.size

    @property
    def damage(self) -> MbtoolError | None:
        """Why the data ends before its proper end: a stream that broke or met a limit; None when it is whole."""
        return None

    def forget(self, before: int) -> None:
        """Bytes before this offset will not be read again: a stream need not keep them."""

    def exact(self, offset: int, size: int, what: str) -> bytes:
        """The bytes [offset, offset + size) of the structure called ``what``; FormatError when cut short."""
        data = self.read(offset, size)
        if len(data) < size:
            raise FormatError(
                f"{what} is cut short",
                source=self.name,
                offset=offset,
                expected=f"{size} bytes",
                found=f"{len(data)}",
            )
        return data

    def part(self, offset: int, size: int | None = None, name: str | None = None) -> Source:
        """The ``size`` bytes from ``offset`` (to the end when None) as a source of their own."""
        return _Part(self, offset, size, name or self.name)

    def chunks(self, start: int = 0, stop: int | None = None, step: int = STEP) -> Iterator[bytes]:
        """The bytes [start, stop) in pieces of at most ``step`` bytes, in order."""
        while stop is None or start < stop:
            piece = self.read(start, step if stop is None else min(step, stop - start))
            if not piece:
                return
            yield piece
            start += len(piece)

    def search(self, needle: bytes, start: int = 0, stop: int | None = None) -> int:
        """Offset of the first ``needle`` that lies wholly in [start, stop), or -1."""
        overlap = len(needle) - 1
        tail = b""
        for piece in self.chunks(start, stop):
            window = tail + piece
            found = window.find(needle)
            if found >= 0:
                return start - len(tail) + found
            start += len(piece)
            tail = window[-overlap:] if overlap else b""
        return -1


class BytesSource(Source):
    """A byte string as a source."""

    def __init__(self, data: bytes, name: str = "<bytes>") -> None:
        self.name = name
        self._data = data

    def read(self, offset: int, size: int) -> bytes:
        if offset < 0 or size <= 0:
            return b""
        return self._data[offset : offset + size]

    def search(self, needle: bytes, start: int = 0, stop: int | None = None) -> int:
        return self._data.find(needle, start, stop)

    @property
    def size(self) -> int:
        return len(self._data)


class FileSource(Source):
    """An open file, read by position; ``close`` when done (or use ``with``)."""

    def __init__(self, fd: int, name: str) -> None:
        self.name = name
        self._fd = fd
        try:
            self._size = os.lseek(fd, 0, os.SEEK_END)
        except OSError as error:  # some files in /proc
            os.close(fd)
            raise InputError(f"cannot be read by position: {error.strerror}", source=name) from error

    def read(self, offset: int, size: int) -> bytes:
        size = min(size, self._size - offset)
        if offset < 0 or size <= 0:
            return b""
        try:
            data = os.pread(self._fd, size, offset)
            while len(data) < size:  # a read may be cut at 2 GiB, or by a signal
                more = os.pread(self._fd, size - len(data), offset + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise InputError(f"cannot read: {error.strerror}", source=self.name, offset=offset) from error
        return data

    @property
    def size(self) -> int:
        return self._size

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> FileSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Part(Source):
    """A range of another source."""

    def __init__(self, parent: Source, offset: int, size: int | None, name: str) -> None:
        self.name = name
        self._parent = parent
        self._offset = offset
        self._limit = size
        self.streamed = parent.streamed

    def read(self, offset: int, size: int) -> bytes:
        if self._limit is not None:
            size = min(size, self._limit - offset)
        return self._parent.read(self._offset + offset, size) if offset >= 0 and size > 0 else b""

    def search(self, needle: bytes, start: int = 0, stop: int | None = None) -> int:
        ends = [self._offset + end for end in (stop, self._limit) if end is not None]
        found = self._parent.search(needle, self._offset + start, min(ends, default=None))
        return found if found < 0 else found - self._offset

    @property
    def size(self) -> int:
        if self._limit is not None:
            end = self._offset + self._limit
            if self._parent.at_hand >= end or self._parent.read(end - 1, 1):
                return self._limit
        rest = max(0, self._parent.size - self._offset)
        return rest if self._limit is None else min(rest, self._limit)

    @property
    def at_hand(self) -> int:
        reach = max(0, self._parent.at_hand - self._offset)
        return reach if self._limit is None else min(reach, self._limit)

    @property
    def known_size(self) -> int | None:
        known = self._parent.known_size is not None or self.at_hand == self._limit
        return self.size if known else None

    @property
    def damage(self) -> MbtoolError | None:
        return self._parent.damage

    def forget(self, before: int) -> None:
        if self._limit is None:  # one part of several: others need what is before it
            self._parent.forget(self._offset + before)


class StreamSource(Source):
    """A decompressed stream: unpacked as far as asked, what was unpacked kept until ``forget``.

    ``unpack`` starts the stream anew and yields (piece, packed) pairs: decompressed bytes and how many packed
    bytes were consumed so far. A stream that breaks, or meets a limit, ends there: ``damage`` then holds the error
    (a LimitError for a limit) and every byte before it can still be read. Reading behind what was forgotten starts
    over, at the budget's expense.
    """

    streamed = True
    WINDOW = 256 * MIB
    """Kept at most, so that memory stays bounded whatever the stream's length."""

    def __init__(self, unpack: Callable[[], Iterator[tuple[bytes, int]]], name: str, budget: Budget) -> None:
        self.name = name
        self.packed = 0
        self._damage: MbtoolError | None = None
        self._total: int | None = None
        self._unpack = unpack
        self._budget = budget
        self._restart()

    def _restart(self) -> None:
        self._pieces = self._unpack()
        self._kept = bytearray()
        self._start = 0  # stream offset of _kept[0]
        self._unwanted = 0  # stream offset before which nothing need be kept
        self._ended = False

    @property
    def damage(self) -> MbtoolError | None:
        return self._damage

    @property
    def ended(self) -> bool:
        """Whether the stream was unpacked to its end (or to where it broke)."""
        return self._total is not None

    @property
    def at_hand(self) -> int:
        return self._start + len(self._kept)

    @property
    def known_size(self) -> int | None:
        return self._total

    @property
    def size(self) -> int:
        if self._total is None:
            self.drain()
        return self.at_hand if self._total is None else self._total

    def forget(self, before: int) -> None:
        """Let go of the bytes before this offset, also of those that are still to be unpacked."""
        self._unwanted = max(self._unwanted, before)
        drop = min(self._unwanted - self._start, len(self._kept))
        if drop > 0:
            del self._kept[:drop]
            self._start += drop

    def read(self, offset: int, size: int) -> bytes:
        """As of any source. Raises LimitError when one read asks for more than WINDOW bytes that are there."""
        if offset < 0 or size <= 0 or (self._total is not None and offset >= self._total):
            return b""
        if offset < self._start:
            self._restart()
        self._unwanted = min(self._unwanted, offset)
        self._reach(offset + size, offset)
        start = offset - self._start
        if start == 0 and size == len(self._kept):
            return bytes(self._kept)
        return bytes(memoryview(self._kept)[start : start + size])

    def search(self, needle: bytes, start: int = 0, stop: int | None = None) -> int:
        if stop is None or start < self._start or stop > self.at_hand:
            return super().search(needle, start, stop)
        found = self._kept.find(needle, start - self._start, stop - self._start)
        return found if found < 0 else self._start + found

    def drain(self) -> None:
        """Unpack to the end, so that ``damage`` and ``packed`` are final; keeps at most the window."""
        self._reach(sys.maxsize, sys.maxsize)

    def _reach(self, end: int, needed: int) -> None:
        """Unpack until ``end`` is at hand or the stream ends; bytes before ``needed`` may be let go of."""
        while self.at_hand < end and not self._ended:
            try:
                piece, packed = next(self._pieces)
                if self._total is None:  # else this is another pass
                    self.packed = packed
                self._budget.spend(len(piece), self.at_hand + len(piece), packed, self.name)
            except StopIteration:
                self._end()
            except MbtoolError as error:
                self._end()
                self._damage = error.with_traceback(None)  # which holds this stream
            else:
                self._kept += piece
                self.forget(self._unwanted)
                if len(self._kept) > self.WINDOW:
                    self._slide(needed, end)

    def _end(self) -> None:
        self._ended = True
        self._total = self.at_hand

    def _slide(self, needed: int, end: int) -> None:
        """Keep half a window, or more when it is needed."""
        start = min(needed, self.at_hand - self.WINDOW // 2)
        if min(end, self.at_hand) - start > self.WINDOW:
            raise LimitError(f"one read asks for more than {self.WINDOW // MIB} MiB of a stream", source=self.name)
        self.forget(start)


def open_file(path: str | os.PathLike[str]) -> FileSource:
    """Open a regular file or block device for reading by range; pipes, and files in /proc, are copied first.

    Raises InputError for anything that cannot be read: missing, a directory, no permission, an endless device.
    """
    name = os.fspath(path)
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"cannot open: {error.strerror}", source=name or "''") from error
    status = os.fstat(fd)
    mode = status.st_mode
    written_when_read = stat.S_ISREG(mode) and not status.st_size  # or empty: files in /proc do not tell
    if stat.S_ISBLK(mode) or (stat.S_ISREG(mode) and not written_when_read):
        return FileSource(fd, name)
    try:
        if stat.S_ISFIFO(mode) or written_when_read:
            if stat.S_ISFIFO(mode):
                _await_writer(fd)
            os.set_blocking(fd, True)
            return _spool(fd, name)
        what = "a directory" if stat.S_ISDIR(mode) else "not a file"
        raise InputError(f"is {what}", source=name, expected="a regular file, block device or pipe")
    finally:
        os.close(fd)


def open_stdin() -> FileSource:
    """Standard input as a source, whatever it is connected to."""
    return _spool(sys.stdin.fileno(), "-")


MAX_PIPE = 4096 * MIB


def _spool(fd: int, name: str) -> FileSource:
    """Copy a pipe into an unnamed temporary file, at most MAX_PIPE bytes of it."""
    import tempfile

    with tempfile.TemporaryFile() as spool:
        total = 0
        try:
            while piece := os.read(fd, MIB):
                total += len(piece)
                if total > MAX_PIPE:
                    raise LimitError(f"more than {MAX_PIPE // MIB} MiB from a pipe", source=name)
                spool.write(piece)
            spool.flush()
        except OSError as error:
            raise InputError(f"cannot read: {error.strerror}", source=name) from error
        return FileSource(os.dup(spool.fileno()), name)


def _await_writer(fd: int) -> None:
    """Wait until somebody has opened the other end of a named pipe: before that, its end seems to be reached."""
    import select

    poller = select.poll()
    poller.register(fd, select.POLLIN)
    poller.poll()


def read_file(path: str | os.PathLike[str], limit: int) -> bytes:
    """A whole small file; InputError when it cannot be read, LimitError above ``limit`` bytes."""
    with open_file(path) as source:
        if source.size > limit:
            raise LimitError("file is too large", source=source.name, expected=f"at most {limit} bytes")
        return source.read(0, source.size)


def base_name(source: Source) -> str:
    """The last path component of a source's name, for titles."""
    return Path(source.name).name or source.name
