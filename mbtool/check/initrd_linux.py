"""What Linux itself takes of an initrd: its unpackers know less than other programs, and its init has to run."""

from __future__ import annotations

import os
from collections.abc import Iterator

from mbtool.check.boot_set import BootSet
from mbtool.check.initrd import NO_ROOT, ROOT, members, segments, words
from mbtool.check.rule import Evidence, set_rule
from mbtool.errors import MbtoolError
from mbtool.formats.initrd_init import HEAD, NOTHING, Programs
from mbtool.model import STREAM_KINDS, Node, Severity
from mbtool.source import MIB

XZ_CHECKS = (0, 1)
"""None and CRC32."""
XZ_FILTERS = (("lzma2",), ("x86", "lzma2"))
XZ_REFUSES = "Input was encoded with settings that are not supported by this XZ decoder"
GZIP_NAME, GZIP_TEXT = 8, 1
"""The flags of a gzip header that Linux skips what belongs to, or does not care for."""
ZSTD_WINDOW = 128 * MIB
ALIGN = 4
ONE_BY_ONE = ("gzip", "bzip2", "xz", "zstd", "lzma", "lzo")
"""Codecs of which Linux unpacks one stream at a time, and wants an archive to be over when it is."""


@set_rule("INITRD-CODEC")
def codec(boot: BootSet) -> Iterator[Evidence]:
    """A part of the initrd is packed in a way that Linux' own unpackers do not take."""
    try:
        if boot.initrd is None or not _for_linux(boot) or boot.initrd.find("cpio") is None:
            return
        behind_archive = False
        for segment in segments(boot.initrd.root):
            if segment.kind in STREAM_KINDS:
                for message, field, expected, console in _refused(segment):
                    yield Evidence(
                        message,
                        boot.initrd.path,
                        segment.kind,
                        segment.offset,
                        field,
                        expected=expected,
                        found=str(segment.get(field)),
                        console=console,
                    )
                if behind_archive and segment.offset % ALIGN:
                    yield Evidence(
                        "a packed part does not begin at a multiple of 4, as it must behind an archive",
                        boot.initrd.path,
                        segment.kind,
                        segment.offset,
                        console="Initramfs unpacking failed: broken padding",
                    )
            behind_archive = segment.kind == "cpio"
    except MbtoolError:
        return  # UNREADABLE says so


def _refused(stream: Node) -> Iterator[tuple[str, str, str, str]]:
    """What Linux does not take of a stream: message, field, what is expected, and what Linux prints."""
    value = stream.get
    members = value("members")
    archives = sum(node.kind == "cpio" for node in stream.walk())
    if stream.kind == "xz" and value("check") not in XZ_CHECKS:
        yield "Linux does not know the integrity check", "check", "1 (CRC32), or 0 (none)", XZ_REFUSES
    elif stream.kind == "xz" and value("filters") not in XZ_FILTERS:
        yield "Linux does not know the filters", "filters", "lzma2, or x86 and lzma2", XZ_REFUSES
    elif stream.kind == "lz4" and value("format") != "legacy":
        invalid = "Initramfs unpacking failed: invalid magic at start of compressed archive"
        yield "Linux knows the legacy format of lz4 only", "format", "legacy (lz4 -l)", invalid
    elif stream.kind == "zstd" and isinstance(size := value("window_size"), int) and size > ZSTD_WINDOW:
        corrupt = "Initramfs unpacking failed: ZSTD-compressed data is probably corrupt"
        yield "the window is larger than Linux takes", "window_size", f"at most {ZSTD_WINDOW}", corrupt
    elif stream.kind == "gzip" and int(str(value("flg") or 0), 0) & ~(GZIP_NAME | GZIP_TEXT):
        yield "Linux skips no more of a gzip header than a file's name", "flg", "0 or 8", ""
    elif stream.kind in ONE_BY_ONE and isinstance(members, int) and members > archives:
        junk = "Initramfs unpacking failed: junk at the end of compressed archive"
        yield "an archive goes on in a further stream", "members", f"{archives}, one for each archive", junk


@set_rule("INITRD-INIT")
def init(boot: BootSet) -> Iterator[Evidence]:
    """The init program is there, and Linux cannot run it."""
    try:
        if boot.initrd is None or not _for_linux(boot) or _other_init(boot):
            return
        if boot.initrd.content.get("init") != "/init":
            return
        archives = [node for node in boot.initrd.root.walk() if node.kind == "cpio"]
    except MbtoolError:
        return
    chosen = [node for node in archives if node.get("init") == "/init"][-1:]
    for archive in chosen:
        field = next((field for field in archive.fields if field.name == "init_refused"), None)
        others = any(not node.find("microcode") for node in archives if node is not archive)
        others = others or boot.kernel_settings.own_initramfs
        if field is None or (archive.get("init_absent") and others):
            continue
        link = field.meaning.endswith("leads to nothing in the archive")
        yield Evidence(
            field.meaning,
            boot.initrd.path,
            "cpio",
            field="init",
            console="VFS: Unable to mount root fs" if link else f"Failed to execute /init (error {field.value!r})",
        )


@set_rule("INITRD-RDINIT")
def rdinit(boot: BootSet) -> Iterator[Evidence]:
    """The program that rdinit= names is not in the initrd, or Linux cannot run it."""
    try:
        if boot.initrd is None or not _for_linux(boot) or boot.initrd.find("cpio") is None:
            return
        named = [word.removeprefix("rdinit=") for word in words(boot) if word.startswith("rdinit=")]
        if not named or '"' in named[-1] or "noinitrd" in words(boot):
            return
        programs = Programs()
        for source, entry in members(boot.initrd):
            size = min(entry.header.c_filesize, HEAD if Programs.matters(entry.header) else 0)
            name = entry.name.removeprefix(b".") if entry.name[:2] == b"./" else entry.name
            programs.add(name.lstrip(b"/"), entry.header, source.read(entry.data_offset, size))
        refusal = programs.refusal(os.fsencode(named[-1]))
    except MbtoolError:
        return
    if refusal is None or (refusal.absent and boot.kernel_settings.own_initramfs):
        return
    gone = refusal.reason == NOTHING
    mounts = gone and any(ROOT.match(word) for word in words(boot) if not word.startswith("rdinit="))
    yield Evidence(
        f"rdinit={named[-1]} {refusal.reason}",
        boot.initrd.path,
        boot.initrd.content.kind,
        expected="a program in the initrd",
        found=named[-1],
        console=NO_ROOT if gone else f"Failed to execute {named[-1]} (error {-refusal.error})",
        severity=Severity.WARNING if mounts else Severity.ERROR,
    )


def _for_linux(boot: BootSet) -> bool:
    """Whether the initrd is for Linux; so it is where no kernel is given."""
    return boot.kernel is None or bool(boot.release)


def _other_init(boot: BootSet) -> bool:
    """Whether Linux is told to run another program of the initrd, or to leave it alone."""
    return any(word.startswith("rdinit=") or word == "noinitrd" for word in words(boot))
