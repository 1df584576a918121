"""Whether a kernel was built with what the set wants of it, as its configuration tells."""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.check.boot_set import BootSet
from mbtool.check.initrd import archives, segments, words
from mbtool.check.rule import Evidence, set_rule
from mbtool.errors import MbtoolError
from mbtool.model import STREAM_KINDS, Severity
from mbtool.plan.xen_options import Mode

NEEDED = "CONFIG_XEN_DOM0"
INITRD = "CONFIG_BLK_DEV_INITRD"
RAM_DISKS, RAM_DISK = "CONFIG_BLK_DEV_RAM", "root=/dev/ram0"
"""What lets Linux take a file system for an initrd of the old kind, and what has it stay the root."""


@set_rule("LINUX-NO-DOM0")
def dom0(boot: BootSet) -> Iterator[Evidence]:
    """The kernel was built without what dom0 needs. Its notes do not tell: they have the dom0 bit all the same."""
    if not boot.on_xen or boot.kernel is None:
        return
    settings = boot.kernel_settings
    if settings.lines and not settings.on(NEEDED):
        yield Evidence(
            "the kernel was built without dom0 support",
            boot.kernel.path,
            field=settings.where,
            expected=f"{NEEDED}=y",
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
        kind, what = initrd.told
        if (kind and archives(initrd)) or (boot.xen_cfg is not None and not initrd.source.read(0, 1)):
            return  # Xen's EFI loader does not come past an empty file: XEN-CFG-FILE says so
    except MbtoolError:
        return  # UNREADABLE says so
    settings = boot.kernel_settings
    as_root = what == "ext" and RAM_DISK in words(boot)
    if as_root and settings.on(RAM_DISKS):
        return
    yield Evidence(
        "holds no archive that Linux unpacks",
        initrd.path,
        kind,
        0,
        expected="a cpio archive (newc), compressed or not",
        found=what,
        severity=Severity.WARNING if (as_root and not settings.lines) or settings.own_initramfs else None,
    )


@set_rule("INITRD-NOT-CONFIGURED")
def unpackers(boot: BootSet) -> Iterator[Evidence]:
    """The kernel was built without initrds, or without an unpacker for a part of this one."""
    if boot.initrd is None or boot.kernel is None:
        return
    settings = boot.kernel_settings
    if settings.off(INITRD):
        text = "the kernel was built without support for an initrd"
        yield Evidence(text, boot.initrd.path, field=settings.where, expected=f"{INITRD}=y", found="not set")
    if not settings.on(INITRD):
        return
    try:
        kinds = dict.fromkeys(segment.kind for segment in segments(boot.initrd.root))
    except MbtoolError:
        return  # UNREADABLE says so
    for kind in kinds:
        needed = f"CONFIG_RD_{kind.upper()}"
        if kind in STREAM_KINDS and not settings.on(needed):
            yield Evidence(
                f"the kernel was built without an unpacker for {kind}",
                boot.initrd.path,
                kind,
                field=settings.where,
                expected=f"{needed}=y",
                found="not set",
                console=f"compression method {kind} not configured",
            )
