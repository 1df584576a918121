"""Outputs that are there whole or not at all: written beside their place, then renamed.

A directory is a set: a failure, a full disk or an interruption leaves what was there before. Device nodes and other
special files are never written to.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from mbtool.beside import Beside
from mbtool.build.exchange import exchange
from mbtool.errors import InputError
from mbtool.record import record

BATCH = 32 << 20
"""Bytes that are written before the storage is told of them."""
WAITING = 8
"""Pieces that wait to be hashed, at most."""


@record
class Written:
    """A file that was written: ``size`` in bytes."""

    name: str
    size: int
    sha256: str


class OutputDirectory:
    """A directory of files that appears complete. Use with ``with``; leaving it by an exception changes nothing.

    ``names`` are the files that such a set may hold: with ``force`` an older set is replaced, but a directory with
    anything else in it is refused, as is any that exists without ``force`` and is not empty. Raises InputError.
    Without ``sync`` a file filled by ``open`` need not have reached the disk: see ``open_output``.
    """

    def __init__(self, path: Path, names: Iterable[str], *, force: bool, sync: bool = True) -> None:
        self._names = frozenset(names)
        self._path = _resolved(path)
        self._force = force
        self._sync = sync
        self._check()
        self._work = _beside(self._path)
        self.files: list[Written] = []

    def _check(self) -> None:
        """Refuse before any work is done."""
        path = self._path
        if not path.parent.is_dir():
            raise InputError("its parent directory does not exist", source=str(path))
        if not path.exists():
            return
        if not path.is_dir():
            raise InputError("is there and no directory", source=str(path), remedy="choose another output")
        held = sorted(entry.name for entry in path.iterdir())
        if held and not self._force:
            raise InputError("is there and not empty", source=str(path), remedy="replace it with --force")
        strange = [name for name in held if name not in self._names or not (path / name).is_file()]
        if strange:
            raise InputError(
                "holds other files, which would be lost",
                source=str(path),
                found=", ".join(strange[:5]),
                remedy="choose another output",
            )

    def __enter__(self) -> OutputDirectory:
        try:
            self._work.mkdir()
        except OSError as error:
            raise _cannot(self._path, error) from error
        return self

    def write(self, name: str, data: bytes | Iterable[bytes]) -> Written:
        """Add a file, from bytes or from pieces of them."""
        assert name in self._names, name
        written = _write(self._work / name, name, data)
        self.files.append(written)
        return written

    @contextmanager
    def open(self, name: str) -> Iterator[int]:
        """Add a file too large to pass through memory: a descriptor to fill, counted in when the block ends."""
        assert name in self._names, name
        with _filling(self._work / name, self._path / name, self._sync) as fd:
            yield fd
        with (self._work / name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self.files.append(Written(name, size, hashlib.file_digest(file, "sha256").hexdigest()))

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._commit()
        finally:
            shutil.rmtree(self._work, ignore_errors=True)

    def _commit(self) -> None:
        try:
            self._check()
            _flush_directory(self._work)
            if not self._path.exists():
                self._work.rename(self._path)
            elif not exchange(self._work, self._path):  # then the work directory is the older set, and goes
                self._replace()
            _flush_directory(self._path.parent)
        except OSError as error:
            raise _cannot(self._path, error) from error

    def _replace(self) -> None:
        """The new set in place of the older one, in two steps: killed between them, the older has another name."""
        old = _beside(self._path)
        self._path.rename(old)
        try:
            self._work.rename(self._path)
        except BaseException:
            old.rename(self._path)
            raise
        shutil.rmtree(old, ignore_errors=True)


def write_file(path: Path, data: bytes | Iterable[bytes], *, force: bool) -> Written:
    """One file, whole or not at all. InputError when it is there (without ``force``) or no regular file."""
    target = writable_target(path, force=force)
    work = _beside(target)
    try:
        written = _write(work, path.name, data)
        work.rename(target)
        _flush_directory(target.parent)
    except OSError as error:
        raise _cannot(path, error) from error
    finally:
        with suppress(OSError):
            work.unlink()
    return written


@contextmanager
def open_output(path: Path, *, force: bool, sync: bool = True) -> Iterator[int]:
    """A file descriptor to fill; the file gets its name when the block is left without an exception.

    For outputs too large to pass through memory. Without ``sync`` the name does not wait until the content has
    reached the disk: then a power cut within the next seconds may leave it incomplete. Raises InputError as
    ``write_file`` does.
    """
    target = writable_target(path, force=force)
    work = _beside(target)
    try:
        with _filling(work, path, sync) as fd:
            yield fd
        work.rename(target)
        if sync:
            _flush_directory(target.parent)
    except OSError as error:
        raise _cannot(path, error) from error
    finally:
        with suppress(OSError):
            work.unlink()


@contextmanager
def _filling(work: Path, path: Path, sync: bool) -> Iterator[int]:
    """A new file, open to be filled, that is called ``work`` in the end; ``path`` is what errors call it.

    Where the file system can, it has no name until then: killed, nothing is left of it.
    """
    try:
        fd, unnamed = _create(work)
        try:
            yield fd
            if sync:
                os.fsync(fd)
            if unnamed:
                os.link(f"/proc/self/fd/{fd}", work, src_dir_fd=fd)  # naming a directory makes it follow the link
        finally:
            os.close(fd)
    except OSError as error:
        raise _cannot(path, error) from error


def _create(work: Path) -> tuple[int, bool]:
    """A new file in the directory of ``work``, and whether it has no name yet: else it is called ``work``."""
    flags = os.O_RDWR | os.O_CLOEXEC
    with suppress(OSError):  # a kernel or a file system that cannot, or no /proc to give it a name by
        if Path("/proc/self/fd").is_dir():
            return os.open(work.parent, flags | os.O_TMPFILE, 0o666), True
    return os.open(work, flags | os.O_CREAT | os.O_EXCL, 0o666), False


def writable_target(path: Path, *, force: bool) -> Path:
    """Where a file would really go; InputError when it is there (without ``force``) or no regular file."""
    target = _resolved(path)
    if not target.parent.is_dir():
        raise InputError("its parent directory does not exist", source=str(path))
    if target.exists():
        if not stat.S_ISREG(target.stat().st_mode):
            raise InputError("is no regular file", source=str(path), remedy="choose another output")
        if not force:
            raise InputError("is there already", source=str(path), remedy="replace it with --force")
    return target


def _start_storing(fd: int, offset: int, size: int) -> None:
    """Let these bytes go to the storage while the next ones are made: fsync then has the less to wait for."""
    with suppress(AttributeError, OSError):  # not everywhere there is a way to ask for it
        os.posix_fadvise(fd, offset, size, os.POSIX_FADV_DONTNEED)


def _write(path: Path, name: str, data: bytes | Iterable[bytes]) -> Written:
    size = started = 0
    try:
        with path.open("xb", buffering=0) as file, _digested(data) as (pieces, digest):
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    view = view[file.write(view) :]
                size += len(piece)
                if size - started >= BATCH:
                    _start_storing(file.fileno(), started, size - started)
                    started = size
            os.fsync(file.fileno())
            return Written(name, size, digest())
    except OSError as error:
        raise _cannot(path.parent / name, error) from error


@contextmanager
def _digested(data: bytes | Iterable[bytes]) -> Iterator[tuple[Iterable[bytes], Callable[[], str]]]:
    """The pieces, and what to ask for their SHA-256 in the end; some are hashed while others are written."""
    if isinstance(data, bytes):
        yield (data,), hashlib.sha256(data).hexdigest
        return
    from queue import Queue

    waiting: Queue[bytes | None] = Queue(WAITING)

    def passed() -> Iterator[bytes]:
        for piece in data:
            waiting.put(piece)
            yield piece
        waiting.put(None)

    def digest() -> str:
        found = hashlib.sha256()
        for piece in iter(waiting.get, None):
            found.update(piece)
        return found.hexdigest()

    with Beside(digest) as hashed:
        try:
            yield passed(), hashed.result
        except BaseException:
            waiting.put(None)
            raise


def _resolved(path: Path) -> Path:
    """The real place: an output that is a symbolic link is written where the link points."""
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise InputError(f"cannot be resolved: {error}", source=str(path)) from error


def _beside(path: Path) -> Path:
    """A name in the same directory that nobody has."""
    return path.with_name(f".{path.name[:200]}.{os.urandom(6).hex()}.tmp")


def _flush_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _cannot(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot write: {error.strerror or error}", source=str(path))
