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
CONFIG_MARK = CONFIG_START + b"\x1f\x8b\x08"
MAX_CONFIG = 4 * MIB
"""Bytes of configuration, packed or not; a real one has 60 KiB and 300 KiB."""
Text = tuple[int, bytes]
"""Offset and bytes."""
Place = tuple[int, int, bool]
"""Offset and size (bytes) of the packed configuration, and whether its end is there."""
PARTS = r"Linux version (?P<version>\S+) \((?P<builder>[^()]*)\) \((?P<compiler>.*)\) (?P<build>#.*)"


def find(source: Source, start: int, stop: int, keep: int = 0) -> Node | None:
    """The kernel's details found in the bytes [start, stop) of a vmlinux, None when it is no Linux kernel.

    The node (kind ``linux-kernel``) is all that was looked at. A configuration is its child, still packed:
    ``config`` unpacks it. A source that is being unpacked need not keep what was looked at before ``keep``.
    """
    banner, place = _look(source, start, stop, keep)
    if banner is None:
        return None
    size = source.known_size
    stop = stop if size is None else min(stop, size)
    at, raw = banner
    text = raw.decode("utf-8", "backslashreplace")
    fields = []
    if match := re.fullmatch(PARTS, text):
        for name, value in match.groupdict().items():
            stored = value.encode()
            begin = at - start + len(text[: match.start(name)].encode())
            fields.append(Field(name, value, begin, len(stored), "", stored, telling=name != "builder"))
    fields.append(Field("banner", text, at - start, len(raw), "", raw, telling=not fields))
    if place is None:
        part = (
            "" if stop == size and source.damage is None else f"not in the {stop - start} bytes that were looked at"
        )
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
    at = source.search(CONFIG_MARK, start, stop)
    if at < 0:
        return None
    begin, length, _ = _config_place(source, at, stop)
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


def _look(source: Source, start: int, stop: int, keep: int) -> tuple[Text | None, Place | None]:
    """Banner and place of the configuration, found in one pass.

    A kernel may hold a second banner without a build number, from before the number was known: that is not what
    it prints.
    """
    banner: Text | None = None
    unnumbered: Text | None = None
    place: Place | None = None
    tried = 0
    for begin, data, size in _windows(source, start, stop):
        if place is None and (found := data.find(CONFIG_MARK, 0, size + len(CONFIG_MARK) - 1)) >= 0:
            place = _config_place(source, begin + found, stop)
        found = -1
        while banner is None and tried < MAX_PLACES:
            found = data.find(BANNER, found + 1, size + len(BANNER) - 1)
            if found < 0:
                break
            tried += 1
            raw = data[found : found + MAX_BANNER].split(b"\0")[0].split(b"\n")[0]
            if not raw[len(BANNER) : len(BANNER) + 1].isdigit():
                continue
            if re.search(rb"\) #\d", raw):
                banner = begin + found, raw
            unnumbered = unnumbered or (begin + found, raw)
        if banner and place:
            break
        if keep:
            source.forget(min(begin + size, keep))
    return banner or unnumbered, place


def _windows(source: Source, start: int, stop: int) -> Iterator[tuple[int, bytes, int]]:
    """(offset, data, size): what begins in the data's first ``size`` bytes is there for MAX_BANNER bytes."""
    data = b""
    for piece in source.chunks(start, stop):
        data += piece
        size = len(data) - MAX_BANNER
        if size > 0:
            yield start, data, size
            start, data = start + size, data[size:]
    yield start, data, len(data)


def _config_place(source: Source, at: int, stop: int) -> Place:
    """The packed configuration whose mark is at offset ``at``."""
    begin = at + len(CONFIG_START)
    limit = min(stop, begin + MAX_CONFIG)
    end = source.search(CONFIG_END, begin, limit)
    return begin, (limit if end < 0 else end) - begin, end >= 0
