"""The plan for a PV dom0, 64-bit or 32-bit (PAE): everything that Xen decides from the images, as one value.

    DomParms, initrd length, nr_pages, command line, Xen version, Machine ──plan()──▶ Plan
    Plan ──▶ arrangement.lines, start_info_page, page_tables.frames, p2m.blocks

Planning reads no file, clock or machine. What only the machine knows is in ``Machine``, each with a stated
default. Xen: xen/arch/x86/pv/dom0_build.c, ``dom0_construct``.
"""

from __future__ import annotations

from mbtool.errors import InputError, RefusedError
from mbtool.formats import pv_start_info, vga_console
from mbtool.formats.dom_parms import DomParms, PaeMode
from mbtool.formats.pv_start_info import SIF_INITDOMAIN, SIF_MOD_START_PFN, SIF_PM_SHIFT, SIF_PRIVILEGED, StartInfo
from mbtool.formats.xen_versions import XenVersion
from mbtool.model import Finding, Severity
from mbtool.plan.cmdline import guest_cmdline
from mbtool.plan.machine import Machine, misplaced, place
from mbtool.plan.memory import PAGE, PAGE_SHIFT, Range, pages_of
from mbtool.plan.p2m_map import P2mMap
from mbtool.plan.pv_limits import MAX_PAGES, place_p2m, refuse_kernel, refuse_load, refuse_space, too_small
from mbtool.plan.pv_space import Space, lay_out, pages_needed
from mbtool.plan.pv_width import Width, width_of
from mbtool.record import record

XENFEAT_SUPERVISOR_MODE_KERNEL = 3

EFLAGS = 0x202


@record
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
    def width(self) -> Width:
        return width_of(self.parms)

    @property
    def shows_pae(self) -> bool:
        """Whether Xen takes notice of PAE_MODE."""
        return _shows_pae(self.parms, self.version)

    @property
    def registers(self) -> dict[str, int]:
        """vCPU 0 at dom0's first instruction; general registers not named are 0.

        cr3 as without XPTI; a 32-bit kernel runs on a table of Xen's, which leads to its own.
        """
        width = self.width
        letter = "r" if width.bits == 64 else "e"
        return {
            f"{letter}ip": self.parms.virt_entry,
            f"{letter}sp": self.space.stack.end,
            f"{letter}si": self.space.start_info.start,
            f"{letter}flags": EFLAGS,
            "cs": width.cs,
            "ss": width.ss,
            **dict.fromkeys(("ds", "es", "fs", "gs"), width.ds),
            **({"cr3": self.page_table_base} if width.bits == 64 else {}),
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

    Raises RefusedError where Xen gives up, its own message first; InputError for a machine that cannot be.
    """
    machine = machine or Machine()
    refuse_kernel(parms)
    if not 0 < nr_pages <= MAX_PAGES:
        raise InputError("dom0 cannot have this many pages", expected=f"1 to {MAX_PAGES}", found=str(nr_pages))
    size = initrd_len or 0
    space = lay_out(parms, size, nr_pages)
    if pages_needed(space, size) > nr_pages:
        raise too_small("Domain 0 allocation is too small for kernel image", parms, size, nr_pages, machine)
    refuse_space(parms, space)
    refuse_load(parms, space)
    p2m, p2m_map = place_p2m(parms, space, size, nr_pages, machine)
    if p2m_map.pages_needed > nr_pages:
        raise too_small("Dom0 allocation too small for initial P->M table", parms, size, nr_pages, machine)
    if parms.f_required >> XENFEAT_SUPERVISOR_MODE_KERNEL & 1:
        raise RefusedError("Dom0 requires supervisor-mode execution: the kernel asks to run in ring 0")
    alloc, initrd = place(machine, space.order, initrd_len)
    kept = guest_cmdline(cmdline)
    cut = () if kept == cmdline else (_cut(cmdline, kept),)
    findings = (*cut, *misplaced(machine, alloc, initrd))
    info = _start_info(parms, space, p2m, p2m_map, size, nr_pages, kept, version, machine)
    return Plan(
        version, parms, machine, nr_pages, clipped, kept, space, p2m, p2m_map, alloc, initrd, info, findings
    )


def start_info_page(plan: Plan) -> bytes:
    """The start_info page, 4096 bytes."""
    return pv_start_info.build_page(plan.start_info, plan.machine.vga or b"", plan.width.bits)


def _shows_pae(parms: DomParms, version: XenVersion) -> bool:
    return parms.pae is not PaeMode.NO and (version.pae_for_64bit or parms.elf_class == 32)


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
    bits = parms.elf_class
    suffix = "p" if _shows_pae(parms, version) else ""
    has_vga = machine.vga is not None
    return StartInfo(
        magic=f"xen-3.0-x86_{bits}{suffix}".encode().ljust(32, b"\0"),
        nr_pages=nr_pages,
        shared_info=machine.shared_info,
        flags=flags,
        store_mfn=0,
        store_evtchn=0,
        info_off=pv_start_info.INFO_OFF if has_vga else 0,
        info_size=vga_console.SIZE if has_vga else 0,
        console=bytes(8 if bits == 64 else 0),
        pt_base=space.page_tables.start,
        nr_pt_frames=space.nr_pt_frames,
        mfn_list=p2m.start,
        mod_start=(space.initrd.start if space.initrd is not None else 1 << space.order) if initrd_len else 0,
        mod_len=initrd_len,
        cmd_line=cmdline.ljust(pv_start_info.MAX_GUEST_CMDLINE, b"\0"),
        first_p2m_pfn=pages_needed(space, initrd_len),
        nr_p2m_frames=p2m_map.frames,
    )
