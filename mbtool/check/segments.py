"""A kernel's segments: is its code put where it was linked for?"""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.check.image import Image
from mbtool.check.multiboot import addressed, headers
from mbtool.check.rule import Evidence, image_rule
from mbtool.formats.elf_headers import PT_LOAD
from mbtool.model import Node

PAGE = 4096
KERNELS = ("elf", "bzimage")
PLACES = ("p_offset", "p_vaddr", "p_paddr")


@image_rule("ELF-SEGMENT-SHIFTED")
def shifted(image: Image) -> Iterator[Evidence]:
    """The code at the entry point is loaded some bytes off from the address that it was linked for.

    Where a segment is in the file, in memory and in address spaces agrees in the bits below its alignment, and
    below a page. Of one with another p_vaddr nothing is said: loaders go by p_paddr.
    """
    if image.content.kind not in KERNELS or any(map(addressed, headers(image))):
        return
    elf = image.place("elf")
    if elf is None:
        return
    (entry,) = _numbers(elf.node, "e_entry")
    for each in image.places:
        if each.node.kind != "elf-segment":
            continue
        kind, size, align, *places = _numbers(each.node, "p_type", "p_filesz", "p_align", *PLACES)
        if kind != PT_LOAD or not any(0 <= entry - start < size for start in places[1:]):
            continue
        in_file, linked, loaded = (place % min(align or 1, PAGE) for place in places)
        if loaded != linked == in_file or in_file != linked == loaded:
            odd = "p_paddr" if linked == in_file else "p_offset"
            yield Evidence(
                "the kernel's code is loaded some bytes off from where it was linked to be",
                image.path,
                each.path,
                each.start,
                odd,
                expected=f"{linked:#x} in the low bits, as p_vaddr has",
                found=f"{places[PLACES.index(odd)]:#x}",
            )
        return


def _numbers(node: Node, *names: str) -> list[int]:
    """The values of fields that are numbers, 0 for one that is not there."""
    values = map(node.get, names)
    return [value if isinstance(value, int) else 0 for value in values]
