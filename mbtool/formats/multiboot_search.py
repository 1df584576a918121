"""How loaders find a Multiboot header, and what nearly is one.

A header counts when its magic stands at an aligned offset, its magic fields lie wholly within the first 8192 bytes
(version 1, 4-aligned) or 32768 bytes (version 2, 8-aligned) and add up to 0 modulo 2^32. Loaders take the first.
Multiboot Specification 0.6.96 and Multiboot2 Specification 2.0, section "OS image format"; GRUB applies the limit
to the magic fields alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from mbtool.model import Finding, Severity
from mbtool.source import MIB, Source

NEARBY = 4 * MIB
"""How far near misses are looked for: linkers put the first segment at 4 KiB, or at 2 MiB with large pages."""
MAX_MISSES = 4
"""Near misses told per version."""


class Version(NamedTuple):
    """How headers of one version are found.

    ``magic_size``: bytes of the magic fields, the checksum last. ``plausible``: whether magic fields with a wrong
    checksum make sense otherwise, for the magic number alone proves nothing (loaders hold it in their code).
    """

    number: int
    magic: int
    magic_size: int
    align: int
    limit: int
    plausible: Callable[[tuple[int, ...]], bool]

    def candidates(self, data: bytes) -> Iterator[int]:
        """Offsets of all that begins like a header's magic fields and lies wholly in ``data``."""
        needle = self.magic.to_bytes(4, "little")
        at = data.find(needle)
        while 0 <= at <= len(data) - self.magic_size:
            yield at
            at = data.find(needle, at + 1)

    def words(self, data: bytes, at: int) -> tuple[int, ...]:
        """The magic fields at an offset; a header's add up to 0 modulo 2^32."""
        places = range(at, at + self.magic_size, 4)
        return tuple(int.from_bytes(data[place : place + 4], "little") for place in places)

    def placed(self, at: int) -> bool:
        """Whether loaders find magic fields at this offset."""
        return at % self.align == 0 and at + self.magic_size <= self.limit

    def first(self, data: bytes) -> int | None:
        """The offset of the header that loaders take, None when there is none."""
        head = data[: self.limit]
        places = (at for at in self.candidates(head) if self.placed(at) and not _sum(self.words(head, at)))
        return next(places, None)

    def misses(self, data: bytes) -> Iterator[Finding]:
        """What is nearly a header: sound but misplaced, or well placed with a wrong checksum."""
        for at in self.candidates(data):
            words = self.words(data, at)
            error = _sum(words)
            if not error and at + self.magic_size > self.limit:
                yield self._past_limit(at)
            elif not error and at % self.align:
                yield self._misaligned(at)
            elif error and self.placed(at) and self.plausible(words):
                yield self._unbalanced(at, words[-1], error)

    def _past_limit(self, at: int) -> Finding:
        return Finding(
            f"MULTIBOOT{self.number}-PAST-LIMIT",
            Severity.WARNING,
            f"a Multiboot {self.number} header is past the first {self.limit} bytes: loaders do not find it",
            offset=at,
            expected=f"an offset of at most {self.limit - self.magic_size:#x}",
            found=f"{at:#x}",
            remedy="link its section first, and with small pages (ld -z max-page-size=0x1000, or -n)",
        )

    def _misaligned(self, at: int) -> Finding:
        return Finding(
            f"MULTIBOOT{self.number}-MISALIGNED",
            Severity.WARNING,
            f"a Multiboot {self.number} header is not aligned: loaders do not find it",
            offset=at,
            expected=f"an offset that is a multiple of {self.align}",
            found=f"{at:#x}",
            remedy=f"align its section to {self.align} bytes",
        )

    def _unbalanced(self, at: int, found: int, error: int) -> Finding:
        return Finding(
            f"MULTIBOOT{self.number}-CHECKSUM",
            Severity.WARNING,
            f"a Multiboot {self.number} header has a wrong checksum: loaders do not take it for one",
            "checksum",
            at + self.magic_size - 4,
            expected=f"{found - error & 0xFFFFFFFF:#x}",
            found=f"{found:#x}",
        )


def _sum(words: tuple[int, ...]) -> int:
    return sum(words) & 0xFFFFFFFF


KNOWN_FLAGS = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 16
"""The flags of a version 1 header that the specification knows."""
KNOWN_ARCHITECTURES = (0, 4)


def _plausible1(words: tuple[int, ...]) -> bool:
    return not words[1] & ~KNOWN_FLAGS


def _plausible2(words: tuple[int, ...]) -> bool:
    return words[1] in KNOWN_ARCHITECTURES and 16 <= words[2] <= MULTIBOOT2.limit


MULTIBOOT1 = Version(1, 0x1BADB002, 12, 4, 8192, _plausible1)
MULTIBOOT2 = Version(2, 0xE85250D6, 16, 8, 32768, _plausible2)


def near_misses(source: Source) -> tuple[Finding, ...]:
    """What was clearly meant as a header but is none, for each version that has no header (offsets in ``source``).

    Looks at what is at hand of the first 4 MiB; unpacks nothing.
    """
    head = source.read(0, min(MULTIBOOT2.limit, source.at_hand))
    missing = [version for version in (MULTIBOOT1, MULTIBOOT2) if version.first(head) is None]
    data = source.read(0, min(NEARBY, source.at_hand)) if missing else b""
    return tuple(
        finding for version in missing for _, finding in zip(range(MAX_MISSES), version.misses(data), strict=False)
    )
