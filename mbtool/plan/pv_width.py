"""What differs between 64-bit and 32-bit (PAE) PV kernels: word size, tables, flags, selectors.

Xen: xen/arch/x86/pv/dom0_build.c (``compat``, L1_PROT and COMPAT_L1_PROT, mark_pv_pt_pages_rdonly),
xen/include/public/arch-x86/xen-x86_64.h and xen-x86_32.h (FLAT_KERNEL_CS and the like).
"""

from __future__ import annotations

from mbtool.formats.dom_parms import DomParms
from mbtool.plan.memory import Range, slots
from mbtool.record import record

L1_SHIFT, L2_SHIFT, L3_SHIFT, L4_SHIFT = 12, 21, 30, 39
"""What one entry of a table at that level maps, as a power of two."""
PAE_L2_TABLES = 4
"""A 32-bit kernel has all four, whatever they map."""

DIRTY = 0x040
HYPERVISOR_COMPAT_VIRT_START = 0xF580_0000
"""From here on the addresses of a 32-bit kernel are Xen's (__HYPERVISOR_COMPAT_VIRT_START)."""


@record
class Width:
    """One kind of kernel."""

    bits: int
    word: int
    """Bytes of C's ``unsigned long``: of a P2M entry."""
    top: int
    """What the topmost table maps, as a power of two: an L4 48, an L3 39."""
    page_flags: int
    """L1 entry of a page that nobody wrote: P, RW, A; 64-bit: US and Xen's guest-kernel bit 52 too."""
    cs: int
    ss: int
    ds: int
    """es, fs and gs too."""

    @property
    def read_only_flags(self) -> int:
        """L1 entry of a page-table frame: without RW."""
        return self.page_flags & ~0x002

    def tables(self, total: Range) -> int:
        """How many page tables map ``total``."""
        l1 = slots(total, L2_SHIFT)
        if self.bits == 32:
            return slots(total, L4_SHIFT) + PAE_L2_TABLES + l1
        return 1 + slots(total, L4_SHIFT) + slots(total, L3_SHIFT) + l1


PV64 = Width(64, 8, 48, 0x0010_0000_0000_0027, 0xE033, 0xE02B, 0)
PV32 = Width(32, 4, 39, 0x023, 0xE019, 0xE021, 0xE021)
WIDTHS = {64: PV64, 32: PV32}
"""By the class of the kernel's ELF file."""


def width_of(parms: DomParms) -> Width:
    """The kernel's."""
    return WIDTHS[parms.elf_class]


def init_p2m(parms: DomParms) -> int | None:
    """INIT_P2M as far as Xen heeds it: not for a 32-bit kernel."""
    return None if parms.elf_class == 32 else parms.p2m_base
