"""Linux kernels from before the boot protocol 2.00: zImage and Image without ``HdrS``.

Nothing in them says what they are but the boot sector that Linux had then: it moves itself from 0x7c00 to 0x90000
and goes on there (arch/i386/boot/bootsect.S up to Linux 2.4, boot/bootsect.s before 1.1.45, boot/boot.s of 0.01).
Kernels with ``HdrS`` that are to be loaded low are shown by ``bzimage``.
"""

from __future__ import annotations

from mbtool.formats import linux_boot, linux_checks
from mbtool.formats.context import Context
from mbtool.model import Field, Node
from mbtool.source import Source

MOVE = bytes.fromhex("b8c007 8ed8 b80090 8ec0 b90001")
"""mov ax, 0x7c0; mov ds, ax; mov ax, 0x9000; mov es, ax; mov cx, 256: the words of a sector."""


def reject(source: Source) -> str:
    """Why this is no such kernel ("" when it is one): every boot sector ends in 55 aa."""
    sector = source.read(0, 0x202)
    if sector[0x1FE:0x200] != b"\x55\xaa":
        return "no 55 aa at 0x1fe"
    if len(sector) < 0x202:
        return "a boot sector with nothing behind it"
    if not sector.startswith(MOVE):
        from mbtool.formats import mbr

        other = "a boot sector, but its code is not that of an old Linux kernel"
        return other if mbr.reject(source) else "a master boot record with partitions"
    header = linux_boot.parse(sector)
    if header.setup_size >= source.size:
        return f"starts like an old Linux kernel, but its setup alone would have {header.setup_size} bytes"
    return ""


def inspect(source: Source, context: Context) -> Node:
    """The ``zimage`` node: what the boot sector says."""
    head = source.read(0, 0x202)
    header = linux_boot.parse(head, source=source.name)
    size = source.size
    fields = (
        Field("protocol", None, meaning="older than 2.00", telling=True),
        *linux_boot.fields(header, head),
        Field("protected_mode_offset", header.setup_size),
        Field("protected_mode_size", header.system_size, meaning="loaded at 0x10000", telling=True),
    )
    return Node("zimage", 0, size, fields, (), tuple(linux_checks.findings(header, size)))
