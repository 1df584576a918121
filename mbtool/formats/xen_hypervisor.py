"""What a Xen hypervisor image says about itself: version, compiler line, debug or not, build-id, configuration.

Source: xen/common/version.c (``print_version``, ``xen_build_init``; before Xen 4.21 in xen/drivers/char/console.c),
xen/common/efi/boot.c (``efi_start``, its greeting), xen/common/Makefile (``config_data.S``).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from struct import unpack_from
from typing import NamedTuple

from mbtool.errors import FormatError
from mbtool.formats import xen_version_code
from mbtool.formats.xen_version_code import Code
from mbtool.model import Field, Finding, Node, Severity, Value
from mbtool.source import MIB, Budget, Source

MARKER = b"Xen version %d.%d%s"
"""Head of the format of the line that Xen prints first; Linux' own line about Xen has a colon in it."""
MAX_IMAGE = 64 * MIB
"""Bytes looked at: Xen has about three million, with debug information thirty."""
MAX_CONFIG = MIB
MAX_NOTE = 64
PLACES = 256
"""Candidates tried for each text that is searched for."""

CONSOLE = {
    " (%s@%s) (%s) %s %s\n": " ({compile_by}@{compile_domain}) ({compiler}) {build_info} {compile_date}",
    " (%s@%s) (%s) debug=%c  %s\n": " ({compile_by}@{compile_domain}) ({compiler}) {build_info}  {compile_date}",
    " (%s %s) (%s@%s) (%s) %s %s\n": " ({compile_system_distribution} {compile_system_version})"
    " ({compile_system_maintainer_local}@{compile_system_maintainer_domain})"
    " ({compiler}) {build_info} {compile_date}",
}
"""What follows MARKER and how Xen fills it in: Xen 4.15 and later, Xen 4.14, Debian's Xen."""

TELLING = ("compiler", "compile_date")
GREETING_HEAD = "Xen ".encode("utf-16-le")
GREETING = r"Xen (\d{1,3})\.(\d{1,3})(.{0,64}?) \(c/s .*\) EFI loader"
CONFIG_HEAD = b"# Xen/"
CONFIG_TITLE = r"# Xen/\w+ (\d{1,3})\.(\d{1,3})(\S{0,64}) Configuration"
GNU_NOTE = b"\x03\0\0\0GNU\0"
"""Type (NT_GNU_BUILD_ID) and name; the sizes of name and descriptor are before it, the descriptor behind."""
DEBUG_ENTRY_SIZE, CODEVIEW_TYPE = 28, 2


class VersionNumber(NamedTuple):
    """``4.17.7`` is major 4, minor 17, extra ".7"."""

    major: int
    minor: int
    extra: str

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}{self.extra}"


def find(source: Source, start: int, stop: int) -> Node | None:
    """Xen's own details found in the bytes [start, stop) of its ELF or PE image, None when it is not Xen."""
    details = _details(source, start, stop)
    return None if details is None else details.node()


def version(source: Source, budget: Budget | None = None) -> VersionNumber | None:
    """The version of a Xen image (ELF, PE, either compressed), None when it is no Xen or does not tell."""
    from mbtool.formats import compression

    if not compression.reject(source):
        source = compression.open_stream(source, budget or Budget())
    details = _details(source, 0, MAX_IMAGE)
    return None if details is None else details.version()


def _details(source: Source, start: int, stop: int) -> _Details | None:
    stop = min(stop, start + MAX_IMAGE)
    marker = source.search(MARKER, start, stop)
    if marker < 0:
        return None
    return _Details(Code(source.read(start, stop - start), start, _reach(source)), marker - start)


def _reach(source: Source) -> Callable[[int, int], int | None]:
    """How code in the file reaches data in it.

    Xen's ELF has one segment: what is n bytes away in memory is so in the file. In xen.efi the sections are
    further apart in memory.
    """
    if source.read(0, 2) != b"MZ":
        return lambda at, displacement: at + displacement
    from mbtool.formats import pe_headers
    from mbtool.formats.pe_sections import offset_to_rva, rva_to_offset, sections

    try:
        headers, _ = pe_headers.parse(source)
    except FormatError:
        return lambda at, displacement: None
    parts = sections(source, headers, source.size)

    def reach(at: int, displacement: int) -> int | None:
        rva = offset_to_rva(parts, at)
        return None if rva is None else rva_to_offset(parts, rva + displacement)

    return reach


