"""Xen's ``dom0_mem=`` grammar and arithmetic."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mbtool.errors import InputError
from mbtool.formats import xen_versions
from mbtool.plan.dom0_mem import LONG_MAX, Amount, Dom0Mem, Paging, clip, compute_nr_pages, paging, parse, size
from tests.plan.kernels import MIB, TOP_2G, kernel

GIB_PAGES = 1 << 18


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("512M", Amount(131072)),
        ("1g", Amount(GIB_PAGES)),
        ("2048", Amount(512)),  # no suffix: KiB
        ("4096b", Amount(1)),
        ("4095B", Amount(0)),  # truncated to pages
        ("0x10m", Amount(4096)),
        ("010m", Amount(2048)),  # octal
        ("0", Amount()),
        ("1T", Amount(1 << 28)),
        ("-1G", Amount(GIB_PAGES, minus=True)),
        ("25%", Amount(0, 25)),
        ("-10%", Amount(0, 10, True)),
        ("1G+10%", Amount(GIB_PAGES, 10)),
        ("-1G+99%", Amount(GIB_PAGES, 99, True)),
        ("16777216T", Amount(0)),  # 2^64 bytes: Xen's 64-bit number wraps
    ],
)
def test_amount(text: str, amount: Amount) -> None:
    assert parse([text]) == Dom0Mem(size=amount)


@pytest.mark.parametrize(
    "text",
    ["9" * 5000, "", "M", "512MB", "08", "0x", "100%", "10%+1G", "1G+2G", "1G+", "1G+1%+1%", "--1G", "+1G", "1G,",
     ",1G", "1 G", "min:", "mid:1G", "min:max:1G", "max 1G", "1G;2G", "5%%", "%", "१G", "1G\n"],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse([text])
    assert caught.value.problem == f'parameter "dom0_mem" has invalid value "{text}", rc=-22!'


def test_order_and_overriding() -> None:
    expected = Dom0Mem(Amount(131072), Amount(65536), Amount(GIB_PAGES))
    assert parse(["min:256M,512M,max:1G"]) == parse(["max:1G,512M,min:256M"]) == expected
    assert parse(["1G,max:1G,min:256M", "512M"]) == expected
    assert parse(["1G,512M"]) == Dom0Mem(Amount(131072))
    assert parse([]) == Dom0Mem()


@pytest.mark.parametrize(
    ("text", "avail", "pages"),
    [
        ("512M", 262144, 131072),
        ("512M", 100000, 100000),  # no more than there is
        ("0", 262144, 262144 - 262144 // 16),
        ("max:1G", 4 * GIB_PAGES, GIB_PAGES),
        ("max:1G,min:2G", 4 * GIB_PAGES, GIB_PAGES),  # min gives way to max
        ("min:1G,256M", 4 * GIB_PAGES, GIB_PAGES),
        ("-1G", 4 * GIB_PAGES, 3 * GIB_PAGES),
        ("50%", 1001, 500),
        ("10b+50%", 1000, 500),
        ("-25%", 1000, 750),
        ("max:50%", 1000, 500),
    ],
)
def test_nr_pages(text: str, avail: int, pages: int) -> None:
    assert compute_nr_pages(parse([text]), avail) == pages


def test_default_keeps_back_at_most_128_mib() -> None:
    assert compute_nr_pages(Dom0Mem(), 16 * 32768) == 15 * 32768
    assert compute_nr_pages(Dom0Mem(), 100 * 32768) == 99 * 32768


@pytest.mark.parametrize(
    ("text", "needs"),
    [("512M", False), ("512M,max:1G", False), ("", True), ("max:1G", True), ("-1G", True), ("1%", True),
     ("512M,min:1%", True), ("512M,max:-1G", True), ("0", True)],
)  # fmt: skip
def test_needs_host(text: str, needs: bool) -> None:
    assert parse([text] if text else []).needs_host is needs


def test_clip() -> None:
    """A 4 MiB kernel at TOP_2G. Kernel, P2M and as much again must end below 2^64; else Xen halves what is left."""
    parms = kernel(4 * MIB, p2m_base=None)
    most = (2048 - 4) * MIB // 16
    assert clip(parse([]), 1 << 30, 1 << 30, parms, 0) == most
    fits = (2048 - 2 * 4) * MIB // 16 - 1
    assert clip(parse([]), fits, fits, parms, 0) == fits
    assert clip(parse([]), fits + 1, fits + 1, parms, 0) == most
    assert clip(parse(["4T"]), 1 << 30, 1 << 30, parms, 0) == 1 << 30  # an exact amount is obeyed
    assert clip(parse(["min:4T"]), 1 << 30, 1 << 30, parms, 0) == 1 << 30
    assert clip(parse(["min:1G"]), 1 << 30, 1 << 30, parms, 0) == most
    assert clip(parse(["min:600G"]), 1 << 30, 1 << 30, parms, 0) == 600 * GIB_PAGES
    assert clip(parse([]), 1 << 30, 1 << 30, kernel(p2m_base=TOP_2G - MIB), 0) == 1 << 30
    mapped = replace(parms, unmapped_initrd=False)
    assert clip(parse([]), 1 << 30, 1 << 30, mapped, MIB - 1) == most - MIB // 16
    assert clip(parse([]), 1 << 30, LONG_MAX, replace(parms, virt_base=0, virt_kend=4 * MIB), 0) == 1 << 30


@pytest.mark.parametrize(
    ("text", "value"), [("64G", 64 << 30), ("512m", 512 << 20), ("0x10K", 16384), ("1T", 1 << 40), ("4096b", 4096)]
)
def test_size(text: str, value: int) -> None:
    assert size(text, "--host-mem") == value


@pytest.mark.parametrize(
    "text", ["9" * 5000 + "G", "", "64", "G", "-1G", "50%", "1G+1G", "64GB", "1.5G", "08G", " 1G"]
)
def test_no_size(text: str) -> None:
    with pytest.raises(InputError, match=r"^--host-mem: .* is no amount of memory"):
        size(text, "--host-mem")


@pytest.mark.parametrize(
    ("version", "pvh", "shadow", "shared", "expected"),
    [
        ("4.16", False, True, None, None),  # nothing for PV
        ("4.16", True, False, None, Paging(2)),
        ("4.16", True, False, 50, None),  # HAP on the IOMMU's tables
        ("4.16", True, True, 50, Paging(2)),
        ("4.17", False, False, None, None),
        ("4.17", False, True, None, Paging(1)),
        ("4.17", True, False, None, Paging(1)),
        ("4.17", True, True, None, Paging(2)),
        ("4.22", True, False, 50, Paging(1, 1, 50)),
    ],
)
def test_what_is_set_aside(
    version: str, pvh: bool, shadow: bool, shared: int | None, expected: Paging | None
) -> None:
    assert paging(xen_versions.parse(version), pvh=pvh, shadow=shadow, shared=shared) == expected


def test_pages_set_aside() -> None:
    """By hand: 1 GiB and 4 vCPUs: 4 * (256 * 4 + 1024) KiB = 8 MiB; a vCPU alone 1 MiB; whole MiBs."""
    assert Paging(1, 4).pages(GIB_PAGES) == 8 * 256
    assert Paging(2, 4).pages(GIB_PAGES) == 12 * 256
    assert Paging(0, 1).pages(GIB_PAGES) == 256
    assert Paging(1, 1).pages(256) == 2 * 256
    assert Paging(1, 4, 2000).pages(GIB_PAGES) == 48
    assert Paging(1, 4, 3000).pages(GIB_PAGES) == 0
    avail = 2 * GIB_PAGES
    assert compute_nr_pages(parse(["8G"]), avail, Paging(1, 4)) == avail - 12 * 256
    assert compute_nr_pages(parse(["1G"]), avail, Paging(1, 4)) == GIB_PAGES
    half = (avail - 8 * 256) // 2
    assert compute_nr_pages(parse(["50%"]), avail, Paging(1, 4)) == half
