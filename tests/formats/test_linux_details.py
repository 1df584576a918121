"""What an unpacked kernel says about itself: banners old and new, the embedded configuration."""

from __future__ import annotations

import gzip
import random
import subprocess

import pytest

from mbtool.errors import FormatError
from mbtool.formats import linux_details
from mbtool.identify import inspect
from mbtool.model import Node
from mbtool.source import STEP, Budget, BytesSource, StreamSource, open_file

DEBIAN = (
    "Linux version 6.1.0-56-amd64 (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0, GNU"
    " ld (GNU Binutils for Debian) 2.40) #1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)"
)
CENTOS = (
    "Linux version 3.10.0-1160.el7.x86_64 (mockbuild@kbuilder.bsys.centos.org) (gcc version 4.8.5 20150623"
    " (Red Hat 4.8.5-44) (GCC) ) #1 SMP Mon Oct 19 16:18:59 UTC 2020"
)
SLACKWARE = "Linux version 2.0.30 (root@localhost) (gcc version 2.7.2) #1 Tue Apr 8 20:17:27 CDT 1997"


def find(data: bytes) -> Node | None:
    return linux_details.find(BytesSource(data, "vmlinux"), 0, len(data))


def kernel(banner: str, rest: bytes = b"") -> bytes:
    return b"Linux version %s\0" + bytes(200) + banner.encode() + b"\n\0" + bytes(100) + rest


@pytest.mark.parametrize(
    ("banner", "parts"),
    [
        (
            DEBIAN,
            (
                "6.1.0-56-amd64",
                "debian-kernel@lists.debian.org",
                "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40",
                "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)",
            ),
        ),
        (
            CENTOS,
            (
                "3.10.0-1160.el7.x86_64",
                "mockbuild@kbuilder.bsys.centos.org",
                "gcc version 4.8.5 20150623 (Red Hat 4.8.5-44) (GCC) ",
                "#1 SMP Mon Oct 19 16:18:59 UTC 2020",
            ),
        ),
        (SLACKWARE, ("2.0.30", "root@localhost", "gcc version 2.7.2", "#1 Tue Apr 8 20:17:27 CDT 1997")),
    ],
)
def test_banners(banner, parts):
    data = kernel(banner)
    node = find(data)
    assert node is not None
    assert (node.kind, node.offset, node.size) == ("linux-kernel", 0, len(data))
    assert tuple(node[name] for name in ("version", "builder", "compiler", "build")) == parts
    assert node["banner"] == banner
    for field in node.fields:
        if field.offset is not None:
            assert data[field.offset : field.offset + len(field.raw)] == field.raw


def test_a_banner_of_another_form_is_shown_whole():
    node = find(kernel("Linux version 9.9 made of cheese"))
    assert node is not None
    assert node["banner"] == "Linux version 9.9 made of cheese"
    assert node.get("version") is None


def test_the_banner_that_is_printed_wins():
    """Kernels since 6.1 hold another, from before the build number was known."""
    unnumbered = DEBIAN.replace("#1 ", "# ")
    node = find(kernel(unnumbered) + kernel(DEBIAN))
    assert node is not None
    assert node["banner"] == DEBIAN
    alone = find(kernel(unnumbered))
    assert alone is not None
    assert alone["banner"] == unnumbered


@pytest.mark.parametrize("data", [b"", bytes(1000), b"Linux version %s\0" * 100, b"Linux version "])
def test_no_kernel(data):
    assert find(data) is None


def test_only_the_given_range_is_looked_at():
    data = kernel(DEBIAN, b"IKCFG_ST\x1f\x8b\x08")
    at = data.index(b"Linux version 6")
    source = BytesSource(data)
    assert linux_details.find(source, at + 1, len(data)) is None
    node = linux_details.find(source, at, at + len(DEBIAN) + 1)
    assert node is not None
    assert node["banner"] == DEBIAN
    assert node.get("embedded_config") is None
    (field,) = (field for field in node.fields if field.name == "embedded_config")
    assert "looked at" in field.meaning


TEXT = b"# Linux/x86 6.1 Kernel Configuration\n" + b"".join(b"CONFIG_%d=y\n" % each for each in range(5000))


def test_embedded_configuration():
    packed = gzip.compress(TEXT, mtime=0)
    data = kernel(DEBIAN, b"IKCFG_ST no\0" + b"IKCFG_ST" + packed + b"IKCFG_ED")
    node = find(data)
    assert node is not None
    assert node["embedded_config"] is True
    (child,) = node.children
    assert (child.kind, child.offset, child.size) == ("gzip", data.index(packed), len(packed))
    assert not child.findings
    assert linux_details.config(BytesSource(data), 0, len(data)) == TEXT


