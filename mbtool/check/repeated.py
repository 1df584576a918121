"""Options that take back what another one on the same line says: repeated with another value, or opposites.

Only options of which the last value replaces those before are looked at: others add up (console= of Linux, iommu=
of Xen). Linux: init/do_mounts.c (root, ro, rw), init/main.c (quiet, debug, init), kernel/smp.c (nosmp, maxcpus,
nr_cpus), arch/x86/kernel/pci-dma.c (iommu). Xen: string_param(), integer_param() and boolean_param() of the same
names; arch/x86/setup.c (nosmp, maxcpus); arch/x86/dom0_build.c (dom0).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mbtool.check.boot_set import BootSet
from mbtool.check.command_lines import DOM0, XEN
from mbtool.check.linux_options import is_another, words
from mbtool.check.rule import Evidence, set_rule
from mbtool.plan import xen_options

LINUX_LAST = (
    *("root", "rootfstype", "rootdelay", "init", "rdinit", "resume", "resume_offset", "loglevel", "maxcpus"),
    *("nr_cpus", "panic", "elevator", "selinux", "apparmor", "audit", "security", "lsm", "mitigations", "nohz"),
    *("systemd.unit", "transparent_hugepage", "clocksource", "log_buf_len", "vga"),
)
"""Options of Linux (and its init) of which the last one counts."""
XEN_LAST = (
    *("console", "com1", "com2", "sched", "smt", "watchdog", "loglvl", "guest_loglvl", "dom0_max_vcpus", "vga"),
    *("x2apic", "xsave", "hap", "maxcpus", "mem", "availmem", "conswitch", "nosmp", "acpi", "font", "sync_console"),
)
"""Options of Xen of which the last one counts."""
Pair = tuple[tuple[str, str], tuple[str, str], str]
"""Two words (name and value, "" for no value, "*" for any), and what comes of them."""
LINUX_PAIRS: tuple[Pair, ...] = (
    (("ro", ""), ("rw", ""), "the last one counts"),
    (("quiet", ""), ("debug", ""), "both set the level of what the console shows, and the last one counts"),
    (("nosmp", ""), ("maxcpus", "*"), "nosmp starts one processor, whatever maxcpus= says, or the other way round"),
    (("iommu", "off"), ("intel_iommu", "on"), "iommu=off switches every IOMMU off"),
    (("iommu", "off"), ("amd_iommu", "force_enable"), "iommu=off switches every IOMMU off"),
    (("nokaslr", ""), ("kaslr", ""), "nokaslr counts"),
    (("noresume", ""), ("resume", "*"), "noresume counts"),
    (("noapic", ""), ("apic", "*"), "noapic counts"),
)
XEN_PAIRS: tuple[Pair, ...] = ((("nosmp", "on"), ("maxcpus", "*"), "with nosmp Xen starts one processor"),)
ONE = ("0", "1")
"""Values of maxcpus= that say what nosmp says."""


@set_rule("OPTION-REPEATED")
def repeated(boot: BootSet) -> Iterator[Evidence]:
    """An option stands there again, with another value."""
    for where, told, names in (DOM0, _linux(boot), LINUX_LAST), (XEN, _xen(boot), XEN_LAST):
        for name in dict.fromkeys(name for name, _ in told if name in names):
            values = list(dict.fromkeys(value for each, value in told if each == name))
            if len(values) > 1:
                last = [value for each, value in told if each == name][-1]
                yield Evidence(
                    f"{name} is given more than once: the last one, {name}={last}, counts",
                    where,
                    field=name,
                    expected="one value",
                    found=", ".join(values),
                    remedy=f"leave all but one {name}= out",
                )


@set_rule("OPTIONS-CONTRADICT")
def contradictory(boot: BootSet) -> Iterator[Evidence]:
    """Two options say opposite things."""
    for where, told, pairs in (DOM0, _linux(boot), LINUX_PAIRS), (XEN, _xen(boot), XEN_PAIRS):
        for first, second, outcome in pairs:
            one, other = _there(told, first), _there(told, second)
            if one and other and other not in {f"maxcpus={value}" for value in ONE}:
                yield Evidence(
                    f"{one} and {other} contradict each other: {outcome}",
                    where,
                    field=one,
                    found=f"{one} {other}",
                    remedy=f"leave {one} or {other} out",
                )
    kinds = {word for value in xen_options.custom(boot.options, b"dom0") for word in value.split(b",")}
    if {b"pv", b"pvh"} <= kinds:
        mode = xen_options.dom0_mode(boot.options)
        yield Evidence(
            f"dom0=pv and dom0=pvh contradict each other: the last one, {mode}, counts",
            XEN,
            field="dom0",
            found="pv, pvh",
            remedy="leave one of them out",
        )


def _there(told: Sequence[tuple[str, str]], wanted: tuple[str, str]) -> str:
    """The word that is wanted, as it is written; "" when it is not there."""
    found = next((each for each in told if each[0] == wanted[0] and wanted[1] in (each[1], "*")), None)
    return "" if found is None else found[0] + (f"={found[1]}" if found[1] not in ("", "on") else "")


def _linux(boot: BootSet) -> list[tuple[str, str]]:
    """The kernel's options, name and value; none for another kernel than Linux."""
    if not boot.cmdline or is_another(boot):
        return []
    return [(name, value) for name, _, value in (word.partition("=") for word in words(boot.cmdline))]


def _xen(boot: BootSet) -> list[tuple[str, str]]:
    """Xen's options; one without a value is on, and off behind ``no-``."""
    found = []
    for raw, value, wanted in xen_options.options(boot.options):
        told = value.decode("utf-8", "replace")
        found.append((raw.decode("utf-8", "replace"), told or ("on" if wanted else "off")))
    return found
