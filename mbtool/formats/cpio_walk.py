"""A walk through a cpio archive of any length: its members in order, and what is wrong with it.

What Linux takes and what it refuses is from init/initramfs.c (``do_header``, ``do_name``, ``do_reset``).
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator

from mbtool.errors import FormatError, LimitError
from mbtool.formats.cpio import CRC, HEADER_SIZE, NEWC, PATH_MAX, TRAILER, Header, parse_header
from mbtool.formats.findings import Findings
from mbtool.model import Finding, Severity
from mbtool.record import record
from mbtool.source import Source

MAX_MEMBERS = 1_000_000
"""Members that are looked at in one archive: real ones have a few thousand."""


@record
class Entry:
    """A member met on a walk. Offsets in bytes from the start of the source."""

    header: Header
    name: bytes
    """Up to the first NUL, as Linux takes it."""
    name_field: bytes
    """All ``c_namesize`` bytes."""
    raw_header: bytes
    offset: int
    data_offset: int

    @property
    def data_end(self) -> int:
        return self.data_offset + self.header.c_filesize

    @property
    def end(self) -> int:
        """Where the next member may start."""
        return align(self.data_end)

    def reader(self, source: Source) -> Callable[[int, int], bytes]:
        """Reads the body by offset and number of bytes, from the source that the entry was met in."""
        at, size = self.data_offset, self.header.c_filesize
        return lambda start, count: source.read(at + start, max(0, min(count, size - start)))


def archives(source: Source) -> Iterator[tuple[Source, Archive]]:
    """The archives that lie one behind the other from the start of a source, each to be walked before the next.

    Each comes with the source that its offsets are in.
    """
    at = 0
    while True:
        part = source.part(at) if at else source
        archive = Archive(part)
        yield part, archive
        behind = at + archive.end
        behind += zeros(source, behind)
        if behind == at or source.read(behind, 6) not in (NEWC, CRC):
            return
        at = behind


def align(offset: int) -> int:
    """The next multiple of 4."""
    return (offset + 3) & ~3


class Archive:
    """One pass over the archive at offset 0 of a source: iterate to get its members, in order, without the trailer.

    An entry's body can be read from the source until the next entry is asked for; a stream forgets it then. After
    the pass, ``end`` is where the archive ended (bytes), ``trailer`` whether a trailer ended it, and ``findings``
    what is wrong with it. Raises LimitError after MAX_MEMBERS.
    """

    def __init__(self, source: Source) -> None:
        self.end = 0
        self.trailer = False
        self.findings = Findings()
        self._broken = False
        self._source = source
        self._window = _Window(source)

    def __iter__(self) -> Iterator[Entry]:
        count = 0
        while (entry := self._next()) is not None:
            self.end = entry.end
            if entry.name == TRAILER:
                self.trailer = True
                break
            if (count := count + 1) > MAX_MEMBERS:
                raise LimitError(f"more than {MAX_MEMBERS} members", source=self._source.name, offset=entry.offset)
            yield entry
            self._check_body(entry)
        if not self._window.get(self.end, 1):
            self.end = min(self.end, self._source.size)  # the last padding may be absent
        if not self.trailer and not self._broken:
            self._add(
                "CPIO-NO-TRAILER",
                Severity.WARNING,
                "the archive has no trailer: hard links may join with those of the next archive",
                self.end,
                expected="a member TRAILER!!!",
            )

    def _next(self) -> Entry | None:
        """The member at or after ``end``, None where there is none (any more)."""
        at = self.end
        data = self._window.get(at, HEADER_SIZE)
        if data[:1] == b"\0":  # Linux lets zeros stand between members, trailer or not
            at += zeros(self._source, at)
            data = self._window.get(at, HEADER_SIZE)
            if data[:6] not in (NEWC, CRC):
                return None
        try:
            header = parse_header(data)
        except FormatError as error:
            if data[:6] in (NEWC, CRC):
                short = len(data) < HEADER_SIZE
                self.end = at + len(data) if short else at
                id = "CPIO-TRUNCATED" if short else "CPIO-BAD-NUMBER"  # noqa: A001
                self._break(id, error.problem, at, error.expected, error.found)
            return None
        if at & 3:
            self._add("CPIO-MISALIGNED", Severity.ERROR, "a member does not start at a multiple of 4", at)
        name_at = at + HEADER_SIZE
        data_at = align(name_at + header.c_namesize)
        field = self._window.get(name_at, min(data_at - name_at, 2 * PATH_MAX))
        if len(field) < min(header.c_namesize, 2 * PATH_MAX):
            self.end = name_at + len(field)
            text = "the data ends within a member's name"
            self._break("CPIO-TRUNCATED", text, at, f"{header.c_namesize} bytes", f"{len(field)}")
            return None
        field, padding = field[: header.c_namesize], field[header.c_namesize :]
        entry = Entry(header, field.split(b"\0", 1)[0], field, data, at, data_at)
        self._check_header(entry)
        self._check_padding(padding, name_at + header.c_namesize)
        return entry

    def _check_header(self, entry: Entry) -> None:
        """What is wrong with a member as far as its header and name tell."""
        header, name, at = entry.header, entry.name, entry.offset
        if not 0 < header.c_namesize <= PATH_MAX:
            size = header.c_namesize
            self._add("CPIO-SKIPPED", Severity.WARNING, f"Linux skips a member with c_namesize {size}", at)
            return
        if entry.name_field[-1]:
            self._add("CPIO-NAME-UNTERMINATED", Severity.ERROR, "a member's name does not end in NUL", at)
        kind = stat.S_IFMT(header.c_mode)
        if kind == stat.S_IFLNK:
            if header.c_filesize > PATH_MAX:
                self._add("CPIO-SKIPPED", Severity.WARNING, f"Linux skips {show(name)}: link target too long", at)
        elif header.c_filesize and kind != stat.S_IFREG and name != TRAILER:
            self._add("CPIO-SKIPPED", Severity.WARNING, f"Linux skips {show(name)}: no file, yet a body", at)
        if name[:1] == b"/":
            self._add("CPIO-NAME-ABSOLUTE", Severity.INFO, f"absolute name {show(name)}", at)
        if b".." in name and b".." in name.split(b"/"):
            self._add("CPIO-NAME-UPWARD", Severity.WARNING, f"name leads upward: {show(name)}", at)

    def _check_body(self, entry: Entry) -> None:
        """Is the body all there, is its sum right, is its padding zero?"""
        header = entry.header
        if header.c_magic == CRC and header.c_filesize and stat.S_ISREG(header.c_mode):
            total = sum(map(sum, self._window.pieces(entry.data_offset, entry.data_end))) & 0xFFFFFFFF
            if total != header.c_chksum:
                self._add(
                    "CPIO-CHECKSUM",
                    Severity.ERROR,
                    f"the bytes of {show(entry.name)} do not add up to c_chksum",
                    entry.offset,
                    f"{header.c_chksum:#010x}",
                    f"{total:#010x}",
                )
        padding = self._window.get(entry.data_end, entry.end - entry.data_end + 1)
        self._check_padding(padding[: entry.end - entry.data_end], entry.data_end)
        if not padding and self._source.size < entry.data_end:
            there = max(0, self._source.size - entry.data_offset)
            text = f"the data ends within {show(entry.name)}"
            self._break("CPIO-TRUNCATED", text, entry.offset, f"{header.c_filesize} bytes", f"{there}")

    def _check_padding(self, padding: bytes, at: int) -> None:
        if padding.strip(b"\0"):
            self._add("CPIO-PADDING", Severity.INFO, "padding is not zero", at, found=padding.hex())

    def _break(self, id: str, message: str, offset: int, expected: str, found: str) -> None:  # noqa: A002
        """The archive cannot be read on from here."""
        self._broken = True
        self._add(id, Severity.ERROR, message, offset, expected, found)

    def _add(
        self,
        id: str,  # noqa: A002
        severity: Severity,
        message: str,
        offset: int,
        expected: str = "",
        found: str = "",
    ) -> None:
        self.findings.add(Finding(id, severity, message, "", offset, expected, found))


class _Window:
    """Reads a source forward in large pieces, so that a member of some hundred bytes costs no read of its own."""

    SIZE = 1 << 16

    def __init__(self, source: Source) -> None:
        self._source = source
        self._data = b""
        self._base = 0

    def get(self, at: int, size: int) -> bytes:
        """The bytes [at, at + size), fewer at the end of the data; what lies before may be forgotten."""
        start = at - self._base
        if start < 0 or start + size > len(self._data):
            self._source.forget(at)
            self._data = self._source.read(at, max(size, self.SIZE))
            self._base, start = at, 0
        return self._data[start : start + size]

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes [start, stop) piece by piece, less where the data ends."""
        while start < stop and (piece := self.get(start, min(self.SIZE, stop - start))):
            yield piece
            start += len(piece)


def zeros(source: Source, at: int) -> int:
    """How many zero bytes there are from ``at`` on."""
    count = 0
    for piece in source.chunks(at):
        rest = piece.lstrip(b"\0")
        count += len(piece) - len(rest)
        if rest:
            break
        source.forget(at + count)
    return count


def show(name: bytes) -> str:
    """A member's name as text: bytes that are not UTF-8 as ``\\xNN``."""
    return name.decode("utf-8", "backslashreplace")
