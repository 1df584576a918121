"""The file system that Linux makes of the members of an initrd's archives, and the members that it drops.

A member goes where its name leads, links followed, among what came before it; what has no directory there is
dropped without a word. Sources: Linux, init/initramfs.c (``do_header``, ``do_name``, ``do_symlink``,
``clean_path``, ``maybe_link``); usr/default_cpio_list.
"""

from __future__ import annotations

import stat
from collections.abc import Callable

from mbtool.formats.cpio import PATH_MAX, Header
from mbtool.formats.elf_headers import MAGIC
from mbtool.formats.elf_interpreter import interpreter

HEAD = 256
"""Bytes of a program that Linux looks at (BINPRM_BUF_SIZE)."""
MAX_LINKS = 40
GIVEN = (b"", b"dev", b"root")
"""Directories that Linux has before it unpacks anything."""
EARLY = (b"kernel/x86/microcode/", b"kernel/firmware/acpi/")
"""Where Linux looks into the archive itself (lib/earlycpio.c): whoever makes one for that needs no directories."""
MAX_TOLD = 5
"""Dropped members that are remembered by name."""
Read = Callable[[int, int], bytes]
"""Offset within a member's body and number of bytes, fewer at its end."""


class File:
    """What is at a path: the mode as in ``st_mode``; of a program the first bytes, of a link its target.

    ``interpreter``: of an ELF program, None where it names none.
    """

    __slots__ = ("head", "interpreter", "mode")

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.head = b""
        self.interpreter: bytes | None = None

    @property
    def runs(self) -> bool:
        """Whether it is a file that may be executed."""
        return stat.S_ISREG(self.mode) and bool(self.mode & 0o111)

    def fill(self, read: Read, size: int) -> None:
        """Take in what running the file needs of its content."""
        if stat.S_ISLNK(self.mode):
            self.head = read(0, size)
        elif self.runs and size:
            self.head = read(0, HEAD)
            self.interpreter = interpreter(self.head, read) if self.head.startswith(MAGIC) else None


FOLDER = File(stat.S_IFDIR | 0o755)


class Tree:
    """Fed member after member. ``dropped``: how many have no directory; ``first_dropped``: the first names."""

    def __init__(self) -> None:
        self.dropped = 0
        self.first_dropped: list[bytes] = []
        self._files = dict.fromkeys(GIVEN, FOLDER)
        self._inhabited: set[bytes] = set()
        self._plain: dict[int, File] = {}
        """By mode: of most files nothing else matters."""
        self._linked: dict[tuple[int, int, int, int], bytes | None] = {}

    def add(self, name: bytes, header: Header, read: Read) -> None:
        """A member, while its body can still be read."""
        kind, size = stat.S_IFMT(header.c_mode), header.c_filesize
        skipped = size > PATH_MAX if kind == stat.S_IFLNK else size and kind != stat.S_IFREG
        if skipped or not 0 < header.c_namesize <= PATH_MAX or not kind:
            return  # the walk says so
        name = name.removeprefix(b"./").strip(b"/")
        parent, _, last = name.rpartition(b"/")
        if last in (b"", b".", b".."):
            return
        folder = self._folder(parent)
        path = None if folder is None else folder + b"/" + last if folder else last
        new = File(header.c_mode)
        linked = header.c_nlink > 1 and kind not in (stat.S_IFDIR, stat.S_IFLNK)
        file = self._same(header, path, new) if linked else new
        if path is None or file is None:
            self._drop(name)
        elif self._free(path, kind):
            if size:
                file.fill(read, size)
            plain = not (linked or file.runs or kind == stat.S_IFLNK)
            self._files[path] = self._plain.setdefault(file.mode, file) if plain else file
            self._inhabited.add(folder or b"")

    def end_of_archive(self) -> None:
        """A trailer: hard links end there."""
        self._linked.clear()

    def find(self, path: bytes) -> File | None:
        """The file at a path, links followed."""
        real = self._real(path)
        return None if real is None else self._files[real]

    def _same(self, header: Header, path: bytes | None, new: File) -> File | None:
        """The file of which a member is one more hard link, ``new`` for the first; None when that was dropped."""
        key = (header.c_maj, header.c_min, header.c_ino, stat.S_IFMT(header.c_mode))
        if key not in self._linked:
            self._linked[key] = path
            return new
        first = self._linked[key]
        file = None if first is None else self._files.get(first)
        if file is not None:
            file.mode = header.c_mode
        return file

    def _free(self, path: bytes, kind: int) -> bool:
        """Whether a file can be made at a path: what is there gives way, but for a directory that is not empty."""
        old = self._files.get(path)
        return old is None or not stat.S_ISDIR(old.mode) or (kind != stat.S_IFDIR and path not in self._inhabited)

    def _drop(self, name: bytes) -> None:
        if not name.startswith(EARLY):
            self.dropped += 1
            if len(self.first_dropped) < MAX_TOLD:
                self.first_dropped.append(name)

    def _folder(self, path: bytes) -> bytes | None:
        """Where a directory really is; None when it is not there."""
        file = self._files.get(path)  # no path in there leads over a link
        if file is not None and stat.S_ISDIR(file.mode):
            return path
        real = self._real(path)
        return real if real is not None and stat.S_ISDIR(self._files[real].mode) else None

    def _real(self, path: bytes) -> bytes | None:
        """The path without links, empty parts and dots, None when nothing is there."""
        left, at, links = path.split(b"/")[::-1], b"", 0
        while left:
            part = left.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                at = at.rpartition(b"/")[0]
                continue
            parent, at = at, at + b"/" + part if at else part
            file = self._files.get(at)
            if file is None:
                return None
            if stat.S_ISLNK(file.mode):
                links += 1
                if links > MAX_LINKS:
                    return None
                at = b"" if file.head.startswith(b"/") else parent
                left += file.head.split(b"/")[::-1]
        return at
