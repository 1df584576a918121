"""The plan for a PVH dom0: where everything lies in its physical memory, and the state it starts in.

    DomParms, initrd length and string, nr_pages, command line, Xen version, PvhHost ──plan()──▶ PvhPlan

::

    | RAM below 640 KiB | 1 MiB … | kernel | … RAM … | RSDP XSDT MADT | unusable |
                            └ initrd, its string | command line, modlist, hvm_start_info   (one region)

Planning reads no file, clock or machine. What only the machine knows is in ``PvhHost``, with a stated default.
Xen: xen/arch/x86/hvm/dom0_build.c, ``dom0_construct_pvh``.
"""

from __future__ import annotations

from mbtool.errors import InputError, RefusedError
from mbtool.formats import hvm_start_info
from mbtool.formats.dom_parms import DomParms
from mbtool.formats.hvm_start_info import HvmStartInfo, MemmapPointer, ModlistEntry
from mbtool.formats.pv_start_info import SIF_INITDOMAIN, SIF_PRIVILEGED
from mbtool.formats.xen_versions import XenVersion
from mbtool.model import Finding, Node, Severity
from mbtool.plan import pvh_acpi, pvh_machine
from mbtool.plan.e820 import E820Entry
from mbtool.plan.memory import PAGE, Range, overlapping
from mbtool.plan.pvh_acpi import PvhAcpi
from mbtool.plan.pvh_limits import find_room, kernel_at, refuse_parms
from mbtool.plan.pvh_machine import XEN_MAX_VCPUS, PvhHost
from mbtool.plan.pvh_map import RESERVED, GuestMap
from mbtool.plan.pvh_region import Region, lay_out, module_string, size_looked_for
from mbtool.plan.pvh_versions import PvhRules, rules
from mbtool.record import record
from mbtool.source import BytesSource

VM86_TSS_SIZE, VM86_TSS_ALIGN = 265, 128

CR0 = 0x11
"""Protected mode (PE) and, always set, ET."""
EFLAGS = 2
CODE_AR, DATA_AR, TSS_AR, TSS_LIMIT = 0xC9B, 0xC93, 0x8B, 0x67
"""Attributes of the hidden segment registers: flat, 32 bits wide, and a task state segment."""


@record
class PvhPlan:
    """All ranges are physical addresses of dom0, which has no others yet."""

    version: XenVersion
    rules: PvhRules
    parms: DomParms
    host: PvhHost
    nr_pages: int
    kernel: Range
    """Where the kernel is loaded; ``moved`` bytes up from where it is linked."""
    moved: int
    region: Region
    initrd_cmdline: bytes | None
    cmdline: bytes | None
    info: HvmStartInfo
    acpi: PvhAcpi
    memory_map: tuple[E820Entry, ...]
    """What XENMEM_memory_map tells dom0."""
    findings: tuple[Finding, ...] = ()

    @property
    def entry(self) -> int:
        """The first instruction: PHYS32_ENTRY, moved with the kernel."""
        assert self.parms.phys_entry is not None
        return self.parms.phys_entry + self.moved

    @property
    def registers(self) -> dict[str, int]:
        """vCPU 0 at dom0's first instruction, 32-bit protected mode; registers and selectors not named are 0."""
        return {
            "eip": self.entry,
            "ebx": self.region.start_info.start,
            "cr0": CR0,
            "eflags": EFLAGS,
            "cs_ar": CODE_AR,
            **{f"{name}_ar": DATA_AR for name in ("ds", "es", "ss")},
            "tr_ar": TSS_AR,
            **{f"{name}_limit": 0xFFFFFFFF for name in ("cs", "ds", "es", "ss")},
            "tr_limit": TSS_LIMIT,
        }

    @property
    def regions(self) -> tuple[tuple[str, Range], ...]:
        """Everything that lies in memory, by name, in order of address."""
        region, acpi = self.region, self.acpi
        named = {
            "kernel": self.kernel,
            "initrd": region.initrd,
            "initrd_cmdline": region.initrd_cmdline,
            "cmdline": region.cmdline,
            "modlist": region.modlist,
            "start_info": region.start_info,
            "rsdp": acpi.rsdp,
            "xsdt": acpi.xsdt,
            "madt": acpi.madt,
        }
        return tuple(sorted(((n, r) for n, r in named.items() if r is not None), key=lambda item: item[1].start))


