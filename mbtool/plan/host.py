"""How much memory a host can give to dom0, of which Xen takes the parts and remainders of ``dom0_mem=``.

Xen counts what its heap has free and what the boot modules occupy (``avail`` in xen/arch/x86/dom0_build.c,
``dom0_compute_nr_pages``). Missing from the RAM are: a table of 32 bytes for each page of RAM
(xen/arch/x86/mm.c, ``init_frametable``), one of 8 bytes in steps of 2 MiB (x86_64/mm.c, ``paging_init``) and for
32-bit guests another of 4, a page of page tables for each GiB, and what Xen takes for its image and each CPU.

Recorded from Debian's Xen 4.17 on QEMU machines (q35, 256 MiB to 12 GiB): with the RAM that Xen prints
(``System RAM:``) this is right to three pages, for 4.22.0 built with CONFIG_PV32 to 40. Xen itself takes some MiB
more or less in other builds and on other machines.

For a PVH dom0 Xen keeps back what tables an IOMMU may need: a page for every 2 MiB up to the end of RAM, for every
GiB, and so on (``dom0_compute_nr_pages``, ``iommu_pages``); QEMU's AMD IOMMU itself took 287 pages at every size
(512 MiB to 4 GiB, Xen 4.17, right to five pages; 4.18.0 and 4.22.0 to 20).
"""

from __future__ import annotations

from mbtool.errors import InputError
from mbtool.plan.memory import PAGE, pages_of, up
from mbtool.record import record

FRAME_TABLE_ENTRY = 32
M2P_ENTRY, COMPAT_M2P_ENTRY = 8, 4
M2P_STEP = 2 << 20
GIB = 1 << 30
XEN_PAGES = 937
"""Xen's image, its heap and its first CPU."""
CPU_PAGES = 32
"""Every further CPU, with dom0's vCPU on it."""
IOMMU_PAGES = 287
"""What Xen takes for QEMU's AMD IOMMU."""


@record
class Host:
    """``ram``: bytes of usable memory, as Xen prints them; ``cpus``: how many dom0 gets too.

    ``pv32``: Xen is built for 32-bit PV guests. ``iommu_top``: end of RAM in bytes (it may have holes) where an AMD
    IOMMU is in use, as for a PVH dom0, else None.
    """

    ram: int
    cpus: int = 1
    pv32: bool = False
    iommu_top: int | None = None

    @property
    def avail(self) -> int:
        """Pages that can be dom0's. Raises InputError when Xen would take everything."""
        pages = self.ram // PAGE
        tables = pages_of(pages * FRAME_TABLE_ENTRY) + up(pages * M2P_ENTRY, M2P_STEP) // PAGE + -(-self.ram // GIB)
        if self.pv32:
            tables += up(pages * COMPAT_M2P_ENTRY, M2P_STEP) // PAGE
        if self.iommu_top is not None:
            tables += IOMMU_PAGES + sum(self.iommu_top // PAGE >> shift for shift in range(9, 64, 9))
        avail = pages - tables - XEN_PAGES - CPU_PAGES * (self.cpus - 1)
        if avail <= 0:
            raise InputError(
                "a host with so little memory has none left for dom0",
                expected=f"more than {pages - avail << 2} KiB",
                found=f"{self.ram >> 10} KiB",
            )
        return avail
