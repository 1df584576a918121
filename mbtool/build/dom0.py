"""``build-dom0``: from a kernel, an initrd and some words to the start-of-day environment of a PV dom0.

kernel ──open_kernel──▶ ELF ──derive──▶ DomParms ─┐
initrd's size, command lines, dom0_mem, version ──┴─plan──▶ Plan ──▶ files
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import field
from pathlib import Path

from mbtool.build.kernel import Kernel, open_kernel
from mbtool.build.xen_image import Hypervisor
from mbtool.build.xen_image import hypervisor as read_hypervisor
from mbtool.errors import FormatError, InputError
from mbtool.formats import vga_console, xen_dom_parms
from mbtool.formats.dom_parms import DomParms
from mbtool.formats.xen_versions import XenVersion
from mbtool.plan import cmdline, dom0_mem, machines, pv_dom0, xen_options
from mbtool.plan.dom0_mem import Paging
from mbtool.plan.dom0_pages import Dom0Pages, decide, exactly
from mbtool.plan.e820 import E820Map
from mbtool.plan.host import Host
from mbtool.plan.machine import Machine
from mbtool.plan.pv_dom0 import Plan
from mbtool.plan.pv_space import lay_out
from mbtool.plan.xen_frames import foretell
from mbtool.plan.xen_options import Mode
from mbtool.record import record
from mbtool.source import Budget, Limits, Source

HVM_START_INFO, ACPI = "hvm_start_info.bin", "acpi.bin"
"""The blobs of a PVH dom0."""


@record
class Request:
    """What is asked for. Addresses in bytes; None: not given. ``disk``: a disk as well (with ``xen``)."""

    kernel: Path
    initrd: Path | None = None
    dom0_mem: str | None = None
    cmdline: str | None = None
    xen_cmdline: str = ""
    xen: Path | None = None
    xen_efi: Path | None = None
    disk: bool = False
    xen_version: str | None = None
    alloc_base: int | None = None
    initrd_base: int | None = None
    nr_pages: int | None = None
    host_mem: int | None = None
    """The host's RAM in bytes."""
    mode: Mode | None = None
    """None: what Xen's command line says."""
    e820: str | None = None
    """A machine that is known by name, a memory map or a boot log (see ``mbtool.plan.machines``)."""
    predict_frames: bool = False
    """PV: foretell from ``e820`` where dom0's memory and the initrd are."""
    vcpus: int | None = None
    """The machine's processors."""
    initrd_cmdline: str = ""
    limits: Limits = field(default_factory=Limits)

    @property
    def pvh(self) -> bool:
        """Whether dom0 is a PVH domain."""
        return (self.mode or xen_options.dom0_mode(os.fsencode(self.xen_cmdline))) is Mode.PVH


@record
class Planned:
    """``assumptions``: what nobody said and was taken for granted, in words."""

    plan: Plan
    assumptions: tuple[str, ...]
    dom0_mem: str = ""
    """What more has to be said in dom0_mem= for any host to do what was planned; "" for nothing."""
    memory: E820Map | None = None
    """The machine's, None when it is not known."""


def plan_dom0(
    request: Request,
    kernel: Source,
    initrd: Source | None,
    xen: Source | None,
    unpack: Callable[[XenVersion], Kernel] | None = None,
) -> Planned:
    """The plan for a request whose files are open. Raises what ``open_kernel``, ``derive`` and ``plan`` raise.

    ``unpack`` takes the place of ``open_kernel``, for callers that need the kernel several times.
    """
    xen_cmdline = os.fsencode(request.xen_cmdline)
    refuse_other_mode(request, Mode.PV)
    memory = None if request.e820 is None else machines.memory_map(request.e820)
    hypervisor = read_hypervisor(request.xen_version, xen, request.limits)
    version = hypervisor.version
    opened = unpack(version) if unpack else open_kernel(kernel, Budget(request.limits), version)
    parms = parms_of(opened, hypervisor)
    initrd_len = None if initrd is None else initrd.size
    host = host_of(request, hypervisor, memory, request.vcpus)
    pages = dom0_pages(request, hypervisor, host, parms, initrd_len or 0)
    alloc_base, initrd_base, foretold = _bases(
        request, memory, kernel.size + opened.headroom, initrd_len, parms, pages.nr_pages
    )
    plan = pv_dom0.plan(
        parms,
        initrd_len=initrd_len,
        nr_pages=pages.nr_pages,
        cmdline=cmdline.dom0_cmdline(kernel_string(request), xen_cmdline, version),
        version=version,
        machine=Machine(
            alloc_base=alloc_base,
            initrd_base=initrd_base,
            pm_bits=xen_options.pm_bits(xen_cmdline, version),
            debug=hypervisor.debug,
            vga=vga_console.TEXT_80X25 if hypervisor.video else None,
            ram=memory.usable() if memory is not None else (),
        ),
        clipped=pages.clipped,
    )
    pv32 = "Xen is built with CONFIG_PV32" if plan.width.bits == 32 and hypervisor.config is None else ""
    assumptions = _assumptions(request, plan, hypervisor.assumption, pv32, pages.assumption, foretold)
    return Planned(plan, assumptions, pages.option, memory)


