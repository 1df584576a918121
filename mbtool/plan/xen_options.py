"""What of Xen's own command line bears on dom0's plan.

Xen: xen/common/kernel.c, ``parse_params`` and ``parse_bool``; xen/arch/x86/dom0_build.c (``dom0=``, ``dom0_mem=``),
setup.c (``cpuidle``, ``noapic``, ``acpi=``), xen/drivers/cpufreq/cpufreq.c (``cpufreq=``). Words that are no option
of Xen are passed over, as Xen does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum

from mbtool.formats.xen_versions import PM_CX, PM_PX, XenVersion

MAX_PARAM_SIZE = 128
ACPI_PARAM_SIZE = 10

TRUE = frozenset({b"1", b"on", b"yes", b"true", b"enable"})
FALSE = frozenset({b"0", b"no", b"off", b"false", b"disable"})


def split(xen_cmdline: bytes) -> tuple[bytes, bytes | None]:
    """Xen's own part, and what follows the first `` -- `` for dom0 (with one leading blank) or None."""
    own, mark, extra = xen_cmdline.partition(b" -- ")
    return own, b" " + extra.lstrip(b" ") if mark else None


def options(xen_cmdline: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Xen's options in order: name, value ("" without ``=``), and whether it is wanted (``no-name`` is not)."""
    for word in split(xen_cmdline)[0].split(b" "):
        if word:
            name, _, value = word[: MAX_PARAM_SIZE - 1].partition(b"=")
            yield name.removeprefix(b"no-"), value, not name.startswith(b"no-")


def custom(xen_cmdline: bytes, name: bytes) -> Iterator[bytes]:
    """The values of an option with a grammar of its own; ``no-name`` counts as the value ``no``."""
    for key, value, wanted in options(xen_cmdline):
        if key == name and (wanted or not value):
            yield value if wanted else b"no"


def flag(xen_cmdline: bytes, name: bytes, default: bool) -> bool:
    """A boolean option: the last value that is one counts."""
    for key, value, wanted in options(xen_cmdline):
        if key == name and (not value or value in TRUE or value in FALSE):
            default = wanted != (value in FALSE)
    return default


def dom0_mem(xen_cmdline: bytes) -> tuple[str, ...]:
    """Every value of ``dom0_mem=``."""
    return tuple(value.decode("latin-1") for value in custom(xen_cmdline, b"dom0_mem"))


class Mode(StrEnum):
    """The kind of domain that dom0 is; the values are those of ``dom0=``."""

    PV = "pv"
    PVH = "pvh"


def dom0_mode(xen_cmdline: bytes) -> Mode | None:
    """The kind of domain that ``dom0=`` asks for; None when it asks for none."""
    mode = None
    for value in custom(xen_cmdline, b"dom0"):
        for word in value.split(b","):
            if word in (b"pv", b"pvh"):
                mode = Mode(word.decode())
    return mode


def dom0_max_vcpus(xen_cmdline: bytes, cpus: int) -> int:
    """How many vCPUs dom0 gets of as many ``cpus``: ``dom0_max_vcpus=<max>``, ``<min>-<max>`` or ``-<max>``.

    Xen: ``parse_dom0_max_vcpus`` and ``dom0_max_vcpus``, without their limit.
    """
    least, most = 1, 1 << 32
    for value in custom(xen_cmdline, b"dom0_max_vcpus"):
        match = re.fullmatch(rb"(\d{1,9})?(-?)(\d{1,9})?", value)
        if match is None or not value:
            continue
        if match[1]:
            least = max(int(match[1]), 1)
        if match[3] or not match[2]:
            most = int(match[3]) if match[3] else least
    return min(max(cpus, least), most)


def pm_bits(xen_cmdline: bytes, version: XenVersion) -> int:
    """``xen_processor_pmbits`` on a machine for which Xen has no frequency driver."""
    bits = version.pm_bits & PM_PX
    for value in custom(xen_cmdline, b"cpufreq"):
        choice = re.split(rb"[,:;]", value)[0]
        if choice in FALSE or choice in (b"none", b"dom0-kernel"):
            bits = 0
        elif choice in TRUE or choice == b"xen":
            bits = version.pm_bits & PM_PX
    return bits | (PM_CX if flag(xen_cmdline, b"cpuidle", True) else 0)


def acpi(xen_cmdline: bytes, version: XenVersion) -> bytes:
    """What of ``acpi=`` Xen passes on to dom0."""
    kept = b""
    for value in custom(xen_cmdline, b"acpi"):
        if version.acpi_as_given or value in FALSE or value in (b"force", b"ht", b"noirq"):
            kept = value[: ACPI_PARAM_SIZE - 1]
    return kept
