"""What Xen derives from a kernel's program headers and notes before it builds a domain.

The values of ``struct elf_dom_parms`` (Xen: xen/include/xen/libelf.h), filled as ``elf_xen_parse`` and
``elf_xen_addr_calc_check`` do (xen/common/libelf/libelf-dominfo.c).
"""

from __future__ import annotations

from enum import StrEnum

from mbtool.record import record


class PaeMode(StrEnum):
    """``enum xen_pae_type``: what the PAE_MODE note says."""

    NO = "no"
    YES = "yes"
    EXTENDED_CR3 = "extended-cr3"
    BIMODAL = "bimodal"


@record
class LoadSegment:
    """A loadable program header: ``p_filesz`` bytes at ``p_offset`` of the file go to ``p_paddr`` (bytes)."""

    p_offset: int
    p_vaddr: int
    p_paddr: int
    p_filesz: int
    p_memsz: int
    p_flags: int
    p_align: int


@record
class DomParms:
    """Addresses in bytes; None stands for a note that is absent (Xen's UNSET_ADDR)."""

    elf_class: int
    """32 or 64."""
    machine: int
    """``e_machine``."""
    segments: tuple[LoadSegment, ...]
    pstart: int
    pend: int
    virt_base: int
    elf_paddr_offset: int
    virt_offset: int
    virt_kstart: int
    virt_kend: int
    virt_entry: int
    virt_hypercall: int | None = None
    virt_hv_start_low: int | None = None
    p2m_base: int | None = None
    unmapped_initrd: bool = False
    pae: PaeMode = PaeMode.NO
    bsd_symtab: bool = False
    bsd_symtab_range: tuple[int, int] | None = None
    """Half-open physical range [pstart, pend) of the loaded symbol table."""
    phys_entry: int | None = None
    phys_reloc: bool = False
    """A PHYS32_RELOC note is there (Xen 4.19 and later look for one)."""
    phys_align: int | None = None
    phys_min: int = 0
    phys_max: int = 0xFFFFFFFF
    palign: int = 0
    f_supported: int = 0
    f_required: int = 0
    has_supported_features_note: bool = False
    guest_os: str = ""
    guest_ver: str = ""
    xen_ver: str = ""
    loader: str = ""
    legacy: bool = False
    """The values come from a ``__xen_guest`` string."""
