"""The initrd: whether Linux can use it, whether it goes with the kernel, whether it holds what is asked for."""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.check.boot_set import BootSet
from mbtool.check.image import Image
from mbtool.check.rule import Evidence, set_rule
from mbtool.errors import MbtoolError
from mbtool.model import Severity
from mbtool.plan import xen_options

MODULE_ENDS = (".ko", ".ko.xz", ".ko.gz", ".ko.zst")


def archives(image: Image) -> bool:
    """Whether there is anything in the file that Linux unpacks. Raises MbtoolError for an unknown format."""
    return image.find("cpio") is not None


@set_rule("INITRD-FORMAT")
def form(boot: BootSet) -> Iterator[Evidence]:
    """What was given as an initrd is none."""
    initrd = boot.initrd
    if initrd is None:
        return
    try:
        if archives(initrd):
            return
    except MbtoolError:
        return  # UNREADABLE says so
    yield Evidence(
        "holds no archive that Linux unpacks",
        initrd.path,
        initrd.root.kind,
        0,
        expected="a cpio archive (newc), compressed or not",
        found=initrd.content.kind,
    )


@set_rule("INITRD-NO-INIT")
def without_init(boot: BootSet) -> Iterator[Evidence]:
    """The initrd of a kernel is one archive, and has no init in it; of several the format says so itself."""
    initrd = boot.initrd
    try:
        if initrd is None or initrd.content.kind != "cpio" or initrd.content.get("init"):
            return
    except MbtoolError:
        return
    yield Evidence(
        "holds no init program: Linux mounts a root file system itself",
        initrd.path,
        "cpio",
        expected="/init",
        severity=Severity.WARNING,
    )


@set_rule("INITRD-MODULES")
def modules(boot: BootSet) -> Iterator[Evidence]:
    """The initrd's kernel modules are all for other kernels."""
    initrd = boot.initrd
    if initrd is None or not boot.release:
        return
    try:
        trees = [place for place in initrd.places if place.node.kind == "kernel-modules"]
    except MbtoolError:
        return
    versions = [str(place.node.get("version")) for place in trees]
    if versions and boot.release not in versions:
        yield Evidence(
            "the kernel modules in the initrd are for another kernel",
            initrd.path,
            trees[0].path,
            trees[0].start,
            "version",
            expected=boot.release,
            found=", ".join(versions),
            remedy=f"make the initrd for this kernel: update-initramfs -c -k {boot.release}, or dracut --kver",
        )


@set_rule("INITRD-MICROCODE")
def microcode(boot: BootSet) -> Iterator[Evidence]:
    """Xen is told to look for microcode in the initrd, and there is none where it looks."""
    wanted = [value for value in xen_options.custom(boot.options, b"ucode") if b"scan" in value.split(b",")]
    initrd = boot.initrd
    if not boot.on_xen or not wanted or initrd is None:
        return
    try:
        root = initrd.root
    except MbtoolError:
        return
    first = root if root.kind == "cpio" else next(iter(root.children), root) if root.kind == "initrd" else root
    if first.kind != "cpio" or not any(node.kind == "microcode" for node in first.walk()):
        yield Evidence(
            "ucode=scan, but the initrd does not begin with an archive that holds microcode",
            initrd.path,
            root.kind,
            0,
            expected="an uncompressed cpio archive with kernel/x86/microcode/… first",
            found=first.kind,
        )


@set_rule("INITRD-REQUIRE")
def required(boot: BootSet) -> Iterator[Evidence]:
    """A module that was asked for is not in the initrd."""
    if boot.initrd is None or not boot.require:
        return
    try:
        there = module_names(boot.initrd)
    except MbtoolError:
        return
    for wanted in boot.require:
        if wanted.replace("-", "_") not in there:
            yield Evidence(
                f"the initrd has no module {wanted}",
                boot.initrd.path,
                expected=wanted,
                found=f"{len(there)} other modules",
                remedy="add it (initramfs-tools: /etc/initramfs-tools/modules; dracut: --add-drivers)",
            )


def module_names(image: Image) -> set[str]:
    """The kernel modules in an initrd's archives, ``-`` written as ``_`` as the kernel does."""
    from mbtool.formats import compression
    from mbtool.formats.cpio_walk import Archive
    from mbtool.model import STREAM_KINDS
    from mbtool.source import Budget

    root = image.root
    found: set[str] = set()
    for segment in root.children if root.kind == "initrd" else (root,):
        source = image.source.part(segment.offset)
        if segment.kind in STREAM_KINDS:
            source = compression.open_stream(source, Budget(image.limits))
        elif segment.kind != "cpio":
            continue
        for entry in Archive(source):
            name = entry.name.decode("utf-8", "replace").rpartition("/")[2]
            stem = next((name.removesuffix(end) for end in MODULE_ENDS if name.endswith(end)), "")
            if stem:
                found.add(stem.replace("-", "_"))
    return found
