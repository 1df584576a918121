"""What the images do not decide about a PV dom0: facts of the machine and of how Xen was built.

A plan takes them as inputs. Those left out get the default stated here, that of a QEMU q35 machine with 1 GiB.
"""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.errors import InputError
from mbtool.formats import vga_console
from mbtool.model import Finding, Severity
from mbtool.plan.memory import PAGE, Range, up
from mbtool.record import record

DEFAULT_ALLOC_BASE = 0x3000_0000
DEFAULT_INITRD_END = 0x3FA0_0000
"""Where Xen puts dom0's block and the end of the initrd on a QEMU q35 machine with 1 GiB."""


@record
class Machine:
    """What the images do not decide: addresses in bytes. None: a default, see ``place``."""

    alloc_base: int | None = None
    initrd_base: int | None = None
    shared_info: int = 0
    pm_bits: int | None = None
    """Power management that Xen keeps to itself (Cx 1, Px 2, Tx 4); None: as without a cpufreq driver."""
    vga: bytes | None = vga_console.TEXT_80X25
    """dom0's console information, 40 bytes; None: Xen was built without CONFIG_VIDEO."""
    gigabyte_pages: bool = True
    """Xen may map the P2M by 1 GiB pages (it then is at least that large: 512 GiB of dom0 memory)."""
    debug: bool = False
    """Xen is a debug build (``debug=y``): it scrambles the P2M on purpose."""
    ram: tuple[Range, ...] = ()
    """Its usable memory, () when that is not known: then any place will do."""


def place(machine: Machine, order: int, initrd_len: int | None) -> tuple[Range, Range | None]:
    """dom0's block of ``1 << order`` pages and the initrd in machine memory, defaults filled in.

    Without word from the machine the block is the first one aligned to its size from DEFAULT_ALLOC_BASE on, and the
    initrd ends at DEFAULT_INITRD_END, or follows the block where that would overlap. InputError when they overlap,
    or are where Xen's allocator (xen/common/page_alloc.c) puts nothing: at no page, the block not aligned to its
    size.
    """
    block = PAGE << order
    alloc = Range.at(up(DEFAULT_ALLOC_BASE, block) if machine.alloc_base is None else machine.alloc_base, block)
    _refuse_address("alloc base", alloc)
    if alloc.start % block:
        raise InputError(
            "alloc base is where no block of dom0's size can be",
            expected=f"a multiple of {block:#x}",
            found=f"{alloc.start:#x}",
        )
    if initrd_len is None:
        return alloc, None
    base = machine.initrd_base
    if base is None:
        base = max(0, DEFAULT_INITRD_END - up(initrd_len))
        if Range(base, base + up(initrd_len)).overlaps(alloc) or not base:
            base = alloc.end
    initrd = Range.at(base, initrd_len)
    _refuse_address("initrd base", initrd)
    if alloc.overlaps(initrd.paged()):
        raise InputError(
            "the initrd overlaps the memory that dom0 is given",
            expected=f"an initrd base outside {alloc}",
            found=str(initrd),
        )
    return alloc, initrd


def _refuse_address(name: str, span: Range) -> None:
    if span.start % PAGE or span.end > 1 << 52:
        raise InputError(f"{name} is no machine address of a page", found=f"{span.start:#x}")


def misplaced(machine: Machine, alloc: Range, initrd: Range | None) -> Iterator[Finding]:
    """What is put where this machine has no memory: the places are another machine's."""
    for what, span, option in (
        ("dom0's memory", alloc, "--alloc-base"),
        ("the initrd", initrd, "--initrd-base"),
    ):
        if machine.ram and span and not any(usable.covers(span) for usable in machine.ram):
            yield Finding(
                "MACHINE-PLACE",
                Severity.WARNING,
                f"{what} cannot be there: the machine has no usable memory at this place",
                found=str(span),
                remedy=f"say {option} ADDRESS, by Xen's log of such a machine, or try --predict-frames",
            )
