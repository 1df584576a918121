"""A boot entry, and how each loader's configuration says it: what is started, with which files and words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from posixpath import normpath

from mbtool.check import bls_rules, limine_rules
from mbtool.check.limine_rules import Hashed
from mbtool.check.rule import Evidence
from mbtool.formats import bls, grub_cfg, limine_conf, syslinux_cfg
from mbtool.formats.grub_cfg import Command, GrubEntry
from mbtool.formats.xen_versions import NEWEST
from mbtool.plan import xen_modules
from mbtool.record import record

XSM_POLICY = "xenpolicy"
"""How the names of security policies begin, which are modules as initrds are."""
LOOPBACK = "loopback"
"""The loader of an entry whose files are in an image that GRUB opens: the image is its kernel here."""
BLOCKS = re.compile(r"(\([^)]*\))?(\d*\+\d+,?)+")
"""GRUB's block lists: sectors by number, as ``chainloader +1`` takes a boot sector."""


@record
class BootEntry:
    """Paths are as the configuration writes them, GRUB's with the device in front.

    ``line``: where the entry begins in ``config``, from 1; 0 where it is all of it. ``loader``: GRUB's command, ""
    where none of those is; elsewhere ``bls``, ``uki``, ``syslinux``, ``mboot.c32``, ``loopback``, ``limine:`` and
    protocol. ``xen`` "" where the kernel starts by itself. ``modules``: all that a Multiboot kernel
    is handed, Xen behind dom0's kernel; ``initrds`` are those of them that look as if they were meant for dom0.
    ``unpaired``: words that go with no kernel here. ``volume``: UUID or label of the file system that the files are
    on, "" where the entry does not say. ``dropped``: what stood in front of ``xen_cmdline`` and ``cmdline``, and
    Xen does not look at. ``packed``: the loader is not told to unpack what it starts. ``faults``: rules that the
    entry breaks by itself; ``hashed``: files that have to have a hash; ``afield``: files on other volumes than
    ``volume``; ``roots``: folders where paths can begin, None where GRUB may look anywhere.
    """

    title: str
    config: str
    line: int
    loader: str
    kernel: str = ""
    xen: str = ""
    initrds: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    cmdline: str = ""
    xen_cmdline: str = ""
    unpaired: tuple[Command, ...] = ()
    volume: str = ""
    dropped: tuple[str, ...] = ()
    packed: bool = False
    faults: tuple[tuple[str, Evidence], ...] = ()
    hashed: tuple[Hashed, ...] = ()
    afield: tuple[str, ...] = ()
    roots: tuple[str, ...] | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are named."""
        named = (self.xen, self.kernel, *(self.modules or self.initrds))
        return tuple(path for path in named if path)


def from_grub(entry: GrubEntry, config: str) -> BootEntry | None:
    """What a menu entry loads, None when it loads nothing (it shows firmware settings, reboots, …)."""
    loading = next((command for command in entry.named(*grub_cfg.LOADING) if command.arguments), None)
    more = entry.named(*grub_cfg.WITH)
    if loading is None:
        hidden = any(
            command.name.startswith(("/", "(")) for command in entry.commands
        )  # by a variable, as it seems
        lost = more if not hidden else ()
        return BootEntry(entry.title, config, entry.line, "", unpaired=lost) if lost else None
    behind = entry.commands[entry.commands.index(loading) :]
    paired = [command for command in more if command in behind and loading.name in grub_cfg.WITH[command.name]]
    unpaired = tuple(command for command in more if command not in paired)
    base = BootEntry(entry.title, config, entry.line, loading.name, unpaired=unpaired)
    head, *words = loading.arguments
    if BLOCKS.fullmatch(head):
        return None
    text, head = " ".join(words), located(head, loading.root)
    if loading.name in grub_cfg.LOADING[:3]:
        initrds = tuple(located(path, command.root) for command in paired for path in command.arguments)
        base = with_(base, kernel=head, cmdline=text, initrds=initrds)
    elif loading.name == "chainloader":
        base = with_(base, kernel=head, cmdline=text)
    else:
        given = [(command.arguments, command.root) for command in paired if command.arguments]
        modules = [(located(path, root), " ".join(words)) for (path, *words), root in given]
        base = multiboot(base, head, text, modules)
    device = device_of(head)
    disks = (command for command in entry.named("loopback") if command.arguments[1:])
    image = next((located(c.arguments[1], c.root) for c in disks if c.arguments[0] == device), "")
    if image:
        return BootEntry(entry.title, config, entry.line, LOOPBACK, image)
    kind, _, volume = device.partition("=")
    return with_(
        base,
        volume=volume if kind in ("uuid", "label") else "",
        afield=tuple(path for path in base.files if "$" in path),
    )


def located(path: str, root: str) -> str:
    """A path of GRUB's with the device that it is on in front: ``root``, unless it names one itself."""
    return path if path.startswith("(") or not root else f"({root}){path}"


