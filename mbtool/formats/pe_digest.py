"""The two sums over a PE image: the CheckSum field, and the digest that an Authenticode signature signs.

Source: Microsoft "PE Format", "Optional Header Windows-Specific Fields" (CheckSum) and "Windows Authenticode
Portable Executable Signature Format", "Calculating the PE Image Hash".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from mbtool.errors import FormatError
from mbtool.formats.pe_headers import PeHeaders, optional_layout
from mbtool.formats.pe_names import CERTIFICATE_TABLE
from mbtool.formats.pe_sections import Section
from mbtool.formats.pe_wire import DATA_DIRECTORY
from mbtool.source import Source


def checksum_place(headers: PeHeaders) -> int:
    """File offset (bytes) of the CheckSum field."""
    return headers.optional_offset + optional_layout(headers.optional).offsets["CheckSum"][0]


def checksum(source: Source, headers: PeHeaders) -> int:
    """What CheckSum should be: the folded sum of all 16-bit words, itself counted as 0, plus the file size.

    Raises FormatError for an image without an optional header.
    """
    if headers.optional is None:
        raise FormatError("no optional header, no CheckSum", source=source.name)
    size = total = 0
    for piece in source.chunks():
        # A sum of 16-bit words with the carry added back is the number that the bytes spell, modulo 0xffff:
        # far faster than adding words one by one. The shift sets a piece of odd length right.
        total += int.from_bytes(piece, "little") << 8 * (size & 1)
        size += len(piece)
    own = headers.optional.CheckSum << 8 * (checksum_place(headers) & 1)
    folded = (total - own) % 0xFFFF or 0xFFFF  # never 0: the words of "MZ" and "PE" are in it
    return (folded + size) & 0xFFFFFFFF


def image_digest(source: Source, headers: PeHeaders, parts: Sequence[Section], algorithm: str) -> bytes:
    """The Authenticode digest: headers and sections without CheckSum, certificate table and its directory entry.

    ``algorithm`` as hashlib names it. Raises FormatError when the image's own sizes leave no digest to compute.
    """
    if headers.optional is None:
        raise FormatError("no optional header, no digest", source=source.name)
    if algorithm not in hashlib.algorithms_guaranteed:
        raise FormatError("unknown digest algorithm", source=source.name, found=algorithm)
    size = source.size
    entry = headers.directories_offset + CERTIFICATE_TABLE * DATA_DIRECTORY.size
    table = headers.directory(CERTIFICATE_TABLE)
    has_entry = len(headers.directories) > CERTIFICATE_TABLE
    skip = checksum_place(headers)
    header_end = min(headers.optional.SizeOfHeaders, size)
    stored = sorted((part for part in parts if part.stored), key=lambda part: part.header.PointerToRawData)
    hashed = header_end + sum(part.stored for part in stored)
    if hashed > size or table.Size > size - hashed or header_end < entry + DATA_DIRECTORY.size * has_entry:
        raise FormatError("headers, sections and certificate table overlap: no digest", source=source.name)
    spans = [(0, skip), (skip + 4, entry), (entry + DATA_DIRECTORY.size, header_end)]
    if not has_entry:
        spans = [(0, skip), (skip + 4, header_end)]
    spans += [(part.offset, part.offset + part.stored) for part in stored]
    spans.append((hashed, size - table.Size))
    digest = hashlib.new(algorithm, usedforsecurity=False)
    for start, stop in spans:
        for piece in source.chunks(start, stop):
            digest.update(piece)
    return digest.digest()
