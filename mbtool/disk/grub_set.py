"""From a menu's entries to what a disk with GRUB holds: kernels, modules, grub.cfg, and GRUB itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mbtool.disk import grub, grub_cfg, protocols
from mbtool.disk.content import Content
from mbtool.disk.grub import GrubBios
from mbtool.disk.grub_cfg import MenuEntry
from mbtool.disk.kernel import BootFile
from mbtool.disk.protocols import Protocol
from mbtool.errors import InputError, UnsupportedError


@dataclass(frozen=True, slots=True)
class Entry:
    """A menu entry as a user describes it: ``kernel`` alone, or ``xen`` with ``kernel`` as dom0."""

    kernel: Path
    title: str = ""
    """"" for one made of the files' names."""
    initrd: Path | None = None
    xen: Path | None = None
    modules: Sequence[tuple[Path, str]] = ()
    cmdline: str = ""
    xen_cmdline: str = ""


Open = Callable[[Path, str, bool], BootFile]
"""Opens a file by path, spare name and whether to unpack it."""


def fill(
    entries: Sequence[Entry], timeout: int, opened: Open, add: Callable[[str, Content], None], notes: list[str]
) -> GrubBios | None:
    """Add all that a menu needs to a disk (``add``: path on the ESP, content); what its BIOS boot partition holds.

    Raises MbtoolError when a file cannot be used or GRUB is not installed.
    """
    images = grub.images()
    menu = [_entry(entry, opened, add) for entry in entries]
    add(f"{grub.HOME}/grub.cfg", grub_cfg.build(menu, timeout))
    if images.uefi is None:
        notes.append("BIOS only: GRUB's modules for x86_64-efi are not installed")
    else:
        add("EFI/BOOT/BOOTX64.EFI", images.uefi)
    if images.bios is None:
        notes.append("UEFI only: GRUB's modules for i386-pc are not installed")
    return images.bios


def _entry(entry: Entry, opened: Open, add: Callable[[str, Content], None]) -> MenuEntry:
    first = opened(entry.xen, "xen", True) if entry.xen else opened(entry.kernel, "kernel", True)
    protocol = protocols.protocol_of(first.source)
    if protocol not in grub_cfg.COMMANDS:
        raise UnsupportedError(f"GRUB does not start {protocol} kernels", source=first.source.name)
    modules = []
    if entry.xen is not None:
        modules.append((opened(entry.kernel, "kernel", False), entry.cmdline))
    if entry.initrd is not None:
        modules.append((opened(entry.initrd, "initrd", False), ""))
    modules += [(opened(path, f"module{number}", False), text) for number, (path, text) in enumerate(entry.modules)]
    if protocol is Protocol.LINUX and (entry.xen or entry.modules):
        raise InputError("a Linux kernel takes an initrd and no modules", source=first.source.name)
    for file in (first, *(file for file, _ in modules)):
        add(_path(file), file.content)
    title = entry.title or (f"Xen {first.name}, {modules[0][0].name}" if entry.xen else first.name)
    text = entry.xen_cmdline if entry.xen else entry.cmdline
    return MenuEntry(title, protocol, (_path(first), text), [(_path(file), text) for file, text in modules])


def _path(file: BootFile) -> str:
    return f"boot/{file.name}"
