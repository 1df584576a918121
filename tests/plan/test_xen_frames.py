"""Where Xen puts things, foretold and recorded.

Recorded: Debian's Xen 4.17.7 in QEMU (q35, qemu64), -m SIZE. Kernels: Debian's amd64, cloud and rt (packed; their
length counts the room to unpack them), others made to order, which are as long as their headers.
"""

from __future__ import annotations

import itertools
import time

import pytest

from mbtool.errors import InputError, RefusedError
from mbtool.plan.e820 import FOUR_GIB, MIB, E820Entry, E820Map
from mbtool.plan.memory import PAGE, Range
from mbtool.plan.xen_frames import SURE_ORDER, Heap, foretell

RECORDED = [  # -m in MiB, kernel and room for it, initrd, order of the block, its address, the initrd's
    (1024, 81496000, 1031109, 14, 0x34000000, 0x3F904000),
    (1024, 81496000, None, 14, 0x34000000, None),
    (12288, 81496000, None, 14, 0x36C000000, None),
    (1536, 81496000, None, 14, 0x54000000, None),
    (2048, 81496000, 1031109, 14, 0x74000000, 0x7F904000),
    (2048, 81496000, None, 14, 0x74000000, None),
    (256, 81496000, None, 14, 0x4000000, None),
    (2560, 81496000, None, 14, 0x94000000, None),
    (3072, 81496000, None, 14, 0x134000000, None),
    (384, 81496000, None, 14, 0xC000000, None),
    (4096, 81496000, 1031109, 14, 0x174000000, 0x17FF04000),
    (4096, 81496000, None, 14, 0x174000000, None),
    (512, 81496000, None, 14, 0x14000000, None),
    (6144, 81496000, None, 14, 0x1F0000000, None),
    (768, 81496000, None, 14, 0x24000000, None),
    (8192, 81496000, None, 14, 0x270000000, None),
    (512, 82278336, 1031109, 15, 0x10000000, 0x1F904000),
    (777, 82278336, None, 15, 0x20000000, None),
    (1024, 82278336, 40810276, 15, 0x28000000, 0x3D314000),
    (3000, 82278336, 1031109, 15, 0x128000000, 0x13B704000),
    (5000, 82278336, 40810276, 15, 0x1A0000000, 0x1B6114000),
    (1000, 82175936, 1031109, 15, 0x30000000, 0x3E104000),
    (2700, 82175936, None, 15, 0x98000000, None),
    (300, 81496000, 1031109, 14, 0x8000000, 0x12504000),
    (1300, 81496000, 40810276, 14, 0x44000000, 0x4E714000),
    (3500, 81496000, 1031109, 14, 0x14C000000, 0x15AB04000),
    (256, 320, None, 10, 0xF000000, None),
    (4096, 320, 40810276, 10, 0x17AC00000, 0x17D914000),
    (600, 320, 1031109, 11, 0x24000000, 0x25104000),
    (1024, 320, 40810276, 13, 0x3A000000, 0x3D314000),
    (2048, 320, 1031109, 13, 0x7C000000, 0x7F904000),
    (1024, 320, 1031109, 16, 0x20000000, 0x3F904000),
    (4096, 320, None, 16, 0x160000000, None),
    (900, 320, 40810276, 16, 0x20000000, 0x35714000),
]
OTHERWISE = [  # small blocks that came from somewhere else
    (1024, 320, 1031109, 10, 0x3E800000, 0x3F904000),
    (1024, 320, None, 11, 0x3E000000, None),
]


def q35(mib: int) -> E820Map:
    """QEMU's memory map: up to 2.75 GiB in one piece, else 2 GiB and the rest from 4 GiB on."""
    low = mib if mib < 2816 else 2048
    entries = [E820Entry(Range(0, 0x9FC00)), E820Entry(Range(MIB, low * MIB - 0x21000))]
    if mib > low:
        entries.append(E820Entry(Range.at(FOUR_GIB, (mib - low) * MIB)))
    return E820Map(tuple(entries))


@pytest.mark.parametrize(("mib", "kernel", "initrd", "order", "alloc", "at"), RECORDED)
def test_recorded(mib: int, kernel: int, initrd: int | None, order: int, alloc: int, at: int | None) -> None:
    frames = foretell(q35(mib), kernel, initrd, order)
    assert frames.alloc == Range.at(alloc, PAGE << order)
    assert frames.initrd == (None if at is None or initrd is None else Range.at(at, initrd))


@pytest.mark.parametrize(("mib", "kernel", "initrd", "order", "alloc", "at"), OTHERWISE)
def test_small_blocks_are_not_sure(
    mib: int, kernel: int, initrd: int | None, order: int, alloc: int, at: int | None
) -> None:
    frames = foretell(q35(mib), kernel, initrd, order)
    assert order < SURE_ORDER
    assert frames.alloc.start != alloc
    assert "few recorded boots" in frames.words
    assert frames.initrd is None or frames.initrd.start == at


def test_nothing_overlaps() -> None:
    for mib in range(200, 5000, 100):
        frames = foretell(q35(mib), 50 * MIB, 3 * MIB + 1, 14)
        assert frames.initrd is not None
        spans = sorted([frames.xen, frames.kernel, frames.initrd.paged(), frames.alloc])
        assert all(not first.overlaps(second) for first, second in itertools.pairwise(spans))
        assert all(any(ram.covers(span) for ram in q35(mib).usable()) for span in spans)


def test_too_little_and_too_much() -> None:
    with pytest.raises(RefusedError, match=r"^Not enough memory to relocate the dom0 kernel image: .* 100.0 MiB"):
        foretell(q35(64), 100 * MIB, None, 10)
    with pytest.raises(
        RefusedError, match=r"^the initrd is too large for Xen to move it: .* 100.0 MiB in one piece"
    ):
        foretell(q35(64), MIB, 100 * MIB, 10)
    with pytest.raises(RefusedError, match=r"^Not enough memory to relocate Xen"):
        foretell(E820Map((E820Entry(Range.at(1 << 33, 1 << 30)),)), MIB, None, 10)
    with pytest.raises(RefusedError, match="Not enough RAM for domain 0 allocation"):
        foretell(q35(256), MIB, None, 17)
    with pytest.raises(RefusedError):
        foretell(E820Map(()), MIB, None, 10)
    with pytest.raises(InputError, match="no Xen manages so much memory"):
        foretell(E820Map((E820Entry(Range(0, 1 << 60)),)), MIB, None, 10)


def test_large_machines_take_no_long_time() -> None:
    begin = time.monotonic()
    foretell(E820Map((*q35(2048).entries, E820Entry(Range(FOUR_GIB, 15 << 40)))), 100 * MIB, MIB, 16)
    assert time.monotonic() - begin < 10


def test_heap() -> None:
    """By hand: pages 3 to 8 are blocks of 1, 4 and 1 pages; the upper end of the smallest in the highest zone."""
    heap = Heap([Range(3 * PAGE, 9 * PAGE)])
    assert heap.take(0) == 8
    assert heap.take(0) == 7
    assert heap.take(1) == 4
    assert heap.take(0) == 6
    assert heap.take(0) == 3
    with pytest.raises(RefusedError):
        heap.take(0)
