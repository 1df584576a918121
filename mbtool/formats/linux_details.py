"""What an unpacked Linux kernel says about itself: its banner, and its configuration when it carries it.

Linux: init/version-timestamp.c (``linux_banner``; before 6.1 init/version.c), kernel/configs.c (CONFIG_IKCONFIG:
``IKCFG_ST``, a gzip stream, ``IKCFG_ED``).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

from mbtool.errors import FormatError
from mbtool.model import Field, Finding, Node, Severity
from mbtool.source import MIB, Source

BANNER = b"Linux version "
MAX_BANNER = 1024
MAX_PLACES = 64
"""Places tried: the banner's first words stand in a kernel a few times."""
CONFIG_START, CONFIG_END = b"IKCFG_ST", b"IKCFG_ED"
GZIP = b"\x1f\x8b\x08"
MAX_CONFIG = 4 * MIB
"""Bytes of configuration, packed or not; a real one has 60 KiB and 300 KiB."""
PARTS = r"Linux version (?P<version>\S+) \((?P<builder>[^()]*)\) \((?P<compiler>.*)\) (?P<build>#.*)"


def find(source: Source, start: int, stop: int) -> Node | None:
    """The kernel's details found in the bytes [start, stop) of a vmlinux, None when it is no Linux kernel.

    The node (kind ``linux-kernel``) is all that was looked at. A configuration is its child, still packed:
    ``config`` unpacks it.
    """
    banner = _banner(source, start, stop)
    if banner is None:
        return None
    at, raw = banner
    text = raw.decode("utf-8", "backslashreplace")
    fields = []
    if match := re.fullmatch(PARTS, text):
        for name, value in match.groupdict().items():
            stored = value.encode()
            begin = at - start + len(text[: match.start(name)].encode())
            fields.append(Field(name, value, begin, len(stored), "", stored, telling=name != "builder"))
    fields.append(Field("banner", text, at - start, len(raw), "", raw, telling=not fields))
    place = _config_place(source, start, stop)
    if place is None:
        size = source.known_size
        part = "" if size is not None and stop >= size else f"not in the {stop - start} bytes that were looked at"
        fields.append(Field("embedded_config", None if part else False, meaning=part, telling=True))
        return Node("linux-kernel", start, stop - start, tuple(fields))
    begin, length, whole = place
    fields.append(Field("embedded_config", True, begin - start, length, f"gzip, {length} bytes", telling=True))
    content = Field("content", "kernel configuration", telling=True)
    child = Node("gzip", begin - start, length, (content,), (), () if whole else (ENDLESS,))
    return Node("linux-kernel", start, stop - start, tuple(fields), (child,))


ENDLESS = Finding(
    "LINUX-CONFIG-CUT", Severity.WARNING, "the embedded configuration has no end", expected=CONFIG_END.decode()
)


def config(source: Source, start: int, stop: int) -> bytes | None:
    """The text of the configuration embedded in the bytes [start, stop) of a vmlinux, None when there is none.

    Raises FormatError when it is damaged or larger than MAX_CONFIG bytes.
    """
    place = _config_place(source, start, stop)
    if place is None:
        return None
    begin, length, _ = place
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        text = stream.decompress(source.read(begin, length), MAX_CONFIG)
    except zlib.error as error:
        raise FormatError(
            f"embedded configuration is damaged: {error}", source=source.name, offset=begin
        ) from error
    if not stream.eof:
        raise FormatError("embedded configuration is cut short or too large", source=source.name, offset=begin)
    return text


def _banner(source: Source, start: int, stop: int) -> tuple[int, bytes] | None:
    """Place and text of the banner.

    A kernel may hold a second one without a build number, from before the number was known: that is not what it
    prints.
    """
    second = None
    for at in _places(source, BANNER, start, stop):
        raw = source.read(at, min(MAX_BANNER, stop - at)).split(b"\0")[0].split(b"\n")[0]
        if not raw[len(BANNER) : len(BANNER) + 1].isdigit():
            continue
        if re.search(rb"\) #\d", raw):
            return at, raw
        second = second or (at, raw)
    return second


def _config_place(source: Source, start: int, stop: int) -> tuple[int, int, bool] | None:
    """Offset and size (bytes) of the packed configuration and whether its end is there."""
    for at in _places(source, CONFIG_START + GZIP, start, stop):
        begin = at + len(CONFIG_START)
        limit = min(stop, begin + MAX_CONFIG)
        end = source.search(CONFIG_END, begin, limit)
        return begin, (limit if end < 0 else end) - begin, end >= 0
    return None


def _places(source: Source, needle: bytes, start: int, stop: int) -> Iterator[int]:
    """Where ``needle`` stands in [start, stop), the first MAX_PLACES of them."""
    for _ in range(MAX_PLACES):
        at = source.search(needle, start, stop)
        if at < 0:
            return
        yield at
        start = at + 1