_OF_NO_USE = {
    Mode.PV: (
        {"--initrd-cmdline": "initrd_cmdline"},
        "Xen does not pass the initrd's string to a PV dom0",
    ),
    Mode.PVH: (
        {"--alloc-base": "alloc_base", "--initrd-base": "initrd_base", "--predict-frames": "predict_frames"},
        "a PVH dom0 does not see machine addresses",
    ),
}
"""Options of the other kind of domain, by the attributes of Request, and why."""


def refuse_other_mode(request: Request, mode: Mode) -> None:
    """InputError when Xen's command line says another ``dom0=``, or an option is for the other kind of domain."""
    told = xen_options.dom0_mode(os.fsencode(request.xen_cmdline))
    if told not in (None, mode):
        raise InputError(
            f"Xen's command line says dom0={told}, and a {mode.upper()} dom0 is asked for",
            remedy=f"leave one out, or use --mode {told}",
        )
    options, why = _OF_NO_USE[mode]
    for option, attribute in options.items():
        if getattr(request, attribute) not in (None, "", False):
            raise InputError(f"{option} is of no use: {why}", remedy="leave it out")


def kernel_string(request: Request) -> bytes | None:
    """The kernel's string without the name that loaders prepend; a loader that does always has a string."""
    if request.cmdline is None:
        return b"" if request.disk else None
    return cmdline.cook(os.fsencode(request.cmdline), named=False)


def kernel_parms(source: Source, budget: Budget, xen: Hypervisor, *, hvm: bool = False) -> DomParms:
    """What the kernel says; FormatError when its file ends before its segments do."""
    return parms_of(open_kernel(source, budget, xen.version), xen, hvm=hvm)


def parms_of(kernel: Kernel, xen: Hypervisor, *, hvm: bool = False) -> DomParms:
    """The same of a kernel that is unpacked."""
    elf = kernel.elf
    parms = xen_dom_parms.derive(elf, hvm=hvm, version=xen.version, pv32=xen.pv32)
    require_segments(parms, elf)
    return parms


def require_segments(parms: DomParms, elf: Source) -> None:
    """FormatError when the file ends before its segments do."""
    end = max((segment.p_offset + segment.p_filesz for segment in parms.segments), default=0)
    if end > elf.size:
        raise FormatError(
            "the kernel ends before its last segment does: Xen does not notice and reads what follows in memory",
            source=elf.name,
            expected=f"at least {end} bytes",
            found=str(elf.size),
        )


def dom0_pages(
    request: Request,
    hypervisor: Hypervisor,
    host: Host | None,
    parms: DomParms | None,
    initrd_len: int,
    paging: Paging | None = None,
) -> Dom0Pages:
    """dom0's pages. The last word counts: of Xen's configuration, its command line, the request."""
    texts = xen_options.dom0_mem(os.fsencode(request.xen_cmdline))
    if request.dom0_mem:
        texts = (*texts, request.dom0_mem)
    if not texts and hypervisor.dom0_mem:
        texts = (hypervisor.dom0_mem,)
    mem = dom0_mem.parse(texts)
    if request.nr_pages is not None:
        return Dom0Pages(request.nr_pages, option=exactly(request.nr_pages))
    return decide(mem, host, parms, initrd_len, paging)


def host_of(
    request: Request, hypervisor: Hypervisor, memory: E820Map | None, cpus: int | None, *, iommu: bool = False
) -> Host | None:
    """The host as far as it decides dom0's pages; None when nothing is known of its memory."""
    ram = memory.ram if memory is not None and request.host_mem is None else request.host_mem
    if ram is None:
        return None
    top = max((span.end for span in memory.usable()), default=ram) if memory is not None else ram
    pv32 = hypervisor.config is not None and hypervisor.pv32
    return Host(ram, cpus or 1, pv32=pv32, iommu_top=top if iommu else None)


def _bases(
    request: Request,
    memory: E820Map | None,
    kernel_len: int,
    initrd_len: int | None,
    parms: DomParms,
    nr_pages: int,
) -> tuple[int | None, int | None, str]:
    """Where dom0's block and the initrd are: as given, else foretold where that is asked for; how sure that is."""
    if not request.predict_frames:
        return request.alloc_base, request.initrd_base, ""
    if memory is None:
        raise InputError("frames are foretold from a memory map", remedy="say which machine with --e820")
    order = lay_out(parms, initrd_len or 0, nr_pages).order
    frames = foretell(memory, kernel_len, initrd_len, order)
    alloc_base = frames.alloc.start if request.alloc_base is None else request.alloc_base
    initrd_base = request.initrd_base
    if frames.initrd is not None and initrd_base is None:
        initrd_base = frames.initrd.start
    return alloc_base, initrd_base, frames.words


def _assumptions(request: Request, plan: Plan, *others: str) -> tuple[str, ...]:
    bases = []
    foretold = request.predict_frames
    if request.alloc_base is None and not foretold:
        bases.append(f"dom0's memory begins at {plan.alloc.start:#x}")
    if plan.initrd is not None and request.initrd_base is None and not foretold:
        bases.append(f"the initrd is at {plan.initrd.start:#x}")
    placed = f"{' and '.join(bases)}, as on a QEMU q35 machine with 1 GiB" if bases else ""
    fixed = "shared_info at 0, an 80x25 text screen, no frequency driver: only the machine knows"
    return tuple(words for words in (*others, placed, fixed) if words)
