"""A whole system's boot entries: each one's files, and the set that they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mbtool.check import limine_rules, loaders
from mbtool.check.boot_entries import System
from mbtool.check.boot_entry import LOOPBACK, BootEntry, unplaced
from mbtool.check.boot_set import BootSet, Firmware, open_set
from mbtool.check.command_lines import PLACEHOLDER
from mbtool.check.image import Image
from mbtool.check.linux import KERNEL_NAME
from mbtool.check.loader import Loader
from mbtool.check.report import UNREADABLE, Problem, SetChecker, check_set, problem
from mbtool.check.rule import Evidence
from mbtool.check.space import space_left
from mbtool.check.trees import Tree, all_read, contents, unread, volumes
from mbtool.check.volumes import named
from mbtool.check.written import of_entry, of_xen_cfg, placed
from mbtool.errors import InputError, MbtoolError
from mbtool.formats import grub_cfg, syslinux_cfg
from mbtool.formats.partition import Partition
from mbtool.model import Severity
from mbtool.source import Limits

Checked = Iterator[tuple[str, list[Problem]]]
"""Per boot entry its name and what is wrong with it; last, what is wrong with the entries together."""
More = Callable[[BootSet], Iterable[Problem]]
"""What else is wrong with a set: a policy's own rules."""
LOADERS = {
    **dict.fromkeys(grub_cfg.LOADING[:3], ("grub:linux",)),
    "multiboot": ("grub:multiboot",),
    "multiboot2": ("grub:multiboot2",),
    "uki": ("systemd-boot:linux",),
    "bls": ("grub:linux", "systemd-boot:linux"),
    "syslinux": ("syslinux:linux",),
    syslinux_cfg.MBOOT: ("syslinux:mboot",),
    **{name: (name,) for name in ("limine:linux", "limine:multiboot1", "limine:multiboot2")},
}
"""What starts an entry, by BootEntry's ``loader``, as rows of can-boot: one of them has to take the file."""
OPAQUE = ("chainloader", LOOPBACK, "limine:limine")
"""Loaders of programs, or disks, that are not looked into."""
DISKS = ("disk", "fat", "iso", "ext", "qcow2", "vmdk", "vhd")
"""Kinds of images that hold boot entries."""


def none(boot: BootSet) -> Iterable[Problem]:
    """No more rules."""
    return ()


def check_system(folder: Path, limits: Limits, *, root: bool = False, more: More = none, **asked: Any) -> Checked:
    """A system in a directory: its root (told by ``root``, or by ``boot`` in it), or its /boot.

    ``asked``: of the sets, as in BootSet. Raises InputError when there is no entry at all.
    """
    system = System.of(folder, root=root)
    found = False
    for each in _check(system, limits, asked, more):
        found = True
        yield each
    if not found:
        raise InputError(
            "no boot entries found",
            source=str(folder),
            expected="grub.cfg, loader/entries/*.conf, syslinux.cfg, limine.conf or xen.cfg, in it or in boot/",
        )


def check_disk(image: Image, known: Sequence[Problem], *, more: More = none, **asked: Any) -> Checked:
    """The volumes of a disk's image, or a CD's; what is ``known`` of the image as a whole is left out.

    Nothing when it has no boot entries.
    """
    said = {_what(each) for each in known}
    disk = contents(image.source)
    found = [(volume, _system(volume.tree)) for volume in volumes(disk)]
    whole = all_read(disk)
    for _, system in found:
        system.volumes, system.all_read = partial(named, volumes=found), whole
        for name, problems in _check(system, image.limits, asked, more):
            yield name, [each for each in problems if _what(each) not in said]
    told = [problem("VOLUME-UNREAD", _unread(image, *each)) for each in unread(disk)]
    if told:
        yield image.path, told


def _unread(image: Image, partition: Partition, name: str) -> Evidence:
    return Evidence(
        f"partition {partition.number} is not looked into",
        image.path,
        "disk/partition",
        partition.offset,
        expected="FAT, ext2, ext3, ext4 or ISO 9660",
        found=name,
    )


def _system(tree: Tree) -> System:
    """What is in a volume: a system's root, when it looks like one, else a /boot or an ESP."""
    return System(tree, "boot" if {"boot", "etc"} <= set(tree.names("")) else "")


def _what(told: Problem) -> tuple[str, ...]:
    evidence = told.evidence
    return told.id, evidence.message, evidence.field, str(evidence.line), evidence.found


def _check(system: System, limits: Limits, asked: dict[str, Any], more: More) -> Checked:
    """Every entry of a system; files that several entries name are read once."""
    entries, configs = list(system.entries()), system.xen_configs()
    if not any((entries, configs, system.faults)):
        return
    own = {
        entry.volume
        for entry in entries
        if entry.volume and system.file(entry, entry.xen or entry.kernel) is not None
    }
    with SetChecker(limits) as checker:
        for entry in entries:
            name = f"{entry.config}: {entry.title}"
            if _is_elsewhere(system, entry, own):
                yield name, [problem("ENTRY-ELSEWHERE", _evidence(entry, "the files are on another file system"))]
                continue
            found = [problem(id_, evidence) for id_, evidence in _entry_rules(system, entry)]
            found += [*_set(system, entry, checker, asked), *more(_words(entry))]
            yield name, list(placed(found, of_entry(entry)))
    for config, xen in configs:
        told = {**asked, "firmware": Firmware.UEFI}
        with open_set(xen=xen, xen_cfg=config, limits=limits, **told) as boot:
            yield config.name, list(placed([*check_set(boot), *more(boot)], of_xen_cfg(boot)))
    together = [problem(id_, evidence) for id_, evidence in system.faults]
    together += [problem("ENTRY-NONE-FOR-KERNEL", item) for item in _unused(system, entries)]
    yield system.name, [*together, *(problem("SPACE-LEFT", item) for item in space_left(system, entries))]


