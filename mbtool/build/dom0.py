"""``build-dom0``: from a kernel, an initrd and some words to the start-of-day environment of a PV dom0.

kernel ──open_kernel──▶ ELF ──derive──▶ DomParms ─┐
initrd's size, command lines, dom0_mem, version ──┴─plan──▶ Plan ──▶ files
"""

from __future__ import annotations

import os
from dataclasses import field
from pathlib import Path

from mbtool.build.kernel import open_kernel
from mbtool.errors import FormatError, InputError, UnsupportedError
from mbtool.formats import xen_dom_parms
from mbtool.formats.dom_parms import DomParms
from mbtool.plan import cmdline, dom0_mem, pv_dom0, xen_options, xen_versions
from mbtool.plan.machine import Machine
from mbtool.plan.memory import PAGE_SHIFT
from mbtool.plan.pv_dom0 import Plan
from mbtool.plan.xen_versions import XenVersion
from mbtool.record import record
from mbtool.source import Budget, Limits, Source

DEFAULT_NR_PAGES = 512 << 20 - PAGE_SHIFT
"""dom0's pages when nobody says how many: 512 MiB. A host would decide by its memory."""


@record
class Request:
    """What is asked for. Addresses in bytes; None: not given."""

    kernel: Path
    initrd: Path | None = None
    dom0_mem: str | None = None
    cmdline: str | None = None
    xen_cmdline: str = ""
    xen: Path | None = None
    xen_version: str | None = None
    alloc_base: int | None = None
    initrd_base: int | None = None
    nr_pages: int | None = None
    limits: Limits = field(default_factory=Limits)


@record
class Planned:
    """``assumptions``: what nobody said and was taken for granted, in words."""

    plan: Plan
    assumptions: tuple[str, ...]


@record
class _Xen:
    version: XenVersion
    debug: bool
    assumption: str


def plan_dom0(request: Request, kernel: Source, initrd: Source | None, xen: Source | None) -> Planned:
    """The plan for a request whose files are open. Raises what ``open_kernel``, ``derive`` and ``plan`` raise."""
    xen_cmdline = os.fsencode(request.xen_cmdline)
    if xen_options.wants_pvh(xen_cmdline):
        raise UnsupportedError("Xen is told dom0=pvh, and a PVH dom0 cannot be built yet", remedy="leave it out")
    hypervisor = _xen(request, xen)
    version = hypervisor.version
    parms = _parms(kernel, Budget(request.limits), version)
    initrd_len = None if initrd is None else initrd.size
    nr_pages, clipped, pages_assumed = _nr_pages(request, parms, initrd_len or 0)
    string = None if request.cmdline is None else cmdline.cook(os.fsencode(request.cmdline), named=False)
    plan = pv_dom0.plan(
        parms,
        initrd_len=initrd_len,
        nr_pages=nr_pages,
        cmdline=cmdline.dom0_cmdline(string, xen_cmdline, version),
        version=version,
        machine=Machine(
            alloc_base=request.alloc_base,
            initrd_base=request.initrd_base,
            pm_bits=xen_options.pm_bits(xen_cmdline, version),
            debug=hypervisor.debug,
        ),
        clipped=clipped,
    )
    return Planned(plan, _assumptions(request, plan, hypervisor.assumption, pages_assumed))


def _parms(source: Source, budget: Budget, version: XenVersion) -> DomParms:
    """What the kernel says; FormatError when its file ends before its segments do."""
    elf = open_kernel(source, budget, version).elf
    parms = xen_dom_parms.derive(elf, version=version.release)
    end = max((segment.p_offset + segment.p_filesz for segment in parms.segments), default=0)
    if end > elf.size:
        raise FormatError(
            "the kernel ends before its last segment does: Xen does not notice and reads what follows in memory",
            source=elf.name,
            expected=f"at least {end} bytes",
            found=str(elf.size),
        )
    return parms


def _xen(request: Request, source: Source | None) -> _Xen:
    """Which Xen to plan for: the image's version, the one named, or the newest known."""
    if source is None:
        if request.xen_version is None:
            return _Xen(xen_versions.NEWEST, False, f"Xen {xen_versions.NEWEST}, the newest known")
        return _known(xen_versions.parse(request.xen_version), False)
    if request.xen_version is not None:
        raise InputError("a Xen image and a Xen version are given: which one?", remedy="leave one out")
    from mbtool.identify import inspect

    node = inspect(source, request.limits).find("xen-hypervisor")
    if node is None or node.get("version") is None:
        raise InputError("is no Xen image that tells its version", source=source.name, remedy="use --xen-version")
    return _known(xen_versions.parse(str(node["version"])), node.get("debug") is True)


def _known(version: XenVersion, debug: bool) -> _Xen:
    newest = xen_versions.NEWEST
    return _Xen(version, debug, "" if version.known else f"Xen {version} behaves as Xen {newest}, the newest known")


def _nr_pages(request: Request, parms: DomParms, initrd_len: int) -> tuple[int, bool, str]:
    """dom0's pages, whether Xen clips them, and what was assumed for it."""
    mem = dom0_mem.parse(
        [*xen_options.dom0_mem(os.fsencode(request.xen_cmdline)), *([request.dom0_mem] if request.dom0_mem else [])]
    )
    if request.nr_pages is not None:
        return request.nr_pages, False, ""
    if any(amount.needs_host for amount in (mem.size, mem.min, mem.max)):
        raise InputError(
            "dom0_mem depends on the host's memory, which is not known here",
            expected="absolute amounts such as dom0_mem=2G,max:2G",
            remedy="say the result with --nr-pages",
        )
    plenty = dom0_mem.LONG_MAX
    if not mem.needs_host:
        return dom0_mem.compute_nr_pages(mem, plenty), False, ""
    wanted = max(mem.min.pages(plenty), min(DEFAULT_NR_PAGES, mem.max.pages(plenty)))
    pages = dom0_mem.clip(mem, min(wanted, mem.max.pages(plenty)), plenty, parms, initrd_len)
    words = f"dom0 has {pages} pages ({pages >> 8} MiB): a host would decide by its memory (dom0_mem, --nr-pages)"
    return pages, pages != wanted, words


def _assumptions(request: Request, plan: Plan, *others: str) -> tuple[str, ...]:
    bases = []
    if request.alloc_base is None:
        bases.append(f"dom0's memory begins at {plan.alloc.start:#x}")
    if plan.initrd is not None and request.initrd_base is None:
        bases.append(f"the initrd is at {plan.initrd.start:#x}")
    placed = f"{' and '.join(bases)}, as on a QEMU q35 machine with 1 GiB" if bases else ""
    fixed = "shared_info at 0, an 80x25 text screen, no frequency driver: only the machine knows"
    return tuple(words for words in (*others, placed, fixed) if words)
