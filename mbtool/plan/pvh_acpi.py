"""The ACPI tables that Xen makes for a PVH dom0: a MADT with its processors, an XSDT of what it may see, an RSDP.

They are put one below the other at the end of dom0's highest memory below 4 GiB.
Xen: xen/arch/x86/hvm/dom0_build.c, ``pvh_setup_acpi`` and what it calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mbtool.errors import RefusedError
from mbtool.formats import acpi
from mbtool.formats.acpi import LocalX2apic, Madt
from mbtool.plan.memory import Range
from mbtool.plan.pvh_machine import Acpi, HostTable, PvhHost
from mbtool.plan.pvh_map import ACPI, GuestMap, firmware_areas, firmware_owns
from mbtool.plan.pvh_versions import PvhRules
from mbtool.record import record

APIC_DEFAULT_PHYS_BASE = 0xFEE0_0000
MADT_REVISION = 4
"""Of the newest MADT that Xen admits to writing."""
ENABLED = 1
NOT_LISTED = ("DSDT", "FACS")
"""Tables that the FADT points at."""


@record
class PvhAcpi:
    """Where the three tables lie (physical), and their bytes."""

    rsdp: Range
    xsdt: Range
    madt: Range
    content: bytes
    """From the RSDP on, all three."""

    @property
    def range(self) -> Range:
        return Range(self.rsdp.start, self.madt.end)


def set_up(guest: GuestMap, host: PvhHost, rules: PvhRules) -> PvhAcpi:
    """Enter the host's tables into dom0's map, and take the room for Xen's own off its end.

    Raises RefusedError, in Xen's words, when no memory is left for them.
    """
    areas = firmware_areas(host.e820)
    owned = [table for table in host.acpi.tables if firmware_owns(areas, table.range)]
    visible = [table for table in owned if _allowed(table.signature, rules)]
    for table in owned:
        if table.signature == "APIC" or _allowed(table.signature, rules):
            guest.add(table.range, ACPI)
    madt = madt_table(host, rules)
    madt_at = _place(guest, len(madt), "Unable to steal guest RAM for MADT")
    xsdt = xsdt_table(host.acpi, rules, madt_at.start, visible)
    xsdt_at = _place(guest, len(xsdt), "Unable to find guest RAM for XSDT")
    rsdp = acpi.rsdp(host.acpi.oem_id, xsdt_at.start)
    rsdp_at = _place(guest, len(rsdp), "Unable to allocate guest RAM for RSDP")
    return PvhAcpi(rsdp_at, xsdt_at, madt_at, rsdp + xsdt + madt)


def _place(guest: GuestMap, size: int, message: str) -> Range:
    address = guest.steal(size)
    if address is None:
        raise RefusedError(
            f"{message}: dom0 has no memory between 1 MiB and 4 GiB left",
            expected=f"{size} bytes at the end of an entry",
        )
    span = Range.at(address, size)
    guest.add(span, ACPI)
    return span


def _allowed(signature: str, rules: PvhRules) -> bool:
    return signature in rules.tables or (rules.oem_tables and signature.startswith("OEM"))


def madt_table(host: PvhHost, rules: PvhRules) -> bytes:
    """The processors as x2APICs with every second id, the host's I/O APICs and interrupt overrides."""
    facts = host.acpi
    header = replace(facts.madt, signature=b"APIC", revision=min(facts.madt.revision, MADT_REVISION))
    parts = [acpi.MADT.build(Madt(APIC_DEFAULT_PHYS_BASE, 0))]
    parts += map(acpi.IO_APIC.build, facts.io_apics)
    parts += [acpi.LOCAL_X2APIC.build(LocalX2apic(2 * i, ENABLED, i)) for i in range(host.vcpus)]
    parts += map(acpi.INTERRUPT_OVERRIDE.build, facts.overrides)
    if rules.nmi_sources:
        parts += map(acpi.NMI_SOURCE.build, facts.nmi_sources)
    return acpi.table(header, b"".join(parts))


def xsdt_table(facts: Acpi, rules: PvhRules, madt: int, visible: Iterable[HostTable]) -> bytes:
    """Xen's MADT first, then what dom0 may see of the host's tables."""
    listed = [table.range.start for table in visible if table.signature not in NOT_LISTED]
    return acpi.xsdt(replace(root_header(facts, rules), revision=1), [madt, *listed])


def unsound_xsdt(facts: Acpi, rules: PvhRules) -> bool:
    """Whether Xen makes an XSDT without signature: the host has none whose header it could copy."""
    return not facts.has_xsdt and not rules.xsdt_from_rsdt


def root_header(facts: Acpi, rules: PvhRules) -> acpi.TableHeader:
    """The XSDT's header before its size and checksum; zeros stand for what Xen reads from a wrong place."""
    if unsound_xsdt(facts, rules):
        return acpi.TableHeader(bytes(4), 0, 0, 0, bytes(6), bytes(8), 0, bytes(4), 0)
    return replace(facts.root, signature=b"X" + facts.root.signature[1:])
