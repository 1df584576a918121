"""What a firmware's loader of PE images refuses of a program that is for its machine.

EDK II, MdePkg/Library/BasePeCoffLib/BasePeCoff.c (PeCoffLoaderGetPeHeader), MdeModulePkg/Core/Dxe/Image/Image.c
(CoreLoadPeImage); Xen, xen/arch/x86/efi/efi-boot.h (efi_arch_relocate_image, efi_arch_edd and what is behind them).
"""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.model import Node
from mbtool.record import record
from mbtool.source import MIB

FIXED = {0x10B: 96, 0x20B: 112}
"""Bytes of the optional header in front of the data directories, by Magic."""
FILE_HEADER, SECTION_HEADER, DIRECTORY = 4 + 20, 40, 8
RELOCS_STRIPPED = 1
MEMORY_START, MEMORY_END = MIB, 1 << 46
"""Where firmware may have memory for an image that cannot be moved."""
XEN_ALIGN = 2 * MIB
GIVES_UP = "BdsDxe: failed to "
"""How EDK II begins to say that it did not load, or start, a boot entry's program."""


@record
class Refusal:
    """A field, what it has to be, and what is printed because of it, "" where nothing is."""

    field: str
    expected: str
    found: str
    console: str = ""


def refusals(pe: Node, size: int) -> Iterator[Refusal]:
    """All that is wrong with the headers of an image that is in a file of ``size`` bytes."""
    fixed = FIXED.get(_number(pe, "Magic"), 0)
    optional, count = _number(pe, "SizeOfOptionalHeader"), _number(pe, "NumberOfRvaAndSizes")
    if fixed and optional - fixed != count * DIRECTORY:
        room = max(0, optional - fixed) // DIRECTORY
        yield Refusal("NumberOfRvaAndSizes", f"{room}", f"{count}", GIVES_UP)
    sections = _number(pe, "NumberOfSections")
    if not sections:
        yield Refusal("NumberOfSections", "at least 1", "0", GIVES_UP)
    end = _number(pe, "e_lfanew") + FILE_HEADER + optional + sections * SECTION_HEADER
    headers = _number(pe, "SizeOfHeaders")
    if not end <= headers <= size:
        yield Refusal("SizeOfHeaders", f"{end} to {size}", f"{headers}", GIVES_UP)
    base = _number(pe, "ImageBase")
    if _number(pe, "Characteristics") & RELOCS_STRIPPED and not MEMORY_START <= base < MEMORY_END:
        needed = f"without RELOCS_STRIPPED: no memory is at {base:#x}"
        yield Refusal("Characteristics", needed, "RELOCS_STRIPPED", GIVES_UP)
    if pe.find("xen-hypervisor") is not None:
        yield from _of_xen(pe, count)


def _of_xen(pe: Node, count: int) -> Iterator[Refusal]:
    """What Xen needs to move itself to where it runs."""
    table = pe.get("BaseRelocationTable")
    if count > 5 and not (isinstance(table, tuple) and all(table)):
        yield Refusal("BaseRelocationTable", "where .reloc is", "none")
    align = _number(pe, "SectionAlignment")
    if align % XEN_ALIGN:
        boundary = "Xen must be loaded at a 2Mb boundary."
        yield Refusal("SectionAlignment", f"a multiple of {XEN_ALIGN:#x}", f"{align:#x}", boundary)


def _number(node: Node, name: str) -> int:
    value = node.get(name)
    return value if isinstance(value, int) else 0
