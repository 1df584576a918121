"""The initrd: whether Linux can use it, and what Xen takes for it and for microcode."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile

from mbtool.check.boot_set import BootSet, holds_microcode, is_policy
from mbtool.check.image import Image
from mbtool.check.rule import Evidence, set_rule
from mbtool.errors import MbtoolError
from mbtool.formats import cpio_walk
from mbtool.formats.cpio_walk import Archive, Entry
from mbtool.model import STREAM_KINDS, Node, Severity
from mbtool.plan import xen_options
from mbtool.source import Budget, Source

NO_ROOT = "VFS: Unable to mount root fs"
ROOT = re.compile('"?(root=(?!"?(UUID|LABEL)=)|nfsroot=|rdinit=|initrd=|noinitrd$)')
"""Options by which Linux may do without an init in the initrd. It knows no file system by its UUID or label."""


def archives(image: Image) -> bool:
    """Whether there is anything in the file that Linux unpacks. Raises MbtoolError for an unknown format."""
    return image.find("cpio") is not None


@set_rule("INITRD-NO-INIT")
def without_init(boot: BootSet) -> Iterator[Evidence]:
    """The initrd has no init; of several archives the format says so itself, unless that is certain to be an error.

    It is where the command line names no root file system either, and the kernel brings no initramfs along.
    """
    initrd = boot.initrd
    try:
        if initrd is None or initrd.content.get("init") or boot.kernel_settings.own_initramfs:
            return
        kind = initrd.content.kind
        lost = kind in ("cpio", "initrd") and bool(boot.release) and without_root(boot)
        if kind != "cpio" and not only_microcode(initrd) and not lost:
            return
    except MbtoolError:
        return
    yield Evidence(
        "holds no init program, and no root= names a root file system that Linux could mount itself"
        if lost
        else "holds no init program: Linux mounts a root file system itself",
        initrd.path,
        kind,
        expected="/init",
        console=NO_ROOT if lost else "",
        severity=Severity.ERROR if lost else Severity.WARNING,
    )


def for_linux(boot: BootSet) -> bool:
    """Whether the initrd is for Linux; so it is where no kernel is given."""
    return boot.kernel is None or bool(boot.release)


def words(boot: BootSet) -> list[str]:
    """The kernel's words of its command line, those for init left out. Raises InputError for a NUL."""
    line = boot.kernel_settings.cmdline(boot.dom0_cmdline)
    return os.fsdecode((line or b"").partition(b" -- ")[0]).split()


def without_root(boot: BootSet) -> bool:
    """Whether the kernel's command line is known, and names nothing that a kernel without an initrd could mount."""
    if boot.kernel_settings.cmdline(boot.dom0_cmdline) is None:
        return False
    return not any(ROOT.match(word) for word in words(boot))


@set_rule("XEN-INITRD")
def picked(boot: BootSet) -> Iterator[Evidence]:
    """Xen hands dom0 the first module that nobody claimed, whatever is in it, and has little use for the others."""
    initrd, number, *spare = boot.initrd, *(boot.roles.candidates or (0,))
    console = f"Multiple initrd candidates, picking module #{number}" if spare else ""
    meant = next((image for image in boot.modules if image is not initrd and has_init(image)), None)
    if meant is not None and (initrd is None or not has_init(initrd)):
        yield Evidence(
            f"dom0 does not get it, but {initrd.path}, which has no init" if initrd else "dom0 gets no initrd",
            meant.path,
            expected="dom0's initrd as the first module behind its kernel that ucode= does not name",
            found=f"module #{boot.modules.index(meant) + 1}",
            console=console,
        )
    else:
        for other in spare:
            yield replace(_spare(boot, other), console=console)


def _spare(boot: BootSet, number: int) -> Evidence:
    """A module that could be dom0's initrd and is not."""
    image = boot.modules[number - 1]
    if is_policy(image):
        return _warned(image, f"module #{number} is a security policy, for which this Xen was not built")
    if not only_microcode(image):
        return _warned(image, f"module #{number} is nothing that Xen uses")
    if image.root.kind == "microcode":
        what, remedy = "which Xen takes by its number only", f"add ucode={number} to Xen's options"
    elif not early_microcode(image):
        what, remedy = "in a compressed archive, which Xen does not unpack", "leave the archive uncompressed"
    elif number in boot.roles.scanned:
        what, remedy = "which Xen finds all the same", "none is needed"
    else:
        what, remedy = "which Xen does not look for", "add ucode=scan to Xen's options"
    return Evidence(f"module #{number} is microcode, {what}", image.path, remedy=remedy, severity=Severity.INFO)


