"""Compressed streams as the real tools write them: unpacked whole, as far as needed, with what follows them."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from mbtool import identify
from mbtool.errors import FormatError
from mbtool.formats import compression
from mbtool.formats.context import Context
from mbtool.model import Field, Node
from mbtool.source import MIB, Budget, BytesSource, Source, StreamSource, open_file
from tests.formats.streams import HELLO, PLAIN, nested, opaque

COMMANDS = (
    "gzip",
    "gzip -1",
    "xz",
    "xz --x86 --lzma2=dict=32MiB --check=crc32",
    "xz --check=sha256",
    "xz --check=none",
    "xz -T2 --block-size=65536",
    "lzma",
    "xz --format=lzma --lzma1=dict=96KiB",
    "bzip2",
    "bzip2 -1",
    "lzop",
    "lzop -9",
    "lzop -F",
    "lzop --crc32",
    "lz4 -l",
    "lz4 -9 -l",
    "lz4",
    "lz4 -B4 -BD -BX",
    "lz4 --no-frame-crc",
    "zstd",
    "zstd -19 --no-check",
    "zstd --long=27",
)
KINDS = {"gzip": "gzip", "xz": "xz", "lzma": "lzma", "bzip2": "bzip2", "lzop": "lzo", "lz4": "lz4", "zstd": "zstd"}
CONCATENABLE = ("gzip", "xz", "bzip2", "lzop", "lz4 -l", "lz4", "zstd")

Pack = Callable[[str, bytes], bytes]


@pytest.fixture(scope="session")
def content() -> bytes:
    """Something that packs well, badly and extremely well, in blocks larger than any codec's own."""
    rng = random.Random(7)
    words = [rng.randbytes(rng.randrange(1, 9)) for _ in range(500)]
    text = b" ".join(rng.choice(words) for _ in range(20_000))
    return text + rng.randbytes(300_000) + bytes(400_000) + text[::-1]


@pytest.fixture(scope="session")
def pack(tool) -> Pack:
    """``pack(command, data)``: what a real tool makes of the data."""

    def run(command: str, data: bytes) -> bytes:
        name, *options = command.split()
        return subprocess.run([tool(name), *options, "-c"], input=data, capture_output=True, check=True).stdout

    return run


def shown(data: bytes | Source, *, full: bool = False) -> Node:
    source = BytesSource(data) if isinstance(data, bytes) else data
    return compression.inspect(source, Context(Budget(), opaque, full))


def unpacked(data: bytes) -> bytes:
    stream = compression.open_stream(BytesSource(data), Budget())
    found = b"".join(stream.chunks())
    assert stream.ended
    assert stream.damage is None
    return found


def ids(node: Node) -> list[str]:
    return [finding.id for finding in node.findings]


@pytest.fixture(scope="session")
def large(pack) -> Callable[[str], tuple[bytes, bytes]]:
    """``large(command)``: content that does not pack, and a stream of it that is not unpacked at once."""

    @cache
    def make(command: str) -> tuple[bytes, bytes]:
        data = random.Random(1).randbytes((20 if "lz4" in command else 3) * MIB)
        return data, pack(command, data)

    return make


# --- real tools


@pytest.mark.parametrize("command", COMMANDS)
def test_tools_output(command: str, content: bytes, pack: Pack):
    data = pack(command, content)
    assert unpacked(data) == content
    node = shown(data)
    kind = "lzma" if "format=lzma" in command else KINDS[command.split()[0]]
    assert (node.kind, node.size, ids(node)) == (kind, len(data), [])
    assert (node["uncompressed_size"], node["compressed_size"], node["members"]) == (len(content), len(data), 1)
    assert node.get("unpacked") is None
    assert node.get("trailing_bytes") is node.get("appended_size") is None
    assert node.children[0].size == len(content)


@pytest.mark.parametrize("command", [command for command in COMMANDS if not command.startswith("lzop")])
def test_tools_output_for_nothing(command: str, pack: Pack):
    node = shown(pack(command, b""))
    assert (node["uncompressed_size"], node.children, ids(node)) == (0, (), [])


def test_lzop_of_an_empty_member():
    header = HELLO["lzo"][:-22]
    assert unpacked(header + bytes(4)) == b""


