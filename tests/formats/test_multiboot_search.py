"""Where headers are found: tables around each limit, agreed with grub-file; near misses without false alarms."""

from __future__ import annotations

import gzip
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool import identify
from mbtool.formats import multiboot
from mbtool.formats.context import Context
from mbtool.model import Finding, Node, Severity
from mbtool.source import Budget, BytesSource, StreamSource

SIZE = 40960
Tool = Callable[[str], str]


def header1(flags: int = 3, error: int = 0) -> bytes:
    return struct.pack("<3I", 0x1BADB002, flags, -(0x1BADB002 + flags) + error & 0xFFFFFFFF)


def header2(error: int = 0) -> bytes:
    return struct.pack("<4I", 0xE85250D6, 0, 24, -(0xE85250D6 + 24) + error & 0xFFFFFFFF) + struct.pack("<2I", 0, 8)


def image(content: bytes, at: int, size: int = SIZE) -> bytes:
    """Zeros of ``size`` bytes with ``content`` at an offset, cut where the image ends."""
    return (bytes(at) + content).ljust(size, b"\0")[:size]


def kinds(data: bytes) -> list[tuple[str, int]]:
    return [(node.kind, node.offset) for node in multiboot.headers(BytesSource(data))]


def misses(data: bytes) -> list[Finding]:
    return list(multiboot.near_misses(BytesSource(data)))


def shown(data: bytes) -> Node:
    def never(*_: object) -> Node:
        raise AssertionError("nothing to recurse into")

    return multiboot.inspect(BytesSource(data), Context(Budget(), never))


# Offset, whether loaders find it, and what is said of it when they do not.
PLACES1 = [
    *((at, True, None) for at in (0, 4, 8, 2048, 8192 - 48, 8192 - 16, 8192 - 12)),
    *((at, False, "MULTIBOOT1-MISALIGNED") for at in (1, 2, 3, 4097, 8192 - 14)),
    *((at, False, "MULTIBOOT1-PAST-LIMIT") for at in (8192 - 11, 8192 - 8, 8192 - 4, 8192, 0x2010, 32768)),
]
PLACES2 = [
    *((at, True, None) for at in (0, 8, 16, 8192, 0x2010, 32768 - 24, 32768 - 16)),
    *((at, False, "MULTIBOOT2-MISALIGNED") for at in (1, 4, 12, 4100, 32768 - 20)),
    *((at, False, "MULTIBOOT2-PAST-LIMIT") for at in (32768 - 15, 32768 - 8, 32768 - 4, 32768, 36864)),
]
TABLE = [
    *(("multiboot1-header", header1(), *row) for row in PLACES1),
    *(("multiboot2-header", header2(), *row) for row in PLACES2),
]


@pytest.mark.parametrize(("kind", "content", "at", "found", "miss"), TABLE)
def test_where_headers_count(kind: str, content: bytes, at: int, found: bool, miss: str | None):
    data = image(content, at)
    assert kinds(data) == ([(kind, at)] if found else [])
    assert [(finding.id, finding.offset) for finding in misses(data)] == ([(miss, at)] if miss else [])
    assert (multiboot.reject(BytesSource(data)) == "") is found


@pytest.mark.parametrize(("kind", "content", "at", "found", "miss"), TABLE)
def test_grub_file_agrees(
    kind: str, content: bytes, at: int, found: bool, miss: str | None, tool: Tool, tmp_path: Path
):
    path = tmp_path / "image"
    path.write_bytes(image(content, at))
    option = "--is-x86-multiboot" if kind == "multiboot1-header" else "--is-x86-multiboot2"
    assert (subprocess.run([tool("grub-file"), option, path], check=False).returncode == 0) is found


@pytest.mark.parametrize("size", [12, 13, 24, 31, 4096])
def test_header_at_the_end_of_a_small_file(size: int):
    assert kinds(image(header1(), size - size % 4 - 12, size)) == [("multiboot1-header", size - size % 4 - 12)]
    assert kinds(image(header1(), size - 11, size)) == []


def test_the_first_header_counts():
    data = image(header1(3), 64)
    data = data[:128] + header1(1) + data[140:]
    data = data[:32] + header1(5, error=1) + data[44:]
    assert kinds(data) == [("multiboot1-header", 64)]


def test_a_miss_is_told_per_version_that_is_missing():
    data = bytearray(image(header1(), 8192))
    data[64 : 64 + 24] = header2()
    assert [finding.id for finding in misses(bytes(data))] == ["MULTIBOOT1-PAST-LIMIT"]
    data[0:12] = header1()
    assert not misses(bytes(data))


@pytest.mark.parametrize(
    ("content", "expected", "found"),
    [(header1(error=1), "0xe4524ffb", "0xe4524ffc"), (header2(error=-1), "0x17adaf12", "0x17adaf11")],
)
def test_wrong_checksum(content: bytes, expected: str, found: str):
    (finding,) = misses(image(content, 0x40))
    assert finding.id.endswith("-CHECKSUM")
    assert (finding.expected, finding.found, finding.severity) == (expected, found, Severity.WARNING)
    assert "wrong checksum" in multiboot.reject(BytesSource(image(content, 0x40)))


@pytest.mark.parametrize(
    "code",
    [
        bytes.fromhex("3d 02b0ad1b 7405 b801000000 c3"),  # cmp eax, 0x1BADB002; je; mov eax, 1; ret
        bytes.fromhex("81 38 02b0ad1b 0f85 10000000 8b4004"),  # cmp dword [eax], 0x1BADB002; jne
        bytes.fromhex("3d d65052e8 7405 b801000000 c3 9090909090909090"),
        bytes.fromhex("3d 02b0ad2b 7405"),  # what a kernel compares with: another number
        struct.pack("<4I", 0x1BADB002, 0x1BADB002, 0xE85250D6, 0xE85250D6) * 4,  # a table of magic numbers
    ],
)
def test_code_that_knows_the_magic_is_no_miss(code: bytes):
    for at in range(16):
        assert misses(image(code, 0x100 + at)) == []


