"""Whether Linux can run a program of an initrd: interpreters, loaders and machine are looked at.

Source: Linux, init/main.c (``kernel_init``), fs/exec.c (``exec_binprm``), fs/binfmt_script.c, fs/binfmt_elf.c.
"""

from __future__ import annotations

import re
import stat

from mbtool.formats.elf_headers import EM_386, EM_X86_64, MAGIC
from mbtool.formats.initrd_tree import File, Tree
from mbtool.record import record

MAX_SCRIPTS = 5
"""Scripts that may call each other."""
MACHINES = frozenset((EM_386, EM_X86_64))
"""Whose programs a 64-bit Linux mostly runs."""
ENOENT, EIO, ENOEXEC, EACCES, ELOOP, ELIBBAD = 2, 5, 8, 13, 40, 80
NOTHING = "leads to nothing in the archive"
MISSING = "is not in the archive, or not behind its directory"


@record
class Refusal:
    """Why Linux does not run a program: Linux' error number, and whether it is for what is not there."""

    reason: str
    error: int
    absent: bool = False


def refusal(tree: Tree, path: bytes, machines: frozenset[int] = MACHINES) -> Refusal | None:
    """Why Linux does not run the program at ``path``; None when it does, as far as can be told."""
    said = ""
    for _ in range(MAX_SCRIPTS + 1):
        file = tree.find(path)
        if file is None:
            return Refusal(f"{said}{MISSING}" if said else NOTHING, ENOENT, absent=True)
        if why := _no_file(file) or _no_program(file, machines):
            return Refusal(said + why.reason, why.error)
        if not file.head.startswith(b"#!"):
            return _no_loader(tree, file, said)
        path = re.split(rb"[ \t\0]", file.head[2:].partition(b"\n")[0].strip(b" \t"))[0]
        if not path:
            return Refusal(f"{said}is a script that names no interpreter", ENOEXEC)
        said += f"is a script for {_show(path)}, which "
    return Refusal(f"{said}is one script too many", ELOOP)


def _no_loader(tree: Tree, program: File, said: str) -> Refusal | None:
    """Why the dynamic loader of an ELF program does not run it."""
    if program.interpreter is None:
        return None
    said += f"is an ELF program for the loader {_show(program.interpreter)}, which "
    loader = tree.find(program.interpreter)
    if loader is None:
        return Refusal(f"{said}{MISSING}", ENOENT, absent=True)
    if why := _no_file(loader):
        return Refusal(said + why.reason, why.error)
    if not loader.head:
        return Refusal(f"{said}is empty", EIO)
    if not loader.head.startswith(MAGIC) or _machine(loader) != _machine(program):
        return Refusal(f"{said}is no ELF program for the same machine", ELIBBAD)
    return None


def _no_file(file: File) -> Refusal | None:
    """Why a file is not opened to be executed."""
    if not stat.S_ISREG(file.mode):
        return Refusal("is no regular file", EACCES)
    return None if file.runs else Refusal("is not executable", EACCES)


def _no_program(file: File, machines: frozenset[int]) -> Refusal | None:
    """Why a file is neither a script nor a program that runs."""
    if not file.head:
        return Refusal("is empty", ENOEXEC)
    if file.head.startswith(b"#!"):
        return None
    if not file.head.startswith(MAGIC):
        return Refusal("is neither a script nor an ELF program", ENOEXEC)
    machine = _machine(file)
    if machine in machines:
        return None
    bits = {EM_386: "32-bit ", EM_X86_64: "64-bit "}.get(machine)
    return Refusal(
        f"is a {bits}program, which the kernel does not run" if bits else "is a program for another machine",
        ENOEXEC,
    )


def _machine(file: File) -> int:
    return int.from_bytes(file.head[18:20], "little")


def _show(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace").replace("\r", "\\r")
