"""What an initramfs archive holds, gathered in one pass: its init, kernel modules, microcode, who made it.

Sources: Linux init/main.c (``ramdisk_execute_command``), init/initramfs.c, lib/earlycpio.c; the file lists of
dracut, initramfs-tools, mkinitcpio and debian-installer.
"""

from __future__ import annotations

import re
import stat
import time
from collections import Counter
from dataclasses import dataclass

from mbtool.formats.context import Context
from mbtool.formats.cpio import HEADER_SIZE, Header
from mbtool.formats.cpio_walk import Entry, show
from mbtool.formats.findings import Findings
from mbtool.formats.initrd_init import refusal
from mbtool.formats.initrd_tree import HEAD, Tree
from mbtool.model import Field, Finding, Hex, Node, Severity
from mbtool.source import MIB, Source

INIT = {
    b"init": "run as /init",
    b"sbin/init": "run only with rdinit=/sbin/init",
    b"linuxrc": "run only from an initrd of the old kind",
}
"""Programs that the kernel may start, best first, and when."""

GENERATORS = {
    b"usr/lib/dracut/build-parameter.txt": "dracut",
    b"lib/dracut/build-parameter.txt": "dracut",
    b"conf/initramfs.conf": "initramfs-tools",
    b"buildconfig": "mkinitcpio",
    b"lib/debian-installer": "debian-installer",
    b"usr/lib/debian-installer": "debian-installer",
}
"""Names that only one generator writes."""

MICROCODE = {
    b"kernel/x86/microcode/GenuineIntel.bin": "Intel",
    b"kernel/x86/microcode/AuthenticAMD.bin": "AMD",
}
"""Names under which Linux and Xen look for microcode, and whose it must be."""

MODULE = re.compile(rb"(?:usr/)?lib/modules/([^/]+)(?:/.+?(\.ko(?:\.(?:gz|xz|zst|bz2))?)?)?$", re.DOTALL)
MAX_MICROCODE = 128 * MIB
"""Largest microcode file that is looked into: all of Intel's together take 16 MiB."""
MAX_TREES = 64
MAX_SHOWN = 20_000
"""Members that become a node each when everything is asked for."""

KINDS = {
    stat.S_IFREG: "files",
    stat.S_IFDIR: "directories",
    stat.S_IFLNK: "symbolic_links",
    stat.S_IFCHR: "character_devices",
    stat.S_IFBLK: "block_devices",
    stat.S_IFIFO: "fifos",
    stat.S_IFSOCK: "sockets",
}


@dataclass(slots=True)
class _Tree:
    """Kernel modules of one version: how many, their bytes, and the stretch of the archive that they lie in."""

    path: str
    start: int
    end: int
    modules: int = 0
    size: int = 0


