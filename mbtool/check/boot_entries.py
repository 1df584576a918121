"""The boot entries of a system: what its configurations start, and with which files.

grub/grub.cfg, grub2/grub.cfg ─┐
loader/entries/*.conf ─────────┼──▶ BootEntry (paths as written) ──▶ files under the system's root
xen.cfg beside xen.efi ────────┘
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mbtool.errors import InputError, MbtoolError
from mbtool.formats import bls, grub_cfg
from mbtool.formats.grub_cfg import Command, GrubEntry
from mbtool.record import record
from mbtool.source import read_file

MAX_CONFIG = 1 << 20
"""Bytes of a configuration that are read at most."""
GRUB_CONFIGS = ("grub/grub.cfg", "grub2/grub.cfg")
ESPS = ("efi/EFI", "EFI")
BLS_ENTRIES = ("loader/entries", "efi/loader/entries")
XSM_POLICY = "xenpolicy"
"""How the names of security policies begin, which are modules as initrds are."""
DEVICE = re.compile(r"\([^)]*\)")


@record
class BootEntry:
    """Paths are as the configuration writes them. ``place``: where it stands in it, for people.

    ``loader``: GRUB's command, ``bls`` for an entry of the specification. ``xen`` "" where the kernel starts by
    itself; then ``modules`` are a Multiboot kernel's. ``unpaired``: words that go with no kernel here.
    """

    title: str
    config: str
    place: str
    loader: str
    kernel: str = ""
    xen: str = ""
    initrds: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    cmdline: str = ""
    xen_cmdline: str = ""
    unpaired: tuple[Command, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are named."""
        return tuple(path for path in (self.xen, self.kernel, *self.initrds, *self.modules) if path)


class System:
    """A tree with a boot directory in it: either the root of a system, or /boot itself."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError("is no directory", source=str(folder))
        inside = folder / "boot"
        self.boot = inside if inside.is_dir() else folder
        self.root = folder if inside.is_dir() else folder.absolute().parent

    def find(self, name: str) -> Path | None:
        """The file that a configuration names: from the root, or from /boot, if that is a file system."""
        path = DEVICE.sub("", name, count=1).lstrip("/")
        tries = [self.root / path, self.boot / path]
        head, _, rest = path.partition("/")
        if rest and head == "boot":
            tries.append(self.boot / rest)
        return next((each for each in tries if path and each.is_file()), None)

    def entries(self) -> Iterator[BootEntry]:
        """Every entry of every configuration that is there. Raises InputError for one that cannot be read."""
        for name in GRUB_CONFIGS:
            path = self.boot / name
            if path.is_file():
                for entry in grub_cfg.parse(_text(path)):
                    found = from_grub(entry, str(path))
                    if found is not None:
                        yield found
        for name in BLS_ENTRIES:
            folder = self.boot / name
            if folder.is_dir():
                for path in sorted(folder.glob("*.conf")):
                    yield from_bls(bls.parse(_text(path)), str(path))

    def xen_configs(self) -> list[tuple[Path, Path | None]]:
        """Configurations of Xen's EFI loader on the ESP, each with the loader that reads it if that is there."""
        found = []
        for path in sorted(each for folder in ESPS for each in self.boot.glob(f"{folder}/*/*.cfg")):
            if path.is_file() and "[global]" in _text(path):
                others = sorted(path.parent.glob("xen*.efi"))
                own = path.with_suffix(".efi")
                found.append((path, own if own.is_file() else others[0] if len(others) == 1 else None))
        return found

    def kernels(self) -> list[Path]:
        """The kernels of the boot directory."""
        return sorted(path for path in self.boot.glob("vmlinu[xz]-*") if path.is_file() and not path.is_symlink())


def _text(path: Path) -> str:
    try:
        return read_file(path, MAX_CONFIG).decode("utf-8", "replace")
    except MbtoolError as error:
        raise InputError(error.problem, source=str(path)) from error


def from_grub(entry: GrubEntry, config: str) -> BootEntry | None:
    """What a menu entry loads, None when it loads nothing (it shows firmware settings, reboots, …)."""
    loading = next(iter(entry.named(*grub_cfg.LOADING)), None)
    if loading is None or not loading.arguments:
        return None
    more = entry.named(*grub_cfg.WITH)
    paired = [command for command in more if loading.name in grub_cfg.WITH[command.name]]
    unpaired = tuple(command for command in more if command not in paired)
    base = BootEntry(entry.title, config, f"line {entry.line}", loading.name, unpaired=unpaired)
    head, *words = loading.arguments
    text = " ".join(words)
    if loading.name in grub_cfg.LOADING[:3]:
        initrds = tuple(path for command in paired for path in command.arguments)
        return _with(base, kernel=head, cmdline=text, initrds=initrds)
    if loading.name == "chainloader":
        return _with(base, kernel=head, cmdline=text)
    modules = [command.arguments for command in paired if command.arguments]
    if "xen" not in head.rpartition("/")[2]:
        return _with(base, kernel=head, cmdline=text, modules=tuple(module[0] for module in modules))
    kernel, rest = (modules[0], [module[0] for module in modules[1:]]) if modules else (("",), [])
    policies = [path for path in rest if path.rpartition("/")[2].startswith(XSM_POLICY)]
    return _with(
        base,
        xen=head,
        xen_cmdline=text,
        kernel=kernel[0],
        cmdline=" ".join(kernel[1:]),
        initrds=tuple(path for path in rest if path not in policies),
        modules=tuple(policies),
    )


def from_bls(entry: bls.BlsEntry, config: str) -> BootEntry:
    """What an entry of the Boot Loader Specification starts."""
    title = " ".join(part for part in (entry.title, entry.version) if part)
    initrds = tuple(path for path in entry.initrd if not path.startswith("$"))
    kernel = entry.linux or entry.efi
    return BootEntry(title, config, "", "bls", kernel=kernel, initrds=initrds, cmdline=entry.options)


def _with(entry: BootEntry, **more: object) -> BootEntry:
    from dataclasses import replace

    return replace(entry, **more)  # type: ignore[arg-type]
