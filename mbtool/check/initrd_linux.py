"""What Linux itself unpacks of an initrd: its unpackers know less than other programs."""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.check.boot_set import BootSet
from mbtool.check.initrd import for_linux, segments
from mbtool.check.rule import Evidence, set_rule
from mbtool.errors import MbtoolError
from mbtool.model import STREAM_KINDS, Node
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
        if boot.initrd is None or not for_linux(boot) or boot.initrd.find("cpio") is None:
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
