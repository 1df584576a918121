"""Command lines: cooking, what Xen's own options add, limits."""

from __future__ import annotations

import pytest

from mbtool.errors import InputError
from mbtool.formats.xen_versions import TABLE, parse
from mbtool.plan import xen_options
from mbtool.plan.cmdline import cook, dom0_cmdline, guest_cmdline

V14, V17, V22 = parse("4.14"), parse("4.17"), parse("4.22")


@pytest.mark.parametrize(
    ("string", "named", "cooked"),
    [
        (b"vmlinuz console=hvc0 ro", True, b"console=hvc0 ro"),
        (b"  /boot/vmlinuz   a  b  ", True, b"a  b  "),
        (b"vmlinuz", True, b""),
        (b"vmlinuz ", True, b""),
        (b"", True, b""),
        (b"  placeholder a", False, b"placeholder a"),
        (b"a  b ", False, b"a  b "),
    ],
)
def test_cook(string: bytes, named: bool, cooked: bytes) -> None:
    assert cook(string, named=named) == cooked


@pytest.mark.parametrize(
    ("string", "xen", "line"),
    [
        (b"a", b"", b"a"),
        (b"a ", b"loglvl=all -- b", b"a  b"),
        (b"a", b"x --   b  c ", b"a b  c "),
        (b"a", b"x -- b -- c", b"a b -- c"),
        (b"a", b"-- b", b"a"),  # the mark has a blank on both sides
        (b"a", b"x --", b"a"),
        (b"a", b"x -- ", b"a "),
        (b"a", b"noapic", b"a noapic"),
        (b"a noapicx", b"noapic", b"a noapicx"),
        (b"a", b"noapic noapic=0", b"a"),
        (b"a", b"no-noapic", b"a"),
        (b"a", b"noapic=maybe", b"a"),
        (b"a", b"acpi=off", b"a acpi=off"),
        (b"a", b"acpi=verbose", b"a"),
        (b"a", b"acpi=force acpi=verbose", b"a acpi=force"),
        (b"a", b"no-acpi", b"a acpi=no"),
        (b"acpi=ht", b"acpi=off", b"acpi=ht"),
        (b"a", b"noapic acpi=noirq -- b", b"a b noapic acpi=noirq"),
        (b"a", b"-- noapic", b"a noapic"),  # Xen's own option, as there is no mark
    ],
)
def test_dom0_cmdline(string: bytes, xen: bytes, line: bytes) -> None:
    for version in (V17, V22):
        assert dom0_cmdline(string, xen, version) == line


def test_kernel_without_a_string() -> None:
    for row in TABLE:
        assert dom0_cmdline(None, b"", row) == b""
        assert dom0_cmdline(None, b"noapic", row) == (b" noapic" if row.release >= (4, 21) else b"")
        assert dom0_cmdline(None, b"noapic -- x", row) == b" x noapic"


def test_what_xen_4_14_passes_on() -> None:
    assert dom0_cmdline(b"a", b"acpi=verbose", V14) == b"a acpi=verbose"
    assert dom0_cmdline(b"a", b"acpi=nonsense_and_more", V14) == b"a acpi=nonsense_"
    assert dom0_cmdline(b"a", b"acpi=nonsense_and_more", V17) == b"a"


def test_limits() -> None:
    """Up to 4.20 the line is put together in 1024 bytes: late parts may be lost."""
    assert dom0_cmdline(b"x" * 1020, b"noapic", V17) == b"x" * 1020 + b" no"
    assert dom0_cmdline(b"x" * 2000, b"noapic -- y", V17) == b"x" * 1023
    assert dom0_cmdline(b"x" * 2000, b"noapic -- y", V22) == b"x" * 2000 + b" y noapic"
    assert guest_cmdline(b"x" * 1023) == b"x" * 1023
    assert guest_cmdline(b"x" * 1024) == b"x" * 1023
    with pytest.raises(InputError):
        dom0_cmdline(b"a\0b", b"", V22)


def test_xen_options() -> None:
    assert xen_options.dom0_mem(b"dom0_mem=1G x dom0_mem=max:2G -- dom0_mem=3G") == ("1G", "max:2G")
    assert xen_options.dom0_mem(b"dom0_mem") == ("",)
    assert xen_options.dom0_mem(b"dom0_mem=" + b"9" * 200) == ("9" * 118,)  # Xen keeps 127 characters of a word
    assert xen_options.dom0_mode(b"dom0=pvh") == xen_options.dom0_mode(b"dom0=verbose,pvh") == "pvh"
    assert xen_options.dom0_mode(b"dom0=pvh dom0=pv") == "pv"
    assert xen_options.dom0_mode(b"dom0=verbose x -- dom0=pvh") is None


@pytest.mark.parametrize(
    ("xen", "v17", "v22"),
    [
        (b"", 3, 1),
        (b"cpuidle=0", 2, 0),
        (b"no-cpuidle", 2, 0),
        (b"cpuidle=0 cpuidle", 3, 1),
        (b"cpuidle=perhaps", 3, 1),
        (b"cpufreq=none", 1, 1),
        (b"cpufreq=xen:powersave", 3, 1),
        (b"cpufreq=dom0-kernel", 1, 1),
        (b"cpufreq=none cpufreq=xen", 3, 1),
        (b"no-cpufreq cpuidle=off", 0, 0),
    ],
)
def test_pm_bits(xen: bytes, v17: int, v22: int) -> None:
    assert xen_options.pm_bits(xen, V17) == v17
    assert xen_options.pm_bits(xen, V22) == v22


@pytest.mark.parametrize(
    ("words", "vcpus"),
    [(b"", 8), (b"2", 2), (b"12", 12), (b"-4", 4), (b"2-", 8), (b"9-", 9), (b"1-4", 4), (b"0", 1), (b"x", 8)],
)
def test_dom0_max_vcpus_of_eight_processors(words: bytes, vcpus: int) -> None:
    assert xen_options.dom0_max_vcpus(b"dom0_max_vcpus=" + words if words else b"", 8) == vcpus
