"""The Multiboot 1 header: how an image asks a boot loader for what it needs.

Multiboot Specification 0.6.96, section "OS image format". The header is 12 bytes; flag bit 16 adds the address
fields, flag bit 2 the video fields, which always lie at offset 32::

    0   magic, flags, checksum
    12  header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr   valid with flag bit 16
    32  mode_type, width, height, depth                                   valid with flag bit 2
    48
"""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.errors import FormatError
from mbtool.formats.multiboot_placement import placement_findings
from mbtool.formats.multiboot_search import KNOWN_FLAGS, MULTIBOOT1
from mbtool.formats.wire import Layout, choice_names, flag_names
from mbtool.formats.wire_plain import Int32ul, Struct
from mbtool.model import Field, Finding, Node, Severity
from mbtool.record import record

MAGIC = MULTIBOOT1.magic
SEARCH_LIMIT = MULTIBOOT1.limit
BOOTLOADER_MAGIC = 0x2BADB002
"""What EAX holds when a Multiboot 1 loader starts the image."""

PAGE_ALIGN = 1 << 0
MEMORY_INFO = 1 << 1
VIDEO_MODE = 1 << 2
ADDRESSES = 1 << 16
FLAGS = {0: "modules page-aligned", 1: "memory information", 2: "video mode", 16: "address fields"}
REQUIRED = 0xFFFF
"""Of these bits a loader must know each that is set; the upper ones it may ignore."""


@record
class AddressFields:
    """Where the image goes and starts (physical addresses), in place of what its file format says.

    ``load_end_addr`` 0 means up to the end of the file, ``bss_end_addr`` 0 no bss.
    """

    header_addr: int
    load_addr: int
    load_end_addr: int
    bss_end_addr: int
    entry_addr: int


@record
class VideoFields:
    """The graphics mode the image would like; 0 in width, height (pixels or characters), depth (bits): any."""

    mode_type: int
    width: int
    height: int
    depth: int


@record
class Multiboot1Header:
    """``addresses`` go with flag bit 16, ``video`` with flag bit 2; the checksum follows from the flags."""

    flags: int
    addresses: AddressFields | None = None
    video: VideoFields | None = None


HEADER = Layout(
    Multiboot1Header,
    Struct("magic" / Int32ul, "flags" / Int32ul, "checksum" / Int32ul),
    hex=("magic", "flags", "checksum"),
    telling=("flags",),
    meanings={"flags": flag_names(FLAGS)},
    computed={"magic": lambda header: MAGIC, "checksum": lambda header: checksum(header.flags)},
    beyond=("addresses", "video"),
)
ADDRESS_FIELDS = Layout(
    AddressFields,
    Struct(
        "header_addr" / Int32ul,
        "load_addr" / Int32ul,
        "load_end_addr" / Int32ul,
        "bss_end_addr" / Int32ul,
        "entry_addr" / Int32ul,
    ),
    hex=("header_addr", "load_addr", "load_end_addr", "bss_end_addr", "entry_addr"),
    telling=("load_addr", "entry_addr"),
    meanings={
        "load_end_addr": lambda value: "" if value else "to the end of the file",
        "bss_end_addr": lambda value: "" if value else "no bss",
    },
)
VIDEO_FIELDS = Layout(
    VideoFields,
    Struct("mode_type" / Int32ul, "width" / Int32ul, "height" / Int32ul, "depth" / Int32ul),
    telling=("mode_type", "width", "height", "depth"),
    meanings={
        "mode_type": choice_names({0: "linear graphics", 1: "EGA text"}, "reserved"),
        **dict.fromkeys(("width", "height", "depth"), lambda value: "" if value else "no preference"),
    },
)
VIDEO_OFFSET = HEADER.size + ADDRESS_FIELDS.size


def checksum(flags: int) -> int:
    """What makes magic, flags and checksum add up to 0 modulo 2^32."""
    return -(MAGIC + flags) & 0xFFFFFFFF


def header_size(flags: int) -> int:
    """Bytes of a header with these flags: 12, 32 or 48."""
    if flags & VIDEO_MODE:
        return VIDEO_OFFSET + VIDEO_FIELDS.size
    return VIDEO_OFFSET if flags & ADDRESSES else HEADER.size


