"""PE images shown: sections, directories, sums, unified kernel images; against binutils and lief; damaged ones."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbtool import identify
from mbtool.errors import MbtoolError
from mbtool.formats import pe, pe_digest, pe_headers, pe_sections
from mbtool.formats.context import Context
from mbtool.formats.pe_directories import CODEVIEW, DEBUG_ENTRY
from mbtool.model import Node, Severity
from mbtool.source import Budget, BytesSource, open_file
from tests.formats import pe_images
from tests.formats.pe_images import CODE, DATA, DISCARDABLE, Part

HEADER_FIELDS = 0x58
"""File offset of the optional header in images of pe_images."""


def recurse(source, context):
    return Node("inner", 0, source.size)


def inspect(data: bytes, *, full: bool = False) -> Node:
    source = BytesSource(data, "test.efi")
    assert pe.reject(source) == ""
    return pe.inspect(source, Context(Budget(), recurse, full))


def ids(node: Node) -> list[str]:
    return [finding.id for finding in node.findings]


def sections(node: Node) -> dict[str, Node]:
    return {str(child["name"]): child for child in node.children if child.kind == "pe-section"}


PARTS = [
    Part(b".text", b"\xc3" * 0x300, CODE),
    Part(b".rodata", b"readable"),
    Part(b".reloc", struct.pack("<IIHHHH", 0x1000, 16, 0xA010, 0xA018, 0x3020, 0), DISCARDABLE),
]


def test_sections_lie_where_their_bytes_lie():
    data = pe_images.image(PARTS)
    node = inspect(data)
    text, rodata = sections(node)[".text"], sections(node)[".rodata"]
    assert (text.offset, text.size, text["content_size"]) == (0x400, 0x400, 0x300)
    assert (rodata.offset, rodata.size, rodata["content_size"]) == (0x800, 0x200, 8)
    assert (rodata["VirtualAddress"], rodata["Characteristics"]) == (0x2000, DATA)
    for name, section in sections(node).items():
        for field in section.fields:
            if field.offset is not None and field.raw:
                at = section.offset + field.offset
                assert data[at : at + len(field.raw)] == field.raw, (name, field.name)


def test_header_fields_lie_where_they_say():
    data = pe_images.image(PARTS)
    for field in inspect(data).fields:
        if field.offset is not None:
            assert data[field.offset : field.offset + len(field.raw)] == field.raw, field.name


def test_relocations_are_counted_by_type():
    node = inspect(pe_images.image(PARTS, directories={5: (pe_images.rva_of(PARTS, 2), 16)}))
    relocations = node.find("pe-relocations")
    assert relocations is not None
    assert (relocations["blocks"], relocations["relocations"]) == (1, 4)
    assert relocations.fields[1].meaning == "ABSOLUTE 1, HIGHLOW 1, DIR64 2"


@pytest.mark.parametrize(
    "block, blocks, damaged",
    [
        (struct.pack("<II", 0x1000, 8), 1, False),
        (struct.pack("<II", 0, 0), 0, False),
        (struct.pack("<II", 0x1000, 0), 0, True),
        (struct.pack("<II", 0x1000, 7), 0, True),
        (struct.pack("<II", 0x1000, 9), 0, True),
        (struct.pack("<IIB", 0x1000, 9, 0), 1, False),
        (struct.pack("<II", 0x1000, 0xFFFFFFFF), 0, True),
        (struct.pack("<IIII", 0x1000, 8, 0x2000, 8), 2, False),
        (b"\1" * 7, 0, False),
    ],
)
def test_relocation_blocks_stay_in_their_table(block, blocks, damaged):
    parts = [PARTS[0], Part(b".reloc", block)]
    node = inspect(pe_images.image(parts, directories={5: (0x2000, len(block))})).find("pe-relocations")
    assert node is not None
    assert node["blocks"] == blocks
    assert ids(node) == ["PE-RELOCATIONS-DAMAGED"] * damaged


def test_codeview_record_gives_the_build_id():
    build_id = bytes(range(16))
    # Debug entry (28 bytes: type 2, its record 24 bytes at RVA 0x201c and file offset 0x81c), then the record.
    entry = struct.pack("<IIHHIIII", 0, 0, 0, 0, 2, 24, 0x201C, 0x81C)
    content = entry + b"RSDS" + build_id + struct.pack("<I", 1)
    assert DEBUG_ENTRY.build(DEBUG_ENTRY.parse(entry)) == entry
    assert CODEVIEW.build(CODEVIEW.parse(content[28:])) == content[28:]
    node = inspect(pe_images.image([PARTS[0], Part(b".buildid", content)], directories={6: (0x2000, 28)}))
    debug = node.find("pe-debug")
    assert debug is not None
    assert (debug.offset, debug["types"], debug["build_id"]) == (0x800, ("CodeView",), build_id)


def test_a_directory_among_the_headers():
    """As iPXE 1.21.1+git20250501 has it: SizeOfHeaders 0x400, the debug directory at 0x3ac (objdump -p)."""
    entry = struct.pack("<IIHHIIII", 0, 0, 0, 0, 2, 24, 0x3C8, 0x3C8)
    data = pe_images.image(PARTS, directories={6: (0x3AC, 28)})
    root = inspect(data[:0x3AC] + entry + b"RSDS" + bytes(20) + data[0x3E0:])
    debug = root.find("pe-debug")
    assert debug is not None
    assert debug["types"] == ("CodeView",)
    assert "PE-DIRECTORY-OUTSIDE" not in ids(root)


def test_directory_outside_of_all_sections_is_a_finding():
    assert "PE-DIRECTORY-OUTSIDE" in ids(inspect(pe_images.image(PARTS, directories={5: (0x9000, 8)})))


@pytest.mark.parametrize(
    "offset, form, value, finding",
    [
        (16, "<I", 0x3000, "PE-ENTRY"),  # .reloc is not executable
        (16, "<I", 0x9000, "PE-ENTRY"),
        (32, "<I", 0, "PE-ALIGNMENT"),
        (32, "<I", 0x1001, "PE-ALIGNMENT"),
        (32, "<I", 0x100, "PE-ALIGNMENT"),  # below FileAlignment
        (32, "<I", 0x800, "PE-SMALL-ALIGNMENT"),
        (36, "<I", 0x1FF, "PE-ALIGNMENT"),
        (56, "<I", 0x3000, "PE-IMAGE-SIZE"),
        (56, "<I", 0x300F, "PE-IMAGE-SIZE"),
        (56, "<I", 0x3010, "PE-IMAGE-SIZE-UNALIGNED"),
        (64, "<I", 1, "PE-CHECKSUM"),
    ],
)
def test_odd_headers_are_told(offset, form, value, finding):
    data = bytearray(pe_images.image(PARTS))
    assert not ids(inspect(bytes(data)))
    struct.pack_into(form, data, HEADER_FIELDS + offset, value)
    assert finding in ids(inspect(bytes(data)))


def test_image_size_is_judged_as_firmware_does():
    """EDK II refuses a section whose last byte lies past SizeOfImage: 0x3010 is the end of the last one here."""
    data = bytearray(pe_images.image(PARTS))
    for size, severity in ((0x300F, Severity.ERROR), (0x3010, Severity.INFO)):
        struct.pack_into("<I", data, HEADER_FIELDS + 56, size)
        (finding,) = inspect(bytes(data)).findings
        assert (finding.field, finding.severity) == ("SizeOfImage", severity)


def test_writable_code_is_told_and_discardable_relocations_are_not():
    """EDK II looks at no such flag, its own GenFw sets it, and shim relocates by the bytes of the file."""
    found = sections(inspect(pe_images.image([Part(b".text", b"\xc3", 0xE0000020), *PARTS[2:]])))
    assert ids(found[".text"]) == ["PE-WRITABLE-CODE"]
    assert ids(found[".reloc"]) == []


def test_sections_that_overlap_are_told():
    data = bytearray(pe_images.image(PARTS))
    second = 0x58 + 112 + 128 + 40
    struct.pack_into("<I", data, second + 12, 0x1100)
    found = inspect(bytes(data)).findings
    assert [(each.id, each.severity) for each in found] == [("PE-OVERLAP", Severity.WARNING)]
    struct.pack_into("<I", data, second + 12, 0x2000)
    struct.pack_into("<I", data, second + 20, 0x600)
    assert [(each.id, each.severity) for each in inspect(bytes(data)).findings] == [("PE-OVERLAP", Severity.INFO)]


@pytest.mark.parametrize("tail, told", [(0, False), (7, False), (8, True), (512, True)])
def test_bytes_behind_the_last_section_are_told(tail, told):
    assert ("PE-TRAILING" in ids(inspect(pe_images.image(PARTS, tail=bytes(tail))))) == told


@pytest.mark.parametrize("cut", [1, 0x1FF, 0x200, 0x201, 0x400])
def test_cut_sections_are_told_and_the_rest_is_shown(cut):
    node = inspect(pe_images.image(PARTS)[:-cut])
    assert list(sections(node)) == [".text", ".rodata", ".reloc"]
    assert any("PE-SECTION-CUT" in ids(section) for section in sections(node).values())
    assert sections(node)[".text"].size == 0x400


def test_checksum_of_odd_sized_images():
    """By the definition: 16-bit words added with carry, the last byte alone, the field itself left out."""
    for tail in (b"", b"\xff", b"\xff\xff\x80"):
        data = pe_images.image(PARTS, tail=tail)
        total = 0
        for at in range(0, len(data), 2):
            total += int.from_bytes(data[at : at + 2], "little")
            total = (total & 0xFFFF) + (total >> 16)
        marked = bytearray(data)
        struct.pack_into("<I", marked, HEADER_FIELDS + 64, 0xFFFFFFFF)
        headers, _ = pe_headers.parse(BytesSource(bytes(marked)))
        assert pe_digest.checksum(BytesSource(bytes(marked)), headers) == total + len(data)


# --- hostile input ---------------------------------------------------------------------------------------------


def small_image() -> bytes:
    """Something of everything: relocations, debug entry, SBAT, texts, a certificate table."""
    parts = [
        *PARTS,
        Part(b".sbat", b"sbat,1,SBAT Version,sbat,1,https://example.org\n"),
        Part(b".osrel", b'ID=test\nPRETTY_NAME="Test"\n'),
        Part(b".linux", b"not a kernel"),
        Part(b".dbg", struct.pack("<IIHHIIII", 0, 0, 0, 0, 2, 24, 0, 0x400)),
    ]
    table = struct.pack("<IHH", 24, 0x200, 2) + b"\x30\x82\x01\x00" + bytes(12)
    size = len(pe_images.image(parts))
    where = {4: (size, len(table)), 5: (pe_images.rva_of(parts, 2), 16), 6: (pe_images.rva_of(parts, 6), 28)}
    return pe_images.image(parts, directories=where, tail=table)


SMALL = small_image()
TABLES = 0x58 + 112 + 128 + 7 * 40


def attempt(data: bytes) -> Node | None:
    """Inspect what may be refused; anything but an MbtoolError comes through."""
    source = BytesSource(data)
    try:
        return None if pe.reject(source) else pe.inspect(source, Context(Budget(), recurse))
    except MbtoolError:
        return None


def test_truncation_at_every_byte_of_the_headers():
    shown = [attempt(SMALL[:size]) for size in range(TABLES + 64)]
    assert shown[0x57] is None
    for size, node in enumerate(shown[0x58:], 0x58):
        assert node is not None and node.findings, size
        assert node["Machine"] == 0x8664


def test_truncation_at_every_byte_of_the_certificate_table():
    for size in range(len(SMALL) - 24, len(SMALL)):
        node = attempt(SMALL[:size])
        assert node is not None
        assert "PE-SIGNATURE-CUT" in ids(node)
        assert len(sections(node)) == 7


@pytest.mark.parametrize("value", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF, len(SMALL) - 1, len(SMALL), len(SMALL) + 1])
def test_every_header_word_set_to_extremes(value):
    """Each 2- and 4-byte word of all headers, whatever field it is part of."""
    for at in range(0x3C, TABLES, 2):
        for size in (2, 4):
            data = bytearray(SMALL)
            data[at : at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
            attempt(bytes(data))


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), max_size=12))
def test_random_damage(changes):
    data = bytearray(SMALL)
    for at, value in changes:
        data[at] = value
    attempt(bytes(data))


def test_many_sections_are_bounded():
    data = bytearray(pe_images.image([]))
    struct.pack_into("<H", data, 0x40 + 6, 0xFFFF)
    node = inspect(bytes(data[:0x200]) + bytes(0xFFFF * 40))
    assert len(sections(node)) <= pe_headers.MAX_SECTIONS
    assert "PE-SECTIONS-MANY" in ids(node)


def test_images_that_share_their_insides_are_shown_once():
    """Each level would hold the next ten times over: 10^9 nodes."""
    data = pe_images.image([PARTS[0]])
    for _ in range(9):
        size = len(data)
        outer = bytearray(pe_images.image([Part(b".linux", b"\0" * size), *[Part(b".linux", b"x")] * 9]))
        outer[0x400 : 0x400 + size] = data
        for index in range(1, 10):
            at = 0x58 + 112 + 128 + 40 * index
            struct.pack_into("<I", outer, at + 8, size)
            struct.pack_into("<II", outer, at + 16, size, 0x400)
        data = bytes(outer)
    node = identify.inspect(BytesSource(data))
    assert sum(1 for each in node.walk() if each.kind == "pe") == 10
    assert "PE-SECTION-SHARED" in ids(node.children[1])


# --- unified kernel images -------------------------------------------------------------------------------------


def test_uki_sections_are_named_and_their_text_is_shown():
    texts = {
        b".osrel": b'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12"\n',
        b".cmdline": b"root=/dev/vda quiet\n\0\0",
        b".uname": b"6.1.0-56-amd64",
        b".pcrpkey": b"-----BEGIN PUBLIC KEY-----\n",
        b".sdmagic": b"#### LoaderInfo: systemd-stub 252 ####\0",
    }
    parts = [PARTS[0], *(Part(name, text) for name, text in texts.items())]
    parts += [Part(b".linux", b"K" * 700), Part(b".initrd", b"I" * 5), Part(b".splash", b"BM")]
    node = inspect(pe_images.image(parts))
    assert node["purpose"] == "unified kernel image"
    found = sections(node)
    assert found[".cmdline"]["text"] == "root=/dev/vda quiet"
    assert found[".uname"]["text"] == "6.1.0-56-amd64"
    assert found[".sdmagic"]["text"] == "#### LoaderInfo: systemd-stub 252 ####"
    assert (found[".osrel"]["ID"], found[".osrel"]["VERSION_ID"]) == ("debian", "12")
    assert found[".osrel"]["PRETTY_NAME"] == "Debian GNU/Linux 12"
    assert found[".splash"]["purpose"] == "boot splash bitmap"
    (kernel,), (initrd,) = found[".linux"].children, found[".initrd"].children
    assert (kernel.kind, kernel.offset, kernel.size) == ("inner", 0, 700)
    assert (initrd.offset, initrd.size) == (0, 5)


def test_unified_xen_has_its_own_sections():
    parts = [
        PARTS[0],
        Part(b".config", b"[global]\ndefault=xen\n"),
        Part(b".kernel", b"K"),
        Part(b".ramdisk", b"R"),
    ]
    node = inspect(pe_images.image(parts, image_base=0xFFFF82D040000000))
    assert node["purpose"] == "unified Xen image"
    found = sections(node)
    assert found[".config"]["text"] == "[global]\ndefault=xen"
    assert [found[name].children[0].kind for name in (".kernel", ".ramdisk")] == ["inner", "inner"]
    assert ".config" not in str(sections(inspect(pe_images.image(parts)))[".config"].get("purpose"))


def objdump_sections(objdump: str, path: Path) -> list[tuple[str, int, int, int]]:
    """Name, size, address, file offset by binutils."""
    out = subprocess.run([objdump, "-h", str(path)], capture_output=True, text=True, check=True).stdout
    rows = re.findall(
        r"^ *\d+ (\S+) +([0-9a-f]{8}) +([0-9a-f]{16}) +[0-9a-f]{16} +([0-9a-f]{8}) ", out, re.MULTILINE
    )
    return [(name[:8], int(size, 16), int(address, 16), int(offset, 16)) for name, size, address, offset in rows]


def test_uki_made_by_objcopy_is_read_back(debian, vmlinuz, tool, tmp_path):
    """A stub and four sections put together the way systemd's documentation shows."""
    stub = debian("systemd-boot-efi") / "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
    kernel = vmlinuz.read_bytes()
    contents = {
        ".osrel": b"ID=test\n",
        ".cmdline": b"console=ttyS0\0",
        ".linux": kernel,
        ".initrd": b"070701".ljust(512, b"0"),
    }
    command = [tool("objcopy")]
    address = 0x20000
    for name, content in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        command += ["--add-section", f"{name}={path}", "--change-section-vma", f"{name}={address:#x}"]
        address = (address + len(content) + 0xFFF) & ~0xFFF
    uki = tmp_path / "uki.efi"
    subprocess.run([*command, str(stub), str(uki)], check=True)
    held: list[bytes] = []

    def keep(source, context):
        held.append(source.read(0, source.size))
        return Node("inner", 0, source.size)

    with open_file(uki) as source:
        node = pe.inspect(source, Context(Budget(), keep))
    assert not [finding for finding in node.findings if finding.severity is Severity.ERROR]
    assert node["purpose"] == "unified kernel image"
    found = sections(node)
    assert found[".cmdline"]["text"] == "console=ttyS0"
    assert found[".osrel"]["ID"] == "test"
    assert "systemd-stub" in str(found[".sdmagic"]["text"])
    (table,) = found[".sbat"].children
    assert {"systemd", "systemd.debian"} <= {str(entry["component_name"]) for entry in table.children}
    assert held == [kernel, contents[".initrd"]]


