"""Compressed streams that are cut, flipped, lying, bombs or endless: one finding, never more than the budget."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
import sys
import time
import zlib
from collections.abc import Callable

import lz4.block
import lz4.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbtool.errors import FormatError, LimitError
from mbtool.formats import compression, lzo_stream, streams
from mbtool.formats.context import Context
from mbtool.model import Node
from mbtool.source import GRAIN, MIB, Budget, BytesSource, Limits, StreamSource
from tests.formats.gzip_quine import quine
from tests.formats.streams import HELLO, PLAIN, nested, opaque

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

IDS = {"STREAM-DAMAGED", "LIMIT", "UNSUPPORTED", "TRAILING-BYTES", "PADDING", "APPENDED-SIZE"}
IDS |= {"LZO-HEADER-CHECKSUM", "GZIP-RESERVED-FLAGS"}


def shown(data: bytes, limits: Limits | None = None) -> Node:
    node = compression.inspect(BytesSource(data), Context(Budget(limits or Limits()), opaque))
    assert {finding.id for finding in node.findings} <= IDS
    return node


def ids(node: Node) -> list[str]:
    return [finding.id for finding in node.findings]


def salvaged(data: bytes) -> bytes:
    """What can be read of a stream, however it ends."""
    return compression.open_stream(BytesSource(data), Budget()).read(0, 1 << 30)


# --- cut and flipped


@pytest.mark.parametrize("name", HELLO)
def test_cut_at_every_byte(name: str):
    data = HELLO[name]
    for size in range(len(data)):
        if compression.reject(BytesSource(data[:size])):
            continue
        node = shown(data[:size])
        content = salvaged(data[:size])
        assert PLAIN.startswith(content)
        if name == "lz4-legacy" and size <= 8:  # no end mark: nothing tells that a block is missing
            assert content == b""
        else:
            assert ids(node) == ["STREAM-DAMAGED"], size
            assert node["unpacked"] == len(content)
            assert node.get("uncompressed_size") is None


@pytest.mark.parametrize("name", HELLO)
@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_every_byte_flipped(name: str, mask: int):
    data = bytearray(HELLO[name] + len(PLAIN).to_bytes(4, "little"))
    for at in range(len(data)):
        data[at] ^= mask
        if not compression.reject(BytesSource(bytes(data))):
            node = shown(bytes(data))
            if name not in ("lzma", "lz4-legacy"):  # these two have no checksum
                assert salvaged(bytes(data)) == PLAIN or ids(node), at
        data[at] ^= mask


@given(st.sampled_from(sorted(HELLO)), st.binary(max_size=60), st.integers(0, 60))
@settings(max_examples=300, deadline=None)
def test_garbage_behind_any_part_of_a_header(name: str, garbage: bytes, keep: int):
    data = HELLO[name][:keep] + garbage
    if not compression.reject(BytesSource(data)):
        shown(data)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lambda data: lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32, 0),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
    "bzip2": bz2.compress,
    "zstd": lambda data: zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}),
    "lz4": lambda data: lz4.frame.compress(data, content_checksum=True),
    "lz4-legacy": lambda data: (
        b"\x02\x21\x4c\x18"
        + b"".join(
            len(block).to_bytes(4, "little") + block
            for block in (
                lz4.block.compress(data[at : at + 8 * MIB], store_size=False) for at in range(0, len(data), 8 * MIB)
            )
        )
    ),
    "lzo": lambda data: (
        HELLO["lzo"][:-22]
        + b"".join(_lzo_block(data[at : at + 0x40000]) for at in range(0, len(data), 0x40000))
        + bytes(4)
    ),
}


def _lzo_block(data: bytes) -> bytes:
    from lzallright import LZOCompressor

    packed = LZOCompressor().compress(data)
    packed = packed if len(packed) < len(data) else data
    return b"".join(n.to_bytes(4, "big") for n in (len(data), len(packed), zlib.adler32(data))) + packed


MIXED = bytes(50_000) + bytes(range(256)) * 2000 + bytes((i * i * 7 ^ i >> 3) & 0xFF for i in range(100_000))


@pytest.mark.parametrize("name", PACKERS)
def test_packers_of_this_file(name: str):
    data = PACKERS[name](MIXED)
    assert salvaged(data) == MIXED
    assert ids(shown(data)) == []


@pytest.mark.parametrize("name", ["gzip", "xz", "bzip2", "zstd", "lz4"])
def test_wrong_checksum_at_the_end_hides_nothing(name: str):
    """The decoder fails in the call that unpacks the last bytes: they are got all the same."""
    at = {"gzip": -8, "xz": -29, "bzip2": -2, "zstd": -2, "lz4": -2}[name]
    data = bytearray(PACKERS[name](MIXED))
    data[at] ^= 0x10
    node = shown(bytes(data))
    assert ids(node) == ["STREAM-DAMAGED"]
    assert salvaged(bytes(data)) == MIXED
    assert node["unpacked"] == len(MIXED)
    assert node.children[0]["head"] == MIXED[:16]


@pytest.mark.parametrize("name", PACKERS)
def test_cut_in_the_middle_leaves_the_first_part(name: str):
    data = PACKERS[name](MIXED)
    cut = data[: len(data) * 3 // 4]
    assert ids(shown(cut)) == ["STREAM-DAMAGED"]
    content = salvaged(cut)
    assert MIXED.startswith(content)
    if name not in ("bzip2", "lz4-legacy"):  # a block of theirs is unpacked whole or not at all
        assert len(content) > 50_000


@pytest.mark.parametrize("name", [name for name in PACKERS if name != "lzma"])
def test_damaged_member_leaves_those_before_it(name: str):
    one = PACKERS[name](MIXED)
    data = one + one[: -len(one) // 4]
    assert salvaged(data).startswith(MIXED)
    assert ids(shown(data)) == ["STREAM-DAMAGED"]


def test_cut_source_is_told_instead_of_the_stream():
    """A stream within a stream that met a limit is not damaged itself."""
    data = gzip.compress(gzip.compress(bytes(range(256)) * 1000, 0), 0)
    node = compression.inspect(BytesSource(data), Context(Budget(Limits(max_output=64 * 1024)), nested))
    assert ids(node) == ["LIMIT"]
    assert ids(node.children[0]) == ["LIMIT"]


# --- lying


def test_lzo_blocks_that_lie():
    head = HELLO["lzo"][:-22]

    def block(unpacked: int, packed: int, data: bytes) -> bytes:
        return b"".join(n.to_bytes(4, "big") for n in (unpacked, packed, zlib.adler32(data))) + data

    for unpacked, packed in ((6, 0), (6, 7), (0xFFFFFFFF, 6), (lzo_stream.MAX_BLOCK + 1, 6), (7, 6), (200, 6)):
        node = shown(head + block(unpacked, packed, PLAIN) + bytes(4))
        assert ids(node) in (["STREAM-DAMAGED"], ["UNSUPPORTED"]), (unpacked, packed)
    wrong = head + block(6, 6, PLAIN)[:8] + bytes(4) + PLAIN + bytes(4)
    assert ids(shown(wrong)) == ["STREAM-DAMAGED"]
    assert salvaged(wrong) == PLAIN


def test_lzo_block_that_unpacks_to_more_than_it_says():
    from lzallright import LZOCompressor

    packed = LZOCompressor().compress(bytes(50 * MIB))
    size = lzo_stream.MAX_BLOCK
    head = HELLO["lzo"][:-22]
    data = head + b"".join(n.to_bytes(4, "big") for n in (size, min(len(packed), size), 0)) + packed[:size]
    assert ids(shown(data)) == ["STREAM-DAMAGED"]
    assert len(salvaged(data)) <= size


@pytest.mark.parametrize("size", [1, 6, 8, 0x808080, 0x808092, 0x7FFFFFFF, 0xFFFFFFFF])
def test_lz4_legacy_blocks_that_lie(size: int):
    data = HELLO["lz4-legacy"][:4] + size.to_bytes(4, "little") + HELLO["lz4-legacy"][8:]
    expected = ["STREAM-DAMAGED"] if size <= 0x808090 else ["TRAILING-BYTES"]  # LZ4_COMPRESSBOUND of 8 MiB
    assert ids(shown(data)) == expected


@pytest.mark.parametrize("change", [{"backward_size": 0xFFFFFFFF}, {"backward_size": 0}, {"backward_size": 3}])
def test_xz_footers_that_lie(change: dict[str, int]):
    from mbtool.formats import xz_stream

    data = HELLO["xz"][:-12] + xz_stream.FOOTER.build(xz_stream.StreamFooter(check=1, **change))
    assert xz_stream.tail(BytesSource(data), len(data), None).end is None
    assert ids(shown(data)) == ["STREAM-DAMAGED"]


def test_xz_index_that_counts_too_much():
    from mbtool.formats import xz_stream

    index = b"\0" + b"\xff" * 8 + b"\x7f" + b"\1\1" * 3 + b"\0" * 0
    index = index.ljust(16, b"\1")
    index += zlib.crc32(index).to_bytes(4, "little")
    footer = xz_stream.FOOTER.build(xz_stream.StreamFooter(len(index) // 4 - 1, 1))
    data = HELLO["xz"][:12] + bytes(40) + index + footer
    assert xz_stream.tail(BytesSource(data), len(data), None) == streams.Tail()


# --- bombs: ten GiB each


BOMB = {
    # name: bytes in one member; lz4 and lzo pack by no more than 255 to 1, so the total has to stop them
    "gzip": 4 * MIB,
    "xz": 16 * MIB,
    "bzip2": 16 * MIB,
    "zstd": 16 * MIB,
    "lz4": 4 * MIB,
    "lz4-legacy": 8 * MIB,
    "lzo": 4 * MIB,
}


@pytest.fixture(scope="module")
def bomb() -> Callable[[str], bytes]:
    def make(name: str) -> bytes:
        member = BOMB[name]
        total = MIB * (10240 if name in ("gzip", "xz", "bzip2", "zstd") else 1024)
        return PACKERS[name](bytes(member)) * (total // member)

    return make


@pytest.mark.parametrize("name", BOMB)
def test_bomb(name: str, bomb: Callable[[str], bytes]):
    data = bomb(name)
    limit = 192 * MIB
    budget = Budget(Limits(max_output=limit))
    stream = compression.open_stream(BytesSource(data), budget)
    start = time.process_time()
    stream.drain()
    assert time.process_time() - start < 5
    assert isinstance(stream.damage, LimitError)
    assert budget.output <= limit + 8 * MIB
    assert len(stream._kept) <= StreamSource.WINDOW
    if name in ("gzip", "xz", "bzip2", "zstd"):
        assert "times the packed size" in str(stream.damage)


def test_lzma_bomb():
    """One member only; its 10 GiB are pretended by the size in its header."""
    data = bytearray(PACKERS["lzma"](bytes(160 * MIB)))
    data[5:13] = (10 << 30).to_bytes(8, "little")
    node = shown(bytes(data))
    assert ids(node) == ["LIMIT"]
    assert node["unpack_size"] == 10 << 30


def test_bomb_in_a_node(bomb: Callable[[str], bytes]):
    node = shown(bomb("xz"))
    assert ids(node) == ["LIMIT"]
    assert "--max-ratio" in node.findings[0].remedy
    assert node.get("uncompressed_size") is None
    assert node.children[0].kind == "data"


def test_bomb_may_be_allowed(bomb: Callable[[str], bytes]):
    data = PACKERS["gzip"](bytes(160 * MIB))
    assert ids(shown(data)) == ["LIMIT"]
    assert ids(shown(data, Limits(max_ratio=2000))) == []


def test_memory_of_a_bomb(bomb: Callable[[str], bytes], tmp_path):
    """The whole program: what it keeps stays bounded."""
    path = tmp_path / "bomb"
    path.write_bytes(bomb("zstd"))
    script = (
        "import sys\n"
        "from mbtool.formats import compression\n"
        "from mbtool.source import Budget, Limits, open_file\n"
        "budget = Budget(Limits(max_output=1 << 30, max_ratio=1 << 30))\n"
        "stream = compression.open_stream(open_file(sys.argv[1]), budget)\n"
        "stream.drain()\n"
        "assert stream.size > 1000 << 20, stream.size\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])\n"
    )
    run = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 450 * 1024, "KiB: the window of 256 MiB, and what it takes to let it slide"


# --- without end


def test_nested_a_hundred_levels_deep():
    data = PLAIN
    for _ in range(100):
        data = gzip.compress(data)
    node = compression.inspect(BytesSource(data), Context(Budget(), nested))
    levels = list(node.walk())
    assert [level.kind for level in levels] == ["gzip"] * 17 + ["data"]
    assert ids(levels[-1]) == ["LIMIT"]
    assert all(not ids(level) for level in levels[:-1])


@pytest.mark.parametrize("kinds", [["gzip", "xz", "zstd", "lz4", "bzip2", "lzo", "lzma", "lz4-legacy"]])
def test_nested_in_all_ways(kinds: list[str]):
    data = MIXED
    for kind in kinds:
        data = PACKERS[kind](data)
    node = compression.inspect(BytesSource(data), Context(Budget(), nested))
    found = [level.kind for level in node.walk()]
    assert found == [kind.split("-")[0] for kind in reversed(kinds)] + ["data"]
    assert all(not ids(level) for level in node.walk())


def test_bomb_within_bombs():
    """Each level is allowed by itself; the budget is that of all together."""
    data = PACKERS["gzip"](bytes(120 * MIB))
    for _ in range(5):
        data = PACKERS["gzip"](data * 40)
    budget = Budget(Limits(max_output=256 * MIB))
    node = compression.inspect(BytesSource(data), Context(budget, nested, full=True))
    assert "LIMIT" in [finding.id for level in node.walk() for finding in level.findings]
    assert budget.output < 300 * MIB


def test_file_that_unpacks_to_itself():
    data = quine()
    assert gzip.decompress(data) == data
    node = compression.inspect(BytesSource(data), Context(Budget(), nested))
    levels = list(node.walk())
    assert len(levels) == 18
    assert all(level["uncompressed_size"] == len(data) for level in levels[:-1])
    assert ids(levels[-1]) == ["LIMIT"]


@pytest.mark.parametrize("name", ["gzip", "bzip2", "zstd", "lz4"])
def test_endless_empty_members(name: str):
    """A million members of twenty bytes unpack to nothing: they cost the budget all the same."""
    member = PACKERS[name](b"")
    budget = Budget(Limits(max_output=2000 * GRAIN))
    stream = compression.open_stream(BytesSource(member * 5000), budget)
    assert stream.size == 0
    assert isinstance(stream.damage, LimitError)
    assert stream.members <= 2000


@pytest.mark.parametrize("name", ["zstd", "lz4"])
def test_endless_skippable_frames(name: str):
    data = PACKERS[name](MIXED) + bytes.fromhex("502a4d1800000000") * 100_000
    budget = Budget(Limits(max_output=1000 * GRAIN))
    assert isinstance(_drained(data, budget), LimitError)
    large = PACKERS[name](MIXED) + bytes.fromhex("502a4d1800000000") * 400_000
    start = time.process_time()
    node = compression.inspect(BytesSource(large), Context(budget, opaque))
    assert time.process_time() - start < 2
    assert node.get("members") is None


def _drained(data: bytes, budget: Budget) -> FormatError | LimitError | None:
    stream = compression.open_stream(BytesSource(data), budget)
    stream.drain()
    assert stream.damage is None or isinstance(stream.damage, FormatError | LimitError)
    return stream.damage
