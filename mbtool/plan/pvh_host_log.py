"""A machine as its boot log shows it: what of memory map, ACPI and processors bears on a PVH dom0.

Xen's log has it all, Linux's as well but for the processor's abilities (``xl dmesg``, ``dmesg``)::

    (XEN) ACPI: FACP 3FFE20D9, 00F4 (r3 BOCHS  BXPC            1 BXPC        1)
    [    0.0] ACPI: FACP 0x000000003FFE20D9 0000F4 (v03 BOCHS  BXPC     00000001 BXPC 00000001)
    (XEN) IOAPIC[0]: apic_id 0, version 32, address 0xfec00000, GSI 0-23
    (XEN) ACPI: INT_SRC_OVR (bus 0 bus_irq 9 global_irq 9 high level)

Xen: xen/drivers/acpi/tables/tbutils.c, ``acpi_tb_print_table_header``; drivers/acpi/tables.c; arch/x86/mpparse.c.
"""

from __future__ import annotations

import re
from collections.abc import Sized

from mbtool.errors import InputError
from mbtool.formats.acpi import InterruptOverride, IoApic, NmiSource, TableHeader
from mbtool.plan.memory import Range
from mbtool.plan.pvh_machine import Acpi, HostTable
from mbtool.record import record

MAX_LINES = 1024
"""Tables and MADT entries that are read at most."""
POLARITY = {"dfl": 0, "high": 1, "res": 2, "low": 3}
TRIGGER = {"dfl": 0, "edge": 1, "res": 2, "level": 3}

_TABLE = re.compile(
    r"ACPI: ([A-Z0-9_!#$ ]{4}) (?:0x)?([0-9A-Fa-f]{8,16}),? ([0-9A-Fa-f]{4,8})"
    r"(?: \([rv](\d{1,3}) (.{6})(?: (.{8}) ([ 0-9A-Fa-f]{8}) (.{4}) ([ 0-9A-Fa-f]{8}))?\))?"
)
_IO_APIC = re.compile(r"IOAPIC\[\d+\]: apic_id (\d{1,3}), version \d+, address (0x[0-9a-f]{1,8}), GSI (\d{1,6})-")
_OVERRIDE = re.compile(r"INT_SRC_OVR \(bus (\d{1,3}) bus_irq (\d{1,3}) global_irq (\d{1,9}) (\w+) (\w+)\)")
_NMI = re.compile(r"NMI_SRC \((\w+) (\w+) global_irq (\d{1,9})\)")
_CPUS = re.compile(r"Brought up (\d{1,5}) CPUs|SMP: Allowing (\d{1,5}) CPUs|smpboot: Allowing (\d{1,5}) CPUs")


@record
class LoggedHost:
    """``vcpus``: processors found (None: not said). ``vmx_helpers``: Intel without "unrestricted guest"."""

    acpi: Acpi
    vcpus: int | None
    vmx_helpers: bool


def parse(data: bytes, source: str) -> LoggedHost | None:
    """What the log says; None when it is none or has no ACPI. InputError for a log that is too much of one."""
    text = data.decode("latin-1")
    headers: dict[str, TableHeader] = {}
    tables: list[HostTable] = []
    oem_id = b""
    for match in _TABLE.finditer(text):
        signature, address, length, revision, oem, table_id, oem_revision, creator, creator_revision = (
            match.groups()
        )
        _limit(tables, source)
        if signature == "RSDP":
            oem_id = (oem or "").encode("latin-1").ljust(6, b"\0")
            continue
        if table_id is not None:
            headers.setdefault(
                signature,
                TableHeader(
                    signature=signature.encode(),
                    length=int(length, 16),
                    revision=int(revision) & 0xFF,
                    checksum=0,
                    oem_id=oem.encode("latin-1"),
                    oem_table_id=table_id.encode("latin-1"),
                    oem_revision=_hex(oem_revision),
                    creator_id=creator.encode("latin-1"),
                    creator_revision=_hex(creator_revision),
                ),
            )
        if signature not in ("XSDT", "RSDT"):
            tables.append(HostTable(signature, Range.at(int(address, 16), int(length, 16))))
    root = headers.get("XSDT") or headers.get("RSDT")
    if root is None or "APIC" not in headers:
        return None
    acpi = Acpi(
        tables=tuple(dict.fromkeys(tables)),
        io_apics=tuple(_io_apics(text, source)),
        overrides=tuple(_overrides(text, source)),
        oem_id=oem_id or root.oem_id,
        root=root,
        madt=headers["APIC"],
        has_xsdt="XSDT" in headers,
        nmi_sources=tuple(_nmi_sources(text, source)),
    )
    return LoggedHost(acpi, _cpus(text), _vmx_helpers(text))


def _io_apics(text: str, source: str) -> list[IoApic]:
    found: list[IoApic] = []
    for match in _IO_APIC.finditer(text):
        _limit(found, source)
        found.append(IoApic(int(match[1]) & 0xFF, int(match[2], 16), int(match[3])))
    return list(dict.fromkeys(found))


def _overrides(text: str, source: str) -> list[InterruptOverride]:
    found: list[InterruptOverride] = []
    for match in _OVERRIDE.finditer(text):
        _limit(found, source)
        flags = _flags(match[4], match[5])
        found.append(InterruptOverride(int(match[1]) & 0xFF, int(match[2]) & 0xFF, int(match[3]), flags))
    return list(dict.fromkeys(found))


def _nmi_sources(text: str, source: str) -> list[NmiSource]:
    found: list[NmiSource] = []
    for match in _NMI.finditer(text):
        _limit(found, source)
        found.append(NmiSource(_flags(match[1], match[2]), int(match[3])))
    return list(dict.fromkeys(found))


def _flags(polarity: str, trigger: str) -> int:
    return POLARITY.get(polarity, 0) | TRIGGER.get(trigger, 0) << 2


def _hex(text: str) -> int:
    return int(text.replace(" ", "") or "0", 16)


def _cpus(text: str) -> int | None:
    match = _CPUS.search(text)
    return int(next(word for word in match.groups() if word)) if match else None


def _vmx_helpers(text: str) -> bool:
    return "VMX: Supported advanced features" in text and "Unrestricted Guest" not in text


def _limit(found: Sized, source: str) -> None:
    if len(found) >= MAX_LINES:
        raise InputError("too much ACPI for one machine", source=source, expected=f"at most {MAX_LINES} of a kind")
