"""The Multiboot 2 header: magic, architecture, length, checksum, then tags that say what the image needs.

Multiboot2 Specification 2.0, section "OS image format"; numbers and layouts also in its multiboot2.h. A tag whose
optional bit is clear must be understood by the loader, else it refuses the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from mbtool.errors import FormatError
from mbtool.formats.multiboot2_header_tags import ADDRESS, FROM_START, OPTIONAL, TAG_NAMES, TAGS
from mbtool.formats.multiboot2_tags import END, HEAD_SIZE, Tag, Walk
from mbtool.formats.multiboot_placement import placement_findings
from mbtool.formats.multiboot_search import MULTIBOOT2
from mbtool.formats.wire import Layout, choice_names
from mbtool.formats.wire_plain import Int32ul, Struct
from mbtool.model import Finding, Node, Severity
from mbtool.record import record

T = TypeVar("T")

MAGIC = MULTIBOOT2.magic
SEARCH_LIMIT = MULTIBOOT2.limit
BOOTLOADER_MAGIC = 0x36D76289
"""What EAX holds when a Multiboot 2 loader starts the image."""

I386, MIPS32 = 0, 4
ARCHITECTURES = {I386: "i386, 32-bit protected mode", MIPS32: "MIPS, 32-bit"}


@record
class Multiboot2Header:
    """``tags`` without the end tag; ``rest`` are bytes after it that the header's length still covers."""

    tags: tuple[Tag, ...] = ()
    architecture: int = I386
    rest: bytes = b""

    def find(self, cls: type[T]) -> T | None:
        """The first tag's value of this class, or None."""
        return next((tag.value for tag in self.tags if isinstance(tag.value, cls)), None)


def checksum(architecture: int, header_length: int) -> int:
    """What makes magic, architecture, length and checksum add up to 0 modulo 2^32."""
    return -(MAGIC + architecture + header_length) & 0xFFFFFFFF


def _length(header: Multiboot2Header) -> int:
    return 16 + len(TAGS.build(header.tags)) + len(header.rest)


HEADER = Layout(
    Multiboot2Header,
    Struct("magic" / Int32ul, "architecture" / Int32ul, "header_length" / Int32ul, "checksum" / Int32ul),
    hex=("magic", "checksum"),
    telling=("architecture",),
    meanings={"architecture": choice_names(ARCHITECTURES)},
    computed={
        "magic": lambda header: MAGIC,
        "header_length": _length,
        "checksum": lambda header: checksum(header.architecture, _length(header)),
    },
    beyond=("tags", "rest"),
)


def parse(data: bytes, at: int = 0, *, source: str = "", base: int = 0) -> Multiboot2Header:
    """The header at ``data[at:]``; ``base`` is the absolute offset of ``data[0]``, for the error.

    Raises FormatError when magic, length, checksum, the chain or a tag is damaged.
    """
    length = HEADER.values(data, at, source=source, base=base)["header_length"]
    whole = data[at : at + length]
    if len(whole) < length:
        raise FormatError(
            "Multiboot2Header is cut short",
            source=source,
            offset=base + at,
            field="header_length",
            expected=f"{length} bytes",
            found=f"{len(whole)}",
        )
    tags, end = TAGS.parse(whole, HEADER.size, source=source, base=base + at)
    return HEADER.parse(data, at, source=source, base=base, beyond={"tags": tags, "rest": whole[end:]})


def build(header: Multiboot2Header) -> bytes:
    """The whole header, length, checksum and end tag filled in. Raises FormatError."""
    return HEADER.build(header) + TAGS.build(header.tags) + header.rest


