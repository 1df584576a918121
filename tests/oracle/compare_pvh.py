"""A PVH plan beside a recording: every difference.

Taken from the recording as inputs: the machine as Xen's log shows it, and the string that the loader gave with the
initrd. Left out: the header of an XSDT that Xen copied from a wrong place (all but its size and revision).
"""

from __future__ import annotations

import zlib

from mbtool.formats.dom_parms import DomParms
from mbtool.formats.xen_versions import XenVersion
from mbtool.plan import e820_text, pvh_acpi, pvh_dom0, pvh_host_log, pvh_lines, xen_options
from mbtool.plan.pvh_dom0 import PvhPlan
from mbtool.plan.pvh_machine import PvhHost
from tests.oracle.record_pvh import PvhRecording

REGISTERS = {"rip": "eip", "rbx": "ebx", "rflags": "eflags"}
"""The names of a 64-bit machine for what the plan calls by 32-bit names; all others must be 0."""


def host_of(recording: PvhRecording) -> PvhHost:
    """The recording's machine."""
    text = "".join(f"(XEN) {line}\n" for line in recording.console).encode("latin-1", "replace")
    found = pvh_host_log.parse(text, "log")
    assert found is not None
    assert found.vcpus is not None
    vcpus = xen_options.dom0_max_vcpus(str(recording.about["xen_args"]).encode(), found.vcpus)
    return PvhHost(e820_text.parse(text, "log"), found.acpi, "recorded", vcpus, found.vmx_helpers)


def plan_for(
    recording: PvhRecording,
    parms: DomParms,
    version: XenVersion,
    *,
    initrd_len: int | None,
    nr_pages: int,
    cmdline: bytes | None,
    initrd_cmdline: bytes | None,
) -> PvhPlan:
    """What mbtool plans for the recorded boot."""
    return pvh_dom0.plan(
        parms,
        initrd_len=initrd_len,
        initrd_cmdline=initrd_cmdline,
        nr_pages=nr_pages,
        cmdline=cmdline,
        version=version,
        host=host_of(recording),
    )


def differences(plan: PvhPlan, recording: PvhRecording, initrd: bytes | None = None) -> list[str]:
    """One line per difference; an empty list is agreement. ``initrd``: what must lie where the plan says."""
    found = []
    for name, value in recording.registers.items():
        planned = plan.registers.get(REGISTERS.get(name, name), 0)
        if planned != value:
            found.append(f"{name}: {planned:#x}, Xen {value:#x}")
    planned_blobs = blobs(plan)
    for name in sorted(planned_blobs.keys() | recording.blobs.keys()):
        mine, its = planned_blobs.get(name), recording.blobs.get(name)
        if name == "xsdt" and its and pvh_acpi.unsound_xsdt(plan.host.acpi, plan.rules):
            mine, its = mine and (mine[0], _unsound(mine[1])), (its[0], _unsound(its[1]))
        if mine != its:
            found.append(f"{name}: {_words(mine)}, Xen {_words(its)}")
    if initrd is not None and recording.initrd_crc32 != zlib.crc32(initrd):
        found.append("the initrd is not where the plan says")
    return found + _lines(plan, recording)


def blobs(plan: PvhPlan) -> dict[str, tuple[int, bytes]]:
    """What the plan puts into memory, by the names that recordings use."""
    region, acpi = plan.region, plan.acpi
    start = region.range.end - len(pvh_dom0.tail(plan))
    parts = {
        "start_info": (region.start_info, start, pvh_dom0.tail(plan)),
        "modlist": (region.modlist, start, pvh_dom0.tail(plan)),
        "cmdline": (region.cmdline, start, pvh_dom0.tail(plan)),
        "initrd_cmdline": (region.initrd_cmdline, start, pvh_dom0.tail(plan)),
        "rsdp": (acpi.rsdp, acpi.rsdp.start, acpi.content),
        "xsdt": (acpi.xsdt, acpi.rsdp.start, acpi.content),
        "madt": (acpi.madt, acpi.rsdp.start, acpi.content),
    }
    result = {}
    for name, (span, base, data) in parts.items():
        if span is not None:
            content = data[span.start - base : span.end - base]
            result[name] = span.start, content.removesuffix(b"\0") if "cmdline" in name else content
    return result


def _unsound(xsdt: bytes) -> bytes:
    """Size, revision and what is listed."""
    return xsdt[4:9] + xsdt[36:]


def _words(blob: tuple[int, bytes] | None) -> str:
    return "nothing" if blob is None else f"{blob[0]:#x} {blob[1].hex()}"


def _lines(plan: PvhPlan, recording: PvhRecording) -> list[str]:
    """The lines that Xen prints, in its order, among others."""
    planned = list(pvh_lines.lines(plan))
    if not plan.rules.map_printed:
        planned = planned[: planned.index("Dom0 memory map:")]
    elif recording.dom0_e820 and len(recording.dom0_e820) != len(plan.memory_map):
        return [f"memory map: {len(plan.memory_map)} entries planned, {len(recording.dom0_e820)} printed"]
    rest = iter(recording.console)
    missing = next((line for line in planned if line not in rest), None)
    return [] if missing is None else [f"console: Xen does not say {missing!r}"]
