"""Command lines: what a loader's strings become for Xen and for dom0.

Xen: xen/arch/x86/setup.c, ``cmdline_cook``, ``create_dom0`` and the split at `` -- ``; xen/common/kernel.c,
``parse_params`` and ``parse_bool``. Everything is bytes: Xen looks at nothing but blanks.
"""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.errors import InputError
from mbtool.formats.pv_start_info import MAX_GUEST_CMDLINE
from mbtool.plan.xen_versions import XenVersion

MAX_PARAM_SIZE = 128
ACPI_PARAM_SIZE = 10

_TRUE = frozenset({b"1", b"on", b"yes", b"true", b"enable"})
_FALSE = frozenset({b"0", b"no", b"off", b"false", b"disable"})


def cook(string: bytes, *, named: bool) -> bytes:
    """A module's string without leading blanks and, where the loader prepends a file ``named``, without that.

    GRUB 2 prepends none; QEMU, GRUB legacy, syslinux and iPXE do. Trailing blanks stay.
    """
    string = string.lstrip(b" ")
    return string.partition(b" ")[2].lstrip(b" ") if named else string


def split(xen_cmdline: bytes) -> tuple[bytes, bytes | None]:
    """Xen's own part, and what follows the first `` -- `` for dom0 (with one leading blank) or None."""
    own, mark, extra = xen_cmdline.partition(b" -- ")
    return own, b" " + extra.lstrip(b" ") if mark else None


def options(xen_cmdline: bytes) -> Iterator[tuple[str, bytes | None, bool]]:
    """Xen's options in order as (name, value, wanted): value None without ``=``, ``no-name`` is not wanted."""
    for word in split(xen_cmdline)[0].split(b" "):
        if word:
            name, equals, value = word[: MAX_PARAM_SIZE - 1].partition(b"=")
            wanted = not name.startswith(b"no-")
            yield name.removeprefix(b"no-").decode("latin-1"), value if equals else None, wanted


def values(xen_cmdline: bytes, name: str) -> tuple[str, ...]:
    """Every value given to one option."""
    return tuple(
        (value or b"").decode("latin-1") if wanted else "no"
        for key, value, wanted in options(xen_cmdline)
        if key == name
    )


def dom0_cmdline(string: bytes | None, xen_cmdline: bytes, version: XenVersion) -> bytes:
    """dom0's command line as Xen puts it together, before start_info's limit cuts it.

    ``string``: the kernel's cooked string, None when the loader gave it none. Raises InputError for a NUL.
    """
    if b"\0" in (string or b"") or b"\0" in xen_cmdline:
        raise InputError("a command line cannot hold a NUL byte")
    extra = split(xen_cmdline)[1]
    if string is None and extra is None and not version.cmdline_always:
        return b""
    line = (string or b"") + (extra or b"")
    limit = version.cmdline_limit
    line = line if limit is None else line[: limit - 1]
    if _noapic(xen_cmdline) and b"noapic" not in line:
        line += b" noapic"
        line = line if limit is None else line[: limit - 1]
    acpi = _acpi(xen_cmdline, version)
    if acpi and b"acpi=" not in line:
        line += b" acpi=" + acpi
    return line if limit is None else line[: limit - 1]


def guest_cmdline(line: bytes) -> bytes:
    """What of ``line`` fits into start_info."""
    return line[: MAX_GUEST_CMDLINE - 1]


def _noapic(xen_cmdline: bytes) -> bool:
    """The boolean option ``noapic``: the last value that is one counts."""
    on = False
    for name, value, wanted in options(xen_cmdline):
        if name == "noapic":
            if not value or value in _TRUE:
                on = wanted
            elif value in _FALSE:
                on = not wanted
    return on


def _acpi(xen_cmdline: bytes, version: XenVersion) -> bytes:
    """What of ``acpi=`` Xen passes on."""
    kept = b""
    for name, value, wanted in options(xen_cmdline):
        if name != "acpi" or (not wanted and value):
            continue
        given = (value or b"") if wanted else b"no"
        if version.acpi_as_given or given in _FALSE or given in (b"force", b"ht", b"noirq"):
            kept = given[: ACPI_PARAM_SIZE - 1]
    return kept