def inspect(data: bytes, offset: int, file_size: int | None = None) -> Node:
    """The node of the header at ``data[0]``, which stands at ``offset`` in its image of ``file_size`` bytes.

    ``data`` may hold more than the header. Raises FormatError when there are not even 16 bytes.
    """
    stored = HEADER.values(data)
    length = stored["header_length"]
    findings: list[Finding] = list(_findings(stored, offset, len(data)))
    sane = HEADER.size + HEAD_SIZE <= length <= len(data)
    # Loaders walk to the end tag and never look at the length, so a wrong one does not hide the tags.
    whole = data[:length] if sane else data
    walk = TAGS.walk(whole, HEADER.size)
    if walk.error:
        findings.append(Finding.of(walk.error, "MULTIBOOT2-TAGS"))
    nodes = tuple(_judged(node) for node in TAGS.nodes(whole, walk))
    findings += _address_findings(whole, walk, offset, file_size)
    return Node(
        "multiboot2-header",
        offset,
        length if sane else walk.end,
        HEADER.fields(data),
        nodes,
        tuple(findings),
    )


def _findings(stored: Mapping[str, int], offset: int, room: int) -> Iterator[Finding]:
    length = stored["header_length"]
    if stored["checksum"] != (expected := checksum(stored["architecture"], length)):
        yield Finding(
            "MULTIBOOT2-CHECKSUM",
            Severity.ERROR,
            "the checksum does not make the magic fields add up to 0",
            "checksum",
            12,
            expected=f"{expected:#x}",
            found=f"{stored['checksum']:#x}",
        )
    if not HEADER.size + HEAD_SIZE <= length <= room:
        yield Finding(
            "MULTIBOOT2-LENGTH",
            Severity.ERROR,
            "the header's length makes no sense",
            "header_length",
            8,
            expected=f"{HEADER.size + HEAD_SIZE} to {room}",
            found=f"{length}",
        )
    elif offset + length > SEARCH_LIMIT:
        yield Finding(
            "MULTIBOOT2-PAST-LIMIT",
            Severity.ERROR,
            f"the header is not wholly within the first {SEARCH_LIMIT} bytes: loaders read no more",
            expected=f"an offset of at most {SEARCH_LIMIT - length:#x}",
            found=f"{offset:#x}",
        )
    if stored["architecture"] != I386:
        yield Finding(
            "MULTIBOOT2-ARCHITECTURE",
            Severity.ERROR,
            "the header is not for x86: loaders on x86 pass over it",
            "architecture",
            4,
            expected=f"{I386}",
            found=f"{stored['architecture']}",
        )


def _judged(node: Node) -> Node:
    """A tag's node with what only the header's rules say."""
    flags = node["flags"]
    if node["type"] in TAG_NAMES or (isinstance(flags, int) and flags & OPTIONAL):
        return node
    finding = Finding(
        "MULTIBOOT2-UNKNOWN-TAG",
        Severity.WARNING,
        "a tag that the specification does not know is not marked optional: loaders refuse it",
        "type",
        0,
        found=f"{node['type']!r}",
        remedy="set bit 0 of its flags when the image can do without it",
    )
    return replace(node, findings=(*node.findings, finding))


def _address_findings(data: bytes, walk: Walk, offset: int, file_size: int | None) -> Iterator[Finding]:
    types = [head.type for _, head in walk.heads if head.type != END]
    if 2 not in types:
        return
    if not {3, 8, 9} & set(types):
        yield Finding(
            "MULTIBOOT-ENTRY",
            Severity.ERROR,
            "an address tag needs an entry address tag: loaders refuse one without the other",
            remedy="add an entry address tag (type 3)",
        )
    body = next(data[at + HEAD_SIZE : at + head.size] for at, head in walk.heads if head.type == 2)
    entry = next((data[at + HEAD_SIZE : at + head.size] for at, head in walk.heads if head.type == 3), b"")
    if len(body) < ADDRESS.size:
        return  # said on the tag's own node
    tag = ADDRESS.parse(body)
    start = tag.header_addr - offset if tag.load_addr == FROM_START else tag.load_addr
    yield from placement_findings(
        offset,
        tag.header_addr,
        start,
        tag.load_end_addr,
        tag.bss_end_addr,
        int.from_bytes(entry[:4], "little") if len(entry) >= 4 else None,
        file_size,
    )
