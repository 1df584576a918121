"""Headers and tails of compressed streams: bytes as the real tools write them, every field by its specification.

The literals hold ``hello`` and a line end, with the time 2001-09-09 01:46:40 UTC (1000000000).
"""

from __future__ import annotations

import pytest

from mbtool.errors import FormatError
from mbtool.formats import (
    bzip2_stream,
    compression,
    gzip_stream,
    lz4_stream,
    lzma_stream,
    lzo_stream,
    xz_stream,
    zstd_stream,
)
from mbtool.formats.context import Context
from mbtool.model import Field, Node
from mbtool.source import Budget, BytesSource
from tests.formats.streams import HELLO, PLAIN, opaque


def shown(data: bytes) -> Node:
    return compression.inspect(BytesSource(data), Context(Budget(), opaque))


def field(node: Node, name: str) -> Field:
    return next(field for field in node.fields if field.name == name)


def values(node: Node) -> dict[str, object]:
    return {field.name: field.value for field in node.fields}


@pytest.mark.parametrize(("name", "data"), HELLO.items())
def test_all_of_them(name: str, data: bytes):
    """Kind, content, sizes; every stored field's raw bytes stand where it says."""
    node = shown(data)
    assert node.kind == name.split("-")[0]
    assert (node.offset, node.size, node.findings) == (0, len(data), ())
    assert (node["compressed_size"], node["uncompressed_size"], node["members"]) == (len(data), len(PLAIN), 1)
    assert node.children[0]["head"] == PLAIN
    assert (node.children[0].offset, node.children[0].size) == (0, len(PLAIN))
    for one in node.fields:
        if one.raw and one.offset is not None:
            assert data[one.offset : one.offset + len(one.raw)] == one.raw, one.name
            assert one.size == len(one.raw)


def test_gzip():
    node = shown(HELLO["gzip"])
    expected = {
        "cm": 8,
        "flg": 8,
        "mtime": 10**9,
        "xfl": 0,
        "os": 3,
        "name": "hello",
        "crc32": 0x363A3020,
        "isize": 6,
    }
    assert expected.items() <= values(node).items()
    assert field(node, "flg").meaning == "FNAME"
    assert field(node, "mtime").meaning == "2001-09-09 01:46:40 UTC"
    assert (field(node, "name").offset, field(node, "name").raw) == (10, b"hello\0")
    assert (field(node, "crc32").offset, field(node, "isize").offset) == (24, 28)


def test_gzip_with_all_optional_parts():
    # FHCRC | FEXTRA | FNAME | FCOMMENT; the CRC16 is the low half of the CRC32 of all before it
    start = b"\x1f\x8b\x08\x1e\0\0\0\0\0\x03\x04\0ABCDn\0comment\0"
    import zlib

    data = start + (zlib.crc32(start) & 0xFFFF).to_bytes(2, "little") + HELLO["gzip"][16:]
    node = shown(data)
    assert node.findings == ()
    assert {"xlen": 4, "extra": b"ABCD", "name": "n", "comment": "comment"}.items() <= values(node).items()
    assert field(node, "crc16").offset == len(start)
    assert field(node, "flg").meaning == "FHCRC, FEXTRA, FNAME, FCOMMENT"


def test_gzip_layouts():
    assert (gzip_stream.HEADER.size, gzip_stream.TRAILER.size) == (10, 8)
    assert gzip_stream.HEADER.build(gzip_stream.HEADER.parse(HELLO["gzip"][:10])) == HELLO["gzip"][:10]
    assert gzip_stream.TRAILER.build(gzip_stream.TRAILER.parse(HELLO["gzip"][-8:])) == HELLO["gzip"][-8:]


@pytest.mark.parametrize("seconds", [0, 1, 10**9, 0xFFFFFFFF])
def test_dates(seconds: int):
    assert gzip_stream.date(seconds)[:4] == {0: "", 1: "1970", 10**9: "2001", 0xFFFFFFFF: "2106"}[seconds]


def test_xz():
    node = shown(HELLO["xz"])
    assert node["check"] == 1
    assert field(node, "check").meaning == "CRC32"
    assert node["filters"] == ("x86", "lzma2")
    assert (node["dict_size"], node["blocks"], node["backward_size"]) == (64 * 1024, 1, 1)
    assert field(node, "filters").raw == bytes.fromhex("0400 210108")
    assert field(node, "filters").offset == 14


def test_xz_layouts():
    assert (xz_stream.HEADER.size, xz_stream.FOOTER.size) == (12, 12)
    assert xz_stream.HEADER.build(xz_stream.HEADER.parse(HELLO["xz"][:12])) == HELLO["xz"][:12]
    assert xz_stream.FOOTER.build(xz_stream.FOOTER.parse(HELLO["xz"][-12:])) == HELLO["xz"][-12:]