def _warned(image: Image, message: str) -> Evidence:
    return Evidence(message, image.path, severity=Severity.WARNING)


def has_init(image: Image) -> bool:
    """Whether Linux finds an init program in an initrd; False for what is none."""
    try:
        return bool(image.content.get("init"))
    except MbtoolError:
        return False


def only_microcode(image: Image) -> bool:
    """Whether there is microcode in a file, and nothing that makes it an initrd."""
    return holds_microcode(image) and image.find("kernel-modules") is None and not has_init(image)


@set_rule("INITRD-MICROCODE")
def microcode(boot: BootSet) -> Iterator[Evidence]:
    """Xen is told where to look for microcode, and there is none."""
    told = any(xen_options.custom(boot.options, b"ucode"))
    named = boot.xen_cfg is not None and boot.xen_cfg.line("ucode") is not None
    if not boot.on_xen or not told or named:
        return
    if boot.modules and boot.ucode.number:
        yield from _numbered(boot)
    images = [boot.modules[number - 1] for number in boot.roles.scanned]
    if not boot.modules and boot.initrd is not None:
        images = [boot.initrd]
    try:
        if not boot.ucode.scan or not images or any(map(early_microcode, images)):
            return
        root = images[0].root
    except MbtoolError:
        return  # UNREADABLE says so
    yield Evidence(
        "ucode=scan, but the initrd does not begin with an archive that holds microcode"
        if len(images) == 1
        else f"ucode=scan, but none of {len(images)} modules begins with an archive that holds microcode",
        images[0].path,
        root.kind,
        0,
        expected="an uncompressed cpio archive with kernel/x86/microcode/… first",
        found=next(segments(root)).kind,
        console="not found during CPIO scan" if boot.version.ucode_last_word else "",
    )


def _numbered(boot: BootSet) -> Iterator[Evidence]:
    """ucode=N: there is such a module, and it is what this release takes."""
    option, number = f"ucode={boot.ucode.number}", boot.roles.microcode
    new = boot.version.ucode_last_word
    if not number:
        count = len(boot.modules)
        chosen = boot.ucode.number + (count + 1 if boot.ucode.number < 0 else 0)
        yield Evidence(
            f"{option} names no module: dom0's kernel has {count} behind it",
            boot.modules[0].path,
            expected=f"1 to {count}, or -1 to -{count} from the end",
            console=f"Microcode: Chosen module {chosen} out of range [1, {count + 1})" if new else "",
        )
        return
    image = boot.modules[number - 1]
    try:
        kind = image.root.kind
        archive = early_microcode(image)
    except MbtoolError:
        return
    if kind != "microcode" and not (archive and new):
        yield Evidence(
            f"{option} names an archive: before 4.20, Xen takes it for the microcode itself"
            if archive
            else f"{option} names a file that is no microcode",
            image.path,
            kind,
            0,
            expected="microcode" if new else "microcode, in no archive",
            found=kind,
            console="Microcode: Parse error" if new else "Parsing microcode blob error",
            remedy=f"name the archive behind dom0's initrd, and write ucode=scan for {option}" if archive else "",
        )


def segments(root: Node) -> Iterator[Node]:
    """The archives and streams of an initrd, as they lie one behind the other; what is none is one by itself."""
    return iter(root.children if root.kind == "initrd" and root.children else (root,))


def unpacked(image: Image) -> Iterator[tuple[Source, Archive]]:
    """The archives in the order of unpacking, each to be walked before the next, with the source of its offsets.

    Raises MbtoolError for an unknown format.
    """
    from mbtool.formats import compression

    for segment in segments(image.root):
        source = image.source.part(segment.offset)
        if segment.kind in STREAM_KINDS:
            yield from cpio_walk.archives(compression.open_stream(source, Budget(image.limits)))
        elif segment.kind == "cpio":
            yield source, Archive(source)


def members(image: Image) -> Iterator[tuple[Source, Entry]]:
    """The members of all archives in the order of unpacking, each with the source that its offsets are in.

    Raises MbtoolError for an unknown format.
    """
    return ((source, entry) for source, archive in unpacked(image) for entry in archive)


def early_microcode(image: Image) -> bool:
    """Whether microcode is found without unpacking. Raises MbtoolError for an unknown format."""
    plain = takewhile(lambda node: node.kind == "cpio", segments(image.root))
    return any(node.find("microcode") for node in plain)
