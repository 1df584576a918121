"""Which format is this? Asks each known format in turn, then shows the bytes as that format's tree.

Format modules are loaded only when their signature is seen, so that looking at one kind of image does not pay for
the others. A module offers ``reject(source) -> str`` ("" when the bytes are this format, else the reason why not)
and ``inspect(source, context) -> Node`` (the node placed at 0).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Protocol, cast

from mbtool.errors import UnknownFormatError
from mbtool.formats.context import Context
from mbtool.model import Node
from mbtool.record import record
from mbtool.source import Budget, Limits, Source

HEAD = 0x8010
"""Bytes looked at to choose a format: ISO 9660 has its signature at 0x8001."""


class FormatModule(Protocol):
    """What a module in ``mbtool.formats`` offers to be found from here."""

    def reject(self, source: Source) -> str: ...

    def inspect(self, source: Source, context: Context) -> Node: ...


def magic(*signatures: bytes, at: int = 0) -> Callable[[bytes], bool]:
    """A test for one of several signatures at one offset."""
    return lambda head: any(head[at : at + len(signature)] == signature for signature in signatures)


def partition_table(head: bytes) -> bool:
    """A boot sector, or a GPT without one."""
    return head[0x1FE:0x200] == b"\x55\xaa" or b"EFI PART" in (head[0x200:0x208], head[0x1000:0x1008])


def anything(head: bytes) -> bool:
    """For formats with no signature at a fixed place: their ``reject`` decides."""
    return True


@record
class Format:
    """A kind of image, where its module is and a quick test of the first HEAD bytes (may say yes too often)."""

    kind: str
    module: str
    seen: Callable[[bytes], bool]

    def load(self) -> FormatModule:
        return cast(FormatModule, import_module(f"mbtool.formats.{self.module}"))


FORMATS = (
    Format("compressed stream", "compression", anything),
    Format("bzimage", "bzimage", magic(b"HdrS", at=0x202)),
    Format("elf", "elf", magic(b"\x7fELF")),
    Format("pe", "pe", magic(b"MZ")),
    Format("cpio", "initrd", magic(b"070701", b"070702", b"\0\0\0\0")),
    Format("qcow2", "qcow2", magic(b"QFI\xfb")),
    Format("vmdk", "vmdk", magic(b"KDMV")),
    Format("vhd", "vhd", magic(b"conectix")),
    Format("iso", "iso", magic(b"CD001", at=0x8001)),
    Format("ext", "ext", magic(b"\x53\xef", at=0x438)),
    Format("disk", "disk", partition_table),
    Format("zimage", "zimage", magic(b"\x55\xaa", at=0x1FE)),
    Format("microcode", "microcode", magic(b"DMA\0", b"\x01\0\0\0")),
    Format("pv-start-info", "pv_start_info", magic(b"xen-")),
    Format("hvm-start-info", "hvm_start_info", magic(b"\x78\xc5\x6e\x33")),
    Format("multiboot", "multiboot", anything),
)
"""In the order in which they are tried: a bzImage with an EFI stub is also a PE file."""


def inspect(source: Source, limits: Limits | None = None, *, full: bool = False) -> Node:
    """The tree of an image. Raises UnknownFormatError with each format's reason when none fits."""
    return _inspect(source, Context(Budget(limits or Limits()), _inspect, full))


def _inspect(source: Source, context: Context) -> Node:
    head = source.read(0, HEAD)
    for candidate in FORMATS:
        if candidate.seen(head):
            module = candidate.load()
            if not module.reject(source):
                node = module.inspect(source, context)
                return _with_segments(node, source, context) if node.get("trailing_bytes") else node
    from mbtool.formats import foreign

    reasons = tuple((candidate.kind, candidate.load().reject(source)) for candidate in FORMATS)
    raise UnknownFormatError(source.name, reasons, foreign.name(source))


def _with_segments(first: Node, source: Source, context: Context) -> Node:
    """What follows a compressed archive may be more of an initrd, which only its unpacking can show."""
    if not any(child.kind in ("cpio", "initrd") for child in first.children):
        return first
    from mbtool.formats import initrd

    return initrd.behind(first, source, context)
