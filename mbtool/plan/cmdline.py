"""dom0's command line: what Xen makes of the string that the loader gave its kernel.

Xen: xen/arch/x86/setup.c, ``cmdline_cook`` and ``create_dom0``. Everything is bytes: to Xen only blanks matter.
"""

from __future__ import annotations

from mbtool.errors import InputError
from mbtool.formats.pv_start_info import MAX_GUEST_CMDLINE
from mbtool.formats.xen_versions import XenVersion
from mbtool.plan import xen_options


def cook(string: bytes, *, named: bool) -> bytes:
    """A module's string without leading blanks and, where the loader prepends a file name (``named``), without it.

    GRUB 2 prepends none; QEMU, GRUB legacy, syslinux and iPXE do. Trailing blanks stay.
    """
    string = string.lstrip(b" ")
    return string.partition(b" ")[2].lstrip(b" ") if named else string


def dom0_cmdline(string: bytes | None, xen_cmdline: bytes, version: XenVersion) -> bytes:
    """dom0's command line as Xen puts it together, before start_info's limit cuts it.

    ``string``: the kernel's cooked string, None when the loader gave it none. Raises InputError for a NUL.
    """
    if b"\0" in (string or b"") or b"\0" in xen_cmdline:
        raise InputError("a command line cannot hold a NUL byte")
    extra = xen_options.split(xen_cmdline)[1]
    if string is None and extra is None and not version.cmdline_always:
        return b""
    room = None if version.cmdline_limit is None else version.cmdline_limit - 1
    line = ((string or b"") + (extra or b""))[:room]
    if xen_options.flag(xen_cmdline, b"noapic", False) and b"noapic" not in line:
        line = (line + b" noapic")[:room]
    acpi = xen_options.acpi(xen_cmdline, version)
    if acpi and b"acpi=" not in line:
        line = (line + b" acpi=" + acpi)[:room]
    return line


def guest_cmdline(line: bytes) -> bytes:
    """What of ``line`` fits into start_info."""
    return line[: MAX_GUEST_CMDLINE - 1]
