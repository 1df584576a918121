"""The configuration of SYSLINUX and its kin (EXTLINUX, ISOLINUX): labels, and what each of them loads.

Keywords are words at the start of a line, in any case; a value reaches to the line's end. Source: SYSLINUX,
txt/syslinux.cfg.txt and txt/menu.txt; for mboot.c32, com32/mboot/mboot.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mbtool.record import record

MAX_DEPTH = 16
"""Files that are included within one another."""
MAX_FILES = 256
"""Files that are included in all."""
MAX_LINES = 1 << 16
"""Lines of a configuration with all that it includes."""
KERNELS = ("kernel", "linux", "com32")
"""Directives that load what is looked into here."""
OTHERS = ("boot", "bss", "comboot", "config", "fdimage", "localboot", "pxe")
"""Directives that load something else."""
PROGRAMS = (".c32", ".com", ".cbt", ".bss", ".bs", ".bin", ".img", ".0")
"""Ends of names that KERNEL takes for something else than Linux."""
MBOOT, LINUX_C32 = "mboot.c32", "linux.c32"
MEMDISK = "memdisk"
"""Takes a disk image for its initrd."""


@record
class SyslinuxEntry:
    """A label. ``kernel``: the file, with ``kind`` the directive that named it; ``append``: as it counts here."""

    label: str
    title: str
    line: int
    kind: str = ""
    kernel: str = ""
    append: str = ""
    initrd: tuple[str, ...] = ()

    @property
    def program(self) -> str:
        """The file's name without directory, in lower case."""
        return self.kernel.rpartition("/")[2].lower()

    @property
    def is_linux(self) -> bool:
        """Whether the file is loaded as a Linux kernel."""
        return self.kind == "linux" or (self.kind == "kernel" and not self.program.endswith(PROGRAMS))

    @property
    def modules(self) -> tuple[tuple[str, str], ...]:
        """Of mboot.c32: the kernel and its modules, each a file and the words behind it."""
        if self.program != MBOOT:
            return ()
        pieces = (piece.split() for piece in f" {self.append} ".split(" --- "))
        return tuple((words[0], " ".join(words[1:])) for words in pieces if words)


@dataclass
class _Label:
    label: str
    line: int
    title: str = ""
    kind: str = ""
    kernel: str = ""
    append: str | None = None
    initrd: list[str] = field(default_factory=list)


def parse(text: str, include: Callable[[str], str | None] = lambda name: None) -> tuple[SyslinuxEntry, ...]:
    """The labels that load something, in order. ``include``: the text of another file, None when it is not there.

    Any text is a configuration; what makes no sense in it is passed over.
    """
    labels: list[_Label] = []
    everywhere: str | None = None
    of_label = False
    for number, line in _lines(text, include):
        word, _, value = line.partition(" ")
        word, value = word.lower(), value.strip()
        if word == "menu":
            word, _, value = value.partition(" ")
            if word.lower() == "label" and of_label:
                labels[-1].title = value.strip().replace("^", "")
            elif word.lower() in ("begin", "end"):
                of_label = False  # a menu has a label, too
        elif word == "label":
            labels.append(_Label(value, number))
            of_label = True
        elif word == "append" and not labels:
            everywhere = value
        elif labels:
            _take(labels[-1], word, value)
    return tuple(_entry(label, everywhere) for label in labels if label.kind in KERNELS and label.kernel)


def _take(label: _Label, word: str, value: str) -> None:
    if word in KERNELS or word in OTHERS:
        label.kind, label.kernel = word, value
    elif word == "append":
        label.append = value
    elif word == "initrd":
        label.initrd = value.split(",")


def _entry(label: _Label, everywhere: str | None) -> SyslinuxEntry:
    append = (everywhere if label.append is None else label.append) or ""
    append = "" if append == "-" else append
    kernel, kind, initrd = label.kernel, label.kind, label.initrd
    if kernel.rpartition("/")[2].lower() == LINUX_C32:
        kernel, _, append = append.partition(" ")
        kind = "linux"
    given = [word.removeprefix("initrd=") for word in append.split() if word.startswith("initrd=")]
    if given and not initrd:
        initrd = given[-1].split(",")
    return SyslinuxEntry(
        label.label,
        label.title or label.label,
        label.line,
        kind,
        kernel,
        append,
        tuple(name for name in initrd if name),
    )


def _lines(text: str, include: Callable[[str], str | None]) -> Iterator[tuple[int, str]]:
    """Keyword (in lower case), one blank, the rest; with numbers from 1, 0 in included files; no help texts."""
    waiting = [enumerate(text.splitlines(), 1)]
    help_text, count, included = False, 0, 0
    while waiting and count < MAX_LINES:
        found = next(waiting[-1], None)
        if found is None:
            waiting.pop()
            continue
        count += 1
        words = found[1].split(None, 1)
        if not words or words[0].startswith("#"):
            continue
        first, rest = words[0].lower(), words[1].strip() if len(words) > 1 else ""
        if help_text or first in ("text", "endtext"):
            help_text = first != "endtext"
            continue
        if first == "menu" and rest[:8].lower() in ("include ", "include\t"):
            first, rest = "include", rest[8:].strip()
        if first == "include":
            other = include(rest.split()[0]) if rest and len(waiting) < MAX_DEPTH and included < MAX_FILES else None
            included += 1
            if other is not None:
                waiting.append(enumerate(other.splitlines(), 1))
            continue
        yield found[0] if len(waiting) == 1 else 0, f"{first} {rest}"
