"""How many pages a planned dom0 has: from ``dom0_mem=`` alone where that decides it, else from the host.

What the host decides is computed when the host is known, taken for granted in words when nothing was said at all,
and refused otherwise: no number is made up.
"""

from __future__ import annotations

from mbtool.errors import InputError
from mbtool.formats.dom_parms import DomParms
from mbtool.plan.dom0_mem import LONG_MAX, Dom0Mem, Paging, clip, compute_nr_pages
from mbtool.plan.host import Host
from mbtool.plan.memory import PAGE_SHIFT
from mbtool.record import record

DEFAULT_NR_PAGES = 512 << 20 - PAGE_SHIFT
"""dom0's pages when nobody says how many: 512 MiB. A host would decide by its memory."""


@record
class Dom0Pages:
    """``clipped``: Xen says ``Dom0 memory clipped``; ``assumption``: what was taken for granted, in words."""

    nr_pages: int
    clipped: bool = False
    assumption: str = ""
    option: str = ""
    """What more to say in dom0_mem= for any host with enough memory to give just as much; "" for nothing."""


def exactly(nr_pages: int) -> str:
    """The value of dom0_mem= that gives dom0 so many pages, whatever was said before."""
    size = f"{nr_pages << PAGE_SHIFT - 10}K"
    return f"min:{size},max:{size},{size}"


def _at_most(nr_pages: int) -> str:
    """A most and no amount: given an amount, Xen does not clip."""
    return f"max:{nr_pages << PAGE_SHIFT - 10}K"


def decide(
    mem: Dom0Mem, host: Host | None, parms: DomParms | None, initrd_len: int, paging: Paging | None = None
) -> Dom0Pages:
    """dom0's pages. ``host`` is None when it is not known; ``parms`` for a PVH dom0, which Xen never clips.

    Raises InputError when ``mem`` depends on a host that is not known, or the host has no memory left for dom0.
    """
    if host is not None:
        avail = host.avail
        wanted = compute_nr_pages(mem, avail, paging)
        pages = wanted if parms is None else clip(mem, wanted, avail, parms, initrd_len)
        if not mem.needs_host and pages == compute_nr_pages(mem, LONG_MAX):
            return Dom0Pages(pages)
        option = _at_most(wanted) if pages != wanted else exactly(pages)
        return Dom0Pages(pages, pages != wanted, _by_host(host, avail, pages), option)
    if any(amount.needs_host for amount in (mem.size, mem.min, mem.max)):
        raise InputError(
            "dom0_mem depends on the host's memory, which is not known here",
            expected="absolute amounts such as dom0_mem=2G,max:2G",
            remedy="say how much RAM the host has with --host-mem, or the result with --nr-pages",
        )
    if not mem.needs_host:
        return Dom0Pages(compute_nr_pages(mem, LONG_MAX))
    wanted = min(max(mem.min.pages(LONG_MAX), DEFAULT_NR_PAGES), mem.max.pages(LONG_MAX))
    pages = wanted if parms is None else clip(mem, wanted, LONG_MAX, parms, initrd_len)
    words = (
        f"dom0 has {pages} pages ({pages >> 8} MiB): a host would decide by its memory"
        " (dom0_mem, --host-mem, --nr-pages)"
    )
    return Dom0Pages(pages, pages != wanted, words, _at_most(wanted))


def _by_host(host: Host, avail: int, pages: int) -> str:
    """What the host decides, in words."""
    cpus = "one CPU" if host.cpus == 1 else f"{host.cpus} CPUs"
    iommu = "" if host.iommu_top is None else " and an AMD IOMMU"
    return (
        f"dom0 has {pages} pages ({pages >> 8} MiB), the host deciding: dom0 could have {avail} pages of its"
        f" {host.ram >> 20} MiB of RAM, as Debian's Xen 4.17 on a QEMU machine with {cpus}{iommu}; others differ by"
        " MiBs"
    )