class _Details:
    """One Xen image: its bytes, the place of the marker in them, and what was found."""

    def __init__(self, code: Code, marker: int) -> None:
        self._code = code
        self._marker = marker
        self._functions = xen_version_code.read(code)
        self._config = _config(code.data)

    def version(self) -> VersionNumber | None:
        """From the code; where that does not tell, from the EFI loader's greeting or the configuration's title."""
        if known := self._functions:
            extra = known.texts.get("extra_version")
            return VersionNumber(known.major, known.minor, extra.value if extra else "")
        found = _greeting(self._code.data)
        if not found and self._config:
            found = re.search(CONFIG_TITLE, self._config.text[:256].decode("ascii", "replace"))
        return VersionNumber(int(found[1]), int(found[2]), found[3]) if found else None

    def debug(self) -> bool | None:
        """From the build info; Xen 4.14 has it in its configuration alone. None when neither is there."""
        known = self._functions and self._functions.texts.get("build_info")
        if known:
            return known.value.startswith("debug=y")
        if self._config:
            return b"CONFIG_DEBUG=y" in self._config.text.splitlines()
        return None

    def console_line(self) -> str:
        """The line that Xen prints first, "" when its format is not one of CONSOLE or something is missing."""
        known, version, debug = self._functions, self.version(), self.debug()
        form = self._code.text(self._code.start + self._marker)
        filled = CONSOLE.get(form.value.removeprefix(MARKER.decode())) if form else None
        if not known or not filled:
            return ""
        words = {name: text.value for name, text in known.texts.items()}
        if "build_info" not in words and debug is not None:
            words["build_info"] = f"debug={'y' if debug else 'n'}"
        try:
            return f"Xen version {version}{filled.format_map(words)}"
        except KeyError:
            return ""

    def node(self) -> Node:
        version = self.version()
        fields = [Field("version", None if version is None else str(version), telling=True)]
        if line := self.console_line():
            fields.append(Field("console_line", line, meaning="what Xen prints first"))
        fields += self._stored()
        debug = self.debug()
        fields.append(Field("debug", debug, meaning="not recorded" if debug is None else "", telling=True))
        fields += _build_id(self._code.data)
        findings: tuple[Finding, ...] = ()
        if version is None:
            findings = (Finding("XEN-VERSION-UNKNOWN", Severity.WARNING, "the image is Xen but hides its version"),)
        children = (self._config.node(),) if self._config else ()
        return Node("xen-hypervisor", self._code.start, len(self._code.data), tuple(fields), children, findings)

    def _stored(self) -> Iterator[Field]:
        """What the functions of version.c return, with the place of each in the node."""
        if not (known := self._functions):
            return
        start, data = self._code.start, self._code.data

        def field(name: str, value: Value, offset: int, size: int) -> Field:
            raw = data[offset - start : offset - start + min(size, MAX_NOTE)]
            return Field(name, value, offset - start, size, raw=raw, telling=name in TELLING)

        yield field("major_version", known.major, known.major_offset, 4)
        yield field("minor_version", known.minor, known.minor_offset, 4)
        for name, text in known.texts.items():
            yield field(name, text.value, text.offset, text.size)


def _greeting(data: bytes) -> re.Match[str] | None:
    """The EFI loader's first words, a string of 16-bit characters."""
    for at in _places(data, GREETING_HEAD):
        if greeting := re.match(GREETING, data[at : at + 512].decode("utf-16-le", "replace")):
            return greeting
    return None


def _build_id(data: bytes) -> Iterator[Field]:
    """The GNU build-id note, or in its place in xen.efi the signature of a CodeView record behind its entry."""
    for at in _places(data, GNU_NOTE):
        name_size, size = unpack_from("<II", data, at - 8) if at >= 8 else (0, 0)
        start = at + len(GNU_NOTE)
        if name_size == 4 and 8 <= size <= min(MAX_NOTE, len(data) - start):
            value = data[start : start + size]
            yield Field("build_id", value, start, size, "GNU note", value, telling=True)
            return
    for at in _places(data, b"RSDS"):
        value = data[at + 4 : at + 20]
        entry = at - DEBUG_ENTRY_SIZE
        if entry >= 0 and len(value) == 16 and unpack_from("<I", data, entry + 12)[0] == CODEVIEW_TYPE:
            yield Field("build_id", value, at + 4, 16, "CodeView signature", value, telling=True)
            return


class _Config(NamedTuple):
    """Xen's configuration (CONFIG_HYPFS_CONFIG): gzip of ``size`` bytes at ``offset`` of the data; its text."""

    offset: int
    size: int
    text: bytes

    def node(self) -> Node:
        lines = self.text.decode("utf-8", "backslashreplace").splitlines()
        title = next((line.strip("# ") for line in lines if line.startswith("# Xen/")), "")
        settings = tuple(line for line in lines if line.startswith("CONFIG_"))
        fields = (
            Field("title", title, telling=True),
            Field("options", len(settings), meaning="set", telling=True),
            Field("settings", settings),
        )
        return Node("gzip", self.offset, self.size, (), (Node("xen-config", 0, len(self.text), fields),))


def _config(data: bytes) -> _Config | None:
    for at in _places(data, b"\x1f\x8b\x08"):
        stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            text = stream.decompress(data[at : at + MAX_CONFIG], MAX_CONFIG)
        except zlib.error:
            text = b""
        if stream.eof and CONFIG_HEAD in text[:256]:
            return _Config(at, min(MAX_CONFIG, len(data) - at) - len(stream.unused_data), text)
    return None


def _places(data: bytes, needle: bytes) -> Iterator[int]:
    """Where ``needle`` is: the first PLACES of them."""
    at = data.find(needle)
    for _ in range(PLACES):
        if at < 0:
            return
        yield at
        at = data.find(needle, at + 1)
