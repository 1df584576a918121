"""Xen's own details: real builds against what they print when booted, hand-assembled variants, damaged ones."""

from __future__ import annotations

import gzip
import re
import struct
import subprocess
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbtool import identify
from mbtool.formats import xen_hypervisor, xen_version_code
from mbtool.formats.xen_hypervisor import VersionNumber
from mbtool.model import Node
from mbtool.source import BytesSource, open_file
from tests.conftest import ROOT
from tests.formats import pe_images
from tests.formats.pe_images import CODE, Part

DATA = ROOT / "tests/data/xen"
CONSOLE = dict(re.findall(r"^(\S+): \(XEN\) (.*)$", (DATA / "console.txt").read_text(), re.MULTILINE))
"""What each build printed when it was booted."""


def find(data: bytes) -> Node | None:
    return xen_hypervisor.find(BytesSource(data), 0, len(data))


def found(data: bytes) -> Node:
    node = find(data)
    assert node is not None
    return node


def skeleton(name: str) -> bytes:
    return gzip.decompress((DATA / f"{name}.gz").read_bytes())


# --- builds of five versions -----------------------------------------------------------------------------------

BUILDS = {
    "xen-4.14.5": ("4.14.5", False, "6ff443b2697516da88b3331624cdd35928839ec3"),
    "xen-4.14.5.efi": ("4.14.5", False, "33a70664a05c54f7b3e94799a1bf5320"),
    "xen-4.18.0": ("4.18.0", False, "0289932f1234b66e099116b160eeac84ffadcd57"),
    "xen-4.22.0": ("4.22.0", False, "27470ddb4487d7784ccf62dca575b0fedc969484"),
    "xen-4.22.0-debug": ("4.22.0", True, "e62b4067b9c9814dc81cbcd7a1b60711a95716b0"),
}
"""Version, debug, build-id as readelf (for xen.efi: objdump) shows it."""


@pytest.mark.parametrize("name", BUILDS)
def test_builds_tell_what_they_were_built_with(name):
    version, debug, build_id = BUILDS[name]
    data = skeleton(name)
    node = found(data)
    assert node["version"] == version
    assert node["debug"] is debug
    assert node["build_id"] == bytes.fromhex(build_id)
    assert node["console_line"] == CONSOLE[name.removesuffix(".efi")]
    assert node["compiler"] == "gcc (Debian 12.2.0-14+deb12u1) 12.2.0"
    assert (node["compile_by"], node["compile_domain"], node["compile_host"]) == ("builder", "example.org", "forge")
    assert (node["compile_date"], node["compile_time"]) == ("Mon Jan  5 10:20:30 UTC 2026", "10:20:30")
    assert (node["extra_version"], node["changeset"]) == (version[4:], "")
    assert str(node["banner"]).strip() == f"Xen {version}"
    for field in node.fields:
        if field.offset is not None:
            assert data[field.offset : field.offset + len(field.raw)] == field.raw, field.name


@pytest.mark.parametrize("name", BUILDS)
def test_embedded_configuration(name):
    data = skeleton(name)
    node = found(data)
    (stream,) = node.children
    assert stream.kind == "gzip"
    text = gzip.decompress(data[stream.offset : stream.offset + stream.size]).decode()
    (config,) = stream.children
    assert config["title"] == f"Xen/x86 {BUILDS[name][0]} Configuration"
    assert config["settings"] == tuple(line for line in text.splitlines() if line.startswith("CONFIG_"))
    assert config.size == len(text)


@pytest.mark.parametrize("name", BUILDS)
def test_version_alone(name):
    version = BUILDS[name][0]
    data = skeleton(name)
    expected = VersionNumber(4, int(version[2:4]), version[4:])
    assert xen_hypervisor.version(BytesSource(data)) == expected
    assert xen_hypervisor.version(BytesSource(gzip.compress(data))) == expected
    assert str(expected) == version


