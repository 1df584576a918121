"""What the images do not decide about a PVH dom0: the host's memory map, its ACPI tables, its processors.

A plan takes them as inputs. The default is what Xen's log of a QEMU q35 machine with an AMD IOMMU says (QEMU 7.2,
SeaBIOS), made larger where dom0's memory asks for it.
"""

from __future__ import annotations

from dataclasses import replace

from mbtool.errors import InputError
from mbtool.formats.acpi import InterruptOverride, IoApic, NmiSource, TableHeader
from mbtool.plan.e820 import FOUR_GIB, MIB, RAM, E820Entry, E820Map
from mbtool.plan.memory import PAGE_SHIFT, Range
from mbtool.record import record

XEN_MAX_VCPUS = 128
"""HVM_MAX_VCPUS."""
LARGEST = 512 << 10
"""MiB of the largest machine made up here."""


@record
class HostTable:
    """An ACPI table of the host: where it lies (physical)."""

    signature: str
    range: Range


@record
class Acpi:
    """The host's ACPI: tables in the order of its RSDT or XSDT, and what its MADT and headers say."""

    tables: tuple[HostTable, ...]
    io_apics: tuple[IoApic, ...]
    overrides: tuple[InterruptOverride, ...]
    oem_id: bytes
    """The RSDP's."""
    root: TableHeader
    """Of the XSDT, or of the RSDT where there is none."""
    madt: TableHeader
    has_xsdt: bool = True
    nmi_sources: tuple[NmiSource, ...] = ()


@record
class PvhHost:
    """A machine. ``vcpus``: what dom0 gets, as a rule one for each processor."""

    e820: E820Map
    acpi: Acpi
    name: str = ""
    vcpus: int = 1
    acpi_known: bool = True
    """Whether ``acpi`` is this machine's, and not taken for granted."""
    vmx_helpers: bool = False
    """An Intel processor without "unrestricted guest": Xen takes memory for a TSS and page tables of its own."""


RESERVED, ACPI = 2, 3
ACPI_AREA = 0x21000
"""Bytes at the end of low memory that the firmware of a q35 machine keeps for ACPI."""
FLAGS_HIGH_LEVEL = 0xD
"""Active high, level-triggered."""


def q35(memory: int) -> PvhHost:
    """A QEMU q35 machine with ``memory`` MiB and an AMD IOMMU, as Xen sees it."""
    if not 64 <= memory <= LARGEST:
        raise InputError(
            "no machine with this much memory is known",
            expected=f"64 to {LARGEST} MiB",
            found=f"{memory} MiB",
            remedy="describe it with --e820",
        )
    size = memory * MIB
    low = size if size < 0xB000_0000 else 0x8000_0000
    entries = [
        (0, 0x9FC00, 1),
        (0x9FC00, 0xA0000, 2),
        (0xF0000, 0x10_0000, 2),
        (0x10_0000, low - ACPI_AREA, 1),
        (low - ACPI_AREA, low, 2),
        (0xB000_0000, 0xC000_0000, 2),
        (0xFED1_C000, 0xFED2_0000, 2),
        (0xFFFC_0000, FOUR_GIB, 2),
        *([(FOUR_GIB, FOUR_GIB + size - low, 1)] if size > low else []),
        (0xFD_0000_0000, 0x100_0000_0000, 2),
    ]
    e820 = E820Map(tuple(E820Entry(Range(start, end), kind) for start, end, kind in entries))
    return PvhHost(e820, _q35_acpi(low), f"QEMU q35 with {memory} MiB", acpi_known=False)


def for_pages(nr_pages: int) -> PvhHost:
    """The smallest q35 machine of 1 GiB, 2 GiB, 4 GiB … of which dom0 can well have ``nr_pages``."""
    memory = 1 << 10
    while memory * MIB >> PAGE_SHIFT < nr_pages * 9 // 8 and memory < LARGEST:
        memory *= 2
    return q35(memory)


def with_map(e820: E820Map, name: str) -> PvhHost:
    """A machine of which only the memory map is known: ACPI as on q35, where the firmware has room for it."""
    low = {entry.range.end for entry in e820.entries if entry.type == RAM and entry.range.end < FOUR_GIB}
    areas = (entry.range for entry in e820.entries if entry.type in (RESERVED, ACPI))
    area = next((span for span in areas if span.start in low and span.size >= ACPI_AREA), None)
    facts = _q35_acpi(FOUR_GIB if area is None else area.end)
    return PvhHost(e820, facts if area else replace(facts, tables=()), name, acpi_known=False)


def _q35_acpi(low: int) -> Acpi:
    base = low - 0x2_0000
    places = {
        "FACP": (0x20D9, 0xF4),
        "DSDT": (0x40, 0x2099),
        "FACS": (0, 0x40),
        "APIC": (0x21CD, 0x78),
        "HPET": (0x2245, 0x38),
        "MCFG": (0x227D, 0x3C),
        "IVRS": (0x22B9, 0x68),
        "WAET": (0x2321, 0x28),
    }
    tables = tuple(HostTable(name, Range.at(base + at, size)) for name, (at, size) in places.items())
    ids = (b"BOCHS ", b"BXPC    ", 1, b"BXPC", 1)
    return Acpi(
        tables,
        io_apics=(IoApic(0, 0xFEC0_0000, 0),),
        overrides=(
            InterruptOverride(0, 0, 2, 0),
            *(InterruptOverride(0, irq, irq, FLAGS_HIGH_LEVEL) for irq in (5, 9, 10, 11)),
        ),
        oem_id=b"BOCHS ",
        root=TableHeader(b"RSDT", 0x3C, 1, 0, *ids),
        madt=TableHeader(b"APIC", 0x78, 1, 0, *ids),
        has_xsdt=False,
        nmi_sources=(),
    )