def device_of(path: str) -> str:
    """The device of a path, "" where it is on the volume of its configuration."""
    return path[1:].partition(")")[0] if path.startswith("(") else ""


def unplaced(path: str) -> str:
    """A path without its device."""
    return path.partition(")")[2] if path.startswith("(") else path


def multiboot(base: BootEntry, head: str, text: str, modules: Sequence[tuple[str, str]]) -> BootEntry:
    """A Multiboot kernel, with Xen's modules told apart when it is Xen."""
    if "xen" not in head.rpartition("/")[2]:
        return with_(base, kernel=head, cmdline=text, modules=tuple(path for path, _ in modules))
    kernel, rest = (modules[0], [path for path, _ in modules[1:]]) if modules else (("", ""), [])
    microcode = xen_modules.claimed(xen_modules.ucode(text.encode(), NEWEST), len(rest))
    others = [path for number, path in enumerate(rest, 1) if number != microcode]
    return with_(
        base,
        xen=head,
        xen_cmdline=text,
        kernel=kernel[0],
        cmdline=kernel[1],
        initrds=tuple(path for path in others if not path.rpartition("/")[2].startswith(XSM_POLICY)),
        modules=tuple(rest),
    )


def from_syslinux(entry: syslinux_cfg.SyslinuxEntry, config: str, folder: str) -> BootEntry | None:
    """What a label loads, None when it is another program. ``folder``: where names begin that are no paths."""
    if entry.modules:
        (head, text), *rest = ((beside(name, folder), words) for name, words in entry.modules)
        return multiboot(BootEntry(entry.title, config, entry.line, syslinux_cfg.MBOOT), head, text, rest)
    if not entry.is_linux:
        return None
    base = BootEntry(
        entry.title, config, entry.line, "syslinux", kernel=beside(entry.kernel, folder), cmdline=entry.append
    )
    initrds = tuple(beside(name, folder) for name in entry.initrd)
    return with_(base, **{"modules" if entry.program == syslinux_cfg.MEMDISK else "initrds": initrds})


def beside(name: str, folder: str) -> str:
    """A name from the root of the volume, when it begins in a folder."""
    return normpath(name if name.startswith("/") else f"/{folder}/{name}")


def from_limine(entry: limine_conf.LimineEntry, config: str) -> BootEntry | None:
    """What an entry of Limine loads, None when that is no file."""
    protocol = "multiboot1" if entry.protocol == "multiboot" else entry.protocol
    faults = tuple(limine_rules.faults(entry, config))
    base = BootEntry(entry.title, config, entry.line, f"limine:{protocol}", faults=faults)
    kernel = limine_conf.location(entry.path or "")
    if faults or kernel is None:
        return base if faults else None
    modules = [(there, words) for path, words in entry.modules if (there := limine_conf.location(path))]
    base = with_(
        base,
        volume=kernel.volume,
        packed=not limine_conf.unpacked(entry.path or ""),
        hashed=tuple(limine_rules.hashed(entry)),
        afield=tuple(there.path for there, _ in modules if there.volume != kernel.volume),
    )
    if protocol in ("multiboot1", "multiboot2"):
        given = [(there.path, words) for there, words in modules]
        return _without_first_words(multiboot(base, kernel.path, entry.cmdline, given))
    base = with_(base, kernel=kernel.path, cmdline=entry.cmdline)
    if protocol in limine_conf.EFI:
        return with_(base, loader="chainloader")
    return with_(
        base, **{"initrds" if protocol == "linux" else "modules": tuple(there.path for there, _ in modules)}
    )


def _without_first_words(entry: BootEntry) -> BootEntry:
    """Xen takes the first words for names of files, which Limine does not put there (setup.c, ``cmdline_cook``)."""
    if not entry.xen:
        return entry
    first, _, xen_cmdline = entry.xen_cmdline.lstrip(" ").partition(" ")
    second, _, cmdline = entry.cmdline.lstrip(" ").partition(" ")
    return with_(entry, xen_cmdline=xen_cmdline, cmdline=cmdline, dropped=(first, second))


def from_bls(entry: bls.BlsEntry, config: str, variables: Mapping[str, str]) -> BootEntry:
    """What an entry of the Boot Loader Specification starts; ``variables``: GRUB's, which Fedora's make use of."""
    title = " ".join(part for part in (entry.title, entry.version) if part) or config.rpartition("/")[2]
    initrds = tuple(path for word in entry.initrd for path in grub_cfg.filled(word, variables).split())
    cmdline = grub_cfg.filled(entry.options, variables)
    faults = tuple(bls_rules.faults(entry, config))
    base = BootEntry(title, config, 0, "bls" if entry.linux else "uki", cmdline=cmdline, faults=faults)
    if bls_rules.is_foreign(entry):
        return base
    if entry.linux:
        return with_(base, kernel=entry.linux, initrds=initrds)
    return with_(base, kernel=entry.uki or entry.efi)


def with_(entry: BootEntry, **more: object) -> BootEntry:
    """The entry with other parts."""
    return replace(entry, **more)  # type: ignore[arg-type]