@pytest.mark.parametrize("command", ["xz", "xz -T2 --block-size=65536", "lzop", "lz4 --content-size", "zstd"])
def test_sizes_known_before_unpacking(command: str, content: bytes, pack: Pack, tmp_path: Path, tool):
    """Of a file, whose size the tools know, as a pipe's they do not."""
    path = tmp_path / "content"
    path.write_bytes(content)
    name, *options = command.split()
    run = subprocess.run([tool(name), *options, "-c", str(path)], capture_output=True, check=True)
    source = BytesSource(run.stdout)
    _, codec, _ = compression._open(source, Budget())
    known = codec.tail(source, source.size, None).uncompressed_size
    fields = [one for one in codec.header(source) if isinstance(one, Field)]
    stated = next((one.value for one in fields if one.name == "content_size"), None)
    assert len(content) in (known, stated)


# --- several members, and what follows the last


@pytest.mark.parametrize("command", CONCATENABLE)
def test_members_one_after_another(command: str, content: bytes, pack: Pack):
    data = pack(command, content) + pack(command, b"second") + pack(command, content[:100_000])
    assert unpacked(data) == content + b"second" + content[:100_000]
    node = shown(data)
    assert (node["members"], ids(node)) == (3, [])
    assert node["uncompressed_size"] == len(content) + 6 + 100_000


def test_xz_stream_padding(pack: Pack):
    one = pack("xz", PLAIN)
    node = shown(one + bytes(8) + one)
    assert (node["members"], node["uncompressed_size"], ids(node)) == (2, 2 * len(PLAIN), [])
    node = shown(one + bytes(MIB + 4) + one)
    assert (node["members"], ids(node)) == (2, [])
    assert ids(shown(one + bytes(8))) == ["PADDING"]
    assert ids(shown(one + bytes(6) + one)) == ["TRAILING-BYTES"], "padding comes in multiples of four"


SKIPPABLE = bytes.fromhex("5e2a4d18 05000000") + b"hello"


@pytest.mark.parametrize("command", ["zstd", "lz4"])
def test_skippable_frames(command: str, pack: Pack):
    one = pack(command, PLAIN)
    node = shown(one + SKIPPABLE + one + SKIPPABLE)
    assert (node["members"], node["uncompressed_size"], ids(node)) == (4, 2 * len(PLAIN), [])
    assert ids(shown(one + SKIPPABLE[:-1])) == ["STREAM-DAMAGED"]


def test_both_lz4_formats_together(pack: Pack):
    node = shown(pack("lz4", PLAIN) + pack("lz4 -l", PLAIN) + pack("lz4", PLAIN))
    assert (node["members"], node["uncompressed_size"], ids(node)) == (3, 3 * len(PLAIN), [])


@pytest.mark.parametrize("command", COMMANDS)
def test_kernel_payload(command: str, content: bytes, pack: Pack):
    """The build appends the size to all but gzip's stream, whose own end it is."""
    stream = pack(command, content)
    node = shown(stream + len(content).to_bytes(4, "little"))
    assert ids(node) == []
    assert (node["appended_size"], node["uncompressed_size"]) == (len(content), len(content))
    assert (node["compressed_size"], node.size) == (len(stream), len(stream) + 4)
    field = next(field for field in node.fields if field.name == "appended_size")
    assert (field.offset, field.size) == (len(stream), 4)


@pytest.mark.parametrize("command", CONCATENABLE)
def test_kernel_payload_whose_size_lies(command: str, content: bytes, pack: Pack):
    node = shown(pack(command, content) + (len(content) - 1).to_bytes(4, "little"))
    (finding,) = node.findings
    assert finding.id == "APPENDED-SIZE"
    assert (finding.expected, finding.found) == (str(len(content)), str(len(content) - 1))
    assert node["uncompressed_size"] == len(content)


@pytest.mark.parametrize("command", [*CONCATENABLE, "lzma"])
@pytest.mark.parametrize("rest", [b"x", b"xyz", b"trailing words\xff\xff\xff", b"\xff\xff\xff\xff" * 100])
def test_trailing_bytes(command: str, rest: bytes, pack: Pack):
    stream = pack(command, PLAIN)
    node = shown(stream + rest)
    (finding,) = node.findings
    assert (finding.id, finding.offset) == ("TRAILING-BYTES", len(stream))
    assert (node["trailing_bytes"], node["uncompressed_size"]) == (len(rest), len(PLAIN))
    assert (node["compressed_size"], node.size) == (len(stream), len(stream + rest))


