"""What is in effect of an option that stands on a command line more than once.

Mostly the last one counts. Where Xen reads a list (``read = "list"`` in xen_values.toml), a further list adds to
it, as if all stood behind one ``=``; the parts of ``dom0_mem`` replace each other by kind. Some options stand for
themselves each time, as Linux' ``console`` does.

Linux: kernel/printk/printk.c (``console_setup``), arch/x86/kernel/e820.c (``parse_memmap_opt``), and the other
functions that add to what is there; dracut, systemd and kmod for names of theirs. Xen: arch/x86/dom0_build.c
(``parse_dom0_mem``), drivers/passthrough/pci.c (``parse_phantom_dev``).
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from mbtool.check.option_lists import plain
from mbtool.check.xen_values import grammar

NO = "no-"
DOM0_MEM = "dom0_mem"
EACH_OF_XEN = ("pci-phantom", "rmrr", "ivmd")
"""Options of Xen of which each one counts."""
EACH_OF_LINUX = (
    *("console", "earlycon", "netconsole", "memmap", "crashkernel", "hugepages", "hugepagesz", "acpi_osi"),
    *("cgroup_disable", "cgroup_no_v1", "initcall_blacklist", "clearcpuid", "dyndbg"),
    *("pci", "iommu", "intel_iommu"),
    *("amd_iommu", "reboot", "efi", "md", "raid", "blkdevparts", "modprobe.blacklist", "rd.*", "luks.*", "ip"),
    *("nameserver", "bond", "bridge", "team", "vlan", "ifname", "systemd.mask", "systemd.wants", "systemd.setenv"),
)
"""Options of Linux, the initrd and init of which each one counts, as shell patterns."""

Option = tuple[str, str]
"""Name and value."""


def of_linux(told: Sequence[Option], option: str) -> list[str]:
    """The values of an option that are in effect."""
    name = plain(option)
    values = [value for each, value in told if plain(each) == name]
    return values if any(fnmatchcase(name, pattern) for pattern in EACH_OF_LINUX) else values[-1:]


def of_xen(told: Sequence[Option], option: str) -> list[str]:
    """The values of an option that are in effect; ``no-name`` is the opposite of ``name``, and takes it back."""
    name = option.removeprefix(NO)
    both = [(each, value) for each, value in told if each.removeprefix(NO) == name]
    taken_back = [at for at, (each, _) in enumerate(both, 1) if each != option]
    values = [value for _, value in both[max(taken_back, default=0) :]]
    parts = [part for value in values for part in value.split(",")]
    known = grammar(name)
    if name == DOM0_MEM:
        parts = list({part.rpartition(":")[0]: part for part in parts}.values())
    elif name in EACH_OF_XEN:
        return values
    elif known is None or known.read != "list" or known.last:
        return values[-1:]
    return [",".join(parts)] if values else []