@pytest.mark.parametrize("name", BUILDS)
def test_version_without_the_code(name):
    """As after link-time optimisation: the EFI greeting tells, without it the configuration's title."""
    data = skeleton(name)
    node = found(data)
    start = next(field.offset for field in node.fields if field.name == "major_version")
    assert start is not None
    torn = bytearray(data)
    torn[start - 512 : start + 512] = bytes(1024)
    for _ in ("greeting", "configuration"):
        less = found(bytes(torn))
        assert less["version"] == BUILDS[name][0]
        assert less["debug"] is BUILDS[name][1]
        assert less.get("compiler") is None
        greeting = torn.find("Xen 4.".encode("utf-16-le"))
        torn[greeting : greeting + 8] = bytes(8)
    at = node.children[0].offset
    torn[at : at + 10] = bytes(10)
    nothing = found(bytes(torn))
    assert nothing["version"] is None and nothing["debug"] is None
    assert [finding.id for finding in nothing.findings] == ["XEN-VERSION-UNKNOWN"]


def test_only_the_range_asked_for_is_looked_at():
    data = skeleton("xen-4.18.0")
    marker = data.index(xen_hypervisor.MARKER)
    source = BytesSource(data)
    assert xen_hypervisor.find(source, 0, marker + len(xen_hypervisor.MARKER) - 1) is None
    assert xen_hypervisor.find(source, marker + 1, len(data)) is None
    part = xen_hypervisor.find(source, 0x80, len(data))
    assert part is not None
    assert part.offset == 0x80
    for field in part.fields:
        if field.offset is not None:
            at = part.offset + field.offset
            assert data[at : at + len(field.raw)] == field.raw


# --- assembled by hand -----------------------------------------------------------------------------------------

STRINGS = ["Thu Jan  1 00:00:00 UTC 1970", "00:00:00", "me", "example.org", "host", "clang version 14.0.6"]
LATER = [".3-vendor", "git:0123456", "Xen 4.16.3\n", "<denied>", "debug=y ubsan=y"]
THUNK = b"\xe9\x10\x20\x30\x00"


def assemble(
    *,
    head: bytes = b"",
    middle: bytes = b"",
    end: bytes = b"\xc3",
    align: int = 16,
    pad: bytes = b"\x90",
    first: int = 0,
) -> bytes:
    """An image with version.c's functions in the form that a compiler's options give them.

    ``head`` stands before each instruction, ``middle`` behind it, ``end`` returns.
    """
    base = 0x800
    places, text = [], b""
    for string in STRINGS + LATER:
        places.append(len(text))
        text += string.encode() + b"\0"
    code = b"\x48\x8d\x05\x00\x00\x00\x00\xc3" * first  # functions of another file, returning some address
    numbers = {6: 4, 7: 16}
    for index in range(len(STRINGS) + len(numbers) + len(LATER)):
        code += pad * (-len(code) % align) + head
        if index in numbers:
            code += b"\xb8" + struct.pack("<I", numbers[index])
        else:
            place = places[index if index < 6 else index - 2]
            code += b"\x48\x8d\x05" + struct.pack("<i", base + place - len(code) - 7)
        code += middle + end
    assert len(code) < base
    marker = b"Xen version %d.%d%s (%s@%s) (%s) %s %s\n\0"
    return code.ljust(base, b"\xcc") + text + marker


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"end": THUNK},
        {"end": THUNK + b"\xcc"},  # guarded against straight-line speculation
        {"end": b"\xc3\xcc"},
        {"head": b"\xf3\x0f\x1e\xfa"},  # endbr64
        {"align": 1},
        {"align": 64},
        {"head": b"\xf3\x0f\x1e\xfa\x55\x48\x89\xe5", "middle": b"\x5d"},  # frame pointer, clang's order
        {"head": b"\x55", "middle": b"\x48\x89\xe5\x5d", "end": THUNK},  # frame pointer, gcc's order
        {"align": 64, "head": b"\xf3\x0f\x1e\xfa\x55\x48\x89\xe5", "middle": b"\x5d", "end": THUNK},
        {"pad": b"\0"},
        {"first": 3},
    ],
)
def test_forms_that_compilers_give_the_functions(form):
    node = found(assemble(**form))
    assert node["version"] == "4.16.3-vendor"
    assert node["debug"] is True
    assert node["compiler"] == "clang version 14.0.6"
    assert [node[name] for name in ("compile_date", "compile_time", "compile_by", "compile_host")] == [
        *(STRINGS[0], STRINGS[1], "me", "host")
    ]
    assert node["changeset"] == "git:0123456"
    assert (
        node["console_line"]
        == "Xen version 4.16.3-vendor (me@example.org) (clang version 14.0.6) debug=y ubsan=y " + STRINGS[0]
    )