@pytest.mark.parametrize("command", [*CONCATENABLE, "lzma"])
def test_trailing_zeros_are_padding(command: str, pack: Pack):
    node = shown(pack(command, PLAIN) + bytes(512))
    assert ids(node) == ["PADDING"]
    assert node["trailing_bytes"] == 512


def test_trailing_stream_of_another_kind_is_named(pack: Pack):
    (finding,) = shown(pack("gzip", PLAIN) + pack("xz", PLAIN)).findings
    assert (finding.id, finding.found) == ("TRAILING-BYTES", "xz")


# --- only as far as needed


def head_only(source: Source, context: Context) -> Node:
    return Node("head", 0, len(source.read(0, 1000)))


@pytest.mark.parametrize("command", ["gzip", "xz -0", "lzma -0", "bzip2", "lzop", "lz4 -l", "lz4", "zstd"])
def test_large_stream_is_unpacked_as_far_as_its_content_is_read(command: str, large):
    content, packed = large(command)
    payload = packed + len(content).to_bytes(4, "little")
    node = compression.inspect(BytesSource(payload), Context(Budget(), head_only))
    seen = node["unpacked"]
    assert isinstance(seen, int)
    assert 1000 <= seen <= 2 * MIB
    assert ids(node) == []
    if command in ("xz -0", "lzop", "lz4 -l", "zstd"):  # these tell their end without being unpacked
        assert (node["appended_size"], node["uncompressed_size"]) == (len(content), len(content))
        assert (node["compressed_size"], node["members"]) == (len(packed), 1)

    budget = Budget()
    node = compression.inspect(BytesSource(payload), Context(budget, head_only, full=True))
    assert node.get("unpacked") is None
    assert (node["uncompressed_size"], node["appended_size"]) == (len(content), len(content))
    assert len(content) <= budget.output < len(content) + 2 * MIB, "unpacked once"


@pytest.mark.parametrize("command", ["xz -0", "lzop", "lz4 -l", "zstd"])
def test_end_that_is_found_without_unpacking(command: str, large):
    """Several members; trailing bytes; a damaged tail: what is told is right or nothing."""
    _, packed = large(command)
    context = Context(Budget(), head_only)
    node = compression.inspect(BytesSource(packed + b"trailing"), context)
    if command != "xz -0":  # looks for its footer at the end only
        assert ids(node) == ["TRAILING-BYTES"]
        assert node["compressed_size"] == len(packed)
        node = compression.inspect(BytesSource(packed + packed), context)
        assert (node["members"], node["compressed_size"]) == (2, 2 * len(packed))
    node = compression.inspect(BytesSource(packed[:-50_000]), context)
    assert "unpacked" in [field.name for field in node.fields]
    assert node.get("uncompressed_size") is None
    assert node.get("appended_size") is None


def test_lying_size_of_a_payload_is_told_without_unpacking(large):
    content, packed = large("xz -0")
    node = compression.inspect(BytesSource(packed + b"\1\2\3\4"), Context(Budget(), head_only))
    assert ids(node) == ["APPENDED-SIZE"]
    assert node["uncompressed_size"] == len(content)


def test_nearly_all_read_is_unpacked_to_the_end(large):
    """So that the checksum at the end is looked at."""
    content, packed = large("gzip")

    def nearly_all(source: Source, context: Context) -> Node:
        source.read(len(content) - 10_000, 100)
        return Node("all", 0, len(content))

    damaged = packed[:-8] + bytes(4) + packed[-4:]
    node = compression.inspect(BytesSource(damaged), Context(Budget(), nearly_all))
    assert ids(node) == ["STREAM-DAMAGED"]
    assert node.children[0].kind == "all"


def test_stream_within_a_stream_of_unknown_size(pack: Pack, large):
    """The outer stream is not unpacked to its end to tell the inner one's size, unless everything is asked for."""
    inner = pack("gzip", PLAIN)
    content, _ = large("lz4")
    outer = pack("lz4 -l", inner + content)

    node = compression.inspect(BytesSource(outer), Context(Budget(), nested))
    assert (node.kind, node.get("uncompressed_size")) == ("lz4", None)
    child = node.children[0]
    assert (child.kind, child["uncompressed_size"], child["compressed_size"]) == ("gzip", len(PLAIN), len(inner))
    assert ids(child) == []

    child = compression.inspect(BytesSource(outer), Context(Budget(), nested, full=True)).children[0]
    assert (child["trailing_bytes"], child.size) == (len(content), len(inner + content))


