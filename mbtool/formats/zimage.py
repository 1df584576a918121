"""Linux kernels from before the boot protocol 2.00: zImage and Image, with no ``HdrS``.

Nothing in them says what they are but the boot sector that Linux had then. It moves itself from 0x7c00 to 0x90000
and prints "Loading" (arch/i386/boot/bootsect.S up to 2.4).
"""

from __future__ import annotations

from mbtool.formats import linux_boot
from mbtool.formats.context import Context
from mbtool.model import Field, Node
from mbtool.source import Source

MOVE = bytes.fromhex("b8c0078ed8b800908ec0b90001")
"""mov ax, 0x7c0; mov ds, ax; mov ax, 0x9000; mov es, ax; mov cx, 256."""
SECTOR = 512
MAX_SETUP = 64


def reject(source: Source) -> str:
    """Why this is no such kernel ("" when it is one): any other boot sector ends in 55 aa as well."""
    head = source.read(0, SECTOR)
    if len(head) < SECTOR or head[0x1FE:] != b"\x55\xaa":
        return "no 55 aa at 0x1fe"
    if MOVE not in head[:64] or b"Loading" not in head:
        return "a boot sector, but not that of an old Linux kernel"
    header = linux_boot.read(source)
    if not header.syssize & 0xFFFF or header.setup_size >= source.size:
        return "a boot sector like an old Linux kernel's, but no kernel behind it"
    return ""


def inspect(source: Source, context: Context) -> Node:
    """The kernel as a node: what its boot sector says."""
    head = source.read(0, linux_boot.MAX_END)
    header = linux_boot.read(source)
    size = (header.syssize & 0xFFFF) * 16
    fields = (
        Field("protocol", None, meaning="older than 2.00: zImage", telling=True),
        *linux_boot.fields(header, head),
        Field("system_size", size, meaning="bytes of the protected-mode part", telling=True),
    )
    return Node("zimage", 0, source.size, fields)