def test_no_embedded_configuration():
    node = find(kernel(DEBIAN))
    assert node is not None
    assert node["embedded_config"] is False
    assert linux_details.config(BytesSource(kernel(DEBIAN)), 0, 1000) is None


@pytest.mark.parametrize("step", [4096, 65536, STEP])
def test_wherever_the_texts_stand(step):
    """Also where one piece of an unpacked stream ends and the next begins."""
    packed = gzip.compress(TEXT, mtime=0)
    text, mark = DEBIAN.encode() + b"\n\0", b"IKCFG_ST" + packed + b"IKCFG_ED"
    for shift in (*range(-220, 20, 7), -1025, -1024, -1023, -12, -11, -10, -1, 0, 1):
        for first, second in ((text, mark), (mark, text)):
            data = bytes(STEP + shift) + first + bytes(STEP - 5) + second + bytes(3000)
            node = linux_details.find(unpacking(data, step), 0, len(data))
            assert node is not None
            assert node["banner"] == DEBIAN
            assert [field.offset for field in node.fields if field.name == "version"] == [data.index(text) + 14]
            (child,) = node.children
            assert (child.offset, child.size) == (data.index(packed), len(packed))


def test_what_was_looked_at_is_not_kept():
    data = bytes(8 << 20) + kernel(DEBIAN) + bytes(8 << 20)
    source = unpacking(data, STEP)
    assert linux_details.find(source, 0, len(data), keep=len(data)) is not None
    assert len(source._kept) <= 2 * STEP
    source = unpacking(data, STEP)
    assert linux_details.find(source, 0, len(data), keep=12 << 20) is not None
    assert source.read(12 << 20, 10) == bytes(10)
    assert len(source._kept) <= (4 << 20) + len(kernel(DEBIAN)) + 2 * STEP


def test_a_stream_that_breaks_ends_what_was_looked_at():
    def pieces():
        yield kernel(DEBIAN), 1
        raise FormatError("broken")

    node = linux_details.find(StreamSource(pieces, "vmlinux", Budget()), 0, 1 << 20)
    assert node is not None and node.size == len(kernel(DEBIAN))
    config = next(field for field in node.fields if field.name == "embedded_config")
    assert (config.value, config.meaning) == (None, f"not in the {node.size} bytes that were looked at")


def unpacking(data: bytes, step: int) -> StreamSource:
    def pieces():
        for at in range(0, len(data), step):
            yield data[at : at + step], at

    return StreamSource(pieces, "vmlinux", Budget())


def test_a_configuration_without_an_end():
    data = kernel(DEBIAN, b"IKCFG_ST" + gzip.compress(TEXT)[:-20])
    node = find(data)
    assert node is not None
    assert [finding.id for finding in node.children[0].findings] == ["LINUX-CONFIG-CUT"]
    with pytest.raises(FormatError, match="cut short"):
        linux_details.config(BytesSource(data), 0, len(data))


def test_damaged_and_boundless_configurations():
    junk = b"IKCFG_ST\x1f\x8b\x08" + random.Random(1).randbytes(100) + b"IKCFG_ED"
    with pytest.raises(FormatError, match="damaged"):
        linux_details.config(BytesSource(junk), 0, len(junk))
    bomb = b"IKCFG_ST" + gzip.compress(bytes(8 << 20)) + b"IKCFG_ED"
    with pytest.raises(FormatError, match="too large"):
        linux_details.config(BytesSource(bomb), 0, len(bomb))


def test_many_near_misses_end():
    assert find(b"Linux version %s" * 10000) is None
    data = b"Linux version 1 " * 10000
    node = find(data)
    assert node is not None


@pytest.mark.real
def test_debian_kernels_banner_is_among_their_strings(vmlinuz_cloud, tool, tmp_path):
    with open_file(vmlinuz_cloud) as source:
        node = inspect(source).find("linux-kernel")
    assert node is not None
    assert node["embedded_config"] is not True
    with open_file(vmlinuz_cloud) as source:
        from mbtool.formats import bzimage, compression

        unpacked = compression.open_stream(bzimage.open_payload(source), Budget())
        path = tmp_path / "vmlinux"
        path.write_bytes(unpacked.read(0, unpacked.size))
    strings = subprocess.run([tool("strings"), "-a", path], capture_output=True, text=True, check=True).stdout
    assert str(node["banner"]) in strings.splitlines()