def test_misses_are_not_looked_for_far_away():
    assert misses(image(header1(), 1 << 22, (1 << 22) + 100)) == []
    (finding,) = misses(image(header1(), 1 << 21, (1 << 21) + 100))  # ld with pages of 2 MiB
    assert "max-page-size" in finding.remedy


def test_few_of_many_misses_are_told():
    assert len(misses(image(header1(error=1) * 500, 0))) <= 8


def test_a_stream_is_not_unpacked_for_misses():
    def pieces():
        for number in range(64):
            yield bytes(65536), number

    stream = StreamSource(pieces, "s", Budget())
    assert multiboot.headers(stream) == ()
    unpacked = stream.at_hand
    assert unpacked == 65536
    assert multiboot.near_misses(stream) == ()
    assert stream.at_hand == unpacked


def test_flat_image_with_addresses():
    words = (0x100040, 0x100000, 0, 0, 0x100060)
    stored = struct.pack("<8I", 0x1BADB002, 0x10000, -(0x1BADB002 + 0x10000) & 0xFFFFFFFF, *words)
    node = shown(image(stored, 0x40))
    assert (node.kind, node.size, node["protocols"]) == ("multiboot-image", SIZE, "Multiboot 1")
    assert not [finding for part in node.walk() for finding in part.findings]


def test_flat_image_that_no_loader_can_place():
    node = shown(image(header1(), 0))
    assert [finding.id for finding in node.findings] == ["MULTIBOOT-NO-ADDRESSES"]
    assert shown(image(header2(), 0))["protocols"] == "Multiboot 2"


def test_reason_when_there_is_nothing():
    assert multiboot.reject(BytesSource(b"")) == "no Multiboot header in the first 8192 or 32768 bytes"


def test_header_that_lies_about_its_length_at_the_edge():
    """The magic fields fit, the tags do not: GRUB takes it, and reads behind its buffer."""
    (node,) = multiboot.headers(BytesSource(image(header2(), 32768 - 16)))
    assert [finding.id for finding in node.findings] == ["MULTIBOOT2-PAST-LIMIT"]


@pytest.mark.real
def test_xen(xen_gz: Path, tool: Tool, tmp_path: Path):
    path = tmp_path / "xen"
    path.write_bytes(gzip.decompress(xen_gz.read_bytes()))
    for option in ("--is-x86-multiboot", "--is-x86-multiboot2"):
        subprocess.run([tool("grub-file"), option, path], check=True)
    one, two = multiboot.headers(BytesSource(path.read_bytes()))
    # xen/arch/x86/boot/head.S: what the header is made of, in order.
    assert (one["flags"], one.size) == (3, 12)
    assert [child["type"] for child in two.children] == [1, 6, 10, 4, 5, 7, 9, 0]
    request, _, relocatable, console, framebuffer, *_ = two.children
    assert request["mbi_tag_types"] == (4, 6)
    assert (relocatable["max_addr"], relocatable["align"], relocatable["preference"]) == (0xFFFFFFFF, 0x200000, 2)
    assert console["console_flags"] == 2
    assert (framebuffer["width"], framebuffer["height"], framebuffer["depth"]) == (0, 0, 0)
    assert not [finding for node in (one, two) for part in node.walk() for finding in part.findings]


@pytest.mark.real
def test_invaders(debian: Callable[[str], Path], tool: Tool):
    path = debian("grub-invaders") / "boot" / "invaders.exec"
    subprocess.run([tool("grub-file"), "--is-x86-multiboot", path], check=True)
    (node,) = multiboot.headers(BytesSource(path.read_bytes()), path.stat().st_size)
    assert node["flags"] == 0x10003
    assert node["load_addr"] == 0x100000
    assert not node.findings


@pytest.mark.real
def test_gnumach(debian: Callable[[str], Path], tool: Tool, tmp_path: Path):
    (packed,) = debian("gnumach-image-1-486").glob("boot/gnumach-*.gz")
    path = tmp_path / "gnumach"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    subprocess.run([tool("grub-file"), "--is-x86-multiboot", path], check=True)
    (node,) = multiboot.headers(BytesSource(path.read_bytes()))
    assert (node["flags"], node.findings) == (3, ())


@pytest.mark.real
def test_images_that_are_no_multiboot_give_no_alarm(vmlinuz: Path, xen_gz: Path, debian: Callable[[str], Path]):
    folders = [debian("grub-xen-bin"), debian("syslinux-common"), debian("memtest86+"), debian("ipxe")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 300
    for path in [vmlinuz, xen_gz, *files]:
        data = path.read_bytes()
        assert not kinds(data), path
        assert not misses(data), path


def test_an_elf_file_tells_its_miss(samples: Path):
    """A sound ELF kernel whose header's checksum was broken afterwards."""
    stored = (samples / "multiboot1" / "multiboot1.elf").read_bytes()
    at = stored.index(header1())
    assert identify.inspect(BytesSource(stored)).find("multiboot1-header")
    node = identify.inspect(BytesSource(stored[: at + 8] + bytes(4) + stored[at + 12 :]))
    assert node.kind == "elf"
    assert not node.find("multiboot1-header")
    assert [(finding.id, finding.offset) for finding in node.findings] == [("MULTIBOOT1-CHECKSUM", at + 8)]
