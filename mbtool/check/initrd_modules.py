"""Kernel modules in an initrd: whether they are for the kernel, and whether the ones that are asked for are there.

Sources: depmod(8), modprobe(8); kmod, libkmod/libkmod-module.c (``kmod_module_new_from_lookup``); Linux,
Documentation/kbuild/kbuild.rst ("modules.builtin").
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from mbtool.check.boot_set import BootSet
from mbtool.check.image import Image, Place
from mbtool.check.initrd import members
from mbtool.check.rule import Evidence, set_rule
from mbtool.errors import MbtoolError
from mbtool.source import MIB

MODULE = re.compile(r"(?P<name>[^/]+)\.ko(?:\.xz|\.gz|\.zst)?")
TREE = re.compile(r"(?:usr/)?lib/modules/(?P<release>[^/]+)/")
BUILTIN = "modules.builtin"
ALIASES = "modules.alias"
MAX_LIST = 16 * MIB
"""Largest of depmod's lists that is read (bytes): that of all of Debian's modules takes 2 MiB."""


class Modules:
    """Names of modules, ``-`` written as ``_`` as the kernel does."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self._builtin: set[str] = set()
        self._aliases: dict[str, set[str]] = defaultdict(set)

    @property
    def names(self) -> set[str]:
        """What modprobe takes: files, parts of the kernel, and other names of files that are there."""
        aliases = {alias for alias, files in self._aliases.items() if files & self.files}
        return self.files | self._builtin | aliases

    def add(self, name: str) -> None:
        """Take in a file, by its name, if it is a module."""
        if match := MODULE.fullmatch(name):
            self.files.add(_plain(match["name"]))

    def read(self, name: str, text: str) -> None:
        """Take in the list BUILTIN, or ALIASES, of which those with wildcards are no names."""
        for words in map(str.split, text.splitlines()):
            if name == BUILTIN and words and (match := MODULE.fullmatch(words[0].rpartition("/")[2])):
                self._builtin.add(_plain(match["name"]))
            elif name == ALIASES and len(words) == 3 and words[0] == "alias":
                self._aliases[_plain(words[1])].add(_plain(words[2]))


@set_rule("INITRD-MODULES")
def fitting(boot: BootSet) -> Iterator[Evidence]:
    """The initrd's kernel modules are all for other kernels."""
    initrd = boot.initrd
    if initrd is None or not boot.release:
        return
    try:
        trees = _trees(initrd)
    except MbtoolError:
        return  # UNREADABLE says so
    if trees and boot.release not in trees:
        first = next(iter(trees.values()))
        yield Evidence(
            "the kernel modules in the initrd are for another kernel",
            initrd.path,
            first.path,
            first.start,
            "version",
            expected=boot.release,
            found=", ".join(trees),
            remedy=f"make the initrd for this kernel: update-initramfs -c -k {boot.release}, or dracut --kver",
        )


@set_rule("INITRD-REQUIRE")
def required(boot: BootSet) -> Iterator[Evidence]:
    """A module that was asked for is neither in the initrd nor, as the initrd says, part of the kernel."""
    if boot.initrd is None or not boot.require:
        return
    try:
        there = modules(boot.initrd, boot.release)
    except MbtoolError:
        return
    names = there.names
    for wanted in boot.require:
        if _plain(wanted) not in names:
            yield Evidence(
                f"the initrd has no module {wanted}",
                boot.initrd.path,
                expected=wanted,
                found=f"{len(there.files)} other modules",
                remedy="add it (initramfs-tools: /etc/initramfs-tools/modules; dracut: --add-drivers)",
            )


def modules(image: Image, release: str) -> Modules:
    """The modules in an initrd's archives for a kernel, or for every kernel where it has none for that one.

    Files outside of lib/modules count for any: a script may load them by their paths. Raises MbtoolError for an
    unknown format.
    """
    found = Modules()
    others = _trees(image).keys() - {release} if release in _trees(image) else set()
    for source, entry in members(image):
        path = entry.name.decode("utf-8", "replace").removeprefix(".").lstrip("/")
        tree = TREE.match(path)
        if tree and tree["release"] in others:
            continue
        name = path.rpartition("/")[2]
        found.add(name)
        if tree and name in (BUILTIN, ALIASES) and entry.header.c_filesize <= MAX_LIST:
            found.read(name, source.read(entry.data_offset, entry.header.c_filesize).decode("utf-8", "replace"))
    return found


def _trees(image: Image) -> dict[str, Place]:
    """The first stretch of modules for each release."""
    trees: dict[str, Place] = {}
    for place in image.places:
        if place.node.kind == "kernel-modules":
            trees.setdefault(str(place.node.get("version")), place)
    return trees


def _plain(name: str) -> str:
    return name.replace("-", "_")
