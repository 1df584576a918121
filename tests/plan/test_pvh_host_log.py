"""A machine read from a boot log: as Xen and Linux print it, with and without all of it, and what is too much."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbtool.errors import InputError, MbtoolError
from mbtool.formats import xen_versions
from mbtool.formats.acpi import InterruptOverride, IoApic, NmiSource
from mbtool.plan import e820_text, pvh_dom0, pvh_machine
from mbtool.plan.e820 import E820Entry, E820Map
from mbtool.plan.memory import Range
from mbtool.plan.pvh_host_log import LoggedHost, parse
from mbtool.plan.pvh_machine import HostTable
from tests.oracle.record_pvh import load
from tests.oracle.test_golden_pvh import PVH
from tests.plan.test_pvh_dom0 import kernel

LINUX = """\
[    0.009451] ACPI: RSDP 0x000000003FF7E014 000024 (v02 BOCHS )
[    0.009460] ACPI: XSDT 0x000000003FF7D0E8 00005C (v01 BOCHS  BXPC     00000001      01000013)
[    0.009470] ACPI: FACP 0x000000003FF79000 0000F4 (v03 BOCHS  BXPC     00000001 BXPC 00000001)
[    0.009481] ACPI: DSDT 0x000000003FF7A000 00236A (v01 BOCHS  BXPC     00000001 BXPC 00000001)
[    0.009486] ACPI: FACS 0x000000003FFDD000 000040
[    0.009490] ACPI: APIC 0x000000003FF78000 000090 (v03 BOCHS  BXPC     00000001 BXPC 00000001)
[    0.009493] ACPI: Reserving APIC table memory at [mem 0x3ff78000-0x3ff7808f]
[    0.030000] IOAPIC[0]: apic_id 0, version 32, address 0xfec00000, GSI 0-23
[    0.030100] ACPI: INT_SRC_OVR (bus 0 bus_irq 0 global_irq 2 dfl dfl)
[    0.030200] ACPI: INT_SRC_OVR (bus 0 bus_irq 9 global_irq 9 high level)
[    0.030300] ACPI: NMI_SRC (low edge global_irq 7)
[    0.040000] smpboot: Allowing 2 CPUs, 0 hotplug CPUs
"""


def test_linux_log() -> None:
    found = parse(LINUX.encode(), "dmesg")
    assert found is not None
    assert found.acpi.has_xsdt
    assert (found.acpi.root.oem_revision, found.acpi.root.creator_id, found.acpi.root.creator_revision) == (
        1,
        b"    ",
        0x1000013,
    )
    assert found.acpi.tables == (
        HostTable("FACP", Range.at(0x3FF79000, 0xF4)),
        HostTable("DSDT", Range.at(0x3FF7A000, 0x236A)),
        HostTable("FACS", Range.at(0x3FFDD000, 0x40)),
        HostTable("APIC", Range.at(0x3FF78000, 0x90)),
    )
    assert found.acpi.io_apics == (IoApic(0, 0xFEC00000, 0),)
    assert found.acpi.overrides == (InterruptOverride(0, 0, 2, 0), InterruptOverride(0, 9, 9, 0xD))
    assert found.acpi.nmi_sources == (NmiSource(0b0111, 7),)
    assert (found.acpi.oem_id, found.acpi.madt.revision, found.vcpus) == (b"BOCHS ", 3, 2)


@pytest.mark.parametrize("name", ["4.14.6-linux61-512M", "4.17.7-linux61-512M", "4.22.0-linux61-512M"])
def test_default_machine_is_the_one_in_recorded_logs(name: str) -> None:
    text = "".join(f"(XEN) {line}\n" for line in load(PVH / f"{name}.json").console).encode()
    default = pvh_machine.q35(1024)
    assert parse(text, "log") == LoggedHost(default.acpi, 1, False)
    assert e820_text.parse(text, "log") == default.e820


def test_log_is_read_twice_over() -> None:
    """A log that holds two boots, or Xen's and Linux's lines: the same things count once."""
    assert parse((LINUX * 2).encode(), "dmesg") == parse(LINUX.encode(), "dmesg")


@pytest.mark.parametrize("text", ["", "hello\n", "0x0 0x9fc00 usable\n", LINUX.replace("APIC", "HPET"), LINUX[:80]])
def test_what_is_no_log_of_a_machine(text: str) -> None:
    assert parse(text.encode(), "map") is None


def test_intel_without_unrestricted_guest() -> None:
    features = "(XEN) VMX: Supported advanced features:\n(XEN)  - APIC MMIO access virtualisation\n"
    for more, helpers in (("", True), ("(XEN)  - Unrestricted Guest\n", False)):
        found = parse((LINUX + features + more).encode(), "log")
        assert found is not None and found.vmx_helpers is helpers


def test_too_much_is_refused() -> None:
    tables = "".join(f"ACPI: SSDT {i:08X}, 0100 (r1 BOCHS  BXPC            1 BXPC        1)\n" for i in range(2000))
    with pytest.raises(InputError, match="too much ACPI"):
        parse((LINUX + tables).encode(), "log")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*LINUX.splitlines(), "ACPI: FACP FFFFFFFFFFFFFFFF, FFFF"])), st.text())
def test_any_log(lines: list[str], noise: str) -> None:
    try:
        parse("\n".join([*lines, noise]).encode(), "log")
    except MbtoolError as error:
        assert "\n" not in str(error)


def test_hostile_machine_is_planned_in_time() -> None:
    """As many entries and tables as are let in, each table over many entries."""
    base = pvh_machine.q35(1024)
    areas = [E820Entry(Range.at(0x8000_0000 + i * 0x2000, 0x2000), 2 + i % 3) for i in range(1000)]
    tables = tuple(HostTable("SSDT", Range(0x8000_0000 + i, 0x8000_0000 + 1000 * 0x2000)) for i in range(1000))
    host = replace(base, e820=E820Map((*base.e820.entries, *areas)), acpi=replace(base.acpi, tables=tables))
    begin = time.process_time()
    pvh_dom0.plan(kernel(), initrd_len=None, nr_pages=131072, cmdline=b"", version=xen_versions.NEWEST, host=host)
    assert time.process_time() - begin < 20
