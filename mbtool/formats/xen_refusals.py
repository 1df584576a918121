"""Why Xen refuses to build a domain from a kernel: one function per step, Xen's own message first.

Source: xen/common/libelf/libelf-loader.c, libelf-dominfo.c; xen/arch/x86/pv/dom0_build.c, dom0_build.c.
"""

from __future__ import annotations

from mbtool.errors import RefusedError
from mbtool.formats.dom_parms import DomParms, PaeMode
from mbtool.formats.elf_file import ElfFile
from mbtool.formats.elf_headers import EM_386, EM_ARM, EM_X86_64
from mbtool.formats.xen_guest_values import MASK64, GuestValues
from mbtool.formats.xen_notes import FEAT_DOM0
from mbtool.formats.xen_versions import NEWEST, XenVersion

COMPAT_VIRT_START = 0xF5800000
"""Highest start of Xen's range in a 32-bit domain (__HYPERVISOR_COMPAT_VIRT_START)."""
L2_SIZE = 1 << 21
"""Bytes mapped by one entry of a second-level page table: HV_START_LOW is rounded up to it."""


def table_refusal(elf: ElfFile, size: int | None) -> RefusedError | None:
    """elf_init: both header tables must lie in the file."""
    header = elf.header
    if size is None:
        return None
    for name, start, step, count in (
        ("phdr", header.e_phoff, header.e_phentsize, header.e_phnum),
        ("shdr", header.e_shoff, header.e_shentsize, min(header.e_shnum, size // 40)),
    ):
        end = start + step * count & MASK64
        if end > size:
            return RefusedError(f"ELF: {name} overflow (off {end:x} > size {size:x})")
    return None


def note_refusal(
    elf: ElfFile, values: GuestValues, parms: DomParms, *, hvm: bool, version: XenVersion
) -> RefusedError | None:
    """elf_xen_note_check: is it made for Xen at all?"""
    if not values.noted and not values.guest:
        if not elf.is_x86:
            return None
        return RefusedError("ERROR: Not a Xen-ELF image: No ELF notes or '__xen_guest' section found")
    if elf.header.e_machine == EM_ARM:
        return None
    if parms.phys_entry is not None and (hvm or not version.notes_know_pvh):
        return None
    if not parms.loader.startswith("generic") and not parms.guest_os.startswith("linux"):
        return RefusedError(
            "ERROR: Will only load images built for the generic loader or Linux images"
            f" (Not '{parms.loader}' and '{parms.guest_os}') or with PHYS32_ENTRY set"
        )
    if not parms.xen_ver.startswith("xen-3.0"):
        return RefusedError(f"ERROR: Xen will only load images built for Xen v3.0 (Not '{parms.xen_ver}')")
    return None


def address_refusal(values: GuestValues, parms: DomParms, *, hvm: bool, version: XenVersion) -> RefusedError | None:
    """The checks of elf_xen_addr_calc_check."""
    lenient = hvm and version.pvh_offset_alone
    if values.elf_paddr_offset is not None and values.virt_base is None and not lenient:
        return RefusedError("ERROR: ELF_PADDR_OFFSET set, VIRT_BASE unset")
    kernel = f"kernel {parms.virt_kstart:#x}-{parms.virt_kend:#x}"
    if (
        not parms.virt_kstart <= parms.virt_entry <= parms.virt_kend
        or parms.virt_base > parms.virt_kstart
        or parms.virt_kstart > parms.virt_kend
    ):
        return RefusedError(
            "ERROR: ELF start or entries are out of bounds",
            expected="base <= kernel start <= entry <= kernel end",
            found=f"base {parms.virt_base:#x}, {kernel}, entry {parms.virt_entry:#x}",
        )
    if parms.p2m_base is not None and parms.virt_kstart <= parms.p2m_base < parms.virt_kend:
        return RefusedError(
            "ERROR: P->M table base is out of bounds",
            expected="an address outside the kernel",
            found=f"{parms.p2m_base:#x}, {kernel}",
        )
    return None


def mode_refusal(
    parms: DomParms, *, hvm: bool = False, version: XenVersion = NEWEST, pv32: bool = True
) -> RefusedError | None:
    """Why Xen cannot run this kernel in the mode asked for; ``pv32``: it was built with CONFIG_PV32."""
    if hvm:
        missing = parms.phys_entry is None
        return RefusedError("Unable to find XEN_ELFNOTE_PHYS32_ENTRY address") if missing else None
    if parms.elf_class == 32 and not pv32 and version.pv32_missed:
        return RefusedError("Found 32-bit PV kernel, but CONFIG_PV32 missing")
    if (parms.elf_class, parms.machine) == (64, EM_X86_64):
        return None
    if (parms.elf_class, parms.machine) == (32, EM_386) and parms.pae is not PaeMode.NO:
        return None if pv32 else RefusedError("Dom0 failed to switch to compat: -95 (CONFIG_PV32 is missing)")
    return RefusedError(
        "Mismatch between Xen and DOM0 kernel",
        expected="ELF64 for x86-64, or ELF32 for i386 with PAE",
        found=f"ELF{parms.elf_class} for machine {parms.machine}, PAE {parms.pae}",
    )


def dom0_refusal(parms: DomParms, *, hvm: bool = False, version: XenVersion = NEWEST) -> RefusedError | None:
    """Why the kernel may not be dom0: it lists what it supports, and dom0 is not in the list."""
    if hvm and not version.pvh_says_dom0:
        return None
    if not parms.has_supported_features_note or parms.f_supported >> FEAT_DOM0 & 1:
        return None
    return RefusedError("Kernel does not support Dom0 operation")


def hole_refusal(parms: DomParms) -> RefusedError | None:
    """Why a 32-bit PV kernel leaves Xen too little address space (HV_START_LOW)."""
    if parms.elf_class != 32 or parms.virt_hv_start_low is None:
        return None
    start = parms.virt_hv_start_low + L2_SIZE - 1 & -L2_SIZE & MASK64
    if start <= COMPAT_VIRT_START:
        return None
    return RefusedError(
        "Dom0 expects too high a hypervisor start address",
        expected=f"at most {COMPAT_VIRT_START:#x}",
        found=f"{start:#x}",
    )
