"""How many pages dom0 gets: Xen's ``dom0_mem=`` option and what it makes of it.

Xen: xen/arch/x86/dom0_build.c, ``parse_amt``, ``parse_dom0_mem``, ``get_memsize``, ``dom0_compute_nr_pages``,
``dom0_paging_pages`` (4.14 to 4.22; 4.17 counts paging memory anew); xen/lib/parse-size.c and strtoull.c for the
numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import field, replace

from mbtool.errors import InputError
from mbtool.formats.dom_parms import DomParms
from mbtool.formats.xen_versions import XenVersion
from mbtool.plan.memory import PAGE_SHIFT, TOP, up
from mbtool.record import record

LONG_MAX = (1 << 63) - 1
RESERVE = 128 << (20 - PAGE_SHIFT)
"""Pages kept back at most when no amount is given: 128 MiB."""

_NUMBER = re.compile(r"0[xX](?P<hex>[0-9a-fA-F]+)|0(?P<octal>[0-7]*)|(?P<decimal>[1-9][0-9]{0,999})")
_UNITS = {"b": 0, "k": 10, "m": 20, "g": 30, "t": 40}


@record
class Amount:
    """``<size>``, ``<frac>%`` or ``<size>+<frac>%``, with ``-``: that much less than what is available."""

    nr_pages: int = 0
    percent: int = 0
    minus: bool = False

    @property
    def needs_host(self) -> bool:
        """Whether the host's memory plays a part in the value."""
        return bool(self.percent) or self.minus

    @property
    def positive(self) -> bool:
        """Xen's ``memsize_gt_zero``."""
        return not self.minus and self.nr_pages > 0

    def pages(self, avail: int) -> int:
        """The value in pages, of ``avail`` pages on the host (unsigned 64-bit arithmetic, as Xen's)."""
        pages = self.nr_pages + self.percent * avail // 100
        return (avail - pages if self.minus else pages) % TOP


@record
class Dom0Mem:
    """``dom0_mem=[min:<amount>,][max:<amount>,][<amount>]``."""

    size: Amount = field(default_factory=Amount)
    min: Amount = field(default_factory=Amount)
    max: Amount = field(default_factory=lambda: Amount(LONG_MAX))

    @property
    def needs_host(self) -> bool:
        """Whether nr_pages cannot be known without knowing the host's memory."""
        return self.size == Amount() or any(amount.needs_host for amount in (self.size, self.min, self.max))


def parse(texts: Iterable[str]) -> Dom0Mem:
    """The option's values in order, a later assignment overriding an earlier one.

    Raises InputError for what Xen does not take. Xen itself would report it, keep what it had read up to there
    and go on: nobody wants that dom0.
    """
    result = Dom0Mem()
    for text in texts:
        for part in text.split(","):
            kind, _, rest = part.rpartition(":")
            if kind not in ("", "min", "max"):
                raise _invalid(text)
            result = replace(result, **{kind or "size": _amount(rest, text)})
    return result


def size(text: str, option: str) -> int:
    """An amount of memory in bytes, a number with a unit: ``16G``. Raises InputError."""
    match = _NUMBER.fullmatch(text[:-1])
    unit = _UNITS.get(text[-1:].lower())
    if match is None or unit is None:
        raise InputError(f"{option}: {text!r} is no amount of memory", expected="a number and a unit, like 16G")
    return _value(match) << unit


def _value(match: re.Match[str]) -> int:
    if match["hex"]:
        return int(match["hex"], 16)
    return int(match["decimal"]) if match["decimal"] else int(match["octal"] or "0", 8)


def _amount(part: str, whole: str) -> Amount:
    digits = part.removeprefix("-")
    minus = digits != part
    size, percent = None, None
    for item in digits.split("+"):
        match = _NUMBER.match(item)
        if match is None or percent is not None:
            raise _invalid(whole)
        value = _value(match) % TOP
        unit = item[match.end() :].lower()
        if unit == "%":
            if value >= 100:
                raise _invalid(whole)
            percent = value
        elif size is None and (unit in _UNITS or not unit):
            size = (value << _UNITS.get(unit, 10)) % TOP >> PAGE_SHIFT  # without a unit: KiB
        else:
            raise _invalid(whole)
    return Amount(size or 0, percent or 0, minus)


def _invalid(text: str) -> InputError:
    return InputError(
        f'parameter "dom0_mem" has invalid value "{text}", rc=-22!',
        expected="[min:<size>,][max:<size>,][<size>], a size like 512M, -1G, 25% or 1G+10%",
    )


@record
class Paging:
    """The memory that Xen sets aside for a dom0 with shadow page tables or HAP; see ``paging``."""

    factor: int
    max_vcpus: int = 1
    counted: int = 0
    """Pages set aside already for the IOMMU's tables, which HAP shares."""

    def pages(self, nr_pages: int) -> int:
        """Pages beside ``nr_pages`` for dom0 itself: 1 MiB a vCPU and KiBs for each MiB, in whole MiB."""
        kib = 4 * (256 * self.max_vcpus + self.factor * (nr_pages * 4 // 1024))
        return max(0, (-(-kib // 1024) << 20 - PAGE_SHIFT) - self.counted)


def paging(
    version: XenVersion, *, pvh: bool, shadow: bool = False, max_vcpus: int = 1, shared: int | None = None
) -> Paging | None:
    """What ``dom0_compute_nr_pages`` sets aside; None for nothing.

    ``shadow``: dom0=shadow, or a PV dom0 shadowed against L1TF. ``shared``: the pages counted for the IOMMU, when
    its tables are HAP's too; None when they are not.
    """
    if not version.exact_paging:
        return Paging(2, max_vcpus) if pvh and (shadow or shared is None) else None
    if not pvh and not shadow:
        return None
    return Paging(pvh + shadow, max_vcpus, shared or 0)


def compute_nr_pages(mem: Dom0Mem, avail: int, paging: Paging | None = None) -> int:
    """dom0's pages on a host with ``avail`` pages to give, memory for ``paging`` included."""
    pages = _within(mem, avail)
    return pages if paging is None else _within(mem, avail - paging.pages(pages))


def _within(mem: Dom0Mem, avail: int) -> int:
    pages = mem.size.pages(avail) or avail - min(avail // 16, RESERVE)
    pages = max(pages, mem.min.pages(avail))
    return min(pages, mem.max.pages(avail), avail)


def clip(mem: Dom0Mem, nr_pages: int, avail: int, parms: DomParms, initrd_len: int) -> int:
    """``nr_pages``, less where a kernel without INIT_P2M has no virtual space for its P2M and as much again.

    Xen does this unless ``dom0_mem`` says an exact amount (``Dom0 memory clipped to … pages``).
    """
    if parms.p2m_base is not None or mem.size.positive:
        return nr_pages
    min_pages = mem.min.pages(avail)
    if mem.min.positive and nr_pages <= min_pages:
        return nr_pages
    word, top = (8, TOP) if parms.elf_class == 64 else (4, 1 << 32)
    vend = up(parms.virt_kend) + (0 if parms.unmapped_initrd else up(initrd_len))
    end = vend + nr_pages * word
    if end + (end - parms.virt_base) <= (top - 1 if word == 8 else top):
        return nr_pages
    return max((top - vend) // (2 * word), min_pages if mem.min.positive else 0)
