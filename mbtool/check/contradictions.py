"""Options that contradict each other: each is known, and together they do not do what somebody wanted."""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.check.boot_set import BootSet
from mbtool.check.command_lines import DOM0, XEN
from mbtool.check.rule import Evidence, set_rule
from mbtool.errors import MbtoolError
from mbtool.model import Severity
from mbtool.plan import dom0_mem, xen_options
from mbtool.plan.dom0_mem import Amount
from mbtool.plan.xen_options import Mode

SCHEDULERS = (b"credit", b"credit2", b"rtds", b"arinc653", b"null")
"""What sched= may say, if Xen was built with it."""
SERIAL = {"ttyS0": b"com1", "ttyS1": b"com2"}
"""Linux's names of the ports that Xen calls so."""


@set_rule("DOM0-MEM-ORDER")
def order(boot: BootSet) -> Iterator[Evidence]:
    """dom0_mem says more than its own maximum, or less than its own minimum."""
    try:
        told = dom0_mem.parse(xen_options.dom0_mem(boot.options))
    except MbtoolError:
        return  # DOM0-MEM-SYNTAX says so
    for low, high, names in ((told.min, told.max, "min max"), (told.size, told.max, "amount max")):
        if _known(low) and _known(high) and low.nr_pages > high.nr_pages:
            small, large = names.split()
            yield Evidence(f"dom0_mem: the {small} is larger than the {large}", XEN, field="dom0_mem")
    if _known(told.size) and _known(told.min) and told.size.nr_pages < told.min.nr_pages:
        yield Evidence("dom0_mem: the amount is smaller than the min", XEN, field="dom0_mem")


def _known(amount: Amount) -> bool:
    """Whether it is a number of pages, whatever the host has."""
    return amount.nr_pages > 0 and not amount.needs_host


@set_rule("PVH-WITHOUT-IOMMU")
def pvh_iommu(boot: BootSet) -> Iterator[Evidence]:
    """A PVH dom0 needs the IOMMU that is switched off."""
    if not boot.on_xen or boot.mode is not Mode.PVH:
        return
    spared = any(b"none" in value.split(b",") for value in xen_options.custom(boot.options, b"dom0-iommu"))
    if not iommu_wanted(boot) and not spared:
        yield Evidence("the IOMMU is switched off, and a PVH dom0 needs it", XEN, field="iommu")


def iommu_wanted(boot: BootSet) -> bool:
    """Whether Xen uses the IOMMU, if the host has one."""
    wanted = True
    for value in xen_options.custom(boot.options, b"iommu"):
        for word in value.split(b","):
            wanted = (wanted or word in xen_options.TRUE) and word not in xen_options.FALSE
    return wanted


@set_rule("PVH-WITHOUT-HAP")
def pvh_paging(boot: BootSet) -> Iterator[Evidence]:
    """A PVH dom0 whose hardware-assisted paging is switched off, and no shadow paging asked for in its place."""
    if not boot.on_xen or boot.mode is not Mode.PVH:
        return
    dom0 = b",".join(xen_options.custom(boot.options, b"dom0")).split(b",")
    if not xen_options.flag(boot.options, b"hap", True) and b"shadow" not in dom0:
        yield Evidence("hap is switched off, and a PVH dom0 needs it", XEN, field="hap")


@set_rule("CONSOLE-NOT-CHOSEN")
def serial_unused(boot: BootSet) -> Iterator[Evidence]:
    """A serial port is set up, and Xen does not write to it."""
    chosen = [b"vga", *xen_options.custom(boot.options, b"console")][-1]
    others = b",".join(value for name in (b"gdb", b"debug") for value in xen_options.custom(boot.options, name))
    for port in SERIAL.values():
        name = port.decode()
        if any(xen_options.custom(boot.options, port)) and port not in chosen and port not in others:
            yield Evidence(
                f"{name} is set up, and console= does not name it",
                XEN,
                field=name,
                expected=f"console={name},vga",
                found=f"console={chosen.decode('utf-8', 'replace')}",
                remedy=f"add console={name} (console={name},vga: both)",
            )


@set_rule("CONSOLE-TAKEN")
def serial_taken(boot: BootSet) -> Iterator[Evidence]:
    """dom0 is to write to the serial port that Xen keeps for itself, and nowhere else."""
    if not boot.on_xen:
        return
    taken = b",".join(list(xen_options.custom(boot.options, b"console"))[-1:]).split(b",")
    consoles = [word[8:].split(",")[0] for word in (boot.cmdline or "").split() if word.startswith("console=")]
    if any(name.startswith("hvc") for name in consoles):
        return
    for name, port in SERIAL.items():
        if name in consoles and any(word.startswith(port) for word in taken):
            yield Evidence(
                f"{name} is Xen's {port.decode()}, which dom0 has no access to",
                DOM0,
                field=f"console={name}",
                expected="console=hvc0",
                found=f"console={name}",
            )


@set_rule("SCHED-UNKNOWN")
def scheduler(boot: BootSet) -> Iterator[Evidence]:
    """A scheduler that no Xen has."""
    told = list(xen_options.custom(boot.options, b"sched"))[-1:]
    for value in told:
        if value not in SCHEDULERS:
            name = value.decode("utf-8", "replace")
            yield Evidence(
                f"no scheduler is called {name}",
                XEN,
                field="sched",
                expected=", ".join(each.decode() for each in SCHEDULERS),
                found=name,
                console=f"Could not find scheduler: {name}",
            )


@set_rule("CONSOLE-WITHOUT-XEN")
def hvc_alone(boot: BootSet) -> Iterator[Evidence]:
    """A kernel that starts without Xen has only the console that Xen would give it."""
    consoles = [word for word in (boot.cmdline or "").split() if word.startswith("console=")]
    if not boot.on_xen and boot.kernel is not None and consoles and all("=hvc" in word for word in consoles):
        yield Evidence(
            "the only console is hvc, and the kernel starts without Xen",
            DOM0,
            field=consoles[-1],
            severity=Severity.INFO,
        )
