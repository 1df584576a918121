"""Where Xen releases differ in how they build a PVH dom0: one row per difference, with the first release of each.

Read from every release tag 4.14.0 to 4.22.0 of xen/arch/x86/hvm/dom0_build.c (and setup.c for ``cmdline_always``).
Several came to older branches in point releases; a version without one ("4.19") is taken for the branch's last.
"""

from __future__ import annotations

import re

from mbtool.formats.xen_versions import XenVersion
from mbtool.record import record

_ALWAYS = frozenset(
    {"DSDT", "FACP", "FACS", "PSDT", "SSDT", "SBST", "MCFG", "SLIC", "MSDM", "WDAT", "FPDT", "S3PT"},
)
_TPM = frozenset({"TCPA", "TPM2"})
_LAST = 1 << 16
"""A point release later than all."""

# fmt: off
MODULE_STRING = ((4, 15, 0),)
"""The initrd's own command line is handed on, and its strings end on a word instead of a page."""
MAP_PRINTED = ((4, 17, 0),)
"""``dom0=verbose`` prints dom0's memory map."""
VFCT = ((4, 18, 0),)
CHECKED_ADDRESS = ((4, 19, 0),)
"""Looks whether the kernel's place is RAM, moves it if it may, and prefers the room below the kernel."""
STRING_COUNTED = ((4, 18, 5), (4, 19, 2), (4, 20, 1), (4, 21, 0))
"""The room for the initrd's command line is looked for too; an empty one is none, nor is an empty initrd."""
OEM_TABLES = STRING_COUNTED
XSDT_FROM_RSDT = ((4, 18, 4), (4, 19, 1), (4, 20, 0))
"""Makes a sound XSDT on a host that has only an RSDT."""
TPM_TABLES = ((4, 19, 5), (4, 20, 3), (4, 21, 1), (4, 22, 0))
DOM0_FEATURE = ((4, 20, 4), (4, 21, 2), (4, 22, 0))
"""Asks a kernel with a SUPPORTED_FEATURES note for the dom0 feature."""
NO_NMI_SOURCES = ((4, 16, 3), (4, 17, 1), (4, 18, 0))
"""Leaves the host's NMI sources out of the MADT."""
# fmt: on


@record
class PvhRules:
    """How one release builds a PVH dom0; see the rows above."""

    module_string: bool
    string_counted: bool
    checked_address: bool
    dom0_feature: bool
    nmi_sources: bool
    xsdt_from_rsdt: bool
    map_printed: bool
    cmdline_always: bool
    """dom0 gets a command line, if an empty one, when nobody gave its kernel a string."""
    tables: frozenset[str]
    """Signatures of the host's tables that dom0 may see."""
    oem_tables: bool
    """And those whose signature begins with OEM."""


def rules(version: XenVersion) -> PvhRules:
    """What ``version`` does."""
    checked = _has(version, CHECKED_ADDRESS)
    return PvhRules(
        module_string=_has(version, MODULE_STRING),
        string_counted=_has(version, STRING_COUNTED),
        checked_address=checked,
        dom0_feature=_has(version, DOM0_FEATURE),
        nmi_sources=not _has(version, NO_NMI_SOURCES),
        xsdt_from_rsdt=_has(version, XSDT_FROM_RSDT),
        map_printed=_has(version, MAP_PRINTED),
        cmdline_always=version.release == (4, 19) or version.release >= (4, 21),
        tables=_ALWAYS
        | (frozenset({"VFCT"}) if _has(version, VFCT) else frozenset())
        | (_TPM if _has(version, TPM_TABLES) else frozenset()),
        oem_tables=_has(version, OEM_TABLES),
    )


def _has(version: XenVersion, since: tuple[tuple[int, int, int], ...]) -> bool:
    """Whether a release has what came to each branch named in ``since``, and stayed in all later ones."""
    at = (*version.release, _point(version))
    if at >= since[-1]:
        return True
    return any(at[:2] == first[:2] and at >= first for first in since)


def _point(version: XenVersion) -> int:
    """The 7 of 4.17.7."""
    match = re.match(r"\d+\.\d+\.(\d{1,5})", version.text)
    return int(match[1]) if match else _LAST
