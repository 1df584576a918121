"""A whole system's boot entries: each one's files, and the set that they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mbtool.check.boot_entries import BootEntry, System
from mbtool.check.boot_set import BootSet, Firmware, open_set
from mbtool.check.linux import KERNEL_NAME
from mbtool.check.report import Problem, SetChecker, check_set, problem
from mbtool.check.rule import Evidence
from mbtool.errors import InputError
from mbtool.model import Severity
from mbtool.source import Limits


def check_system(folder: Path, limits: Limits) -> Iterator[tuple[str, list[Problem]]]:
    """Per boot entry its name and what is wrong with it; last, what is wrong with the entries together.

    Files that several entries name are read once. Raises InputError when there is no entry at all.
    """
    system = System(folder)
    entries, configs = list(system.entries()), system.xen_configs()
    if not entries and not configs:
        raise InputError(
            "no boot entries found",
            source=str(folder),
            expected="grub/grub.cfg, loader/entries/*.conf or efi/EFI/*/xen.cfg in it, or in boot/",
        )
    with SetChecker(limits) as checker:
        for entry in entries:
            name = f"{entry.config}: {entry.title}"
            found = [problem(id_, evidence) for id_, evidence in _entry_rules(system, entry)]
            yield name, [*found, *_set(system, entry, checker)]
    for config, xen in configs:
        with open_set(xen=xen, xen_cfg=config, firmware=Firmware.UEFI, limits=limits) as boot:
            yield str(config), check_set(boot)
    yield str(folder), [problem("ENTRY-NONE-FOR-KERNEL", item) for item in _unused(system, entries)]


def _set(system: System, entry: BootEntry, checker: SetChecker) -> list[Problem]:
    """What is wrong with the files of an entry as a set; the last initrd is the one with init."""
    xen, kernel = system.find(entry.xen), system.find(entry.kernel)
    initrd = system.find(entry.initrds[-1]) if entry.initrds else None
    if kernel is None or entry.loader == "chainloader" or (entry.xen and xen is None):
        return []
    boot = BootSet(
        checker.image(xen),
        checker.image(kernel),
        checker.image(initrd),
        cmdline=entry.cmdline,
        xen_cmdline=entry.xen_cmdline if entry.xen else None,
        limits=checker.limits,
    )
    return checker.check(boot)


def _entry_rules(system: System, entry: BootEntry) -> Iterator[tuple[str, Evidence]]:
    for name in entry.files:
        if system.find(name) is None:
            yield "ENTRY-FILE", _evidence(entry, "a file that the entry names is not there", found=name)
    for command in entry.unpaired:
        yield (
            "ENTRY-COMMAND",
            _evidence(
                entry,
                f"{command.name} goes with another command than {entry.loader}",
                field=f"line {command.line}",
                found=command.name,
                expected="module2 behind multiboot2, module behind multiboot, initrd behind linux",
            ),
        )
    if entry.xen and not entry.kernel:
        yield "ENTRY-NO-KERNEL", _evidence(entry, "Xen is started without a kernel for dom0")
    match = KERNEL_NAME.fullmatch(Path(entry.kernel).name)
    if match and not entry.initrds and entry.loader != "chainloader":
        beside = [
            f"initrd.img-{match['release']}",
            f"initramfs-{match['release']}.img",
            f"initrd-{match['release']}",
        ]
        there = next((name for name in beside if (system.boot / name).is_file()), "")
        message = "the entry has no initrd" + (f", though {there} is there" if there else "")
        severity = Severity.WARNING if there else Severity.INFO
        yield "ENTRY-NO-INITRD", _evidence(entry, message, expected=there, severity=severity)


def _evidence(entry: BootEntry, message: str, **more: object) -> Evidence:
    more.setdefault("field", entry.place)
    return Evidence(message, entry.config, **more)  # type: ignore[arg-type]


def _unused(system: System, entries: list[BootEntry]) -> Iterator[Evidence]:
    """Kernels that no entry starts: the configuration is older than they are."""
    used = {path.resolve() for entry in entries if (path := system.find(entry.kernel)) is not None}
    for path in system.kernels():
        if path.resolve() not in used:
            yield Evidence("no boot entry starts this kernel", str(path))
