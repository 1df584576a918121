"""What Xen takes the modules behind dom0's kernel for.

Xen 4.14 to 4.22: xen/arch/x86/setup.c (the first module that nobody has claimed is dom0's initrd),
cpu/microcode/core.c (``ucode=N`` claims module N; ``ucode=scan`` looks through the others and claims none),
xen/xsm/xsm_policy.c (a security policy is known by its magic number).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mbtool.formats.xen_versions import XenVersion
from mbtool.plan import xen_options
from mbtool.record import record

XSM_MAGIC = (0xF97CFF8C).to_bytes(4, "little")
"""How a security policy begins (xen/include/xsm/xsm.h)."""
SCANS = {
    b"scan": True,
    b"no-scan": False,
    **{b"scan=" + word: True for word in xen_options.TRUE},
    **{b"scan=" + word: False for word in xen_options.FALSE},
}
NUMBER = re.compile(rb"-?(0x[0-9a-f]+|0[0-7]*|[1-9]\d*)", re.IGNORECASE)


@record
class Ucode:
    """Where ``ucode=`` has Xen look for microcode: module ``number`` (0: none, negative: from the end), or all."""

    number: int = 0
    scan: bool = False


@record
class Roles:
    """Modules by number, as Xen counts them: dom0's kernel is 0. The first of the ``candidates`` is the initrd.

    ``microcode``: the module that is claimed by its number, 0 for none. Those that are ``scanned`` may be
    candidates all the same.
    """

    microcode: int = 0
    candidates: tuple[int, ...] = ()
    scanned: tuple[int, ...] = ()


def ucode(xen_cmdline: bytes, version: XenVersion, *, scan: bool = False) -> Ucode:
    """What is asked for. ``scan``: whether Xen was built to scan where nothing is said."""
    number = 0
    for value in xen_options.custom(xen_cmdline, b"ucode"):
        for word in value.split(b","):
            if word in SCANS:
                scan = SCANS[word]
                number = 0 if version.ucode_last_word else number
            elif NUMBER.fullmatch(word):
                number = _integer(word)
                scan = scan and not version.ucode_last_word
    return Ucode(number, scan)


def _integer(word: bytes) -> int:
    """As C's strtol with base 0 reads it."""
    digits = word.lstrip(b"-").lower()
    value = int(digits, 16 if digits.startswith(b"0x") else 8 if digits.startswith(b"0") else 10)
    return -value if word.startswith(b"-") else value


def claimed(wanted: Ucode, count: int) -> int:
    """The module that is claimed by its number, of so many behind dom0's kernel; 0 for none."""
    number = wanted.number + count + 1 if wanted.number < 0 else wanted.number
    return number if 0 < number <= count else 0


def roles(policies: Sequence[bool], wanted: Ucode, version: XenVersion) -> Roles:
    """``policies``: of each module behind dom0's kernel, whether this Xen knows it for a security policy."""
    microcode = claimed(wanted, len(policies))
    left = [number for number in range(1, len(policies) + 1) if number != microcode]
    found = [number for number in left if policies[number - 1]]
    if found:
        left.remove(found[0 if version.first_policy else -1])
    return Roles(microcode, tuple(left), tuple(left) if wanted.scan else ())
