"""How far a boot came, and why no further: told from what firmware, stub, Xen and Linux print.

Both tables are data: a pattern per stage in boot order, a pattern per known failure with what it means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum


class Stage(IntEnum):
    """In the order in which a boot passes them."""

    NOTHING = 0
    FIRMWARE = 1
    LOADER = 2
    XEN = 3
    DOM0_BUILT = 4
    KERNEL = 5
    USERSPACE = 6
    POWER_OFF = 7

    def __str__(self) -> str:
        return STAGE_NAMES[self]


STAGE_NAMES = {
    Stage.NOTHING: "nothing",
    Stage.FIRMWARE: "firmware",
    Stage.LOADER: "loader",
    Stage.XEN: "Xen",
    Stage.DOM0_BUILT: "dom0 built",
    Stage.KERNEL: "kernel",
    Stage.USERSPACE: "userspace",
    Stage.POWER_OFF: "power-off",
}

_XEN = r"\(XEN\) (?:\[[^\]\n]*\] )?"
_GAVE_UP = rf"(?:about to get started\.\.\.|{_XEN}Freed \d+kB init memory)\n{_XEN}(Hardware Dom0 halted.*)"
"""A dom0 that halts right after a PV kernel's, or Xen's, last line before dom0's own: no power-off."""

STAGES = (
    (Stage.FIRMWARE, r"BdsDxe: |SeaBIOS \(version|UEFI firmware"),
    (Stage.LOADER, r"mbtool stub|GNU GRUB|Welcome to GRUB|Xen [\d.]+.* EFI loader|ISOLINUX|SYSLINUX"),
    (Stage.XEN, r"\(XEN\) Xen version "),
    (
        Stage.DOM0_BUILT,
        rf"{_XEN}(?: ENTRY ADDRESS: |Dom0 memory map:|Dom0 has maximum|Freed \d+kB init memory)",
    ),
    (Stage.KERNEL, r"Linux version \d|Booting paravirtualized kernel"),
    (Stage.USERSPACE, r"Run /\S+ as init process|Freeing unused kernel image"),
    (
        Stage.POWER_OFF,
        r"reboot: Power down|reboot: System halted|Preparing system for ACPI S5|Hardware Dom0 halted",
    ),
)


@dataclass(frozen=True, slots=True)
class Failure:
    """A known way to fail: who says so, the pattern, what it means; ``final`` when nothing more can come of it.

    ``prompt``: the pattern is of what ends the console and waits for a user, who is not there.
    """

    by: str
    pattern: str
    meaning: str
    final: bool = False
    prompt: bool = False


FAILURES = (
    Failure("stub", r"mbtool stub: error: (.+)", "the boot stub could not load the system", final=True),
    Failure("Xen", r"Panic on CPU \d+:\s*\n(?:\(XEN\) )?(.+)", "Xen panicked", final=True),
    Failure("Xen", r"\(XEN\) (ERROR: .+)", "Xen refuses the kernel"),
    Failure("Xen", r"(ERR: Not a Multiboot bootloader!)", "Xen was not entered by a Multiboot loader", final=True),
    Failure("Xen", r"\(XEN\) (Dom0 crashed|Hardware Dom0 crashed).*", "dom0's kernel crashed"),
    Failure("Xen", r"\(XEN\) (domain_crash called from .+)", "dom0 did what Xen does not allow"),
    Failure(
        "Xen", r"(No initial domain kernel specified\.|Configuration file not found\.)", "Xen's EFI configuration"
    ),
    Failure("kernel", r"Kernel panic - not syncing: (.+)", "the Linux kernel panicked", final=True),
    Failure(
        "kernel",
        _GAVE_UP,
        "the kernel gave up before its first message: is it built to be dom0 (CONFIG_XEN_DOM0)? "
        "A PVH dom0 of Linux does so in newer QEMU (11.1), whose SVM without KVM lets Xen misread CR2",
        final=True,
    ),
    Failure("kernel", r"-- System halted", "the kernel's decompressor gave up", final=True),
    Failure(
        "firmware", r"(No bootable device|Boot failed: not a bootable disk)", "the firmware found nothing to boot"
    ),
    Failure("firmware", r"BdsDxe: (No bootable option .+)", "the firmware found nothing to boot", final=True),
    Failure("firmware", r"BdsDxe: (failed to (?:load|start) .+)", "the firmware could not start the boot file"),
    Failure("firmware", r"^(Shell>) *\Z", "it found nothing to start, and waits in the UEFI shell", prompt=True),
    Failure("loader", r"^(error: .+)", "the boot loader failed"),
    Failure("loader", r"^(grub rescue>) *\Z", "GRUB found no configuration, and waits", prompt=True),
)


def reached(console: str) -> Stage:
    """The last stage of which the console shows a trace."""
    console = re.sub(_GAVE_UP, lambda match: match[0].removesuffix(match[1]), console)
    return max((stage for stage, pattern in STAGES if re.search(pattern, console)), default=Stage.NOTHING)


def failure(console: str) -> tuple[Failure, str] | None:
    """The first known failure that the console shows, with its own words; None when there is none."""
    found = []
    for known in FAILURES:
        if match := re.search(known.pattern, console, re.MULTILINE):
            words = match[1] if match.groups() and match[1] else match[0]
            found.append((match.start(), known, words.strip()))
    if not found:
        return None
    _, known, words = min(found, key=lambda item: item[0])
    return known, words


def hopeless(console: str) -> bool:
    """Whether the console shows a failure that nothing follows: as a whole line, or as a prompt at its end."""
    return any(
        re.search(known.pattern if known.prompt else f"(?:{known.pattern}).*\n", console, re.MULTILINE)
        for known in FAILURES
        if known.final or known.prompt
    )


def plain(text: str) -> str:
    """Console text without terminal control sequences and carriage returns."""
    return re.sub(r"\x1b\[[0-9;?=]*[A-Za-z]|\x1b[()][A-Z0-9]|\r", "", text)