def plan(
    parms: DomParms,
    *,
    initrd_len: int | None,
    nr_pages: int,
    cmdline: bytes | None,
    version: XenVersion,
    initrd_cmdline: bytes | None = b"",
    host: PvhHost | None = None,
) -> PvhPlan:
    """What Xen builds. ``parms`` as derived for ``hvm``.

    ``initrd_len`` in bytes, None without a module. ``cmdline`` as cooked for dom0 and ``initrd_cmdline`` as the
    loader gave it, without their NUL; None where there is no string at all. Raises RefusedError where Xen gives up,
    its own message first; InputError for a machine that cannot be.
    """
    host = host or pvh_machine.for_pages(nr_pages)
    if not 0 < host.vcpus <= XEN_MAX_VCPUS:
        raise InputError(
            "dom0 cannot have this many vCPUs", expected=f"1 to {XEN_MAX_VCPUS}", found=str(host.vcpus)
        )
    how = rules(version)
    guest = GuestMap(host.e820, nr_pages)
    if host.vmx_helpers:
        _take_vmx_helpers(guest)
    refuse_parms(parms, how)
    kernel, moved = kernel_at(parms, guest.entries, how)
    word = 8 if parms.elf_class == 64 else 4
    initrd_cmdline = module_string(initrd_len, initrd_cmdline, how)
    if how.string_counted and not initrd_len and initrd_cmdline is None:
        initrd_len = None
    size = size_looked_for(initrd_len, initrd_cmdline, cmdline, how, word)
    start = find_room(guest.entries, kernel, size, how)
    region = lay_out(start, initrd_len, initrd_cmdline, cmdline, how, word)
    if not any(span.covers(region.range) for span in guest.ram):
        raise RefusedError(
            "Unable to copy start info to guest: this Xen finds too little room for what it then puts there",
            expected=f"{size} bytes from {start:#x} on",
            found=f"{region.range.size} bytes",
            remedy="shorten the initrd's command line",
        )
    acpi = pvh_acpi.set_up(guest, host, how)
    info = HvmStartInfo(
        magic=hvm_start_info.XEN_HVM_START_MAGIC_VALUE,
        version=0,
        flags=SIF_PRIVILEGED | SIF_INITDOMAIN,
        nr_modules=0 if region.modlist is None else 1,
        modlist_paddr=region.modlist.start if region.modlist else 0,
        cmdline_paddr=region.cmdline.start if region.cmdline else 0,
        rsdp_paddr=acpi.rsdp.start,
    )
    return PvhPlan(
        version, how, parms, host, nr_pages, kernel, moved, region, initrd_cmdline, cmdline, info, acpi,
        tuple(guest.entries), tuple(_findings(kernel, region, acpi, host, how)),
    )  # fmt: skip


def start_info(plan: PvhPlan) -> bytes:
    """hvm_start_info, 56 bytes."""
    return hvm_start_info.build(plan.info, MemmapPointer(0, 0, 0))


def start_info_node(plan: PvhPlan) -> Node:
    """hvm_start_info as a tree."""
    return hvm_start_info.inspect(BytesSource(start_info(plan)))


def tail(plan: PvhPlan) -> bytes:
    """The region's bytes behind the initrd: its string, the command line, the modlist, hvm_start_info."""
    region = plan.region
    start = region.initrd.end if region.initrd else region.range.start
    data = bytearray(region.range.end - start)

    def put(place: Range | None, content: bytes) -> None:
        if place is not None:
            data[place.start - start : place.end - start] = content

    put(region.initrd_cmdline, (plan.initrd_cmdline or b"") + b"\0")
    put(region.cmdline, (plan.cmdline or b"") + b"\0")
    if region.initrd is not None:
        string_at = region.initrd_cmdline.start if region.initrd_cmdline else 0
        module = ModlistEntry(region.initrd.start, region.initrd.size, string_at)
        put(region.modlist, hvm_start_info.MODLIST_ENTRY.build(module))
    put(region.start_info, start_info(plan))
    return bytes(data)


def _take_vmx_helpers(guest: GuestMap) -> None:
    """pvh_setup_vmx_realmode_helpers: a task state segment, and a page for identity page tables."""
    tss = guest.steal(VM86_TSS_SIZE, VM86_TSS_ALIGN)
    if tss is not None:
        guest.add(Range.at(tss, VM86_TSS_SIZE), RESERVED)
    tables = guest.steal(PAGE, PAGE)
    if tables is None:
        raise RefusedError("Unable to find memory to stash the identity page tables")
    guest.add(Range.at(tables, PAGE), RESERVED)


def _findings(kernel: Range, region: Region, acpi: PvhAcpi, host: PvhHost, how: PvhRules) -> list[Finding]:
    found = []
    pieces = [("the kernel", kernel), ("what Xen tells it", region.range), ("the ACPI tables", acpi.range)]
    if both := overlapping(pieces):
        found.append(
            Finding(
                "PVH-OVERWRITTEN",
                Severity.ERROR,
                f"Xen puts {both[1]} over {both[0]}, and does not notice",
                found=", ".join(f"{name} at {span}" for name, span in pieces if name in both),
                remedy="give dom0 another amount of memory",
            )
        )
    if host.acpi_known and pvh_acpi.unsound_xsdt(host.acpi, how):
        found.append(
            Finding(
                "PVH-XSDT",
                Severity.WARNING,
                "the machine has no XSDT, and this Xen then gives dom0 one with a meaningless header",
                "XSDT",
                expected="a machine with ACPI 2.0 tables, or Xen 4.18.4, 4.19.1, 4.20 or newer",
                remedy="dom0 may find no ACPI tables",
            )
        )
    return found
