"""Signatures of PE images: the certificate table, what sbsign writes, what sbverify and lief read, damaged ones."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbtool.errors import FormatError, MbtoolError
from mbtool.formats import pe, pe_signature, pkcs7
from mbtool.formats.context import Context
from mbtool.formats.pe_signature import WIN_CERTIFICATE, WinCertificate
from mbtool.model import Node
from mbtool.source import Budget, BytesSource, open_file
from tests.cli.run import mbtool
from tests.formats import pe_images
from tests.formats.pe_images import CODE, Part

PARTS = [Part(b".text", b"\xc3" * 0x600, CODE)]
PLAIN = pe_images.image(PARTS)


def inspect(data: bytes, *, full: bool = False) -> Node:
    return pe.inspect(BytesSource(data), Context(Budget(), lambda source, context: Node("inner", 0, 0), full))


def signatures(node: Node) -> list[Node]:
    return [child for child in node.children if child.kind == "pe-signature"]


def with_table(table: bytes) -> bytes:
    return pe_images.image(PARTS, directories={4: (len(PLAIN), len(table))}, tail=table)


def test_layout():
    assert WIN_CERTIFICATE.size == 8
    literal = bytes.fromhex("c0050000 0002 0200")  # 0x5c0 bytes, revision 2.0, PKCS SignedData
    value = WIN_CERTIFICATE.parse(literal)
    assert value == WinCertificate(0x5C0, 0x200, 2)
    assert WIN_CERTIFICATE.build(value) == literal


@given(st.lists(st.tuples(st.integers(3, 0xFFFF), st.binary(max_size=20)), max_size=4))
def test_tables_survive_build_parse(entries):
    table = pe_signature.build([(WinCertificate(0, 0x200, kind), content) for kind, content in entries])
    assert len(table) % 8 == 0
    found = signatures(inspect(with_table(table)))
    assert [(node["wCertificateType"], node.size) for node in found] == [
        (kind, 8 + len(content)) for kind, content in entries
    ]
    data = with_table(table)
    for node, (_, content) in zip(found, entries, strict=True):
        assert data[node.offset + 8 : node.offset + node.size] == content


@pytest.mark.parametrize(
    "length, found, finding",
    [
        (0, 0, "PE-SIGNATURE-LENGTH"),
        (7, 0, "PE-SIGNATURE-LENGTH"),
        (8, 2, "PE-SIGNATURE-LENGTH"),  # what was its content is then taken for an entry, of length 0
        (24, 1, None),
        (25, 0, "PE-SIGNATURE-LENGTH"),
        (0xFFFFFFFF, 0, "PE-SIGNATURE-LENGTH"),
    ],
)
def test_lengths_of_entries(length, found, finding):
    table = struct.pack("<IHH", length, 0x200, 1) + struct.pack("<IHH", 8, 0x200, 1) + bytes(8)
    node = inspect(with_table(table))
    assert len(signatures(node)) == found
    assert [each.id for each in node.findings] == ([finding] if finding else [])


def test_number_of_entries_is_bounded():
    node = inspect(with_table(struct.pack("<IHH", 8, 0x200, 1) * 10_000))
    assert len(signatures(node)) == pe_signature.MAX_SIGNATURES


# --- signed by sbsign ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def key(tool, tmp_path_factory):
    """A key and its certificate, made for this run."""
    folder = tmp_path_factory.mktemp("key")
    subprocess.run(
        [
            *(tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"),
            *("-subj", "/O=Example/CN=Test Signer", "-set_serial", "0x1234abcd"),
            *("-keyout", str(folder / "key"), "-out", str(folder / "certificate")),
        ],
        check=True,
        capture_output=True,
    )
    time.sleep(1)  # in its very first second a certificate is CERT_FUTURE to LIEF
    return folder


@pytest.fixture(scope="module")
def signed(key, tool, tmp_path_factory):
    """``signed(data)``: the image signed once more by sbsign."""
    folder = tmp_path_factory.mktemp("signed")

    def sign(data: bytes) -> bytes:
        (folder / "in").write_bytes(data)
        command = [tool("sbsign"), "--key", str(key / "key"), "--cert", str(key / "certificate")]
        subprocess.run(
            [*command, "--output", str(folder / "out"), str(folder / "in")], check=True, capture_output=True
        )
        result: bytes = (folder / "out").read_bytes()
        return result

    return sign


@pytest.fixture(scope="module")
def once(signed):
    return signed(PLAIN)


def test_what_sbsign_signs(once):
    node = inspect(once, full=True)
    (signature,) = signatures(node)
    assert signature["signers"] == ("O=Example, CN=Test Signer",)
    assert signature["digest_algorithm"] == "sha256"
    assert signature["intact"] is True
    assert node["verified"] == ("OK",)
    (certificate,) = signature.children
    assert certificate["subject"] == certificate["issuer"] == "O=Example, CN=Test Signer"
    assert certificate["serial"] == "1234abcd"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", str(certificate["not_after"]))
    start = signature.offset + certificate.offset
    assert once[start : start + 2] == b"\x30\x82"
    assert not node.findings and not signature.findings


def test_certificate_is_the_one_of_the_key(once, key, tool):
    (certificate,) = signatures(inspect(once))[0].children
    start = signatures(inspect(once))[0].offset + certificate.offset
    command = [tool("openssl"), "x509", "-in", str(key / "certificate"), "-outform", "DER"]
    assert subprocess.run(command, check=True, capture_output=True).stdout == once[start : start + certificate.size]


def test_the_command_verifies_without_noise(once):
    done = mbtool("inspect", "--full", "-", stdin=once)
    assert "verified" in done.stdout
    assert done.stderr == ""


def test_two_signatures(signed, once):
    found = signatures(inspect(signed(once)))
    assert [node["intact"] for node in found] == [True, True]


@pytest.mark.parametrize("place", [0x3B, 0x93, 0x9C, 0x3FF, 0x400, 0x9FF])
def test_a_changed_image_is_no_longer_the_signed_one(once, place):
    damaged = bytearray(once)
    damaged[place] ^= 1
    node = inspect(bytes(damaged))
    (signature,) = signatures(node)
    assert signature["intact"] is False
    assert "PE-SIGNATURE-DIGEST" in [finding.id for finding in signature.findings]


def test_lief_sees_the_change_too(once):
    damaged = bytearray(once)
    damaged[0x400] ^= 1
    node = inspect(bytes(damaged), full=True)
    assert node["verified"] != ("OK",)
    assert "PE-SIGNATURE-INVALID" in [finding.id for finding in node.findings]


def test_checksum_and_table_are_no_part_of_the_digest(once):
    changed = bytearray(once)
    changed[0x58 + 64 : 0x58 + 68] = b"\1\2\3\4"
    assert signatures(inspect(bytes(changed)))[0]["intact"] is True


def attempt(data: bytes) -> None:
    with suppress(MbtoolError):
        inspect(data)


def test_truncation_at_every_byte_of_the_signature(once):
    start = signatures(inspect(once))[0].offset + 8
    content = once[start:]
    whole = pkcs7.parse(content)
    assert whole.image_digest
    end = 4 + int.from_bytes(content[2:4], "big")
    for size in range(0, end, 7):
        with pytest.raises(FormatError):
            pkcs7.parse(content[:size])
    assert pkcs7.parse(content[:end]) == whole


def test_damaged_certificate_does_not_hide_the_signer(once):
    (signature,) = signatures(inspect(once))
    damaged = bytearray(once)
    damaged[signature.offset + signature.children[0].offset + 4] = 0x31  # its TBSCertificate's tag
    (signature,) = signatures(inspect(bytes(damaged)))
    assert signature["signers"] == ("certificate 1234abcd of O=Example, CN=Test Signer",)
    assert signature["intact"] is True
    assert [finding.id for finding in signature.findings] == ["PE-SIGNATURE-DAMAGED"]


def test_every_byte_of_the_signature_set_to_extremes(once):
    start = signatures(inspect(once))[0].offset + 8
    content = bytearray(once[start:])
    for at in range(len(content)):
        kept = content[at]
        for value in (0x00, 0x01, 0x80, 0x84, 0xFF):
            content[at] = value
            with suppress(FormatError):
                pkcs7.parse(bytes(content))
        content[at] = kept


@settings(max_examples=50)
@given(st.data())
def test_random_damage(once, data):
    damaged = bytearray(once)
    for at, value in data.draw(
        st.lists(st.tuples(st.integers(0x40, len(once) - 1), st.integers(0, 255)), max_size=8)
    ):
        damaged[at] = value
    attempt(bytes(damaged))


# --- real images -----------------------------------------------------------------------------------------------


@pytest.mark.real
def test_debians_kernels_as_sbverify_lists_them(vmlinuz, vmlinuz_cloud, vmlinuz_rt, tool):
    for path in (vmlinuz, vmlinuz_cloud, vmlinuz_rt):
        listed = subprocess.run([tool("sbverify"), "--list", str(path)], capture_output=True, text=True, check=True)
        subjects = re.findall(r"subject: /CN=(.*)", listed.stdout)
        issuers = re.findall(r"issuer:  /CN=(.*)", listed.stdout)
        with open_file(path) as source:
            node = pe.inspect(source, Context(Budget(), lambda source, context: Node("inner", 0, 0)))
        (signature,) = signatures(node)
        assert signature["intact"] is True
        assert signature["signers"] == tuple(f"CN={subject}" for subject in subjects)
        assert [child["issuer"] for child in signature.children] == [f"CN={issuer}" for issuer in issuers]
        assert "PE-CHECKSUM" not in [finding.id for finding in node.findings]


def test_the_quick_path_does_not_load_lief(vmlinuz):
    script = (
        "import sys; from mbtool import source; from mbtool.formats import context, pe\n"
        "with source.open_file(sys.argv[1]) as image:\n"
        "    pe.inspect(image, context.Context(source.Budget(), None))\n"
        "sys.exit('lief' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, str(vmlinuz)], check=True)
