"""The disk beside a plan: it boots the same files, and tells Xen in words what the plan took for granted.

What a plan assumes must be what the boot does. Xen is told dom0's memory as it was given to the plan, or as the
plan assumed it, and to use the first serial port when nobody says where its console is: ``mbtool prove`` reads it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from mbtool.build.disk import source_date_epoch
from mbtool.build.dom0 import Planned, Request
from mbtool.disk.boot_set import BootSet, efi_beside, firmware, request
from mbtool.disk.image import Progress, plan_disk, write_disk
from mbtool.plan import xen_options
from mbtool.record import record
from mbtool.source import open_file

if TYPE_CHECKING:
    from mbtool.build.dom0_pvh import PlannedPvh

SERIAL = "console=com1,vga com1=115200"


@record
class DiskBoot:
    """How a disk boots: on which ``firmware`` ("bios", "uefi"), Xen's command line, notes for the user."""

    firmware: tuple[str, ...]
    xen_cmdline: str
    notes: tuple[str, ...]


def complete(asked: Request) -> Request:
    """The request with the Xen EFI image named that lies beside the Xen given, if there is one."""
    return asked if asked.xen_efi or asked.xen is None else replace(asked, xen_efi=efi_beside(asked.xen))


def write(asked: Request, planned: Planned | PlannedPvh, fd: int, progress: Progress) -> DiskBoot:
    """Write the disk of a plan to an empty file; ``asked`` names a Xen image.

    Raises MbtoolError as ``boot_set.request`` and ``write_disk`` do.
    """
    words = xen_cmdline(asked, planned)
    wanted, notes = request(
        BootSet(
            kernel=asked.kernel,
            initrd=asked.initrd,
            xen=asked.xen,
            xen_efi=asked.xen_efi,
            cmdline=asked.cmdline or "",
            xen_cmdline=words,
            mtime=source_date_epoch(),
        )
    )
    write_disk(plan_disk(wanted), fd, progress)
    boots = firmware(wanted)
    more = (*_other_version(asked, planned), *_named(planned)) if "uefi" in boots else ()
    return DiskBoot(boots, words, (*notes, *more))


def xen_cmdline(asked: Request, planned: Planned | PlannedPvh) -> str:
    """Xen's command line as given, with what the plan knows from elsewhere added before any `` -- ``."""
    own, mark, extra = asked.xen_cmdline.partition(" -- ")
    words = [own]
    if not any(xen_options.custom(os.fsencode(own), b"console")):
        words.append(SERIAL)
    if asked.pvh:
        words.append("dom0=pvh,verbose")  # verbose: Xen prints dom0's memory map
        if not any(xen_options.custom(os.fsencode(own), b"loglvl")):
            words.append("loglvl=all")  # and its addresses
    words += [f"dom0_mem={value}" for value in (asked.dom0_mem, planned.dom0_mem) if value]
    return " ".join(word for word in words if word) + mark + extra


def _other_version(asked: Request, planned: Planned | PlannedPvh) -> Iterator[str]:
    """A note when Xen's EFI image is of another version than the one that is planned for."""
    if asked.xen_efi is None:
        return
    from mbtool.identify import inspect

    with open_file(asked.xen_efi) as source:
        node = inspect(source, asked.limits).find("xen-hypervisor")
    version = str((node and node.get("version")) or "of unknown version")
    if version != planned.plan.version.text:
        yield f"UEFI: its Xen is {version}, and the plan is for {planned.plan.version}"


def _named(planned: Planned | PlannedPvh) -> Iterator[str]:
    """A note where Xen's own EFI loader counts as one that prepends no name, and prepends it all the same."""
    if planned.plan.version.efi_keeps_name:
        name = planned.plan.version
        yield f"UEFI: Xen {name} puts the kernel's file name before dom0's command line, which is not planned for"
