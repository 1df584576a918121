"""``build-dom0 --mode pvh``: the start-of-day environment of a PVH dom0, as a plan and as files.

kernel ──open_kernel──▶ ELF ──derive──▶ DomParms ─┐
initrd's size, strings, version, the machine ─────┴─plan──▶ PvhPlan ──▶ two blobs, each to be loaded at its address
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from mbtool.build.dom0 import (
    ACPI,
    HVM_START_INFO,
    Request,
    dom0_pages,
    host_of,
    kernel_parms,
    kernel_string,
    refuse_other_mode,
)
from mbtool.build.xen_image import hypervisor as read_hypervisor
from mbtool.errors import InputError, RefusedError
from mbtool.formats.xen_versions import XenVersion
from mbtool.plan import cmdline, dom0_mem, machines, pvh_dom0, pvh_host_log, pvh_lines, pvh_machine, xen_options
from mbtool.plan.pvh_dom0 import PvhPlan
from mbtool.plan.pvh_machine import PvhHost
from mbtool.plan.pvh_versions import rules
from mbtool.plan.xen_options import Mode
from mbtool.record import record
from mbtool.render.json import finding_json, hex_json, node_json, range_json
from mbtool.source import MIB, Budget, Source

NO_ENTRY = ("ELF start or entries are out of bounds", "XEN_ELFNOTE_PHYS32_ENTRY")
"""What Xen says of a kernel that has no PVH entry point: for want of one it takes that of the ELF header."""


@record
class PlannedPvh:
    """``assumptions``: what nobody said and was taken for granted, in words."""

    plan: PvhPlan
    assumptions: tuple[str, ...]
    debug: bool = False
    dom0_mem: str = ""
    """What more has to be said in dom0_mem= for any host to do what was planned; "" for nothing."""


def plan_pvh(request: Request, kernel: Source, initrd: Source | None, xen: Source | None) -> PlannedPvh:
    """The plan for a request whose files are open. Raises what ``open_kernel``, ``derive`` and ``plan`` raise."""
    refuse_other_mode(request, Mode.PVH)
    if "\0" in request.initrd_cmdline:
        raise InputError("a command line cannot hold a NUL byte")
    hypervisor = read_hypervisor(request.xen_version, xen, request.limits)
    version = hypervisor.version
    try:
        parms = kernel_parms(kernel, Budget(request.limits), hypervisor, hvm=True)
    except RefusedError as error:
        if any(words in error.problem for words in NO_ENTRY):
            error.remedy = "a kernel without a PHYS32_ENTRY note can only be a PV dom0: --mode pv"
        raise
    machine, cpus, assumed = _told(request)
    vcpus = min(xen_options.dom0_max_vcpus(os.fsencode(request.xen_cmdline), cpus), pvh_machine.XEN_MAX_VCPUS)
    memory = None if machine is None else machine.e820
    heap = host_of(request, hypervisor, memory, cpus, iommu=True)
    paging = dom0_mem.paging(version, pvh=True, max_vcpus=vcpus)
    pages = dom0_pages(request, hypervisor, heap, None, 0, paging)
    if machine is None:
        machine = pvh_machine.for_pages(pages.nr_pages)
        assumed += (f"the machine is a {machine.name}, an AMD IOMMU and ACPI 1.0 tables (--e820)",)
    plan = pvh_dom0.plan(
        parms,
        initrd_len=None if initrd is None else initrd.size,
        initrd_cmdline=os.fsencode(request.initrd_cmdline),
        nr_pages=pages.nr_pages,
        cmdline=_cmdline(request, version),
        version=version,
        host=replace(machine, vcpus=vcpus),
    )
    words = (hypervisor.assumption, pages.assumption, *assumed)
    return PlannedPvh(plan, tuple(word for word in words if word), hypervisor.debug, pages.option)


def _cmdline(request: Request, version: XenVersion) -> bytes | None:
    """dom0's command line, None where Xen has none at all."""
    string = kernel_string(request)
    xen_cmdline = os.fsencode(request.xen_cmdline)
    if string is None and xen_options.split(xen_cmdline)[1] is None and not rules(version).cmdline_always:
        return None
    return cmdline.dom0_cmdline(string, xen_cmdline, version)


def _told(request: Request) -> tuple[PvhHost | None, int, tuple[str, ...]]:
    """The machine as far as anything is said of it, its processors, and what was taken for granted about it."""
    machine, logged, assumed = None, None, []
    if request.e820 is not None:
        machine, logged = _machine(request.e820)
        if logged is None:
            assumed.append(
                "ACPI tables, I/O APIC and interrupts as on a QEMU q35 machine (--e820 with Xen's log, loglvl=all)"
            )
    elif request.host_mem is not None:
        machine = pvh_machine.q35(request.host_mem // MIB)
        assumed.append(f"the machine is a {machine.name}, an AMD IOMMU and ACPI 1.0 tables (--e820)")
    cpus = request.vcpus or (None if logged is None else logged.vcpus)
    if cpus is None:
        assumed.append("the machine has one processor (--vcpus)")
    return machine, cpus or 1, tuple(assumed)


def _machine(word: str) -> tuple[PvhHost, pvh_host_log.LoggedHost | None]:
    """The machine called ``word``, or that of the boot log or memory map in the file of this name."""
    told = machines.described(word)
    logged = None if told.text is None else pvh_host_log.parse(told.text, told.name)
    if logged is None:
        return pvh_machine.with_map(told.memory, told.name), None
    return PvhHost(told.memory, logged.acpi, told.name, vmx_helpers=logged.vmx_helpers), logged


def lines(plan: PvhPlan) -> tuple[str, ...]:
    """layout.txt: Xen's own lines, then a table of what it does not print."""
    return (*pvh_lines.lines(plan), *pvh_lines.table(plan))


def contents(planned: PlannedPvh, initrd: Source | None) -> Iterator[tuple[str, bytes | Iterable[bytes]]]:
    """The blobs by file name."""
    yield HVM_START_INFO, _region(planned.plan, initrd)
    yield ACPI, planned.plan.acpi.content


def _region(plan: PvhPlan, initrd: Source | None) -> Iterator[bytes]:
    """The initrd where there is one, and all that is told about it."""
    if initrd is not None and plan.region.initrd is not None:
        yield from initrd.chunks()
    yield pvh_dom0.tail(plan)


def layout_json(planned: PlannedPvh) -> dict[str, Any]:
    """The whole plan as the JSON document ``mbtool/layout/1``. Ranges are half-open."""
    plan = planned.plan
    named = dict(plan.regions)
    parts = ("kernel", "initrd", "initrd_cmdline", "cmdline", "modlist", "start_info", "rsdp", "xsdt", "madt")
    return {
        "schema": "mbtool/layout/1",
        "mode": "pvh",
        "xen": {"version": str(plan.version), "debug": planned.debug},
        "nr_pages": plan.nr_pages,
        "vcpus": plan.host.vcpus,
        "entry": hex_json(plan.entry),
        "moved": plan.moved,
        "physical": {name: range_json(named[name]) if name in named else None for name in parts},
        "load": [
            {"file": HVM_START_INFO, **range_json(plan.region.range)},
            {"file": ACPI, **range_json(plan.acpi.range)},
        ],
        "memory_map": [{**range_json(entry.range), "type": entry.type} for entry in plan.memory_map],
        "registers": {name: hex_json(value) for name, value in plan.registers.items()},
        "start_info": node_json(pvh_dom0.start_info_node(plan)),
        "assumptions": list(planned.assumptions),
        "findings": [finding_json(finding) for finding in plan.findings],
    }
