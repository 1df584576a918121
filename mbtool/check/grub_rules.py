"""What is wrong with one of GRUB's configurations as a whole, whatever its entries start."""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.check.boot_entry import device_of, unplaced
from mbtool.check.rule import Evidence
from mbtool.formats import grub_cfg
from mbtool.formats.grub_cfg import GrubMenu
from mbtool.model import Severity


def syntax(text: str, config: str) -> Iterator[tuple[str, Evidence]]:
    """What GRUB does not take for a script."""
    for fault in grub_cfg.faults(text):
        yield "ENTRY-SYNTAX", Evidence(fault.message, config, line=fault.line)


def lost_default(menu: GrubMenu, config: str) -> Iterator[tuple[str, Evidence]]:
    """What GRUB is to start by itself, and is not in its menu."""
    if menu.lost_default:
        message = "default names no entry: GRUB starts the first one"
        yield "ENTRY-DEFAULT", Evidence(message, config, field="default", found=menu.lost_default)


def dead_end(path: str, config: str, *, away: bool) -> tuple[str, Evidence]:
    """A configuration without entries that leads to a file which is not there.

    ``away``: nor is its volume, which may be on another disk.
    """
    message = "it leads to a configuration that is not there"
    if away:
        message = f"it leads to a volume that is not on this disk: {device_of(path)}"
    return "ENTRY-NO-MENU", Evidence(
        message,
        config,
        found=path,
        console="" if away else f"error: file `{unplaced(path)}' not found.",
        severity=Severity.WARNING if away else None,
    )