# --- real images, against binutils and lief --------------------------------------------------------------------


@pytest.fixture(
    params=[
        ("linux-image-amd64", "boot/vmlinuz-*"),
        ("linux-image-cloud-amd64", "boot/vmlinuz-*"),
        ("linux-image-rt-amd64", "boot/vmlinuz-*"),
        ("xen-hypervisor-4.17-amd64", "boot/xen-*.efi"),
        ("memtest86+", "boot/memtest86+x64.efi"),
        ("memtest86+", "boot/memtest86+ia32.efi"),
        ("ipxe", "boot/ipxe.efi"),
        ("systemd-boot-efi", "usr/lib/systemd/boot/efi/linuxx64.efi.stub"),
        ("systemd-boot-efi", "usr/lib/systemd/boot/efi/systemd-bootx64.efi"),
    ],
    ids=lambda param: param[1].rpartition("/")[2].strip("*") + "-" + param[0],
)
def real_image(request, debian):
    package, pattern = request.param
    (path,) = debian(package).glob(pattern)
    return path


@pytest.mark.real
def test_real_images_read_as_binutils_and_lief_read_them(real_image, tool):
    import lief

    lief.logging.disable()
    image = lief.PE.parse(str(real_image))
    assert image is not None
    with open_file(real_image) as source:
        assert pe.reject(source) == ""
        headers, findings = pe_headers.parse(source)
        parts = pe_sections.sections(source, headers, source.size)
        assert not findings
        optional = headers.optional
        assert optional is not None
        ours = pe_digest.image_digest(source, headers, parts, "sha256")
        sum_of_file = pe_digest.checksum(source, headers)
        node = pe.inspect(source, Context(Budget(), recurse))
    theirs = image.optional_header
    assert optional.AddressOfEntryPoint == theirs.addressof_entrypoint
    assert optional.ImageBase == theirs.imagebase
    assert optional.SizeOfImage == theirs.sizeof_image
    assert optional.CheckSum == theirs.checksum
    assert optional.SectionAlignment == theirs.section_alignment
    assert [(part.header.VirtualAddress, part.header.SizeOfRawData) for part in parts] == [
        (section.virtual_address, section.sizeof_raw_data) for section in image.sections
    ]
    assert sum_of_file == image.compute_checksum()
    assert not [finding for finding in node.findings if finding.severity is Severity.ERROR]
    assert bytes(image.authentihash_sha256) == ours
    # binutils leaves out sections without a name of their own and shows image addresses
    shown = objdump_sections(tool("objdump"), real_image)
    base = optional.ImageBase
    expected = {(part.name[:8], part.header.VirtualAddress + base) for part in parts}
    assert {(name, address) for name, _, address, _ in shown} <= expected
