"""Signatures of a PE image: the certificate table, who signed what, and whether the image still has that digest.

Source: Microsoft "PE Format", "The Attribute Certificate Table"; UEFI Specification, "Certificate types"
(WIN_CERTIFICATE).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mbtool.errors import FormatError
from mbtool.formats import pkcs7
from mbtool.formats.pe_digest import image_digest
from mbtool.formats.pe_headers import PeHeaders
from mbtool.formats.pe_names import CERTIFICATE_TABLE
from mbtool.formats.pe_sections import Section
from mbtool.formats.wire import Layout, choice_names
from mbtool.formats.wire_plain import Int16ul, Int32ul, Struct
from mbtool.model import Field, Finding, Node, Severity
from mbtool.record import record
from mbtool.source import Source

MAX_SIGNATURES = 64
MAX_SIZE = 1 << 20
"""Bytes read of one signature: real ones have a few thousand."""


@record
class WinCertificate:
    """``WIN_CERTIFICATE``: 8 bytes before each entry of the table; entries start at multiples of 8."""

    dwLength: int
    """Bytes of the entry, these 8 included, padding not."""
    wRevision: int
    wCertificateType: int


PKCS_SIGNED_DATA = 2

WIN_CERTIFICATE = Layout(
    WinCertificate,
    Struct("dwLength" / Int32ul, "wRevision" / Int16ul, "wCertificateType" / Int16ul),
    hex=("wRevision", "wCertificateType"),
    meanings={
        "wRevision": choice_names({0x100: "1.0", 0x200: "2.0"}),
        "wCertificateType": choice_names(
            {
                1: "X.509",
                2: "PKCS SignedData (Authenticode)",
                4: "terminal server stack",
                0xEF0: "EFI PKCS #1 1.5",
                0xEF1: "EFI GUID",
            }
        ),
    },
)


def nodes(source: Source, headers: PeHeaders, parts: Sequence[Section], findings: list[Finding]) -> list[Node]:
    """A ``pe-signature`` node per entry of the certificate table, at its file offset.

    What is wrong with the table as a whole is added to ``findings``.
    """
    table = headers.directory(CERTIFICATE_TABLE)
    at, size = table.VirtualAddress, source.size
    end = min(at + table.Size, size)
    if not table.Size:
        return []
    if at + table.Size > size:
        findings.append(
            Finding(
                "PE-SIGNATURE-CUT",
                Severity.ERROR,
                "certificate table reaches past the end of the file",
                "CertificateTable",
                at,
                f"{table.Size} bytes",
                f"{max(0, size - at)}",
            )
        )
    found: list[Node] = []
    digest = _Digests(source, headers, parts)
    while end - at >= WIN_CERTIFICATE.size and len(found) < MAX_SIGNATURES:
        entry = WIN_CERTIFICATE.read(source, at)
        if not WIN_CERTIFICATE.size <= entry.dwLength <= end - at:
            findings.append(
                Finding(
                    "PE-SIGNATURE-LENGTH",
                    Severity.ERROR,
                    "signature does not fit into the certificate table",
                    "dwLength",
                    at,
                    f"8 to {end - at} bytes",
                    f"{entry.dwLength}",
                )
            )
            break
        found.append(_node(source, at, entry, digest))
        at += (entry.dwLength + 7) & ~7
    return found


class _Digests:
    """The image's digests, each computed once however many signatures there are."""

    def __init__(self, source: Source, headers: PeHeaders, parts: Sequence[Section]) -> None:
        self._image = source, headers, parts
        self._known: dict[str, bytes | FormatError] = {}

    def __call__(self, algorithm: str) -> bytes:
        """Raises FormatError when the algorithm is unknown or the image's sizes leave nothing to digest."""
        if algorithm not in self._known:
            try:
                self._known[algorithm] = image_digest(*self._image, algorithm)
            except FormatError as error:
                self._known[algorithm] = error
        digest = self._known[algorithm]
        if isinstance(digest, FormatError):
            raise digest
        return digest


