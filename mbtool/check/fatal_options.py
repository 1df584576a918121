"""Options of Xen's that are read as they are meant, and that Xen, or dom0, does not survive."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mbtool.check.boot_set import BootSet
from mbtool.check.command_lines import XEN
from mbtool.check.contradictions import iommu_wanted
from mbtool.check.rule import Evidence, set_rule
from mbtool.errors import MbtoolError
from mbtool.plan import dom0_mem, xen_options
from mbtool.plan.xen_options import Mode

NUMBER = re.compile(rb"0[xX][0-9a-fA-F]+|[0-9]+")
SIZE = re.compile(rb"(0[xX][0-9a-fA-F]+|[0-9]+)([bkmgtBKMGT]?)")
SHIFTS = {b"b": 0, b"k": 10, b"": 10, b"m": 20, b"g": 30, b"t": 40}
PAGE_SHIFT = 12


@set_rule("XEN-OPTION-FATAL")
def fatal(boot: BootSet) -> Iterator[Evidence]:
    """What was asked for leaves out something that Xen cannot do without."""
    if not boot.on_xen:
        return
    found = (*_zeros(boot), *_no_acpi(boot), *_memory(boot), *_no_iommu(boot), *_forced_iommu(boot))
    for option, message, console in found:
        yield Evidence(message, XEN, field=option, console=console)


def _zeros(boot: BootSet) -> Iterator[tuple[str, str, str]]:
    """Numbers that must not be 0."""
    for value in _last(boot, b"gnttab_max_frames"):
        if not value or _number(value, whole=True) == 0:
            yield "gnttab_max_frames", "dom0 gets no room for grants at all", "Error creating d"
    schedulers = list(xen_options.custom(boot.options, b"sched"))
    for value in _last(boot, b"sched_credit2_max_cpus_runqueue"):
        if _number(value) == 0 and schedulers[-1:] in ([], [b"credit2"]):
            yield "sched_credit2_max_cpus_runqueue", "the scheduler divides by it", "FATAL TRAP: vec"


def _no_acpi(boot: BootSet) -> Iterator[tuple[str, str, str]]:
    """Without ACPI's tables Xen reads an MP table, and does not ask whether there is one."""
    message = "without ACPI's APICs Xen reads an MP table, which firmware of today does not have"
    off = [value for value in _last(boot, b"acpi") if value in xen_options.FALSE]
    if off:
        yield "acpi", message, "FATAL TRAP: vec"
    elif _there(boot, b"nolapic"):
        yield "nolapic", message, "FATAL TRAP: vec"
    elif xen_options.flag(boot.options, b"noapic", False):
        yield "noapic", message, "FATAL TRAP: vec"


def _memory(boot: BootSet) -> Iterator[tuple[str, str, str]]:
    """dom0 is to have more than Xen is to use."""
    try:
        size = dom0_mem.parse(xen_options.dom0_mem(boot.options)).size
    except MbtoolError:
        return  # DOM0-MEM-SYNTAX says so
    for value in _last(boot, b"availmem"):
        match = SIZE.match(value)
        if match and not size.needs_host:
            pages = _number(match[1]) << SHIFTS[match[2].lower()] >> PAGE_SHIFT
            if 0 < pages < size.nr_pages:
                yield "availmem", f"dom0_mem asks for more: {size.nr_pages} pages of {pages}", ""


def _no_iommu(boot: BootSet) -> Iterator[tuple[str, str, str]]:
    """A PVH dom0 whose memory is kept from its devices, by an IOMMU that is there."""
    words = [word for value in xen_options.custom(boot.options, b"dom0-iommu") for word in value.split(b",")]
    if boot.mode is Mode.PVH and b"none" in words and iommu_wanted(boot):
        yield "dom0-iommu", "none, and the IOMMU is in use: a PVH dom0 crashes", ""


def _forced_iommu(boot: BootSet) -> Iterator[tuple[str, str, str]]:
    """An IOMMU that Xen must use and may not: the words add up, in any order, and no host has what both ask for."""
    forced = False
    for value in xen_options.custom(boot.options, b"iommu"):
        for word in value.split(b","):
            if word.removeprefix(b"no-") in (b"force", b"required"):
                forced = not word.startswith(b"no-")
            elif word.partition(b"=")[0] in (b"force", b"required"):
                choice = word.partition(b"=")[2]
                forced = (forced or choice in xen_options.TRUE) and choice not in xen_options.FALSE
    if forced and not iommu_wanted(boot):
        yield "iommu", "it is switched off, and required", "Couldn't enable IOMMU and iommu=required/force"


def _last(boot: BootSet, name: bytes) -> list[bytes]:
    return [value for key, value, wanted in xen_options.options(boot.options) if key == name and wanted][-1:]


def _there(boot: BootSet, name: bytes) -> bool:
    return any(key == name for key, _, _ in xen_options.options(boot.options))


def _number(value: bytes, *, whole: bool = False) -> int:
    """As Xen reads a number; what is none is 0, or with ``whole``, where more must not follow, -1."""
    match = NUMBER.match(value)
    if whole and (match is None or match.end() < len(value)):
        return -1
    return int(match[0], 16 if match[0][:2].lower() == b"0x" else 10) if match else 0