def _is_elsewhere(system: System, entry: BootEntry, own: set[str]) -> bool:
    """Whether files of an entry are on a volume that is not here; ``own``: those of which there are files here."""
    if any(system.file(entry, name) is None for name in entry.afield):
        return True
    if entry.loader == LOOPBACK and system.file(entry, entry.kernel) is not None:
        return True
    if system.volumes is not None and entry.roots is None:
        return any(map(system.is_away, entry.files))
    return bool(entry.volume) and entry.volume not in own and (bool(own) or entry.loader not in grub_cfg.LOADING)


def _words(entry: BootEntry) -> BootSet:
    """An entry's command lines without its files: there, or not, they are what the site says something of."""
    return BootSet(cmdline=entry.cmdline, xen_cmdline=entry.xen_cmdline if entry.xen else None)


def _set(system: System, entry: BootEntry, checker: SetChecker, asked: dict[str, Any]) -> list[Problem]:
    """What is wrong with the files of an entry as a set."""
    xen, kernel = system.file(entry, entry.xen), system.file(entry, entry.kernel)
    initrds = [file for name in entry.initrds if (file := system.file(entry, name)) is not None]
    handed = [file for name in entry.modules if (file := system.file(entry, name)) is not None] if entry.xen else []
    whole = len(handed) == len(entry.modules)
    if kernel is None or entry.loader in OPAQUE or (entry.xen and xen is None):
        return []
    try:
        images = checker.image(xen), checker.image(kernel)
        modules = tuple(map(checker.opened, handed)) if whole else ()
        initrd = checker.joined(initrds[:1] if entry.xen else initrds)
    except MbtoolError as error:
        return [problem(UNREADABLE, Evidence.of(error, error.source))]
    boot = BootSet(
        *images,
        initrd,
        modules=modules,
        cmdline=entry.cmdline,
        xen_cmdline=entry.xen_cmdline if entry.xen else None,
        limits=checker.limits,
        **{**asked, "loaders": asked.get("loaders") or _loaders(entry, asked.get("firmware"))},
    )
    return checker.check(boot.handed() if modules else boot)


def _loaders(entry: BootEntry, firmware: Firmware | None) -> tuple[Loader, ...]:
    """The rows of an entry's loader, on the firmware that is asked for; none for a loader that has no row."""
    rows = [row for name in LOADERS.get(entry.loader, ()) for row in loaders.choose(loaders.loaders(), name)]
    rows = [replace(row, unpacks=()) for row in rows] if entry.packed else rows
    return tuple(row for row in rows if firmware is None or row.on in ("", firmware))


def _entry_rules(system: System, entry: BootEntry) -> Iterator[tuple[str, Evidence]]:
    yield from entry.faults
    for each in entry.hashed:
        found = system.digest(system.file(entry, each.path))
        yield from limine_rules.mismatch(each, found, entry.config, entry.line)
    for name in entry.files:
        if system.file(entry, name) is None:
            said = f"error: file `{unplaced(name)}' not found." if entry.loader in grub_cfg.LOADING else ""
            missing = "a file that the entry names is not there"
            yield "ENTRY-FILE", _evidence(entry, missing, found=name, console=said)
    for command in entry.unpaired:
        behind = entry.loader in grub_cfg.WITH[command.name]
        yield (
            "ENTRY-COMMAND",
            _evidence(
                entry,
                f"{command.name} stands before {entry.loader}"
                if behind
                else f"{command.name} goes with another command than {entry.loader}"
                if entry.loader
                else f"{command.name} stands without a command that loads a kernel",
                line=command.line,
                found=command.name,
                expected="module2 behind multiboot2, module behind multiboot, initrd behind linux",
            ),
        )
    for name, where, first in zip((entry.xen, entry.kernel), ("Xen", "dom0's kernel"), entry.dropped, strict=False):
        if first not in ("", PLACEHOLDER) and Path(first).name != Path(name).name:
            yield "ENTRY-FIRST-WORD", _evidence(entry, f"the first word for {where} is dropped", found=first)
    if entry.xen and not entry.kernel:
        yield "ENTRY-NO-KERNEL", _evidence(entry, "Xen is started without a kernel for dom0")
    match = KERNEL_NAME.fullmatch(Path(entry.kernel).name)
    if match and not entry.initrds and entry.loader not in OPAQUE:
        beside = [
            f"initrd.img-{match['release']}",
            f"initramfs-{match['release']}.img",
            f"initrd-{match['release']}",
        ]
        there = next((name for name in beside if system.find(f"{system.boot}/{name}") is not None), "")
        message = "the entry has no initrd" + (f", though {there} is there" if there else "")
        severity = Severity.WARNING if there else Severity.INFO
        yield "ENTRY-NO-INITRD", _evidence(entry, message, expected=there, severity=severity)


def _evidence(entry: BootEntry, message: str, **more: object) -> Evidence:
    more.setdefault("line", entry.line)
    return Evidence(message, entry.config, **more)  # type: ignore[arg-type]


def _unused(system: System, entries: list[BootEntry]) -> Iterator[Evidence]:
    """Kernels that no entry starts: the configuration is older than they are."""
    used = {file.key for entry in entries if (file := system.file(entry, entry.kernel)) is not None}
    for file in system.kernels():
        if file.key not in used:
            yield Evidence("no boot entry starts this kernel", file.name)