class Contents:
    """Fed one entry after the other; then ``fields``, ``children`` and ``findings`` say what there was."""

    def __init__(self, source: Source, context: Context, *, early: bool) -> None:
        """``early``: the archive lies uncompressed at the start, where microcode is looked for."""
        self.findings = Findings()
        self.entries = 0
        self._source = source
        self._context = context
        self._early = early
        self._kinds: Counter[str] = Counter()
        self._bytes = 0
        self._links: set[tuple[int, int, int]] = set()
        self._mtimes = (0xFFFFFFFF, 0)
        self._init: dict[bytes, str] = {}
        self._tree = Tree()
        self._generator = ""
        self._trees: dict[bytes, _Tree] = {}
        self._microcode: dict[str, Node] = {}
        self._shown: list[Node] = []

    def add(self, entry: Entry) -> None:
        """Take in an entry while its body can still be read."""
        header = entry.header
        self.entries += 1
        self._bytes += header.c_filesize
        self._mtimes = (min(self._mtimes[0], header.c_mtime), max(self._mtimes[1], header.c_mtime))
        kind = stat.S_IFMT(header.c_mode)
        self._kinds[KINDS.get(kind, "unknown")] += 1
        if header.c_nlink > 1 and kind != stat.S_IFDIR:
            file = (header.c_maj, header.c_min, header.c_ino)
            self._kinds["hard_links"] += file in self._links
            self._links.add(file)
        name = entry.name.removeprefix(b".").lstrip(b"/") if entry.name[:2] == b"./" else entry.name.lstrip(b"/")
        self._tree.add(name, header, entry.reader(self._source))
        if name in INIT:
            self._init[name] = self._program(entry)
        elif name in MICROCODE:
            self._add_microcode(entry, MICROCODE[name])
        elif name in GENERATORS:
            self._generator = self._generator or GENERATORS[name]
        elif b"lib/modules/" in name and (match := MODULE.match(name)):
            self._add_module(entry, name, match)
        if self._context.full and len(self._shown) < MAX_SHOWN:
            self._shown.append(entry_node(entry, self._body(entry, HEAD)))

    @property
    def init(self) -> tuple[str, str] | None:
        """The path of the init program and what it is; None when there is none."""
        for path, when in INIT.items():
            if path in self._init:
                return f"/{show(path)}", f"{self._init[path]}; {when}"
        return None

    def fields(self) -> tuple[Field, ...]:
        """What there is, in numbers and names. Sizes in bytes, times in UTC."""
        fields = [
            Field("entries", self.entries, telling=True),
            Field("content_size", self._bytes, meaning="bytes in all bodies", telling=True),
        ]
        if self.init:
            fields.append(Field("init", self.init[0], meaning=self.init[1], telling=True))
            if why := refusal(self._tree, self.init[0].encode()):
                words = f"{self.init[0]} {why.reason}"
                fields.append(Field("init_refused", -why.error, meaning=words, telling=True))
        elif not self._microcode:
            fields.append(Field("init", None, meaning="no /init, /sbin/init or /linuxrc", telling=True))
        if self._tree.dropped:
            words = "members whose directory does not come before them in the archive"
            fields.append(Field("without_directory", self._tree.dropped, meaning=words, telling=True))
        if self._generator:
            fields.append(Field("generator", self._generator, telling=True))
        fields += [Field(name, self._kinds[name]) for name in (*KINDS.values(), "hard_links")]
        if self._kinds["unknown"]:
            fields.append(Field("unknown", self._kinds["unknown"], meaning="of no known type"))
        if self.entries:
            fields += [Field("oldest", _utc(self._mtimes[0])), Field("newest", _utc(self._mtimes[1]))]
        return tuple(fields)

    def children(self) -> tuple[Node, ...]:
        """Microcode, a node per tree of kernel modules, and every entry when everything was asked for."""
        trees = (
            Node(
                "kernel-modules",
                tree.start,
                tree.end - tree.start,
                (
                    Field("version", show(version), telling=True),
                    Field("modules", tree.modules, telling=True),
                    Field("path", tree.path),
                    Field("modules_size", tree.size),
                ),
            )
            for version, tree in self._trees.items()
        )
        if self._context.full and self.entries > len(self._shown):
            text = f"only the first {MAX_SHOWN} of {self.entries} entries are shown"
            self.findings.add(Finding("CPIO-MANY-ENTRIES", Severity.INFO, text))
        return (*self._microcode.values(), *trees, *self._shown)

    def _body(self, entry: Entry, limit: int) -> bytes:
        """The first bytes of an entry's body."""
        return self._source.read(entry.data_offset, min(entry.header.c_filesize, limit))

    def _program(self, entry: Entry) -> str:
        """What kind of program an entry is."""
        head = self._body(entry, HEAD)
        if stat.S_ISLNK(entry.header.c_mode):
            return f"link to {show(head)}"
        if head[:2] == b"#!":
            first = head[2:].partition(b"\n")[0]
            return f"script for {show(first.strip())}"
        if head[:4] == b"\x7fELF":
            return {1: "ELF, 32-bit", 2: "ELF, 64-bit"}.get(head[4] if len(head) > 4 else 0, "ELF")
        if not head:
            return "hard link" if entry.header.c_nlink > 1 else "empty"
        return "neither script nor ELF"

    def _add_module(self, entry: Entry, name: bytes, match: re.Match[bytes]) -> None:
        version = match[1]
        tree = self._trees.get(version)
        if tree is None:
            if len(self._trees) == MAX_TREES:
                return
            path = show(name[: match.end(1)])
            tree = self._trees[version] = _Tree(path, entry.offset, entry.end)
        tree.end = entry.end
        if match[2] and stat.S_ISREG(entry.header.c_mode):
            tree.modules += 1
            tree.size += entry.header.c_filesize

    def _add_microcode(self, entry: Entry, vendor: str) -> None:
        from mbtool.formats import microcode

        if vendor in self._microcode:  # Linux and Xen take the first
            return
        part = self._source.part(entry.data_offset, entry.header.c_filesize)
        reason = microcode.reject(part) if entry.header.c_filesize <= MAX_MICROCODE else "too large"
        if reason:
            self._note(
                "MICROCODE-UNREADABLE", Severity.ERROR, f"{show(entry.name)} is no microcode: {reason}", entry
            )
            return
        node = self._microcode[vendor] = microcode.inspect(part, self._context).at(entry.data_offset)
        if node["vendor"] != vendor:
            self._note("MICROCODE-VENDOR", Severity.ERROR, f"{show(entry.name)} holds no {vendor} microcode", entry)
        if not self._early:
            text = "microcode is looked for only in uncompressed archives at the start of the initrd"
            self._note("MICROCODE-NOT-EARLY", Severity.WARNING, text, entry)

    def _note(self, id: str, severity: Severity, message: str, entry: Entry) -> None:  # noqa: A002
        self.findings.add(Finding(id, severity, message, offset=entry.offset))


def entry_node(entry: Entry, head: bytes) -> Node:
    """A node for one member; ``head`` is the start of its body (a symbolic link's target)."""
    header = entry.header
    size = entry.end - entry.offset
    fields = [Field("name", show(entry.name), HEADER_SIZE, header.c_namesize, "", entry.name_field, telling=True)]
    stored = zip(Header.__slots__[1:], range(6, HEADER_SIZE, 8), strict=True)
    for name, offset in stored:
        value: int = getattr(header, name)
        meaning = ""
        if name == "c_mode":
            value, meaning = Hex(value), stat.filemode(value)
        elif name == "c_mtime":
            meaning = _utc(value)
        elif name == "c_chksum":
            value = Hex(value)
        fields.append(
            Field(
                name,
                value,
                offset,
                8,
                meaning,
                entry.raw_header[offset : offset + 8],
                telling=name in ("c_mode", "c_filesize"),
            )
        )
    if stat.S_ISLNK(header.c_mode):
        at = entry.data_offset - entry.offset
        fields.append(Field("target", show(head), at, header.c_filesize, "", head, telling=True))
    return Node("cpio-entry", entry.offset, size, tuple(fields))


def _utc(seconds: int) -> str:
    """Seconds since 1970 as text."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
