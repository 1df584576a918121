"""The boot entries of a system: the configurations that are in it, and the files that they name.

grub/grub.cfg, grub2/grub.cfg ─┐
loader/entries/*.conf ─────────┤
syslinux.cfg, limine.conf ─────┼──▶ BootEntry (paths as written) ──▶ files of the system's tree
xen.cfg beside xen.efi ────────┘
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path

from mbtool.check import grub_rules
from mbtool.check.boot_entry import (
    BootEntry,
    beside,
    device_of,
    from_bls,
    from_grub,
    from_limine,
    from_syslinux,
    unplaced,
    with_,
)
from mbtool.check.named_files import MAX_XEN_CFG, XenConfig
from mbtool.check.rule import Evidence
from mbtool.check.trees import FolderTree, Tree, TreeFile, parts
from mbtool.errors import InputError, MbtoolError
from mbtool.formats import bls, grub_cfg, limine_conf, syslinux_cfg
from mbtool.source import STEP

MAX_CONFIG = 1 << 20
"""Bytes of a configuration that are read at most."""
MAX_HASHED = 1 << 32
"""Bytes of a file whose hash is looked at."""
GRUB_CONFIGS = ("grub/grub.cfg", "grub2/grub.cfg", "EFI/*/grub.cfg")
BLS_ENTRIES = "loader/entries/*.conf"
PXELINUX = "pxelinux.cfg/"
"""Where PXELINUX has its configurations: names in them begin in the directory above."""
SYSLINUX_CONFIGS = (
    *(
        f"{folder}{name}"
        for folder in ("syslinux/", "extlinux/", "isolinux/", "")
        for name in ("syslinux.cfg", "extlinux.conf", "isolinux.cfg")
    ),
    "EFI/*/syslinux.cfg",
    f"{PXELINUX}default",
)
"""Source: SYSLINUX, core/fs/lib/loadconfig.c, generic_load_config; its likes in core/fs/iso9660 and core/fs/pxe."""
UKIS = "EFI/Linux/*.efi"
"""Boot Loader Specification, type 2: programs that are entries by themselves."""
SUBVOLUME = re.compile(r"(?:^|\s)rootflags=(?:[^\s,]*,)*subvol=([^\s,]+)")
LIMINE_CONFIGS = ("limine.conf", "limine/limine.conf", "EFI/*/limine.conf")
XEN_CONFIGS = "EFI/*/*.cfg"


class System:
    """A tree with boot files in it: the root of a system, its /boot, or a volume of a disk.

    ``name``: what people call it; ``boot``: the path of the boot directory in the tree; ``top``: that of the
    directory that was asked for, where an ESP or a CD has its configurations beside boot.
    """

    def __init__(self, tree: Tree, boot: str = "", name: str = "", top: str = "") -> None:
        self.tree = tree
        self.boot = boot
        self.name = name or tree.name
        bases = dict.fromkeys((boot, top, "efi", f"{boot}/efi") if boot else ("", "boot"))
        self._bases = tuple(base for base in bases if tree.names(base))
        self.faults: list[tuple[str, Evidence]] = []
        """Rules that GRUB's configurations break as a whole, once the entries have been read."""
        self.volumes: Callable[[str], System | None] | None = None
        """The volume of a disk that a device of GRUB's is, None when it is none of them; None outside of disks."""
        self.all_read = False
        """Whether ``volumes`` has all of the disk's."""
        self._digests: dict[str, str] = {}
        self._esps = tuple(base for base in self._bases if "EFI" in tree.names(base))

    @staticmethod
    def of(folder: Path, *, root: bool = False) -> System:
        """A directory: a root, told or when there is ``boot`` in it, else /boot itself. InputError for a file."""
        if not folder.is_dir():
            raise InputError("is no directory" if folder.exists() else "is not there", source=str(folder))
        if root or (folder / "boot").is_dir():
            return System(FolderTree(folder), "boot", str(folder))
        whole = folder.resolve() if ".." in folder.parts else folder.absolute()
        return System(FolderTree(whole.parent, {whole: folder}), whole.name, str(folder), whole.name)

    def find(self, name: str, roots: Sequence[str] | None = None) -> TreeFile | None:
        """The file that a configuration names: from the root, or from /boot or the ESP, as file systems.

        ``roots``: the only ones of them that it can be.
        """
        other = self._volume(device_of(name))
        if other is not self:
            return None if other is None else other.find(unplaced(name))
        path = "/".join(parts(unplaced(name)))
        if not path:
            return None
        tries = [f"{root}/{path}".lstrip("/") for root in (("", *self._bases) if roots is None else roots)]
        if path.startswith("boot/") and (roots is None or (self.boot and "" in roots)):
            tries.append(f"{self.boot}/{path.removeprefix('boot/')}")
        found = (self.tree.find(each, any_case=each.startswith(self._esps)) for each in tries)
        return next((file for file in found if file is not None), None)

    def _volume(self, device: str) -> System | None:
        """The volume that a device is: this one, where that is not known."""
        return self if not device or self.volumes is None else self.volumes(device)

    def is_away(self, name: str) -> bool:
        """Whether a path names a device that is no volume of this disk."""
        return self._volume(device_of(name)) is None

    def file(self, entry: BootEntry, name: str) -> TreeFile | None:
        """The file that an entry names."""
        return self.find(name, entry.roots)

    def roots(self, path: str) -> tuple[str, ...]:
        """Where the volume of a configuration can begin: with boot, with the ESP, or with the whole tree."""
        if not isinstance(self.tree, FolderTree):
            return ("",)
        around = [base for base in self._bases if f"{path}/".lstrip("/").startswith(f"{base}/".lstrip("/"))]
        nearest = max(around, key=len)
        return (nearest,) if nearest in ("efi", f"{self.boot}/efi") else (nearest, "")

    def digest(self, file: TreeFile | None) -> str | None:
        """The BLAKE2b of a file, None when there is none that could be loaded."""
        if file is None:
            return None
        if file.key not in self._digests:
            state = hashlib.blake2b()
            try:
                with file.open() as source:
                    if source.size > MAX_HASHED:
                        return None
                    for offset in range(0, source.size, STEP):
                        state.update(source.read(offset, STEP))
            except MbtoolError:
                return None  # said of the file itself
            self._digests[file.key] = state.hexdigest()
        return self._digests[file.key]

    def entries(self) -> Iterator[BootEntry]:
        """Every entry of every configuration that is there. Raises InputError for one that cannot be read."""
        variables: dict[str, str] = {}
        yield from map(self._in_subvolume, self._grub(variables))
        for path, file in self._found(BLS_ENTRIES):
            entry = from_bls(bls.parse(_text(file)), file.name, variables)
            yield self._in_subvolume(with_(entry, roots=self.roots(path)))
        for path, file in self._found(UKIS):
            yield BootEntry(path.rpartition("/")[2], file.name, 0, "uki", kernel=f"/{path}")
        for path, file in self._found(*SYSLINUX_CONFIGS):
            yield from self._syslinux(path, file)
        for path, file in self._found(*LIMINE_CONFIGS):
            for told in limine_conf.parse(_text(file)):
                found = from_limine(told, file.name)
                if found is not None:
                    yield with_(found, roots=self.roots(path))

    def _grub(self, variables: dict[str, str]) -> Iterator[BootEntry]:
        """The entries of GRUB's configurations, each file read once; their ``variables`` are put in there."""
        read: set[str] = set()

        def load(name: str) -> str | None:
            file = self.find(name)
            if file is None:
                return None
            other = self._volume(device_of(name))
            if file.key in read or (other not in (None, self) and other.reads(file)):
                return ""
            files[name] = file.name
            text = _text(file)
            if not name.endswith("/grubenv"):
                read.add(file.key)
                self.faults += grub_rules.syntax(text, file.name)
            return text

        for pattern in GRUB_CONFIGS:
            for path in self._paths(pattern):
                files: dict[str, str] = {}
                config = self.tree.find(path)
                if config is None or config.key in read:
                    continue
                read.add(config.key)
                text = _text(config)
                self.faults += grub_rules.syntax(text, config.name)
                menu = grub_cfg.menu(text, load, f"/{path.rpartition('/')[0]}")
                variables.update(menu.variables)
                self.faults += grub_rules.lost_default(menu, config.name)
                self.faults += self._dead_ends(menu, config.name)
                for entry in chain.from_iterable(map(grub_cfg.alternatives, menu.entries)):
                    boot = from_grub(entry, files.get(entry.file, config.name))
                    if boot is not None:
                        yield boot

    def _dead_ends(self, menu: grub_cfg.GrubMenu, config: str) -> Iterator[tuple[str, Evidence]]:
        """Where a configuration without entries leads, on a disk of which it is known what is there."""
        for path in menu.lost[-1:] if menu.whole and not menu.entries and self.volumes is not None else ():
            away = self.is_away(path)
            if not away or self.all_read:
                yield grub_rules.dead_end(path, config, away=away)

    def reads(self, file: TreeFile) -> bool:
        """Whether a file is one of GRUB's configurations that are looked for here."""
        return any(file.key == found.key for _, found in self._found(*GRUB_CONFIGS))

    def _in_subvolume(self, entry: BootEntry) -> BootEntry:
        """The entry with paths from the root of a system, where it writes them from the top of btrfs or a ZFS pool.

        The kernel's command line names the subvolume that is the root; a dataset's name ends in ``@``.
        """
        told = SUBVOLUME.search(entry.cmdline)

        def inside(path: str) -> str:
            whole = "/" + "/".join(parts(unplaced(path)))
            below = f"/{told[1].strip('/')}/" if told else "\0"
            rest = whole.removeprefix(below) if whole.startswith(below) else whole.partition("@/")[2]
            return f"/{rest}" if rest and not self.file(entry, path) and self.file(entry, rest) else path

        lists = {name: tuple(map(inside, getattr(entry, name))) for name in ("initrds", "modules")}
        return with_(entry, kernel=inside(entry.kernel), xen=inside(entry.xen), **lists)

    def _syslinux(self, path: str, file: TreeFile) -> Iterator[BootEntry]:
        """The labels of a configuration, with those of the files that it includes."""
        roots = self.roots(path)
        beside_it = path.removesuffix(f"{PXELINUX}default")
        folder = beside_it.lstrip("/").removeprefix(roots[-1]).rpartition("/")[0]

        def include(name: str) -> str | None:
            other = self.find(beside(name, folder), roots)
            return None if other is None else _text(other)

        for entry in syslinux_cfg.parse(_text(file), include):
            found = from_syslinux(entry, file.name, folder)
            if found is not None:
                yield with_(found, roots=roots)

    def xen_configs(self) -> list[tuple[XenConfig, TreeFile | None]]:
        """Configurations of Xen's EFI loader on the ESP, each with the loader that reads it if that is there."""
        found = []
        for path, file in self._found(XEN_CONFIGS):
            data = file.text(MAX_XEN_CFG)
            if b"[global]" in data:
                folder = path.rpartition("/")[0]
                own = self.tree.find(path.removesuffix(".cfg") + ".efi", any_case=True)
                xens = [
                    name for name in self.tree.names(folder) if re.fullmatch(r"xen.*\.efi", name, re.IGNORECASE)
                ]
                other = self.tree.find(f"{folder}/{xens[0]}") if len(xens) == 1 else None
                found.append((XenConfig(file.name, data, self.tree, path), own or other))
        return found

    def kernels(self) -> list[TreeFile]:
        """The kernels of the boot directory, each once."""
        names = (name for name in self.tree.names(self.boot) if re.match("vmlinu[xz]-", name))
        files = [file for name in names if (file := self.tree.find(f"{self.boot}/{name}")) is not None]
        return list({file.key: file for file in files}.values())

    def _found(self, *patterns: str) -> Iterator[tuple[str, TreeFile]]:
        """The files of some patterns, below any of the directories where a loader looks, each once, by one path."""
        read: set[str] = set()
        for path in chain.from_iterable(map(self._paths, patterns)):
            file = self.tree.find(path)
            if file is not None and file.key not in read:
                read.add(file.key)
                yield path, file

    def _paths(self, pattern: str) -> Iterator[str]:
        return (path for base in self._bases for path in _matches(self.tree, base, parts(pattern)))


def _matches(tree: Tree, folder: str, patterns: list[str]) -> Iterator[str]:
    """The paths below a folder that fit one pattern after the other; as on FAT, case counts not."""
    if not patterns:
        yield folder
        return
    for name in tree.names(folder):
        if fnmatchcase(name.lower(), patterns[0].lower()):
            yield from _matches(tree, f"{folder}/{name}", patterns[1:])


def _text(file: TreeFile) -> str:
    return file.text(MAX_CONFIG).decode("utf-8", "replace")
