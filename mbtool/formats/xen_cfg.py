"""The configuration that Xen's EFI loader reads: sections in brackets, ``key=value`` lines, ``#`` comments.

Source: Xen, docs/misc/efi.pandoc; xen/common/efi/boot.c, ``pre_parse`` and ``get_value``: every control character
ends a line (a tab too), ``#`` starts a comment wherever it stands, ``;`` one at the start of a line.
"""

from __future__ import annotations

import re

from mbtool.record import record

KEYS = ("default", "chain", "kernel", "ramdisk", "options", "xsm", "ucode", "video")
"""What x86 looks for; anything else is passed over without a word."""
GLOBAL = "global"


@record
class Line:
    """What the loader sees of a line at ``offset`` (bytes); ``rest``: what a comment took from its end.

    ``number``: the line's as editors count, from 1.
    """

    offset: int
    text: str
    rest: str = ""
    number: int = 0

    @property
    def section(self) -> str | None:
        """The section that it begins, None when it begins none."""
        match = re.match(r"\[(.*?)\]", self.text)
        return match[1] if match else None

    @property
    def key(self) -> str:
        """What stands before ``=``, "" without one."""
        key, equals, _ = self.text.partition("=")
        return key if equals and not self.text.startswith("[") else ""

    @property
    def value(self) -> str:
        """What stands behind ``=`` and blanks."""
        return self.text.partition("=")[2].lstrip(" ")


@record
class XenCfg:
    """``ended``: the last line has a line end, without which loaders up to Xen 4.21 pass it over."""

    lines: tuple[Line, ...]
    ended: bool = True

    @property
    def sections(self) -> tuple[str, ...]:
        """In the order of the file."""
        return tuple(line.section for line in self.lines if line.section is not None)

    def keys(self, section: str | None) -> dict[str, list[Line]]:
        """The lines of each key in a section (None: in the whole file): the loader takes the first."""
        found: dict[str, list[Line]] = {}
        inside = not section
        for line in self.lines:
            if line.text.startswith("["):
                if section and inside:
                    break
                inside = inside or line.text.startswith(f"[{section}]")
            elif inside and line.key:
                found.setdefault(line.key, []).append(line)
        return found

    def get(self, section: str | None, key: str) -> Line | None:
        """The line that the loader takes for a key."""
        return self.keys(section).get(key, [None])[0]

    @property
    def default(self) -> str | None:
        """The section that is booted when nobody names one."""
        line = self.get(GLOBAL, "default")
        return line.value if line else None


def parse(data: bytes) -> XenCfg:
    """What the loader makes of the file; any bytes are a configuration."""
    lines = []
    number, at = 1, 0
    for match in re.finditer(rb"[^\x00-\x1f\x7f]+", data):
        raw = match[0].lstrip(b" ")
        text, mark, rest = raw.partition(b"#")
        if text and not text.startswith(b";"):
            offset = match.end() - len(raw)
            number, at = number + data.count(b"\n", at, offset), offset
            told, comment = text.decode("utf-8", "replace"), (mark + rest).decode("utf-8", "replace")
            lines.append(Line(offset, told, comment, number))
    return XenCfg(tuple(lines), not data or data[-1] < 0x20 or data[-1] == 0x7F)
