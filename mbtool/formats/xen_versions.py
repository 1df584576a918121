"""Where Xen versions differ: every difference that matters to dom0's kernel and plan, and when it came.

Read from Xen's release tags 4.14.0 to 4.22.0; each names the file that changed.
"""

from __future__ import annotations

import re
from dataclasses import replace

from mbtool.errors import InputError, UnsupportedError
from mbtool.record import record

CODECS_4_14 = frozenset({"gzip", "bzip2", "xz", "lzma", "lzo", "lz4"})
CODECS_4_15 = CODECS_4_14 | {"zstd"}

PM_CX, PM_PX = 1, 2
"""Bits of ``xen_processor_pmbits`` (xen/include/public/platform.h): Xen manages C-states, P-states."""


@record
class XenVersion:
    """One release's behaviour."""

    release: tuple[int, int]
    codecs: frozenset[str]
    """Kinds of compressed payload that it unpacks (common/decompress.c)."""
    pae_for_64bit: bool
    """PAE_MODE of a 64-bit kernel shows in its console line and in ``magic`` (pv/dom0_build.c)."""
    every_line: bool
    """Prints the initrd and ring lines even when they are empty (pv/dom0_build.c)."""
    pm_bits: int
    """``xen_processor_pmbits`` on a machine for which Xen has no frequency driver."""
    cmdline_limit: int | None
    """Bytes of the buffer in which dom0's command line is put together (setup.c); None: as long as needed."""
    cmdline_always: bool
    """Options passed on (noapic, acpi=) reach dom0 even when its kernel was given no string (setup.c)."""
    acpi_as_given: bool
    """``acpi=`` is passed on whatever it says; later ones pass on what they understood (setup.c)."""
    efi_keeps_name: bool
    """The EFI loader's file name stays at the head of dom0's command line (setup.c)."""
    notes_know_pvh: bool
    """Notes are read for PVH apart from PV: virt_base and paddr_offset count as 0 (libelf-dominfo.c). Before, a
    kernel with a PHYS32_ENTRY note was asked for nothing else, as PV neither."""
    pv32_missed: bool
    """Says of any 32-bit kernel that CONFIG_PV32 is missing, where it is (pv/dom0_build.c)."""
    pvh_offset_alone: bool
    """A PVH kernel may have PADDR_OFFSET without VIRT_BASE (libelf-dominfo.c)."""
    pvh_says_dom0: bool
    """A PVH kernel that lists what it supports must list dom0, as a PV one (hvm/dom0_build.c); the releases'
    first, see mbtool/plan/pvh_versions.py for point releases."""
    exact_paging: bool
    """Sets aside for dom0's shadow page tables or HAP what they need, PV included (dom0_build.c)."""
    phys32_reloc: bool
    """Knows the PHYS32_RELOC note (libelf-dominfo.c)."""
    ucode_last_word: bool
    """Of ``ucode=``'s number and ``scan`` the last counts, and the module with the number may be an archive with
    microcode in it; before, both count, and the module has to be the microcode itself (cpu/microcode/core.c)."""
    first_policy: bool
    """Takes the first security policy among its modules, not the last (xsm/xsm_policy.c)."""
    unconstructed: str
    """What it says when the builder gives up (setup.c)."""
    text: str = ""
    """As given: ``4.17.7``."""

    def __str__(self) -> str:
        return self.text or self.name

    @property
    def name(self) -> str:
        """``4.17``."""
        return f"{self.release[0]}.{self.release[1]}"

    @property
    def known(self) -> bool:
        """Whether this release has been read; a newer one is taken to behave as the newest known."""
        return self.release <= NEWEST.release


def _release(minor: int) -> XenVersion:
    """4.``minor``: a line for each difference, with the release that it came with."""
    return XenVersion(
        (4, minor),
        codecs=CODECS_4_15 if minor >= 15 else CODECS_4_14,
        pae_for_64bit=minor < 18,
        every_line=minor < 16,
        pm_bits=PM_CX if minor >= 21 else PM_CX | PM_PX,
        cmdline_limit=None if minor >= 21 else 1024,
        cmdline_always=minor >= 21,
        acpi_as_given=minor < 15,
        efi_keeps_name=minor >= 19,
        notes_know_pvh=minor >= 16,
        pv32_missed=minor >= 16,
        pvh_offset_alone=minor >= 18,
        pvh_says_dom0=minor >= 22,
        exact_paging=minor >= 17,
        phys32_reloc=minor >= 19,
        ucode_last_word=minor >= 20,
        first_policy=minor >= 20,
        unconstructed="Could not construct d0" if minor >= 21 else "Could not construct domain 0",
    )


TABLE = tuple(_release(minor) for minor in range(14, 23))
"""4.14 to 4.22."""
OLDEST, NEWEST = TABLE[0], TABLE[-1]


def parse(text: str) -> XenVersion:
    """The row for ``4.17``, ``4.17.7`` or ``4.17.7-rc1``; a release newer than the table gets its last row.

    Raises InputError when this is no version, UnsupportedError when it is older than the table.
    """
    match = re.match(r"(\d{1,3})\.(\d{1,3})(?![\d])", text)
    if match is None:
        raise InputError(f"{text!r} is no Xen version", expected="something like 4.17 or 4.17.7")
    release = int(match[1]), int(match[2])
    if release < OLDEST.release:
        raise UnsupportedError(f"Xen {text} is older than what mbtool knows", expected=f"{OLDEST.name} or newer")
    for row in TABLE:
        if row.release == release:
            return replace(row, text=text)
    return replace(NEWEST, release=release, text=text)
