"""The plan for a 64-bit PV dom0: everything that Xen decides from the images, as one frozen value.

    DomParms, initrd length, nr_pages, command line, Xen version, Machine ──plan()──▶ Plan
    Plan ──▶ arrangement.lines, start_info_page, page_tables.frames, p2m.blocks

Planning reads no file, clock or machine. What only the machine knows is in ``Machine``, each with a stated
default. Xen: xen/arch/x86/pv/dom0_build.c, ``dom0_construct``.
"""

from __future__ import annotations

from dataclasses import dataclass

from mbtool.errors import InputError, RefusedError, UnsupportedError
from mbtool.formats import pv_start_info, vga_console
from mbtool.formats.dom_parms import DomParms, PaeMode
from mbtool.formats.pv_start_info import SIF_INITDOMAIN, SIF_MOD_START_PFN, SIF_PM_SHIFT, SIF_PRIVILEGED, StartInfo
from mbtool.model import Finding, Severity
from mbtool.plan.cmdline import guest_cmdline
from mbtool.plan.machine import Machine, place
from mbtool.plan.memory import PAGE, PAGE_SHIFT, Range, pages_of, up
from mbtool.plan.p2m_map import P2mMap, map_p2m
from mbtool.plan.pv_space import Space, lay_out, pages_needed
from mbtool.plan.xen_versions import XenVersion

HYPERVISOR_VIRT = Range(0xFFFF_8000_0000_0000, 0xFFFF_8800_0000_0000)
"""Xen's own part of the address space (HYPERVISOR_VIRT_START, HYPERVISOR_VIRT_END)."""
NON_CANONICAL = Range(0x0000_8000_0000_0000, 0xFFFF_8000_0000_0000)
MAX_PAGES = (1 << 32) - 1
"""Xen keeps a domain's pages in 32 bits."""
XENFEAT_SUPERVISOR_MODE_KERNEL = 3

EFLAGS = 0x202
CS, SS = 0xE033, 0xE02B


@dataclass(frozen=True, slots=True)
class Plan:
    """Virtual ranges are in ``space``, machine ranges in ``alloc`` and ``initrd``."""

    version: XenVersion
    parms: DomParms
    machine: Machine
    nr_pages: int
    clipped: bool
    """Xen says ``Dom0 memory clipped``."""
    cmdline: bytes
    space: Space
    p2m: Range
    """Where dom0 sees the P2M, in or outside the initial mapping."""
    p2m_map: P2mMap
    alloc: Range
    initrd: Range | None
    """The initrd module in machine memory, exact length; None without a module."""
    start_info: StartInfo
    findings: tuple[Finding, ...] = ()

    @property
    def initrd_len(self) -> int:
        """Bytes."""
        return self.initrd.size if self.initrd else 0

    @property
    def initrd_pages(self) -> int:
        return pages_of(self.initrd_len)

    @property
    def initrd_pfn(self) -> int:
        """The initrd's first pfn (where it would be, without one)."""
        if self.space.initrd is None:
            return 1 << self.space.order
        return self.space.initrd.start - self.space.total.start >> PAGE_SHIFT

    @property
    def page_table_base(self) -> int:
        """Machine address of the first page-table frame; the others follow it. What CR3 holds."""
        skipped = self.space.page_tables.start - self.space.total.start
        return self.alloc.start + skipped - (0 if self.space.initrd is None else self.initrd_pages * PAGE)

    @property
    def shows_pae(self) -> bool:
        """Whether this Xen takes notice of PAE_MODE in a 64-bit kernel."""
        return self.version.pae_for_64bit and self.parms.pae is not PaeMode.NO

    @property
    def registers(self) -> dict[str, int]:
        """vCPU 0 at dom0's first instruction; general registers not named are 0. cr3 as without XPTI."""
        return {
            "rip": self.parms.virt_entry,
            "rsp": self.space.stack.end,
            "rsi": self.space.start_info.start,
            "rflags": EFLAGS,
            "cs": CS,
            "ss": SS,
            "ds": 0,
            "es": 0,
            "fs": 0,
            "gs": 0,
            "cr3": self.page_table_base,
        }


