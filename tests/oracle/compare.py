"""A plan beside a recording: every difference outside what only the machine can know.

Taken from the recording as inputs: where the allocator put dom0's block and the initrd, ``shared_info``, the power
management bits of ``flags``, the VGA bytes. Left out: Xen's own L4 slots, and the machine frames behind entries for
the P2M at INIT_P2M (their flags count). Nothing else.
"""

from __future__ import annotations

import struct

from mbtool.formats.dom_parms import DomParms
from mbtool.formats.xen_versions import XenVersion
from mbtool.plan import arrangement, p2m, page_tables, pv_dom0
from mbtool.plan.machine import Machine
from mbtool.plan.pv_dom0 import Plan
from tests.oracle.recording import Recording

XEN_SLOTS = range(256, 272)
"""L4 entries that are Xen's own."""
FRAME = 0x000F_FFFF_FFFF_F000
"""The bits of a page-table entry that hold a machine address."""


def machine_of(recording: Recording) -> Machine:
    """The inputs that the recording gives."""
    return Machine(
        alloc_base=recording.alloc_base,
        initrd_base=recording.initrd_base,
        shared_info=recording.shared_info,
        pm_bits=recording.pm_bits,
        vga=recording.start_info[1168:1208],
        debug=recording.about.get("debug") is True,
    )


def plan_for(
    recording: Recording,
    parms: DomParms,
    version: XenVersion,
    *,
    initrd_len: int | None,
    nr_pages: int,
    cmdline: bytes,
) -> Plan:
    """What mbtool plans for the recorded boot."""
    return pv_dom0.plan(
        parms,
        initrd_len=initrd_len,
        nr_pages=nr_pages,
        cmdline=cmdline,
        version=version,
        machine=machine_of(recording),
    )


def differences(plan: Plan, recording: Recording) -> list[str]:
    """One line per difference; an empty list is agreement."""
    return [
        *_lines(arrangement.lines(plan), recording.arrangement),
        *_registers(plan.registers, recording.registers),
        *_words("start_info", pv_dom0.start_info_page(plan), recording.start_info),
        *_page_tables(plan, recording.page_tables),
        *_p2m(plan, recording.p2m),
        *_default_pm_bits(plan, recording),
    ]


def _lines(planned: tuple[str, ...], real: tuple[str, ...]) -> list[str]:
    if len(planned) != len(real):
        return [f"console: {len(planned)} lines planned, {len(real)} recorded"]
    return [f"console: {mine!r}, Xen {its!r}" for mine, its in zip(planned, real, strict=True) if mine != its]


def _registers(planned: dict[str, int], real: dict[str, int]) -> list[str]:
    if "eip" in planned:  # the recorder calls them by their 64-bit names; cr3 is Xen's own
        planned = {f"r{name[1:]}" if name[0] == "e" and name != "es" else name: v for name, v in planned.items()}
        real = {name: value for name, value in real.items() if name != "cr3"}
    return [
        f"{name}: {planned.get(name, 0):#x}, Xen {value:#x}"
        for name, value in real.items()
        if planned.get(name, 0) != value
    ]


def _words(what: str, planned: bytes, real: bytes) -> list[str]:
    if len(planned) != len(real):
        return [f"{what}: {len(planned)} bytes planned, {len(real)} recorded"]
    pairs = zip(struct.iter_unpack("<Q", planned), struct.iter_unpack("<Q", real), strict=True)
    return [f"{what} at {8 * i:#x}: {a:#x}, Xen {b:#x}" for i, ((a,), (b,)) in enumerate(pairs) if a != b]


def _page_tables(plan: Plan, real: bytes) -> list[str]:
    planned = b"".join(page_tables.frames(plan))
    for slot in XEN_SLOTS if plan.width.bits == 64 else _compat_slots(plan, planned):
        real = _masked(real, slot, 0)
    for i, (entry,) in enumerate(struct.iter_unpack("<Q", planned)):
        if entry and not entry & FRAME:
            real = _masked(real, i, ~FRAME)
    return _words("page tables", planned, real)


def _compat_slots(plan: Plan, tables: bytes) -> range:
    """Where Xen has its own entries in a 32-bit kernel's tables: the L2 of the last GiB, from 0xf5800000 on."""
    (entry,) = struct.unpack_from("<Q", tables, 8 * 3)
    table = 512 * ((entry & FRAME) - plan.page_table_base >> 12)
    return range(table + (0xF580_0000 >> 21 & 511), table + 512)


def _masked(tables: bytes, index: int, mask: int) -> bytes:
    (entry,) = struct.unpack_from("<Q", tables, 8 * index)
    return tables[: 8 * index] + struct.pack("<Q", entry & mask) + tables[8 * index + 8 :]


def _p2m(plan: Plan, real: bytes) -> list[str]:
    planned = b"".join(p2m.blocks(plan))
    word = plan.width.word
    if len(planned) != word * plan.nr_pages:
        return [f"P2M: {len(planned)} bytes planned for {plan.nr_pages} pages"]
    size = min(word * plan.start_info.first_p2m_pfn, len(real)) & -8
    assert size, "nothing of the P2M was recorded"
    return _words("P2M", planned[:size], real[:size])


def _default_pm_bits(plan: Plan, recording: Recording) -> list[str]:
    """The default for the power management bits is the recording machine's (QEMU: no frequency driver)."""
    if "cpuidle" in str(recording.about) or "cpufreq" in str(recording.about):
        return []
    default = plan.version.pm_bits
    real = recording.pm_bits
    return [] if default == real else [f"pm bits: default {default}, Xen {real}"]
