"""The configuration of Xen's EFI loader, and the files that it names, looked for where the loader would."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from mbtool.check.trees import FolderTree, Tree, TreeFile, parts
from mbtool.formats import xen_cfg
from mbtool.formats.xen_cfg import Line
from mbtool.source import read_file

MAX_CHAINED = 16
"""Configurations that are followed one after the other: Xen follows them without end."""
MAX_XEN_CFG = 1 << 20
"""Bytes of a configuration that are read at most."""


class XenConfig:
    """``name``: what people call it; ``path``: where it is in its tree."""

    def __init__(self, name: str, data: bytes, tree: Tree, path: str, chained_by: XenConfig | None = None) -> None:
        """``chained_by``: the configuration whose chain= led here; it has said which section is booted, too."""
        self.name = name
        self.data = data
        self._tree = tree
        self._folder = parts(path)[:-1]
        self.chained_by = chained_by

    @staticmethod
    def of(path: Path) -> XenConfig:
        """A file of the machine. Raises InputError when it cannot be read."""
        whole = path.absolute()
        tree = FolderTree(Path("/"), {whole.parent: path.parent})
        return XenConfig(str(path), read_file(path, MAX_XEN_CFG), tree, str(whole))

    @cached_property
    def parsed(self) -> xen_cfg.XenCfg:
        """What the loader makes of it."""
        return xen_cfg.parse(self.data)

    @property
    def section(self) -> str | None:
        """The section that is booted when nobody names one."""
        said = self.chained_by and self.chained_by.section
        return said or self.parsed.default

    def followed(self) -> XenConfig:
        """The configuration that is used: one that names no kernel is left for the one that chain= names.

        Xen, xen/common/efi/boot.c, efi_start.
        """
        config, left = self, MAX_CHAINED
        while left and not config.parsed.get(config.section, "kernel"):
            name = named(config.parsed.get("global", "chain"))
            file = config.find(name)
            if file is None:
                break
            folder = "/".join([*self._folder, "chained"])
            config = XenConfig(file.name, file.text(MAX_XEN_CFG), self._tree, folder, config)
            left -= 1
        return config

    def find(self, name: str) -> TreeFile | None:
        """The file that it names: beside it, or from the root of the ESP, which a directory above it is."""
        wanted = parts(name.replace("\\", "/"))
        if not wanted:
            return None
        tops = range(len(self._folder), -1 if name[:1] in ("/", "\\") else len(self._folder) - 1, -1)
        tries = ("/".join([*self._folder[:top], *wanted]) for top in tops)
        return next((found for path in tries if (found := self._tree.find(path, any_case=True)) is not None), None)

    def line(self, key: str) -> Line | None:
        """The line of the section that is booted."""
        return self.parsed.get(self.section, key)

    def file(self, key: str) -> TreeFile | None:
        """The file that a key names, None when it is not there."""
        return self.find(named(self.line(key)))

    def words(self, key: str) -> str | None:
        """What follows the file's name."""
        line = self.line(key)
        return line.value.partition(" ")[2] if line else None

    @property
    def options(self) -> str | None:
        """Xen's command line."""
        line = self.line("options")
        return line.value if line else None


def named(line: Line | None) -> str:
    """The file that a line names."""
    return line.value.split(" ")[0] if line else ""


def same(file: TreeFile, path: str) -> bool:
    """Whether a file is the one that somebody calls ``path``."""
    return path == file.name or os.path.realpath(path) == file.key
