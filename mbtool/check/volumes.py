"""GRUB's names for the volumes of a disk: by number, by UUID or label, by a file that is there.

Source: GRUB manual, "Device syntax", "search"; grub-core/kern/disk.c, kern/partition.c, commands/search.c.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mbtool.check.boot_entries import System
from mbtool.check.trees import Volume

NUMBERED = re.compile(r"hd0,(?P<scheme>gpt|msdos)?(?P<number>\d{1,9})")
WHOLE = ("hd0", "cd", "cd0")
"""The disk itself, which is the first one as GRUB counts when it was booted from."""


def named(device: str, volumes: Sequence[tuple[Volume, System]]) -> System | None:
    """The volume that a device is, in GRUB's words or as ``uuid=…``, ``label=…``, ``file=…``; None for no one."""
    return next((system for volume, system in volumes if _is(device, volume)), None)


def _is(device: str, volume: Volume) -> bool:
    kind, _, value = device.partition("=")
    tree = volume.tree
    if kind in ("uuid", "label", "file"):
        found = {"uuid": tree.uuid.lower() == value.lower(), "label": tree.label == value}
        return bool(value) and (tree.find(value) is not None if kind == "file" else found[kind])
    match = NUMBERED.fullmatch(device)
    if match is None:
        return device in WHOLE and not volume.number
    return int(match["number"]) == volume.number and match["scheme"] in (None, volume.scheme)