def _node(source: Source, at: int, entry: WinCertificate, digest: _Digests) -> Node:
    data = source.read(at, min(entry.dwLength, MAX_SIZE))
    fields = list(WIN_CERTIFICATE.fields(data))
    node = Node("pe-signature", at, entry.dwLength, tuple(fields))
    if entry.wCertificateType != PKCS_SIGNED_DATA:
        return node
    try:
        signed = pkcs7.parse(data[WIN_CERTIFICATE.size :])
    except FormatError as error:
        return replace(node, findings=(_damage(error),))
    findings = [_damage(error) for error in signed.damage]
    fields += [
        Field("signers", tuple(_signer(signed, signer) for signer in signed.signers), telling=True),
        Field("signing_time", tuple(signer.signing_time for signer in signed.signers if signer.signing_time)),
        Field("digest_algorithm", signed.digest_algorithm, telling=True),
        Field("signed_digest", signed.image_digest, meaning="of the image that was signed"),
    ]
    try:
        computed = digest(signed.digest_algorithm)
        intact = computed == signed.image_digest
        fields += [
            Field("image_digest", computed, meaning="of this image"),
            Field("intact", intact, meaning="this is the image that was signed" if intact else "", telling=True),
        ]
        if not intact:
            findings.append(
                Finding(
                    "PE-SIGNATURE-DIGEST",
                    Severity.ERROR,
                    "the image is not the one that was signed: Secure Boot refuses it",
                    "image_digest",
                    expected=signed.image_digest.hex(),
                    found=computed.hex(),
                    remedy="sign it again",
                )
            )
    except FormatError as error:
        findings.append(Finding.of(error, "PE-SIGNATURE-UNCHECKED", Severity.WARNING))
    children = tuple(_certificate(each) for each in signed.certificates)
    return replace(node, fields=tuple(fields), children=children, findings=tuple(findings))


def _damage(error: FormatError) -> Finding:
    """A finding with its offset in the entry, not in the SignedData."""
    found = Finding.of(error, "PE-SIGNATURE-DAMAGED")
    return replace(found, offset=None if error.offset is None else error.offset + WIN_CERTIFICATE.size)


def _signer(signed: pkcs7.SignedData, signer: pkcs7.Signer) -> str:
    """The subject of the signer's certificate when the signature carries it, its issuer and number when not."""
    for each in signed.certificates:
        if (each.issuer, each.serial) == (signer.issuer, signer.serial):
            return each.subject
    return f"certificate {signer.serial} of {signer.issuer}"


def _certificate(each: pkcs7.Certificate) -> Node:
    fields = (
        Field("subject", each.subject, telling=True),
        Field("issuer", each.issuer, telling=True),
        Field("serial", each.serial, meaning="hexadecimal"),
        Field("not_before", each.not_before),
        Field("not_after", each.not_after),
    )
    return Node("x509-certificate", WIN_CERTIFICATE.size + each.offset, each.size, fields)


def build(entries: Iterable[tuple[WinCertificate, bytes]]) -> bytes:
    """A certificate table: each entry with its dwLength computed and padded to a multiple of 8 bytes."""
    table = b""
    for entry, content in entries:
        length = WIN_CERTIFICATE.size + len(content)
        table += WIN_CERTIFICATE.build(replace(entry, dwLength=length)) + content + bytes(-length % 8)
    return table


def verify(data: bytes) -> tuple[str, ...]:
    """lief's verdict on each signature of a PE image: ``OK``, or the names of what failed.

    It checks the image digest and the signature against the certificates that the signature carries; whether the
    firmware trusts those is another matter. Slow to load (half a second). Raises FormatError when lief cannot read
    the image.
    """
    import io

    import lief

    lief.logging.disable()
    image = lief.PE.parse(io.BytesIO(data))
    if image is None:
        raise FormatError("lief cannot read this image")
    return tuple(str(image.verify_signature(each)).removeprefix("VERIFICATION_FLAGS.") for each in image.signatures)
