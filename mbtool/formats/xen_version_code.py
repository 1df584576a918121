"""The functions of Xen's xen/common/version.c, read out of the compiled hypervisor.

Xen stores its version in no header. What it prints when it boots comes from functions that are compiled one after
another in source order, each to a single instruction and a return:

    xen_compile_date, _time, _by, _domain, _host, xen_compiler    lea string(%rip), %rax; ret
    xen_major_version, xen_minor_version                          mov $number, %eax; ret
    xen_extra_version, xen_changeset, xen_banner, xen_deny, ...   lea string(%rip), %rax; ret

x86 Xen is position independent code (-fpic, xen/arch/x86/arch.mk or Rules.mk) in every version from 4.14 to 4.22,
so that the strings are found from the instructions alone: two numbers between two strings are the anchor. Only
link-time optimisation, which Xen offers with clang alone, could tear the functions apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from struct import unpack
from typing import NamedTuple

# Named tuples: every look at an ELF file loads this module, and they are made five times as fast as dataclasses.

MAX_TEXT = 512

# A return: by way of a thunk (jmp) or not, with the frame pointer saved and restored around it or not.
_RETURN = rb"(?:\x48\x89\xe5)?\x5d?(?:\xc3|\xe9.{4})"
TEXT = re.compile(rb"\x48\x8d\x05(.{4})" + _RETURN, re.DOTALL)
NUMBER = re.compile(rb"\xb8(.)\x00\x00\x00" + _RETURN, re.DOTALL)
MAJOR = re.compile(rb"\xb8([\x03-\x0f])\x00\x00\x00" + _RETURN, re.DOTALL)
NEXT = 96
"""Bytes up to the end of the next function: aligned to 64 at most, then endbr64 and the frame pointer's push."""
BEFORE, AFTER = 768, 512
"""Bytes around the numbers in which the other functions are, whatever their alignment."""
MAX_NUMBERS, MAX_TRIES = 1 << 16, 64
"""Functions that return a small number, and those with a number and a text behind, that are looked at."""

UPSTREAM = ("compile_by", "compile_domain", "compile_host")
DEBIAN = (
    "compile_system_distribution",
    "compile_system_maintainer_local",
    "compile_system_maintainer_domain",
    "compile_system_version",
)
"""Debian's patch has these in the place of UPSTREAM."""


class Text(NamedTuple):
    """A string of the image and where it is: offset and size in bytes, without its NUL."""

    value: str
    offset: int
    size: int


class Code(NamedTuple):
    """The bytes of a file from offset ``start``.

    ``reach`` gives the file offset of what code points at, from the file offset behind the instruction and the
    displacement in it; None when the file does not have it.
    """

    data: bytes
    start: int
    reach: Callable[[int, int], int | None]

    def text(self, offset: int | None) -> Text | None:
        """The NUL-terminated string at a file offset, None when none is there."""
        at = -1 if offset is None else offset - self.start
        if not 0 <= at < len(self.data):
            return None
        end = self.data.find(b"\0", at, at + MAX_TEXT)
        if end < 0:
            return None
        return Text(self.data[at:end].decode("utf-8", "backslashreplace"), self.start + at, end - at)


class VersionCode(NamedTuple):
    """What the functions return, by their names without ``xen_``; offsets of the numbers in the file."""

    major: int
    major_offset: int
    minor: int
    minor_offset: int
    texts: dict[str, Text]


def read(code: Code) -> VersionCode | None:
    """The functions of version.c, None when they are not there in the form that compilers give them."""
    for major, minor in islice(_numbers(code.data), MAX_TRIES):
        before = _texts(code, max(0, major.start() - BEFORE), major.start())
        after = _texts(code, minor.end(), minor.end() + AFTER)
        if before and after and _plausible(before[-1], after):
            return VersionCode(
                major[1][0],
                code.start + major.start(1),
                minor[1][0],
                code.start + minor.start(1),
                {**_named_before(before), **_named_after(after)},
            )
    return None


def _numbers(data: bytes) -> Iterator[tuple[re.Match[bytes], re.Match[bytes]]]:
    """Where two functions that return numbers, then one that returns a text, follow each other."""
    for major in islice(MAJOR.finditer(data), MAX_NUMBERS):
        minor = NUMBER.search(data, major.end(), major.end() + NEXT)
        if minor and TEXT.search(data, minor.end(), minor.end() + NEXT):
            yield major, minor


def _texts(code: Code, start: int, stop: int) -> list[Text]:
    """What the text functions in a range return, in their order."""
    found = []
    for match in TEXT.finditer(code.data, start, stop):
        (displacement,) = unpack("<i", match[1])
        if text := code.text(code.reach(code.start + match.end(1), displacement)):
            found.append(text)
    return found


def _plausible(compiler: Text, after: list[Text]) -> bool:
    """Whether the strings around two numbers are those of version.c: all have xen_deny's (since Xen 4.7)."""
    return bool(compiler.value) and any(text.value == "<denied>" for text in after)


def _named_before(texts: list[Text]) -> dict[str, Text]:
    """Names for the strings before the numbers: the compile time is known by its form, the rest by their order."""
    times = [index for index, text in enumerate(texts) if re.fullmatch(r"\d\d:\d\d:\d\d", text.value)]
    named = {"compiler": texts[-1]}
    if not times:
        return named
    between = texts[times[-1] + 1 : -1]
    for names in (UPSTREAM, DEBIAN):
        if len(names) == len(between):
            named.update(zip(names, between, strict=True))
    named["compile_time"] = texts[times[-1]]
    if times[-1]:
        named["compile_date"] = texts[times[-1] - 1]
    return named


def _named_after(texts: list[Text]) -> dict[str, Text]:
    """Names for the strings behind the numbers: Debian has no banner, Xen 4.14 no build info."""
    named = {"extra_version": texts[0]}
    denied = next(index for index, text in enumerate(texts) if text.value == "<denied>")
    named.update(zip(("changeset", "banner"), texts[1:denied], strict=False))
    if denied + 1 < len(texts) and texts[denied + 1].value.startswith("debug="):
        named["build_info"] = texts[denied + 1]
    return named
