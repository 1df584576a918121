"""What a kernel's configuration says of it: the one beside it, as distributions install it, or that inside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mbtool.check.boot_set import BootSet
from mbtool.check.image import Image
from mbtool.check.initrd import archives, segments
from mbtool.check.rule import Evidence, set_rule
from mbtool.errors import MbtoolError
from mbtool.formats import linux_details
from mbtool.model import STREAM_KINDS, Severity
from mbtool.plan.xen_options import Mode
from mbtool.source import MIB, read_file

MAX_CONFIG = 4 * MIB
NEEDED = b"CONFIG_XEN_DOM0=y"
INITRD = "CONFIG_BLK_DEV_INITRD"
RAM_DISKS, RAM_DISK = b"CONFIG_BLK_DEV_RAM=y", "root=/dev/ram0"
"""What lets Linux take a file system for an initrd of the old kind, and what has it stay the root."""


@set_rule("LINUX-NO-DOM0")
def dom0(boot: BootSet) -> Iterator[Evidence]:
    """The kernel was built without what dom0 needs. Its notes do not tell: they have the dom0 bit all the same."""
    if not boot.on_xen or boot.kernel is None:
        return
    where, lines = _settings(boot, boot.kernel)
    if lines and NEEDED not in lines:
        yield Evidence(
            "the kernel was built without dom0 support",
            boot.kernel.path,
            field=where,
            expected=NEEDED.decode(),
            found="not set",
            severity=None if boot.mode is Mode.PV else Severity.WARNING,  # that one does find ACPI
        )


@set_rule("INITRD-FORMAT")
def form(boot: BootSet) -> Iterator[Evidence]:
    """What was given as an initrd is none: no archives, nor a file system that is to be the root in a RAM disk."""
    initrd = boot.initrd
    if initrd is None:
        return
    try:
        if archives(initrd):
            return
        content = initrd.content
    except MbtoolError:
        return  # UNREADABLE says so
    lines = _settings(boot, boot.kernel)[1] if boot.kernel is not None else []
    as_root = content.kind == "ext" and RAM_DISK in (boot.cmdline or "").split()
    if as_root and RAM_DISKS in lines:
        return
    yield Evidence(
        "holds no archive that Linux unpacks",
        initrd.path,
        initrd.root.kind,
        0,
        expected="a cpio archive (newc), compressed or not",
        found=str(content.get("seems") or content.kind),
        severity=Severity.WARNING if as_root and not lines else None,
    )


@set_rule("INITRD-NOT-CONFIGURED")
def unpackers(boot: BootSet) -> Iterator[Evidence]:
    """The kernel was built without initrds, or without an unpacker for a part of this one."""
    if boot.initrd is None or boot.kernel is None:
        return
    where, lines = _settings(boot, boot.kernel)
    if f"# {INITRD} is not set".encode() in lines:
        text = "the kernel was built without support for an initrd"
        yield Evidence(text, boot.initrd.path, field=where, expected=f"{INITRD}=y", found="not set")
    if f"{INITRD}=y".encode() not in lines:
        return
    try:
        kinds = dict.fromkeys(segment.kind for segment in segments(boot.initrd.root))
    except MbtoolError:
        return  # UNREADABLE says so
    for kind in kinds:
        needed = f"CONFIG_RD_{kind.upper()}=y"
        if kind in STREAM_KINDS and needed.encode() not in lines:
            yield Evidence(
                f"the kernel was built without an unpacker for {kind}",
                boot.initrd.path,
                kind,
                field=where,
                expected=needed,
                found="not set",
                console=f"compression method {kind} not configured",
            )


def _settings(boot: BootSet, kernel: Image) -> tuple[str, list[bytes]]:
    """Where the kernel's configuration is, and its lines; none where nothing tells it."""
    try:
        where, text = _beside(boot, kernel) or _inside(boot, kernel)
    except MbtoolError:
        return "", []  # nobody promised that there is one, and whatever is wrong with the kernel is said elsewhere
    return where, text.splitlines()


def _beside(boot: BootSet, kernel: Image) -> tuple[str, bytes] | None:
    """Name and text of the file ``config-RELEASE`` in the kernel's directory."""
    config = Path(kernel.path).with_name(f"config-{boot.release}")
    try:
        return str(config), read_file(config, MAX_CONFIG)
    except MbtoolError:
        return None


def _inside(boot: BootSet, kernel: Image) -> tuple[str, bytes]:
    """The configuration that a kernel built with CONFIG_IKCONFIG carries; b"" when it carries none."""
    place = kernel.place("linux-kernel")
    if place is None or not place.node.children:
        return "", b""
    elf = kernel.dom0_kernel(boot.version).elf
    return "IKCONFIG", linux_details.config(elf, place.start, place.start + place.node.size) or b""
