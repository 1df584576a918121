"""Whether Linux can run the init program of an initramfs archive: links, interpreter and machine are looked at.

Source: Linux, init/main.c (``kernel_init``), fs/exec.c, fs/binfmt_script.c, fs/binfmt_elf.c.
"""

from __future__ import annotations

import stat

from mbtool.formats.cpio import Header
from mbtool.formats.elf_headers import EM_386, EM_X86_64, MAGIC
from mbtool.record import record

HEAD = 256
"""Bytes of a program that Linux looks at (BINPRM_BUF_SIZE)."""
MAX_LINKS = 40
GIVEN = (b"", b"dev", b"root")
"""Directories that Linux has before it unpacks anything (usr/default_cpio_list)."""
ENOENT, ENOEXEC, EACCES = 2, 8, 13
NOTHING = "leads to nothing in the archive"


@record
class Refusal:
    """Why Linux does not run a program: Linux' error number, and whether it is for what this archive lacks."""

    reason: str
    error: int
    absent: bool = False


@record
class _File:
    mode: int
    elsewhere: bool
    """A hard link, whose content may come with another name."""
    head: bytes


class Programs:
    """The files of an archive, fed in order, as far as running one of them needs."""

    def __init__(self) -> None:
        self._files: dict[bytes, _File] = {}

    @staticmethod
    def matters(header: Header) -> bool:
        """Whether the first bytes of the file's content are needed."""
        runs = stat.S_ISREG(header.c_mode) and header.c_mode & 0o111
        return bool(runs or stat.S_ISLNK(header.c_mode))

    def add(self, name: bytes, header: Header, head: bytes) -> None:
        """A member: ``name`` without a slash in front, ``head`` its first bytes, a link's whole target.

        Its directory has to come before it.
        """
        name = name.rstrip(b"/")
        parent = name.rpartition(b"/")[0]
        if parent not in self._files and parent not in GIVEN and self._find(parent) is None:
            return  # Linux drops it without a word
        linked = not stat.S_ISDIR(header.c_mode) and header.c_nlink > 1 and not header.c_filesize
        self._files[name] = _File(header.c_mode, linked, head)

    def refusal(self, path: bytes) -> Refusal | None:
        """Why Linux does not run the program at ``path``; None when it does, as far as can be told."""
        file = self._find(path)
        if file is None:
            return Refusal(NOTHING, ENOENT, absent=True)
        reason = self._refused(file)
        if reason or file.elsewhere or not file.head.startswith(b"#!"):
            return reason
        words = file.head[2:].partition(b"\n")[0].split()
        interpreter = words[0] if words else b""
        if file.head[2:].partition(b"\n")[0].endswith(b"\r") and len(words) == 1:
            interpreter += b"\r"
        text = interpreter.decode("utf-8", "backslashreplace").replace("\r", "\\r")
        found = self._find(interpreter)
        if found is None:
            return Refusal(
                f"is a script for {text}, which is not in the archive, or not behind its directory",
                ENOENT,
                absent=True,
            )
        reason = self._refused(found)
        return reason and Refusal(f"is a script for {text}, which {reason.reason}", reason.error)

    def _refused(self, file: _File) -> Refusal | None:
        """Why a file is no program."""
        if not stat.S_ISREG(file.mode):
            return Refusal("is no regular file", EACCES)
        if not file.mode & 0o111:
            return Refusal("is not executable", EACCES)
        if file.elsewhere or file.head.startswith(b"#!"):
            return None
        if not file.head:
            return Refusal("is empty", ENOEXEC)
        if not file.head.startswith(MAGIC):
            return Refusal("is neither a script nor an ELF program", ENOEXEC)
        machine = int.from_bytes(file.head[18:20], "little")
        return None if machine in (EM_386, EM_X86_64) else Refusal("is a program for another machine", ENOEXEC)

    def _find(self, path: bytes) -> _File | None:
        """The file at a path, links followed."""
        left, at, links = path.split(b"/"), list[bytes](), 0
        while left:
            part = left.pop(0)
            if part in (b"", b"."):
                continue
            if part == b"..":
                del at[-1:]
                continue
            at.append(part)
            file = self._files.get(b"/".join(at))
            if file is not None and stat.S_ISLNK(file.mode):
                links += 1
                if links > MAX_LINKS:
                    return None
                at = [] if file.head.startswith(b"/") else at[:-1]
                left = [*file.head.split(b"/"), *left]
        return self._files.get(b"/".join(at))
