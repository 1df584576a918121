"""The file system that Linux makes of an initrd: whether all of it is there, and whether init runs in it.

The formats look at each archive by itself; where one of them seems to lack something, all are unpacked again here,
for their members are one file system.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from mbtool.check.boot_set import BootSet
from mbtool.check.image import Image
from mbtool.check.initrd import NO_ROOT, ROOT, for_linux, unpacked, words
from mbtool.check.rule import Evidence, set_rule
from mbtool.errors import MbtoolError
from mbtool.formats.cpio_walk import show
from mbtool.formats.elf_headers import EM_386, EM_X86_64
from mbtool.formats.initrd_init import MACHINES, NOTHING, Refusal, refusal
from mbtool.formats.initrd_tree import Tree
from mbtool.model import Severity

XLF_KERNEL_64 = 1
COMPAT = "CONFIG_IA32_EMULATION"


@set_rule("INITRD-NO-DIRECTORY")
def without_directory(boot: BootSet) -> Iterator[Evidence]:
    """Members that Linux drops, since their directories do not come before them."""
    initrd = boot.initrd
    try:
        if initrd is None or not for_linux(boot) or not _archives_with(initrd, "without_directory"):
            return
        if boot.kernel_settings.own_initramfs or (boot.kernel is None and not initrd.content.get("init")):
            return  # made to stand behind what has the directories
        tree = _tree(initrd)
    except MbtoolError:
        return  # UNREADABLE says so
    if tree.dropped:
        more = tree.dropped - len(tree.first_dropped)
        names = ", ".join(map(show, tree.first_dropped)) + (f" and {more} more" if more else "")
        yield Evidence(
            f"Linux drops {tree.dropped} members whose directory does not come before them: {names}"
            if tree.dropped > 1
            else f"Linux drops {names}, whose directory does not come before it",
            initrd.path,
            initrd.content.kind,
            expected="a member for each directory, before those in it",
            found=f"{tree.dropped} without",
        )


@set_rule("INITRD-INIT")
def init(boot: BootSet) -> Iterator[Evidence]:
    """The init program is there, and Linux cannot run it."""
    try:
        if boot.initrd is None or not for_linux(boot) or _other_init(boot):
            return
        if boot.initrd.content.get("init") != "/init":
            return
        machines = _machines(boot)
        if not _archives_with(boot.initrd, "init_refused") and machines == MACHINES:
            return
        why = _refusal(boot, b"/init", machines)
    except MbtoolError:
        return
    if why is not None:
        yield Evidence(
            f"/init {why.reason}",
            boot.initrd.path,
            "cpio",
            field="init",
            console=NO_ROOT if why.reason == NOTHING else f"Failed to execute /init (error {-why.error})",
        )


@set_rule("INITRD-RDINIT")
def rdinit(boot: BootSet) -> Iterator[Evidence]:
    """The program that rdinit= names is not in the initrd, or Linux cannot run it."""
    try:
        if boot.initrd is None or not for_linux(boot) or boot.initrd.find("cpio") is None:
            return
        named = [word.removeprefix("rdinit=") for word in words(boot) if word.startswith("rdinit=")]
        if not named or '"' in named[-1] or "noinitrd" in words(boot):
            return
        why = _refusal(boot, os.fsencode(named[-1]), _machines(boot))
    except MbtoolError:
        return
    if why is None:
        return
    gone = why.reason == NOTHING
    mounts = gone and any(ROOT.match(word) for word in words(boot) if not word.startswith("rdinit="))
    yield Evidence(
        f"rdinit={named[-1]} {why.reason}",
        boot.initrd.path,
        boot.initrd.content.kind,
        expected="a program in the initrd",
        found=named[-1],
        console=NO_ROOT if gone else f"Failed to execute {named[-1]} (error {-why.error})",
        severity=Severity.WARNING if mounts else Severity.ERROR,
    )


def _refusal(boot: BootSet, path: bytes, machines: frozenset[int]) -> Refusal | None:
    """Why Linux does not run a program; None also where what lacks may be in the kernel's own initramfs."""
    assert boot.initrd is not None
    why = refusal(_tree(boot.initrd), path, machines)
    return None if why is not None and why.absent and boot.kernel_settings.own_initramfs else why


def _machines(boot: BootSet) -> frozenset[int]:
    """Whose programs the kernel runs, as far as its header and its configuration tell."""
    bzimage = boot.kernel.find("bzimage") if boot.kernel is not None else None
    flags = bzimage.get("xloadflags") if bzimage is not None else None
    if isinstance(flags, int) and not flags & XLF_KERNEL_64:
        return frozenset((EM_386,))
    settings = boot.kernel_settings
    return frozenset((EM_X86_64,)) if settings.on("CONFIG_X86_64") and not settings.on(COMPAT) else MACHINES


def _archives_with(initrd: Image, field: str) -> bool:
    """Whether an archive has a field that says that it lacks something, by itself."""
    return any(node.get(field) for node in initrd.root.walk() if node.kind == "cpio")


def _tree(initrd: Image) -> Tree:
    """What all archives unpack to, one over the other. Raises MbtoolError for an unknown format."""
    tree = Tree()
    for source, archive in unpacked(initrd):
        for entry in archive:
            tree.add(entry.name, entry.header, entry.reader(source))
        if archive.trailer:
            tree.end_of_archive()
    return tree


def _other_init(boot: BootSet) -> bool:
    """Whether Linux is told to run another program of the initrd, or to leave it alone."""
    return any(word.startswith("rdinit=") or word == "noinitrd" for word in words(boot))
