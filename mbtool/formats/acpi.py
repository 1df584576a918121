"""The ACPI tables that Xen writes for a PVH dom0: RSDP, XSDT, and a MADT with what it puts into one.

Advanced Configuration and Power Interface Specification 6.5: 5.2.5.3 (RSDP), 5.2.6 (table header), 5.2.8 (XSDT),
5.2.12 (MADT: I/O APIC 5.2.12.3, Interrupt Source Override 5.2.12.5, NMI Source 5.2.12.6, Processor Local x2APIC
5.2.12.12). Addresses are physical.
"""

from __future__ import annotations

from collections.abc import Iterable

from construct import Bytes, Const, Int8ul, Int16ul, Int32ul, Int64ul, Struct

from mbtool.formats.wire import Layout
from mbtool.record import record

RSDP_SIGNATURE = b"RSD PTR "
RSDP_REV0_SIZE = 20
"""Bytes of the RSDP that ``checksum`` covers."""
CHECKSUM = 9
"""Where a table header has its checksum."""


@record
class TableHeader:
    """``length`` counts the whole table in bytes; ``checksum`` makes all its bytes add up to 0."""

    signature: bytes
    length: int
    revision: int
    checksum: int
    oem_id: bytes
    oem_table_id: bytes
    oem_revision: int
    creator_id: bytes
    creator_revision: int


@record
class Rsdp:
    """The root pointer of ACPI 2.0 and later."""

    checksum: int
    oem_id: bytes
    revision: int
    rsdt_address: int
    length: int
    xsdt_address: int
    extended_checksum: int


@record
class Madt:
    """What follows the MADT's header; its entries follow this."""

    local_apic_address: int
    flags: int


@record
class IoApic:
    """An I/O APIC whose interrupts begin at ``gsi_base``."""

    id: int
    address: int
    gsi_base: int


@record
class InterruptOverride:
    """ISA interrupt ``source`` arrives as ``gsi``; ``flags``: polarity (bits 0-1) and trigger mode (bits 2-3)."""

    bus: int
    source: int
    gsi: int
    flags: int


@record
class NmiSource:
    """The interrupt ``gsi`` is non-maskable."""

    flags: int
    gsi: int


@record
class LocalX2apic:
    """A processor; ``flags`` bit 0: enabled."""

    x2apic_id: int
    flags: int
    uid: int


TABLE_HEADER = Layout(
    TableHeader,
    Struct(
        "signature" / Bytes(4),
        "length" / Int32ul,
        "revision" / Int8ul,
        "checksum" / Int8ul,
        "oem_id" / Bytes(6),
        "oem_table_id" / Bytes(8),
        "oem_revision" / Int32ul,
        "creator_id" / Bytes(4),
        "creator_revision" / Int32ul,
    ),
)
RSDP = Layout(
    Rsdp,
    Struct(
        Const(RSDP_SIGNATURE),
        "checksum" / Int8ul,
        "oem_id" / Bytes(6),
        "revision" / Int8ul,
        "rsdt_address" / Int32ul,
        "length" / Int32ul,
        "xsdt_address" / Int64ul,
        "extended_checksum" / Int8ul,
        Const(bytes(3)),
    ),
    hex=("rsdt_address", "xsdt_address"),
)
MADT = Layout(Madt, Struct("local_apic_address" / Int32ul, "flags" / Int32ul), hex=("local_apic_address",))
IO_APIC = Layout(
    IoApic,
    Struct(
        Const(1, Int8ul),
        Const(12, Int8ul),
        "id" / Int8ul,
        Const(0, Int8ul),
        "address" / Int32ul,
        "gsi_base" / Int32ul,
    ),
    hex=("address",),
)
INTERRUPT_OVERRIDE = Layout(
    InterruptOverride,
    Struct(
        Const(2, Int8ul),
        Const(10, Int8ul),
        "bus" / Int8ul,
        "source" / Int8ul,
        "gsi" / Int32ul,
        "flags" / Int16ul,
    ),
)
NMI_SOURCE = Layout(NmiSource, Struct(Const(3, Int8ul), Const(8, Int8ul), "flags" / Int16ul, "gsi" / Int32ul))
LOCAL_X2APIC = Layout(
    LocalX2apic,
    Struct(
        Const(9, Int8ul),
        Const(16, Int8ul),
        Const(0, Int16ul),
        "x2apic_id" / Int32ul,
        "flags" / Int32ul,
        "uid" / Int32ul,
    ),
)


def table(header: TableHeader, body: bytes) -> bytes:
    """A whole table: ``length`` and ``checksum`` of ``header`` do not matter, they follow from the content."""
    size = TABLE_HEADER.size + len(body)
    values = {**vars(header), "length": size, "checksum": 0}
    return _sealed(TABLE_HEADER.build(TableHeader(**values)) + body, CHECKSUM, size)


def xsdt(header: TableHeader, addresses: Iterable[int]) -> bytes:
    """The table that holds the addresses of all others."""
    return table(header, b"".join(Int64ul.build(address) for address in addresses))


def rsdp(oem_id: bytes, xsdt_address: int) -> bytes:
    """A root pointer of revision 2 that names an XSDT and no RSDT."""
    plain = RSDP.build(Rsdp(0, oem_id, 2, 0, RSDP.size, xsdt_address, 0))
    extended = RSDP.offsets["extended_checksum"][0]
    return _sealed(_sealed(plain, RSDP.offsets["checksum"][0], RSDP_REV0_SIZE), extended, RSDP.size)


def _sealed(data: bytes, at: int, size: int) -> bytes:
    """With the byte ``at`` chosen so that the first ``size`` bytes add up to 0."""
    checksum = (data[at] - sum(data[:size])) & 0xFF
    return data[:at] + bytes([checksum]) + data[at + 1 :]