# --- the library's side


def test_open_stream(pack: Pack, content: bytes):
    stream = compression.open_stream(BytesSource(pack("xz", content) + b"more", "name"), Budget())
    assert stream.name == "name:xz"
    assert stream.read(len(content) - 4, 100) == content[-4:]
    assert stream.size == len(content)
    assert (stream.ended, stream.damage, stream.members) == (True, None, 1)
    assert stream.packed == len(pack("xz", content)), "what follows is no part of it"


@pytest.mark.parametrize("data", [b"", b"\x1f", b"\x1f\x8b", b"plain text, not compressed"])
def test_what_is_no_stream(data: bytes):
    assert compression.detect(data) is None
    assert compression.reject(BytesSource(data)).startswith("no gzip, xz")
    with pytest.raises(FormatError):
        compression.open_stream(BytesSource(data), Budget())


def test_memory_that_a_stream_may_ask_for(pack: Pack):
    """A dictionary of 1.5 GiB is refused by whoever reads the header, and is no damage."""
    data = bytearray(pack("xz --format=lzma", PLAIN))
    data[1:5] = (3 << 29).to_bytes(4, "little")
    assert ids(shown(bytes(data))) == ["LIMIT"]
    data[1:5] = (1 << 29).to_bytes(4, "little")
    assert unpacked(bytes(data)) == PLAIN


# --- Debian's


def payload(path: Path) -> bytes:
    """By the boot protocol: the payload's place is at 0x248, its length at 0x24c, behind the setup sectors."""
    data = path.read_bytes()
    start = (data[0x1F1] + 1) * 512 + int.from_bytes(data[0x248:0x24C], "little")
    return data[start : start + int.from_bytes(data[0x24C:0x250], "little")]


def check_kernel(path: Path, kind: str) -> None:
    data = payload(path)
    size = int.from_bytes(data[-4:], "little")
    stream = compression.open_stream(BytesSource(data), Budget())
    assert stream.read(0, 4) == b"\x7fELF"
    assert stream.size == size
    assert (stream.damage, stream.members, stream.packed) == (None, 1, len(data) - 4)
    node = compression.inspect(BytesSource(data), Context(Budget(), head_only))
    assert (node.kind, node["appended_size"], node["uncompressed_size"]) == (kind, size, size)
    assert ids(node) == []


def test_xz_without_the_package_for_it(pack: Pack, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "lzma_mt", None)
    assert unpacked(pack("xz --x86 --lzma2=dict=32MiB --check=crc32", PLAIN)) == PLAIN


@pytest.mark.parametrize("cut", [0, 1])
def test_nothing_is_kept_of_an_image_that_was_shown(cut: int, large):
    """Not even until the garbage collector comes by: images are shown one after the other."""

    def streams() -> int:
        return sum(isinstance(each, StreamSource) for each in gc.get_objects())

    _, packed = large("xz -0")
    data = packed[: len(packed) - cut * MIB]
    gc.collect()
    gc.disable()
    try:
        before = streams()
        identify.inspect(BytesSource(data))
        assert streams() == before
    finally:
        gc.enable()


@pytest.mark.real
def test_debian_kernel(vmlinuz: Path):
    check_kernel(vmlinuz, "xz")


@pytest.mark.real
def test_debian_cloud_kernel(vmlinuz_cloud: Path):
    check_kernel(vmlinuz_cloud, "lz4")


@pytest.mark.real
def test_debian_kernel_stops_after_the_notes(vmlinuz: Path):
    node = identify.inspect(BytesSource(payload(vmlinuz)))
    assert node.find("xen-notes") is not None
    seen = node["unpacked"]
    assert isinstance(seen, int)
    assert seen < 26 * MIB < 60 * MIB < (node["uncompressed_size"] or 0)  # type: ignore[operator]


@pytest.mark.real
def test_debian_xen(xen_gz: Path, tool):
    content = subprocess.run([tool("gzip"), "-dc", str(xen_gz)], capture_output=True, check=True).stdout
    assert unpacked(xen_gz.read_bytes()) == content
    with open_file(xen_gz) as source:
        node = identify.inspect(source)
    assert (node.kind, node["uncompressed_size"], node["isize"]) == ("gzip", len(content), len(content))
    assert [child.kind for child in node.children] == ["elf"]
    assert ids(node) == []