@pytest.mark.parametrize(
    ("stored", "value"),
    [("00", 0), ("7f", 127), ("8001", 128), ("ff7f", 16383), ("ffffffffffffffff7f", (1 << 63) - 1)],
)
def test_xz_numbers(stored: str, value: int):
    """Section 1.2: seven bits per byte, low ones first, at most nine bytes."""
    assert xz_stream.number(bytes.fromhex("ee" + stored + "ee"), 1) == (value, 1 + len(stored) // 2)


@pytest.mark.parametrize("stored", ["", "80", "ff" * 8, "ff" * 9, "ff" * 20])
def test_xz_numbers_without_end(stored: str):
    with pytest.raises(FormatError):
        xz_stream.number(bytes.fromhex(stored), 0)


@pytest.mark.parametrize(("bits", "size"), [(0, 4096), (1, 6144), (2, 8192), (38, 2 << 30), (40, 0xFFFFFFFF)])
def test_xz_dictionary_sizes(bits: int, size: int):
    """Section 5.3.1: 4 KiB, 6 KiB, 8 KiB, …, 4 GiB - 1."""
    fields = {field.name: field for field in xz_stream._block_fields(bytes((2, 0, 0x21, 1, bits, 0)), 12)}
    assert fields["dict_size"].value == size


def test_lzma():
    node = shown(HELLO["lzma"])
    assert (node["properties"], node["dict_size"], node["unpack_size"]) == (0x5D, 8 << 20, (1 << 64) - 1)
    assert field(node, "properties").meaning == "lc=3 lp=0 pb=2"
    assert "marker" in field(node, "unpack_size").meaning
    assert lzma_stream.HEADER.build(lzma_stream.HEADER.parse(HELLO["lzma"])) == HELLO["lzma"][:13]


@pytest.mark.parametrize(
    ("dictionary", "size", "starts"),
    [
        (1 << 23, -1, True),
        (1 << 12, 0, True),
        (3 << 20, 1, True),
        (1 << 31, (1 << 38) - 1, True),
        (0xFFFFFFFF, -1, False),
        (1 << 23, 1 << 38, False),
        (5 << 20, -1, False),
        (1 << 11, -1, False),
        (0, -1, False),
    ],
)
def test_what_is_taken_for_lzma(dictionary: int, size: int, starts: bool):
    head = b"\x5d" + dictionary.to_bytes(4, "little") + (size & (1 << 64) - 1).to_bytes(8, "little") + b"\0\0\0"
    assert lzma_stream.starts(head) == starts
    assert (compression.detect(head) == "lzma") == starts


def test_bzip2():
    node = shown(HELLO["bzip2"])
    assert (node["magic"], node["level"], node["block_crc"]) == (b"BZh", 9, 0xC1C080E2)
    empty = bytes.fromhex("425a683917724538509000000000")
    assert shown(empty)["stream_crc"] == 0
    assert shown(empty).children == ()


@pytest.mark.parametrize("text", [b"BZhello world, this is text", b"BZh9", b"BZh0" + bytes.fromhex("314159265359")])
def test_text_is_not_taken_for_bzip2(text: bytes):
    assert not bzip2_stream.starts(text)
    assert compression.detect(text.ljust(16, b"\0")) is None


def test_lzo():
    node = shown(HELLO["lzo"])
    expected = {
        "version": 0x1040,
        "lib_version": 0x20A0,
        "version_needed": 0x0940,
        "method": 1,
        "level": 5,
        "flags": 0x03000001,
        "mode": 0o100644,
        "mtime_low": 10**9,
        "mtime_high": 0,
        "name": "hello",
        "header_checksum": 0x521D0641,
        "block_size": 6,
    }
    assert expected.items() <= values(node).items()
    assert field(node, "method").meaning == "LZO1X-1"
    assert field(node, "flags").meaning == "ADLER32_D, made on system 3"
    assert field(node, "mode").meaning == "100644"


def test_lzo_header_checksum():
    data = HELLO["lzo"].replace(b"hello", b"jello", 1)
    node = shown(data)
    assert [finding.id for finding in node.findings] == ["LZO-HEADER-CHECKSUM"]
    assert node.children[0]["head"] == PLAIN


def test_lzo_of_an_old_version_with_filter_and_extra_field():
    """Before 0x0940 three fields are missing; the filter and the extra field come when their flags are set."""
    import zlib

    head = (
        b"\x09\x30\x10\x00"  # version, lib_version
        b"\x03"  # method
        b"\0\0\x08\x41"  # flags: adler32 of the data, extra field, filter
        b"\0\0\0\x01"  # filter
        b"\0\0\0\0\0\0\0\0"  # mode, mtime
        b"\0"  # no name
    )
    data = b"\x89LZO\0\r\n\x1a\n" + head + zlib.adler32(head).to_bytes(4, "big") + b"\0\0\0\x02xxabcd"
    parsed = lzo_stream.read_header(BytesSource(data), 0)
    assert parsed.sound
    assert parsed.size == len(data)
    names = [one.name for one in parsed.fields]
    assert "level" not in names
    assert "mtime_high" not in names
    assert {"filter", "extra_size", "extra_checksum"} <= set(names)
    assert [finding.id for finding in shown(data).findings] == ["UNSUPPORTED"]


def test_lz4_legacy():
    node = shown(HELLO["lz4-legacy"])
    assert (node["magic"], node["format"], node["first_block_size"]) == (0x184C2102, "legacy", 7)


def test_lz4_frame():
    node = shown(HELLO["lz4-frame"])
    assert (node["magic"], node["format"]) == (0x184D2204, "frame")
    assert (node["FLG"], node["block_max_size"], node["content_size"]) == (0x6C, 64 << 10, 6)
    assert field(node, "FLG").meaning == "version 1, independent blocks, content size, content checksum"
    assert "header_checksum" in values(node)


def test_lz4_frame_that_needs_a_dictionary():
    head = HELLO["lz4-frame"]
    node = shown(head[:4] + bytes((0x61, 0x40)) + b"\x01\0\0\0" + b"\0" + bytes(20))
    assert [finding.id for finding in node.findings] == ["UNSUPPORTED"]
    assert node["dictionary_id"] == 1


def test_zstd():
    node = shown(HELLO["zstd"])
    assert node["magic"] == 0xFD2FB528
    assert (node["frame_header_descriptor"], node["frame_content_size"], node["window_size"]) == (0x24, 6, 6)
    assert field(node, "frame_header_descriptor").meaning == "single segment, content checksum"


@pytest.mark.parametrize(
    ("stored", "window", "content", "dictionary", "size"),
    [
        ("00 00", 1024, None, 0, 6),  # no content size, smallest window
        ("00 58", 2 << 20, None, 0, 6),
        ("00 5f", (2 << 20) * 15 // 8, None, 0, 6),  # mantissa 7: + 7/8
        ("00 ff", (1 << 41) * 15 // 8, None, 0, 6),
        ("20 06", 6, 6, 0, 6),
        ("60 0000", 256, 256, 0, 7),  # two bytes hold the size less 256
        ("40 00 ffff", 1024, 65791, 0, 8),
        ("80 00 00000100", 1024, 65536, 0, 10),
        ("c0 00 0000000001000000", 1024, 1 << 32, 0, 14),
        ("21 2a 00", 0, 0, 42, 7),
        ("22 2a01 00", 0, 0, 298, 8),
        ("03 00 01020304", 1024, None, 0x04030201, 10),
    ],
)
def test_zstd_frame_headers(stored: str, window: int, content: int | None, dictionary: int, size: int):
    """RFC 8878, 3.1.1.1."""
    source = BytesSource(b"...." + bytes.fromhex("28b52ffd" + stored.replace(" ", "")) + bytes(20))
    header = zstd_stream.frame_header(source, 4)
    assert (header.window_size, header.frame_content_size) == (window, content)
    assert (header.dictionary_id, header.size) == (dictionary, size)


def test_zstd_that_needs_a_dictionary_or_too_much_memory():
    node = shown(bytes.fromhex("28b52ffd 21 2a 00") + bytes(20))
    assert [finding.id for finding in node.findings] == ["UNSUPPORTED"]
    node = shown(bytes.fromhex("28b52ffd 00 ff") + bytes(20))
    assert [finding.id for finding in node.findings] == ["LIMIT"]


def test_modules_name_the_magics_of_the_table():
    starts = {
        "gzip": gzip_stream.MAGIC,
        "xz": xz_stream.MAGIC,
        "lzo": lzo_stream.MAGIC,
        "zstd": zstd_stream.MAGIC,
    }
    for kind, magic in starts.items():
        assert compression.detect(magic.ljust(16, b"\0")) == kind
        assert compression.detect(magic[:-1].ljust(16, b"\xee")) is None
    for magic in (lz4_stream.LEGACY, lz4_stream.FRAME):
        assert compression.detect(magic) == "lz4"
