"""The interpreter that an ELF program names (PT_INTERP), as Linux reads it.

Source: fs/binfmt_elf.c (``load_elf_binary``).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

PT_INTERP = 3
PATH_MAX = 4096
MAX_TABLE = 0x10000
"""Bytes of program headers that Linux takes at most (``load_elf_phdrs``)."""

_TABLE = {1: struct.Struct("<28xI10xHH"), 2: struct.Struct("<32xQ14xHH")}
"""e_phoff, e_phentsize and e_phnum, by class."""
_ENTRY = {1: struct.Struct("<II8xI12x"), 2: struct.Struct("<I4xQ16xQ16x")}
"""p_type, p_offset and p_filesz."""


def interpreter(head: bytes, read: Callable[[int, int], bytes]) -> bytes | None:
    """The path of a little-endian program's interpreter; None where it has none, or Linux reads none.

    ``head``: its first bytes; ``read``: bytes of the file by offset and size.
    """
    kind = head[4] if len(head) > 4 else 0
    if kind not in _TABLE or len(head) < _TABLE[kind].size:
        return None
    offset, size, count = _TABLE[kind].unpack_from(head)
    entry = _ENTRY[kind]
    if size != entry.size or size * count > MAX_TABLE:
        return None
    table = read(offset, size * count)
    for type_, at, length in entry.iter_unpack(table[: len(table) // size * size]):
        if type_ == PT_INTERP:
            return read(at, length).partition(b"\0")[0] if 2 <= length <= PATH_MAX else None
    return None