def parse(data: bytes, at: int = 0, *, source: str = "", base: int = 0) -> Multiboot1Header:
    """The header at ``data[at:]``; ``base`` is the absolute offset of ``data[0]``, for the error.

    Raises FormatError when the magic or the checksum is wrong or the fields that the flags announce are cut short.
    """
    flags = HEADER.values(data, at, source=source, base=base)["flags"]
    HEADER.parse(data, at, source=source, base=base)
    addresses = video = None
    if flags & ADDRESSES:
        addresses = ADDRESS_FIELDS.parse(data, at + HEADER.size, source=source, base=base)
    if flags & VIDEO_MODE:
        video = VIDEO_FIELDS.parse(data, at + VIDEO_OFFSET, source=source, base=base)
    return Multiboot1Header(flags, addresses, video)


def build(header: Multiboot1Header) -> bytes:
    """The header's 12, 32 or 48 bytes. FormatError when the flags and the fields given do not agree."""
    for part, bit, fields in (("addresses", 16, header.addresses), ("video", 2, header.video)):
        if bool(header.flags >> bit & 1) != (fields is not None):
            raise FormatError(
                f"flag bit {bit} and the fields it announces go together",
                field=f"Multiboot1Header.{part}",
                expected="fields" if fields is None else f"flag bit {bit} set",
            )
    built = HEADER.build(header)
    if header.addresses:
        built += ADDRESS_FIELDS.build(header.addresses)
    if header.video:
        built = built.ljust(VIDEO_OFFSET, b"\0") + VIDEO_FIELDS.build(header.video)
    return built


def inspect(data: bytes, offset: int, file_size: int | None = None) -> Node:
    """The node of the header at ``data[0]``, which stands at ``offset`` in its image of ``file_size`` bytes.

    ``data`` may hold more than the header; when it holds less, that is a finding. Raises FormatError when there
    are not even 12 bytes.
    """
    fields: list[Field] = list(HEADER.fields(data))
    flags = HEADER.values(data)["flags"]
    size = header_size(flags)
    findings = [Finding.of(error, "MULTIBOOT1-HEADER") for error in _errors(data)]
    whole = data[:size]
    if flags & ADDRESSES and len(whole) >= VIDEO_OFFSET:
        fields += ADDRESS_FIELDS.fields(data, HEADER.size)
        findings += _address_findings(ADDRESS_FIELDS.parse(data, HEADER.size), offset, file_size)
    if flags & VIDEO_MODE and len(whole) == size:
        fields += VIDEO_FIELDS.fields(data, VIDEO_OFFSET)
    findings += _findings(flags, offset)
    return Node("multiboot1-header", offset, len(whole), tuple(fields), (), tuple(findings))


def _errors(data: bytes) -> Iterator[FormatError]:
    try:
        parse(data)
    except FormatError as error:
        yield error


def _findings(flags: int, offset: int) -> Iterator[Finding]:
    if unknown := flags & REQUIRED & ~KNOWN_FLAGS:
        yield Finding(
            "MULTIBOOT1-UNKNOWN-FLAGS",
            Severity.ERROR,
            "required flags are set that the specification does not know: loaders refuse them",
            "flags",
            4,
            expected=f"only bits of {KNOWN_FLAGS & REQUIRED:#x} among the lower 16",
            found=f"{unknown:#x}",
        )
    if offset + header_size(flags) > SEARCH_LIMIT:
        yield Finding(
            "MULTIBOOT1-PAST-LIMIT",
            Severity.WARNING,
            f"the header is not wholly within the first {SEARCH_LIMIT} bytes: some loaders will not find its end",
            expected=f"an offset of at most {SEARCH_LIMIT - header_size(flags):#x}",
            found=f"{offset:#x}",
        )


def _address_findings(fields: AddressFields, offset: int, file_size: int | None) -> Iterator[Finding]:
    yield from placement_findings(
        offset,
        fields.header_addr,
        fields.load_addr,
        fields.load_end_addr,
        fields.bss_end_addr,
        fields.entry_addr,
        file_size,
    )
