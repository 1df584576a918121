"""ELF images shown: headers, segments, sections, notes and what Xen makes of them."""

from __future__ import annotations

from mbtool.formats.context import Context
from mbtool.formats.elf_file import EHDR, PHDR, Ehdr, ElfFile, Phdr, Shdr, parse_elf, reject
from mbtool.model import Node
from mbtool.source import Source

__all__ = ["EHDR", "PHDR", "Ehdr", "ElfFile", "Phdr", "Shdr", "inspect", "parse_elf", "reject"]


def inspect(source: Source, context: Context) -> Node:
    """The ``elf`` node."""
    elf = parse_elf(source)
    data = source.read(0, EHDR[elf.header.ei_class].size)
    size = source.known_size
    fields = EHDR[elf.header.ei_class].fields(data)
    return Node("elf", 0, elf.headers_end if size is None else size, fields, (), elf.findings)