def test_sections_of_a_pe_image_are_as_far_apart_as_in_memory():
    """The same code with its strings in another section, whose distance in memory is not that in the file."""
    flat = assemble()
    code, rest = bytearray(flat[:0x800]), flat[0x800:]
    for match in list(re.finditer(b"\x48\x8d\x05(....)\xc3", bytes(code), re.DOTALL)):
        (displacement,) = struct.unpack("<i", match[1])
        struct.pack_into("<i", code, match.start(1), displacement + 0x800)  # 0x1800 apart instead of 0x800
    parts = [Part(b".text", bytes(code), CODE), Part(b".rodata", rest)]
    assert pe_images.rva_of(parts, 1) - pe_images.rva_of(parts, 0) == 0x1000
    data = pe_images.image(parts, image_base=0xFFFF82D040000000)
    assert found(data)["version"] == "4.16.3-vendor"
    assert found(data)["compiler"] == "clang version 14.0.6"


def test_what_looks_like_the_functions_but_is_not():
    """Numbers between texts occur elsewhere; version.c's are those with xen_deny's text behind them."""
    decoy = assemble().replace(b"<denied>", b"<denier>")
    assert found(decoy)["version"] is None
    numbers = b"\xb8\x04\0\0\0\xc3\xb8\x05\0\0\0\xc3"
    assert found(numbers + bytes(4) + assemble())["version"] == "4.16.3-vendor"


@pytest.mark.parametrize(
    "note, build_id",
    [
        (struct.pack("<III4s", 4, 20, 3, b"GNU\0") + bytes(range(20)), bytes(range(20))),
        (struct.pack("<III4s", 4, 16, 3, b"GNU\0") + bytes(range(16)), bytes(range(16))),
        (struct.pack("<III4s", 4, 7, 3, b"GNU\0") + bytes(7), None),
        (struct.pack("<III4s", 4, 0xFFFFFFFF, 3, b"GNU\0") + bytes(20), None),
        (struct.pack("<III4s", 4, 65, 3, b"GNU\0") + bytes(65), None),
        (struct.pack("<III4s", 4, 20, 3, b"GNU\0") + bytes(19), None),
        (struct.pack("<12xIIII", 3, 24, 0, 0) + b"RSDS" + bytes(range(16)), None),  # no CodeView entry before it
        (struct.pack("<12xIIII", 2, 24, 0, 0) + b"RSDS" + bytes(range(16)), bytes(range(16))),
        (struct.pack("<12xIIII", 2, 24, 0, 0) + b"RSDS" + bytes(range(15)), None),
        (b"RSDS" + bytes(16), None),
    ],
)
def test_build_ids(note, build_id):
    assert found(assemble() + note).get("build_id") == build_id


# --- hostile input ---------------------------------------------------------------------------------------------


def test_truncation_at_every_byte():
    data = assemble()
    for size in range(len(data)):
        find(data[:size])
    for size in range(0x700, 0x900):
        find(data[:size] + xen_hypervisor.MARKER)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 0x8A0), st.integers(0, 255)), max_size=12))
def test_random_damage(changes):
    data = bytearray(assemble())
    for at, value in changes:
        data[at] = value
    find(bytes(data))