def plan(
    parms: DomParms,
    *,
    initrd_len: int | None,
    nr_pages: int,
    cmdline: bytes,
    version: XenVersion,
    machine: Machine | None = None,
    clipped: bool = False,
) -> Plan:
    """What Xen builds. ``initrd_len`` in bytes, None without a module; ``cmdline`` as cooked for dom0.

    Raises RefusedError where Xen gives up, its own message first; UnsupportedError for a 32-bit kernel; InputError
    for a machine that cannot be.
    """
    machine = machine or Machine()
    _refuse_kernel(parms)
    if not 0 < nr_pages <= MAX_PAGES:
        raise InputError("dom0 cannot have this many pages", expected=f"1 to {MAX_PAGES}", found=str(nr_pages))
    size = initrd_len or 0
    space = lay_out(parms, size, nr_pages)
    if pages_needed(space, size) > nr_pages:
        raise _too_small("Domain 0 allocation is too small for kernel image", parms, size, nr_pages, machine)
    _refuse_space(parms, space)
    p2m, p2m_map = _place_p2m(parms, space, size, nr_pages, machine)
    if p2m_map.pages_needed > nr_pages:
        raise _too_small("Dom0 allocation too small for initial P->M table", parms, size, nr_pages, machine)
    if parms.f_required >> XENFEAT_SUPERVISOR_MODE_KERNEL & 1:
        raise RefusedError("Dom0 requires supervisor-mode execution: the kernel asks to run in ring 0")
    alloc, initrd = place(machine, space.order, initrd_len)
    kept = guest_cmdline(cmdline)
    findings = () if kept == cmdline else (_cut(cmdline, kept),)
    info = _start_info(parms, space, p2m, p2m_map, size, nr_pages, kept, version, machine)
    return Plan(
        version, parms, machine, nr_pages, clipped, kept, space, p2m, p2m_map, alloc, initrd, info, findings
    )


def start_info_page(plan: Plan) -> bytes:
    """The start_info page, 4096 bytes."""
    return pv_start_info.build_page(plan.start_info, plan.machine.vga or b"")


def _refuse_kernel(parms: DomParms) -> None:
    """What stops the builder before, or while, it copies the kernel."""
    if parms.elf_class != 64:
        raise UnsupportedError("32-bit PV kernels are not planned yet", expected="an ELF64 kernel for x86-64")
    if parms.virt_base % PAGE:
        raise RefusedError(
            "VIRT_BASE is not at a page: Xen does not check this and builds page tables that lead nowhere",
            found=f"{parms.virt_base:#x}",
        )
    room = 2 * (parms.virt_kend - parms.virt_kstart)
    for segment in parms.segments:
        room -= segment.p_memsz
        if segment.p_filesz > segment.p_memsz:
            raise RefusedError(
                "Failed to load the kernel binary: a segment has more bytes in the file than in memory",
                expected=f"p_filesz at most {segment.p_memsz:#x}",
                found=f"{segment.p_filesz:#x}",
            )
    if room < 0:
        raise RefusedError("program segments total to more than the input image size: they overlap each other")


def _refuse_space(parms: DomParms, space: Space) -> None:
    total = space.total
    if total.overlaps(HYPERVISOR_VIRT):
        raise RefusedError(
            "DOM0 image overlaps with Xen private area.",
            expected=f"an initial mapping outside {HYPERVISOR_VIRT}",
            found=str(total),
        )
    if total.overlaps(NON_CANONICAL):
        raise RefusedError("the initial mapping has addresses that no x86-64 CPU has", found=str(total))
    if parms.virt_hypercall is not None and parms.virt_hypercall not in total:
        raise RefusedError(
            "Invalid HYPERCALL_PAGE field in ELF notes.",
            expected=f"an address inside {total}",
            found=f"{parms.virt_hypercall:#x}",
        )


