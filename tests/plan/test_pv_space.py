"""The layout equation at its boundaries; the numbers follow from Xen's rules by hand, or from recorded boots."""

from __future__ import annotations

import pytest

from mbtool.errors import RefusedError
from mbtool.plan.memory import PAGE, TOP, Range
from mbtool.plan.pv_space import lay_out, pages_needed
from tests.plan.kernels import MIB, SLOT_1, TOP_2G, kernel


def test_recorded_linux() -> None:
    """Debian's kernel, as four Xen versions laid it out."""
    space = lay_out(kernel(0x3A00000, start=0x1000000), 1031109, 131072)
    assert space.kernel == Range(0xFFFFFFFF81000000, 0xFFFFFFFF84A00000)
    assert (space.initrd, space.p2m) == (None, None)
    assert space.start_info == Range(0xFFFFFFFF84A00000, 0xFFFFFFFF84A004B8)
    assert space.page_tables == Range(0xFFFFFFFF84A01000, 0xFFFFFFFF84A2A000)
    assert space.stack == Range(0xFFFFFFFF84A2A000, 0xFFFFFFFF84A2B000)
    assert space.total == Range(TOP_2G, 0xFFFFFFFF84C00000)
    assert (space.nr_pt_frames, space.order) == (41, 15)


def test_recorded_grub() -> None:
    """GRUB with an initrd of 1031109 bytes and 25600 pages: everything inside the initial mapping."""
    grub = kernel(0x467618, virt_base=0, p2m_base=None, unmapped_initrd=False)
    space = lay_out(grub, 1031109, 25600)
    assert space.initrd == Range(0x468000, 0x563BC5)
    assert space.p2m == Range(0x564000, 0x596000)
    assert space.page_tables == Range(0x597000, 0x59E000)
    assert space.total == Range(0, 0x800000)
    assert space.order == 11
    assert pages_needed(space, 1031109) == 2048 + 252


@pytest.mark.parametrize(
    ("size", "v_end", "order"),
    [
        # kernel, start_info, 5 page tables (L4, L3, L2, two L1) and the stack: the padding is the rest of 4 MiB
        (4 * MIB - 512 * 1024 - 7 * PAGE, 4 * MIB, 10),
        (4 * MIB - 512 * 1024 - 7 * PAGE + 1, 8 * MIB, 11),  # falls short of 512 KiB, two more L1 tables
        (8 * MIB - 512 * 1024 - 9 * PAGE, 8 * MIB, 11),
        (8 * MIB - 512 * 1024 - 9 * PAGE + 1, 12 * MIB, 12),
    ],
)
def test_padding(size: int, v_end: int, order: int) -> None:
    space = lay_out(kernel(size), 0, 131072)
    assert space.total.end - TOP_2G == v_end
    assert space.order == order


def test_mapped_initrd_is_not_part_of_the_block() -> None:
    """An initrd of just under 4 MiB: 8 MiB are mapped, the block behind the rest is half of that."""
    parms = kernel(MIB, unmapped_initrd=False)
    assert lay_out(parms, 4 * MIB - 1, 131072).order == 10
    assert lay_out(parms, 4 * MIB - PAGE, 131072).order == 11  # one page fewer: the block takes one page more
    assert lay_out(kernel(MIB, unmapped_initrd=True), 4 * MIB, 131072).order == 10


@pytest.mark.parametrize("size", [1, PAGE - 1, PAGE, PAGE + 1])
def test_initrd_is_rounded_to_pages(size: int) -> None:
    space = lay_out(kernel(MIB + 1, unmapped_initrd=False, p2m_base=None), size, 1024)
    assert space.initrd == Range.at(TOP_2G + MIB + PAGE, size)
    assert space.p2m is not None
    assert space.p2m.start == TOP_2G + MIB + PAGE + (PAGE if size <= PAGE else 2 * PAGE)


def test_table_counts_at_boundaries() -> None:
    """L4 + L3s + L2s + L1s of a 4 MiB mapping that touches one more table at each boundary."""
    gib, slot = 1 << 30, 1 << 39
    assert lay_out(kernel(MIB, virt_base=0), 0, 131072).nr_pt_frames == 1 + 1 + 1 + 2
    assert lay_out(kernel(2 * MIB, virt_base=gib - 2 * MIB), 0, 131072).nr_pt_frames == 1 + 1 + 2 + 3
    assert lay_out(kernel(2 * MIB, virt_base=slot - 2 * MIB), 0, 131072).nr_pt_frames == 1 + 2 + 2 + 3
    assert lay_out(kernel(MIB, virt_base=slot - PAGE), 0, 131072).nr_pt_frames == 1 + 2 + 2 + 3
    assert lay_out(kernel(MIB, virt_base=gib - MIB), 0, 131072).nr_pt_frames == 1 + 1 + 2 + 3


def test_end_of_the_address_space() -> None:
    space = lay_out(kernel(3 * MIB, virt_base=TOP - 4 * MIB, p2m_base=SLOT_1), 0, 131072)
    assert space.total.end == TOP
    with pytest.raises(RefusedError):
        lay_out(kernel(4 * MIB, virt_base=TOP - 4 * MIB, p2m_base=SLOT_1), 0, 131072)


def test_absurd_sizes_end_quickly() -> None:
    assert lay_out(kernel(1 << 46, virt_base=0), 0, 131072).nr_pt_frames > 1 << 25


def test_past_the_end_of_the_addresses() -> None:
    """With the reason and a remedy; in Xen the addresses wrap."""
    mapped = kernel(MIB, unmapped_initrd=False)
    with pytest.raises(RefusedError, match="at most 2048 MiB from 0xffffffff80000000 on") as caught:
        lay_out(mapped, 3 << 30, 1 << 20)
    assert "MOD_START_PFN" in caught.value.remedy
    assert lay_out(kernel(MIB, unmapped_initrd=True), 3 << 30, 1 << 20).initrd is None