@pytest.mark.parametrize(
    "unit",
    [
        b"\xb8\x04\0\0\0\xc3",
        b"\xb8\x04\0\0\0\xc3" * 2 + b"\x48\x8d\x05\0\0\0\0\xc3",
        "Xen ".encode("utf-16-le"),
        b"RSDS",
        b"\x1f\x8b\x08",
        b"\x03\0\0\0GNU\0",
        xen_hypervisor.MARKER,
    ],
)
def test_a_file_of_nothing_but_candidates_takes_no_time(unit):
    data = xen_hypervisor.MARKER + unit * (2_000_000 // len(unit))
    assert found(data)["version"] is None


def test_configuration_is_bounded():
    bomb = zlib.compress(b"# Xen/x86 4.1.0 Configuration\n" + b"\n" * (1 << 24), 9, 31)
    assert not found(assemble() + bomb).children
    fine = zlib.compress(b"#\n# Xen/x86 4.1.0 Configuration\nCONFIG_DEBUG=y\n", 9, 31)
    (stream,) = found(assemble() + fine + b"more").children
    assert (stream.size, stream.children[0]["options"]) == (len(fine), 1)


def test_other_images_are_no_xen():
    assert find(b"") is None
    assert find(b"Xen version: %d.%d%s (preserve-AD)\n" + bytes(100)) is None
    assert xen_hypervisor.version(BytesSource(b"\x7fELF" + bytes(100))) is None
    assert xen_version_code.read(xen_version_code.Code(b"", 0, lambda at, by: None)) is None


# --- Debian's images -------------------------------------------------------------------------------------------


def console_pattern(deb_version: str) -> str:
    upstream = re.match(r"[0-9]+\.[0-9]+\.[0-9]+", deb_version)
    assert upstream
    return (
        rf"Xen version {re.escape(upstream[0])} \(Debian {re.escape(deb_version)}\) "
        r"\(pkg-xen-devel@lists\.alioth\.debian\.org\) \(x86_64-linux-gnu-gcc \(Debian [^)]*\) [0-9.]+\) "
        r"debug=n \w{3} \w{3} [ 0-9]\d \d\d:\d\d:\d\d UTC \d{4}"
    )


@pytest.mark.real
def test_debians_images_tell_the_same(debian, xen_gz, xen_efi):
    """xen.gz, xen.efi and the shim of one source package: they differ in their build-ids alone."""
    (shim,) = debian("xen-utils-4.17").glob("usr/lib/xen-4.17/boot/xen-shim")
    nodes = [found(gzip.decompress(xen_gz.read_bytes()))]
    for path in (xen_efi, shim):
        with open_file(path) as source:
            node = xen_hypervisor.find(source, 0, source.size)
            assert node is not None
            nodes.append(node)
    package = str(nodes[0]["compile_system_version"])
    for node in nodes:
        assert re.fullmatch(console_pattern(package), str(node["console_line"]))
        assert node["debug"] is False
    assert len({node["console_line"] for node in nodes}) == 1
    assert len({node["build_id"] for node in nodes}) == 3


@pytest.mark.real
def test_debians_build_id_is_readelfs(xen_gz, tool, tmp_path):
    path = tmp_path / "xen"
    path.write_bytes(gzip.decompress(xen_gz.read_bytes()))
    shown = subprocess.run([tool("readelf"), "-n", str(path)], capture_output=True, text=True, check=True).stdout
    build_id = re.search(r"Build ID: ([0-9a-f]+)", shown)
    assert build_id
    assert found(path.read_bytes())["build_id"] == bytes.fromhex(build_id[1])


@pytest.mark.real
def test_debians_kernel_is_no_xen(vmlinuz):
    with open_file(vmlinuz) as source:
        assert xen_hypervisor.find(source, 0, source.size) is None


@pytest.mark.real
def test_debians_xen_efi(xen_efi):
    with open_file(xen_efi) as source:
        node = identify.inspect(source)
    assert node["purpose"] == "Xen hypervisor"
    assert (node["SectionAlignment"], node["FileAlignment"]) == (0x200000, 0x20)
    assert (node["MajorImageVersion"], node["MinorImageVersion"]) == (4, 17)
    (buildid,) = (part for part in node.children if part.get("name") == ".buildid")
    debug, xen = node.find("pe-debug"), node.find("xen-hypervisor")
    assert debug is not None and xen is not None
    assert debug.offset == buildid.offset
    assert debug["build_id"] == xen["build_id"]
    assert str(xen["version"]).startswith("4.17.")