def _place_p2m(
    parms: DomParms, space: Space, initrd_len: int, nr_pages: int, machine: Machine
) -> tuple[Range, P2mMap]:
    if space.p2m is not None:
        return space.p2m, P2mMap(0, 0, ())
    assert parms.p2m_base is not None
    p2m = Range.at(parms.p2m_base, nr_pages * 8)
    if space.total.start <= p2m.end and p2m.start <= space.total.end:
        raise RefusedError(
            "DOM0 P->M table overlaps initial mapping", expected=f"clear of {space.total}", found=str(p2m)
        )
    if p2m.overlaps(HYPERVISOR_VIRT) or p2m.overlaps(NON_CANONICAL):
        raise RefusedError(
            "INIT_P2M lies where dom0 cannot have memory: Xen does not check this and destroys its own tables",
            found=str(p2m),
        )
    owned = pages_needed(space, initrd_len)
    return p2m, map_p2m(p2m, space.total, owned, gigabyte_pages=machine.gigabyte_pages)


def _too_small(message: str, parms: DomParms, initrd_len: int, nr_pages: int, machine: Machine) -> RefusedError:
    """Xen's message, what takes the room, and the least that would do."""
    least = nr_pages
    while True:  # both needs grow with nr_pages, so this ends at the smallest number that suffices
        space = lay_out(parms, initrd_len, least)
        needed = pages_needed(space, initrd_len)
        if needed <= least:
            needed = _place_p2m(parms, space, initrd_len, least, machine)[1].pages_needed
        if needed <= least:
            break
        least = needed
    mib = pages_of(least * PAGE) * PAGE + (1 << 20) - 1 >> 20
    block = (PAGE << space.order) >> 20
    initrd = f", the initrd {up(initrd_len) / (1 << 20):.1f} MiB" if initrd_len else ""
    return RefusedError(
        f"{message}: kernel, page tables and padding take a block of {block} MiB{initrd}",
        expected=f"at least {mib} MiB",
        found=f"{nr_pages * PAGE / (1 << 20):g} MiB",
        remedy=f"give dom0_mem={mib}M or more",
    )


def _cut(cmdline: bytes, kept: bytes) -> Finding:
    return Finding(
        "CMDLINE-CUT",
        Severity.WARNING,
        "the command line is longer than start_info can hold and is cut",
        "cmd_line",
        expected=f"at most {len(kept)} bytes",
        found=f"{len(cmdline)}",
        remedy="shorten dom0's command line",
    )


def _start_info(
    parms: DomParms,
    space: Space,
    p2m: Range,
    p2m_map: P2mMap,
    initrd_len: int,
    nr_pages: int,
    cmdline: bytes,
    version: XenVersion,
    machine: Machine,
) -> StartInfo:
    mapped = space.initrd is not None
    flags = SIF_PRIVILEGED | SIF_INITDOMAIN
    flags |= (version.pm_bits if machine.pm_bits is None else machine.pm_bits) << SIF_PM_SHIFT
    if initrd_len and not mapped:
        flags |= SIF_MOD_START_PFN
    suffix = "p" if version.pae_for_64bit and parms.pae is not PaeMode.NO else ""
    has_vga = machine.vga is not None
    return StartInfo(
        magic=f"xen-3.0-x86_64{suffix}".encode().ljust(32, b"\0"),
        nr_pages=nr_pages,
        shared_info=machine.shared_info,
        flags=flags,
        store_mfn=0,
        store_evtchn=0,
        info_off=pv_start_info.INFO_OFF if has_vga else 0,
        info_size=vga_console.SIZE if has_vga else 0,
        console=bytes(8),
        pt_base=space.page_tables.start,
        nr_pt_frames=space.nr_pt_frames,
        mfn_list=p2m.start,
        mod_start=(space.initrd.start if space.initrd is not None else 1 << space.order) if initrd_len else 0,
        mod_len=initrd_len,
        cmd_line=cmdline.ljust(pv_start_info.MAX_GUEST_CMDLINE, b"\0"),
        first_p2m_pfn=pages_needed(space, initrd_len),
        nr_p2m_frames=p2m_map.frames,
    )
