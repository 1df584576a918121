"""Authenticode signatures: what a PKCS #7 SignedData around an image digest says.

Source: RFC 2315 (PKCS #7), RFC 5280 (certificates), Microsoft "Windows Authenticode Portable Executable Signature
Format" (SpcIndirectDataContent). Only read, never trusted: nothing here checks a signature.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TypeVar

from mbtool.errors import FormatError
from mbtool.formats import der
from mbtool.formats.der import Element, context
from mbtool.record import record

T = TypeVar("T")

SIGNED_DATA = "1.2.840.113549.1.7.2"
SPC_INDIRECT_DATA = "1.3.6.1.4.1.311.2.1.4"
SIGNING_TIME = "1.2.840.113549.1.9.5"
MAX_CERTIFICATES = 32
MAX_SIGNERS = 16

DIGESTS = {
    "1.2.840.113549.2.5": "md5",
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "2.16.840.1.101.3.4.2.4": "sha224",
}
"""Digest algorithms by the names that hashlib knows."""

NAMES = {
    "2.5.4.3": "CN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "street",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "1.2.840.113549.1.9.1": "emailAddress",
    "0.9.2342.19200300.100.1.25": "DC",
}


@record
class Certificate:
    """An X.509 certificate inside the signature; ``offset`` and ``size`` in bytes from the SignedData's start."""

    offset: int
    size: int
    serial: str
    issuer: str
    subject: str
    not_before: str
    not_after: str


@record
class Signer:
    """Who signed: the certificate's issuer and serial number (hexadecimal), the digest signed, when (or "")."""

    issuer: str
    serial: str
    digest_algorithm: str
    signing_time: str


@record
class SignedData:
    """An Authenticode signature: the digest that the image is to have, and who says so."""

    digest_algorithm: str
    image_digest: bytes
    certificates: tuple[Certificate, ...]
    signers: tuple[Signer, ...]
    damage: tuple[FormatError, ...]
    """What could not be read of certificates and signers."""


def parse(data: bytes) -> SignedData:
    """The signature in ``data``, which may have padding behind it.

    Raises FormatError (offsets in ``data``) when it is not an Authenticode signature; a damaged certificate or
    signer is left out and told in ``damage``.
    """
    outer = der.read(data).expect(der.SEQUENCE, "PKCS #7 ContentInfo")
    kind = der.oid(outer.child(0, der.OID, "content type"))
    if kind != SIGNED_DATA:
        raise FormatError("is no PKCS #7 SignedData", offset=outer.start, found=kind)
    signed = outer.child(1, context(0), "SignedData").child(0, der.SEQUENCE, "SignedData")
    content = signed.child(2, der.SEQUENCE, "encapsulated content")
    kind = der.oid(content.child(0, der.OID, "content type"))
    if kind != SPC_INDIRECT_DATA:
        raise FormatError("signs no image digest", offset=content.start, expected=SPC_INDIRECT_DATA, found=kind)
    indirect = content.child(1, context(0), "image digest").child(0, der.SEQUENCE, "SpcIndirectDataContent")
    info = indirect.child(1, der.SEQUENCE, "DigestInfo")
    certificates: list[Certificate] = []
    signers: list[Signer] = []
    damage: list[FormatError] = []
    try:
        for element in list(signed.children())[3:]:
            if element.tag == context(0):
                _each(element, _certificate, certificates, MAX_CERTIFICATES, damage)
            elif element.tag == der.SET:
                _each(element, _signer, signers, MAX_SIGNERS, damage)
    except FormatError as error:
        damage.append(error)
    return SignedData(
        _algorithm(info.child(0, der.SEQUENCE, "digest algorithm")),
        info.child(1, der.OCTET_STRING, "image digest").content,
        tuple(certificates),
        tuple(signers),
        tuple(damage),
    )


def _each(
    holder: Element, reader: Callable[[Element], T], into: list[T], limit: int, damage: list[FormatError]
) -> None:
    """Read each child of ``holder`` into a list, at most ``limit``; one that is damaged does not hide the next."""
    for element in islice(holder.children(), limit):
        try:
            into.append(reader(element))
        except FormatError as error:
            damage.append(error)


def _algorithm(identifier: Element) -> str:
    """The name of an AlgorithmIdentifier's algorithm, its number when it is none of ours."""
    number = der.oid(identifier.child(0, der.OID, "algorithm"))
    return DIGESTS.get(number, number)


def _certificate(element: Element) -> Certificate:
    """RFC 5280, section 4.1: the version is optional, so that all behind it moves."""
    tbs = element.expect(der.SEQUENCE, "certificate").child(0, der.SEQUENCE, "TBSCertificate")
    parts = list(tbs.children())
    if parts and parts[0].tag == context(0):
        del parts[0]
    if len(parts) < 5:
        raise FormatError("certificate is cut short", offset=element.start)
    serial, _, issuer, validity, subject = parts[:5]
    return Certificate(
        element.start,
        element.end - element.start,
        serial.expect(der.INTEGER, "serial number").content.hex(),
        _name(issuer),
        _name(subject),
        der.time(validity.child(0, None, "notBefore")),
        der.time(validity.child(1, None, "notAfter")),
    )


def _signer(element: Element) -> Signer:
    """RFC 2315, section 9.2."""
    element.expect(der.SEQUENCE, "SignerInfo")
    who = element.child(1, der.SEQUENCE, "issuer and serial number")
    attributes = element.child(3, None, "attributes or signature")
    moment = ""
    if attributes.tag == context(0):
        for attribute in attributes.children():
            if der.oid(attribute.child(0, der.OID, "attribute type")) == SIGNING_TIME:
                moment = der.time(attribute.child(1, der.SET, "attribute values").child(0, None, "signing time"))
    return Signer(
        _name(who.child(0, der.SEQUENCE, "issuer")),
        who.child(1, der.INTEGER, "serial number").content.hex(),
        _algorithm(element.child(2, der.SEQUENCE, "digest algorithm")),
        moment,
    )


def _name(element: Element) -> str:
    """A distinguished name as ``CN=..., O=...``, in the order in which it is stored."""
    words: list[str] = []
    for relative in element.expect(der.SEQUENCE, "name").children():
        for pair in relative.expect(der.SET, "relative name").children():
            number = der.oid(pair.child(0, der.OID, "attribute type"))
            words.append(f"{NAMES.get(number, number)}={der.text(pair.child(1, None, 'attribute value'))}")
    return ", ".join(words)
