"""What an unpacked Linux kernel says about itself: its banner, and its configuration when it carries it.

Linux: init/version.c (``linux_banner``), kernel/configs.c (IKCFG_ST, a gzip stream, IKCFG_ED).
"""

from __future__ import annotations

import re

from mbtool.model import Field, Node
from mbtool.source import Source

BANNER = b"Linux version "
MAX_BANNER = 1024
CONFIG_START = b"IKCFG_ST\x1f\x8b\x08"
CONFIG_END = b"IKCFG_ED"
MAX_CONFIG = 4 << 20
PARTS = r"Linux version (?P<release>\S+) \((?P<builder>[^)]*)\) \(?(?P<compiler>.*?)\)? (?P<build>#\d.*)"


def find(source: Source, start: int, stop: int) -> Node | None:
    """The kernel's details found in the bytes [start, stop) of a vmlinux, None when it is no Linux kernel.

    The node (kind ``linux-kernel``) stands at the banner, with ``stop`` for the end of what was looked at.
    """
    at = _banner(source, start, stop)
    if at < 0:
        return None
    raw = source.read(at, min(MAX_BANNER, stop - at)).split(b"\0")[0].rstrip(b"\n")
    text = raw.decode("utf-8", "replace")
    fields = [Field("banner", text, 0, len(raw), "", raw, telling=True)]
    if match := re.fullmatch(PARTS, text):
        for name, value in match.groupdict().items():
            begin = len(text[: match.start(name)].encode())
            stored = value.encode("utf-8", "replace")
            fields.append(Field(name, value, begin, len(stored), "", stored))
    fields.append(_config(source, start, stop, at))
    return Node("linux-kernel", at, len(raw), tuple(fields))


def _banner(source: Source, start: int, stop: int) -> int:
    """Where the banner stands: the text followed by a version, not the same words in a message."""
    while 0 <= start < stop:
        at = source.search(BANNER, start, stop)
        if at < 0:
            return -1
        head = source.read(at + len(BANNER), 1)
        if head.isdigit():
            return at
        start = at + 1
    return -1


def _config(source: Source, start: int, stop: int, base: int) -> Field:
    """The embedded configuration: its packed size in bytes, or that there is none in what was looked at."""
    at = source.search(CONFIG_START, start, stop)
    if at < 0:
        return Field("config", None, meaning="no embedded configuration (CONFIG_IKCONFIG) found", telling=True)
    begin = at + 8
    end = source.search(CONFIG_END, begin, min(stop, begin + MAX_CONFIG))
    if end < 0:
        return Field("config", None, at - base, None, "embedded configuration without an end", telling=True)
    words = f"embedded configuration, {end - begin} bytes packed, at {begin:#x}"
    return Field("config", end - begin, begin - base, end - begin, words, telling=True)
