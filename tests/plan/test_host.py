"""What hosts can give, beside what Xen gave on machines of many sizes; and dom0's pages on such hosts.

Recorded: Debian's Xen 4.17.7 in QEMU (q35, qemu64) with -m SIZE, -smp CPUS and ``dom0_mem=100T``: dom0 gets all.
The RAM is what Xen prints (``System RAM: 1023MB (1048056kB)``), dom0's pages are those of the block, the initrd and
``pages to be allocated`` together.
"""

from __future__ import annotations

import pytest

from mbtool.errors import InputError
from mbtool.formats import xen_versions
from mbtool.plan import dom0_mem
from mbtool.plan.dom0_mem import parse
from mbtool.plan.dom0_pages import DEFAULT_NR_PAGES, Dom0Pages, decide, exactly
from mbtool.plan.host import Host
from tests.plan.kernels import MIB, kernel

RECORDED = [  # -m, -smp, KiB of RAM, pages
    (256, 1, 261624, 63445),
    (384, 1, 392696, 95956),
    (512, 1, 523768, 128469),
    (768, 1, 785912, 193493),
    (1024, 1, 1048056, 258517),
    (1024, 2, 1048056, 258485),
    (1024, 4, 1048056, 258418),
    (1536, 1, 1572344, 388053),
    (2048, 1, 2096632, 518101),
    (2560, 1, 2620920, 647637),
    (3072, 1, 3145208, 777683),
    (4096, 1, 4193784, 1037266),
    (6144, 1, 6290936, 1556432),
    (8192, 1, 8388088, 2075598),
    (12288, 1, 12582392, 3113930),
]


@pytest.mark.parametrize(("mib", "cpus", "kib", "pages"), RECORDED)
def test_avail(mib: int, cpus: int, kib: int, pages: int) -> None:
    assert abs(Host(kib << 10, cpus).avail - pages) <= 3
    installed = Host(mib << 20, cpus).avail  # the firmware keeps 520 KiB of it
    assert 0 <= installed - pages <= 133


RECORDED_4_22 = [  # a release build of 4.22.0 with CONFIG_PV32=y
    (256, 1, 261624, 46516 + 16384),
    (1024, 1, 1048056, 241588 + 16384),
    (1024, 4, 1048056, 241506 + 16384),
    (2560, 1, 2620920, 630196 + 16384),
    (12288, 1, 12582392, 3094441 + 16384),
]


@pytest.mark.parametrize(("mib", "cpus", "kib", "pages"), RECORDED_4_22)
def test_avail_with_32_bit_guests(mib: int, cpus: int, kib: int, pages: int) -> None:
    assert abs(Host(kib << 10, cpus, pv32=True).avail - pages) <= 40


RECORDED_PVH = [  # the same with dom0=pvh, SVM, NPT and an AMD IOMMU; the sum of dom0's memory map
    (523768, 1, 0x1FFDF000, "100T", 127159),
    (1048056, 1, 0x3FFDF000, "100T", 256439),
    (1048056, 1, 0x3FFDF000, "", 240412),
    (1048056, 1, 0x3FFDF000, "50%", 128475),
    (1048056, 4, 0x3FFDF000, "100T", 255571),
    (2096632, 1, 0x7FFDF000, "100T", 514486),
    (2096632, 2, 0x7FFDF000, "50%", 257610),
    (4193784, 1, 0x1_8000_0000, "100T", 1029548),
]


@pytest.mark.parametrize(("kib", "cpus", "top", "text", "pages"), RECORDED_PVH)
def test_pvh(kib: int, cpus: int, top: int, text: str, pages: int) -> None:
    """With what HAP takes, and what Xen keeps back for the IOMMU's tables."""
    paging = dom0_mem.paging(xen_versions.parse("4.17"), pvh=True, max_vcpus=cpus)
    host = Host(kib << 10, cpus, iommu_top=top)
    found = decide(parse([text] if text else []), host, None, 0, paging)
    assert abs(found.nr_pages - pages) <= 5
    assert "and an AMD IOMMU" in found.assumption


@pytest.mark.parametrize(("text", "pages"), [("100T", (256434, 256420)), ("50%", (128473, 128466))])
def test_pvh_of_other_builds(text: str, pages: tuple[int, int]) -> None:
    """Release builds of 4.18.0 and 4.22.0 on the machine with 1 GiB."""
    for version, given in zip(("4.18", "4.22"), pages, strict=True):
        paging = dom0_mem.paging(xen_versions.parse(version), pvh=True)
        host = Host(1048056 << 10, iommu_top=0x3FFDF000)
        assert abs(decide(parse([text]), host, None, 0, paging).nr_pages - given) <= 20


@pytest.mark.parametrize(
    ("kib", "text", "pages"),
    [
        (1048056, [], 242360),
        (1048056, ["-256M"], 192981),
        (2096632, ["50%"], 259050),
        (1048056, ["512M"], 131072),
    ],
)
def test_recorded_parts(kib: int, text: list[str], pages: int) -> None:
    """The same machines with other values of dom0_mem."""
    found = decide(parse(text), Host(kib << 10), kernel(), 0)
    assert abs(found.nr_pages - pages) <= 2
    assert found.assumption == "" if text == ["512M"] else f"dom0 has {found.nr_pages} pages" in found.assumption


@pytest.mark.parametrize("ram", [0, 1, 4 * MIB])
def test_host_too_small(ram: int) -> None:
    with pytest.raises(InputError, match="has none left for dom0"):
        decide(parse(["1G"]), Host(ram), kernel(), 0)


def test_more_than_there_is() -> None:
    """The host decides, and that is said."""
    host = Host(1 << 30)
    found = decide(parse(["8G"]), host, kernel(), 0)
    assert (found.nr_pages, found.clipped) == (host.avail, False)
    assert found.option == exactly(host.avail)  # for a larger host to give no more
    assert "the host deciding" in found.assumption


def test_clipped_by_host() -> None:
    """A kernel that has its P2M inside the topmost GiB of addresses, on a host with 1 TiB."""
    found = decide(parse([]), Host(1 << 40), kernel(4 * MIB, virt_base=(1 << 64) - (1 << 30), p2m_base=None), 0)
    assert found.clipped
    assert found.nr_pages == ((1 << 30) - 4 * MIB) // 16


def test_unknown_host() -> None:
    assert decide(parse(["1G"]), None, kernel(), 0) == Dom0Pages(262144)
    assert decide(parse(["max:100M"]), None, kernel(), 0).nr_pages == 25600
    assert decide(parse([]), None, kernel(), 0).nr_pages == DEFAULT_NR_PAGES
    with pytest.raises(InputError, match="--host-mem"):
        decide(parse(["1%"]), None, kernel(), 0)
