"""DER, the encoding of certificates and signatures: as much of it as reading them takes, with offsets.

Source: ITU-T X.690, sections 8 and 10. Only definite lengths and tag numbers below 31 (nothing else occurs in X.509
and PKCS #7); everything is bounded by the bytes that are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from mbtool.errors import FormatError

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
SEQUENCE, SET = 0x30, 0x31
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
MAX_CHILDREN = 4096

STRINGS = {
    0x0C: "utf-8",
    0x12: "ascii",
    0x13: "ascii",
    0x14: "latin-1",
    0x16: "ascii",
    0x1A: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}
"""String tags to the encoding of their characters."""


def context(number: int) -> int:
    """The tag of a constructed context-specific element, ``[number]`` in ASN.1."""
    return 0xA0 | number


@dataclass(frozen=True, slots=True)
class Element:
    """One element of ``data``: its tag byte, where it starts, where its content starts, where it ends (offsets)."""

    data: bytes
    tag: int
    start: int
    inner: int
    end: int

    @property
    def content(self) -> bytes:
        return self.data[self.inner : self.end]

    @property
    def encoded(self) -> bytes:
        return self.data[self.start : self.end]

    def expect(self, tag: int, what: str) -> Element:
        """This element when it has the tag; FormatError otherwise."""
        if self.tag != tag:
            raise FormatError(
                f"{what} has another type", offset=self.start, expected=f"tag {tag:#04x}", found=f"{self.tag:#04x}"
            )
        return self

    def children(self) -> Iterator[Element]:
        """The elements inside; FormatError at the first that is damaged."""
        at = self.inner
        for _ in range(MAX_CHILDREN):
            if at >= self.end:
                return
            child = read(self.data, at, self.end)
            yield child
            at = child.end
        if at < self.end:
            raise FormatError(f"more than {MAX_CHILDREN} elements in one", offset=self.start)

    def child(self, index: int, tag: int | None, what: str) -> Element:
        """The child at ``index`` with the tag (None: any); FormatError when there is none or it has another."""
        for element in islice(self.children(), index, None):
            return element if tag is None else element.expect(tag, what)
        raise FormatError(f"{what} is missing", offset=self.end)


def read(data: bytes, at: int = 0, end: int | None = None) -> Element:
    """The element at ``at``, which must end by ``end``. Raises FormatError when it does not or is no DER."""
    end = len(data) if end is None else min(end, len(data))
    if at + 2 > end:
        raise FormatError("DER element is cut short", offset=at)
    tag, length, inner = data[at], data[at + 1], at + 2
    if tag & 0x1F == 0x1F:
        raise FormatError("DER tag number above 30", offset=at)
    if length & 0x80:
        count = length & 0x7F
        if not 0 < count <= 4 or inner + count > end:
            raise FormatError("DER length is not of 1 to 4 bytes", offset=at + 1, found=f"{count}")
        length = int.from_bytes(data[inner : inner + count], "big")
        inner += count
    if length > end - inner:
        raise FormatError(
            "DER element reaches past what holds it", offset=at, expected=f"{end - inner} bytes", found=f"{length}"
        )
    return Element(data, tag, at, inner, inner + length)


def oid(element: Element) -> str:
    """An object identifier in dotted form. Raises FormatError when it is damaged or absurdly long."""
    content = element.expect(OID, "object identifier").content
    if not content or content[-1] & 0x80 or len(content) > 64:
        raise FormatError("object identifier is damaged", offset=element.start)
    arcs: list[int] = []
    value = 0
    for byte in content:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(str(arc) for arc in (first, arcs[0] - 40 * first, *arcs[1:]))


def text(element: Element) -> str:
    """A string of any of DER's types; other elements as hexadecimal."""
    encoding = STRINGS.get(element.tag)
    content = element.content[:1024]
    return content.decode(encoding, "replace") if encoding else content.hex()


def time(element: Element) -> str:
    """UTCTime or GeneralizedTime as ``YYYY-MM-DD HH:MM:SSZ``, as it stands when it is of no known form."""
    digits = element.content[:32].decode("ascii", "replace")
    if element.tag == UTC_TIME and digits[:2].isdigit():
        # X.509 (RFC 5280, section 4.1.2.5.1): two-digit years from 50 on are of the last century.
        digits = ("19" if int(digits[:2]) >= 50 else "20") + digits
    if len(digits) == 15 and digits[:14].isdigit() and digits[14] == "Z":
        return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]} {digits[8:10]}:{digits[10:12]}:{digits[12:14]}Z"
    return digits
