"""``kernel_info``: what a Linux kernel tells about itself behind the setup header, from protocol 2.15 on.

A fixed part (its size says which fields it has), then chunks that each begin with four characters and their size.

Source: Linux, Documentation/arch/x86/boot.rst ("The kernel_info", "Details of the kernel_info Fields") and
arch/x86/boot/compressed/kernel_info.S.
"""

from __future__ import annotations

from mbtool.errors import FormatError
from mbtool.formats.linux_boot_names import setup_type_name
from mbtool.formats.wire import Layout
from mbtool.formats.wire_plain import Bytes, Int32ul, Struct
from mbtool.model import Field, Finding, Node, Severity
from mbtool.record import record
from mbtool.source import Source

MAGIC = b"LToP"
MIN_SIZE = 12
"""Bytes of the first three fields, which every kernel_info has."""
MAX_SIZE = 64 * 1024
"""Bytes looked at: a real one has 16."""


@record
class Chunk:
    """One piece of variable size: ``magic`` of four characters, and the data behind magic and size."""

    magic: bytes
    data: bytes

    @property
    def size(self) -> int:
        """Bytes of the chunk, magic and size included."""
        return CHUNK.size + len(self.data)


CHUNK = Layout(
    Chunk,
    Struct("magic" / Bytes(4), "size" / Int32ul),
    computed={"size": lambda chunk: chunk.size},
    beyond={"data"},
    telling={"magic"},
    meanings={"magic": lambda magic: magic.decode("ascii", "replace") if magic.isalnum() else ""},
)


@record
class KernelInfo:
    """``setup_type_max`` is None where the fixed part ends before it.

    ``fixed_rest`` is what follows it in the fixed part, ``rest`` what follows the last whole chunk.
    """

    setup_type_max: int | None = None
    fixed_rest: bytes = b""
    chunks: tuple[Chunk, ...] = ()
    rest: bytes = b""

    @property
    def size(self) -> int:
        """Bytes of the fixed part: where the chunks begin."""
        return MIN_SIZE + (0 if self.setup_type_max is None else FIXED.size) + len(self.fixed_rest)

    @property
    def size_total(self) -> int:
        """Bytes of all of it."""
        return self.size + sum(chunk.size for chunk in self.chunks) + len(self.rest)


HEAD = Layout(
    KernelInfo,
    Struct("header" / Bytes(4), "size" / Int32ul, "size_total" / Int32ul),
    computed={
        "header": lambda _: MAGIC,
        "size": lambda info: info.size,
        "size_total": lambda info: info.size_total,
    },
    beyond={"setup_type_max", "fixed_rest", "chunks", "rest"},
)


@record
class Fixed:
    """What the fixed part has behind its sizes."""

    setup_type_max: int


FIXED = Layout(
    Fixed,
    Struct("setup_type_max" / Int32ul),
    hex={"setup_type_max"},
    telling={"setup_type_max"},
    meanings={"setup_type_max": lambda type_: f"up to {setup_type_name(type_)}"},
)


def parse(data: bytes, *, source: str = "", base: int = 0) -> KernelInfo:
    """The structure at the start of ``data``; ``base`` is its offset in the file, for errors.

    Raises FormatError for a wrong magic, sizes that contradict each other, and when the data is too short.
    """
    stored = HEAD.values(data, source=source, base=base)
    size, total = stored["size"], stored["size_total"]

    def wrong(field: str, expected: str, found: object) -> FormatError:
        at = base + HEAD.offsets[field][0]
        return FormatError(
            "is wrong", source=source, offset=at, field=f"KernelInfo.{field}", expected=expected, found=str(found)
        )

    if stored["header"] != MAGIC:
        raise wrong("header", "LToP", repr(stored["header"]))
    if total > len(data):
        raise wrong("size_total", f"at most {len(data)}", total)
    if not MIN_SIZE <= size <= total:
        raise wrong("size", f"{MIN_SIZE} to {total}", size)
    fixed = data[MIN_SIZE:size]
    setup_type_max = FIXED.parse(fixed).setup_type_max if len(fixed) >= FIXED.size else None
    chunks, end = _chunks(data, size, total)
    beyond = {
        "setup_type_max": setup_type_max,
        "fixed_rest": fixed if setup_type_max is None else fixed[4:],
        "chunks": chunks,
        "rest": data[end:total],
    }
    return HEAD.parse(data, source=source, base=base, beyond=beyond)


def _chunks(data: bytes, at: int, end: int) -> tuple[tuple[Chunk, ...], int]:
    """The whole chunks in ``data[at:end]`` and where they end; a chunk's size counts its header."""
    chunks = []
    while at + CHUNK.size <= end:
        stored = CHUNK.values(data, at)
        if not CHUNK.size <= stored["size"] <= end - at:
            break
        chunks.append(Chunk(stored["magic"], data[at + CHUNK.size : at + stored["size"]]))
        at += stored["size"]
    return tuple(chunks), at


def build(info: KernelInfo) -> bytes:
    """The bytes of the structure, its sizes computed: the inverse of ``parse``.

    Raises FormatError when a value does not fit its field.
    """
    built = HEAD.build(info)
    if info.setup_type_max is not None:
        built += FIXED.build(Fixed(info.setup_type_max))
    return built + info.fixed_rest + b"".join(CHUNK.build(chunk) + chunk.data for chunk in info.chunks) + info.rest


def node(source: Source, at: int) -> Node:
    """The ``kernel-info`` node at file offset ``at``. Raises FormatError when it is not there or makes no sense."""
    head = source.read(at, MIN_SIZE)
    total = HEAD.values(head, source=source.name, base=at)["size_total"]
    data = source.read(at, max(MIN_SIZE, min(total, MAX_SIZE)))
    info = parse(data, source=source.name, base=at)
    fields = list(HEAD.fields(data))
    if info.setup_type_max is not None:
        fields += FIXED.fields(data, MIN_SIZE)
    if info.fixed_rest:
        place = info.size - len(info.fixed_rest)
        fields.append(Field("fixed_rest", info.fixed_rest, place, len(info.fixed_rest), "", info.fixed_rest))
    children = []
    place = info.size
    for chunk in info.chunks:
        stored = Field("data", chunk.data, CHUNK.size, len(chunk.data), "", chunk.data)
        children.append(
            Node("kernel-info-chunk", place, chunk.size, (*CHUNK.fields(data, place, base=-place), stored))
        )
        place += chunk.size
    findings: tuple[Finding, ...] = ()
    if info.rest:
        findings = (
            Finding(
                "KERNEL-INFO-CHUNKS",
                Severity.WARNING,
                f"{len(info.rest)} bytes in it are no whole chunk",
                offset=place,
                expected=f"a chunk's size of {CHUNK.size} to {len(info.rest)}",
                found=info.rest[: CHUNK.size].hex(" "),
            ),
        )
    return Node("kernel-info", at, info.size_total, tuple(fields), tuple(children), findings)
