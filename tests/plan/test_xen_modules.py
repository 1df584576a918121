"""What Xen takes its modules for. Source: xen/arch/x86/cpu/microcode/core.c and setup.c of each release."""

from __future__ import annotations

import pytest

from mbtool.formats.xen_versions import parse
from mbtool.plan.xen_modules import Roles, Ucode, claimed, roles, ucode

OLD, NEW = ("4.14", "4.19"), ("4.20", "4.22")


@pytest.mark.parametrize(
    ("words", "old", "new"),
    [
        (b"", Ucode(), Ucode()),
        (b"ucode=scan", Ucode(0, True), Ucode(0, True)),
        (b"ucode=scan=on,nmi=no", Ucode(0, True), Ucode(0, True)),
        (b"ucode=scan ucode=no-scan", Ucode(), Ucode()),
        (b"ucode=-1", Ucode(-1), Ucode(-1)),
        (b"ucode=0x2,allow-same", Ucode(2), Ucode(2)),
        (b"ucode=010", Ucode(8), Ucode(8)),
        (b"ucode=2 ucode=scan", Ucode(2, True), Ucode(0, True)),
        (b"ucode=scan,2", Ucode(2, True), Ucode(2, False)),
        (b"ucode=nmi", Ucode(), Ucode()),
        (b"no-ucode", Ucode(), Ucode()),
        (b"dom0_mem=1G -- ucode=scan", Ucode(), Ucode()),
    ],
)
def test_what_is_asked_for(words: bytes, old: Ucode, new: Ucode) -> None:
    assert [ucode(words, parse(release)) for release in (*OLD, *NEW)] == [old, old, new, new]


def test_built_to_scan() -> None:
    """CONFIG_UCODE_SCAN_DEFAULT."""
    assert ucode(b"", parse("4.21"), scan=True).scan
    assert not ucode(b"ucode=no-scan", parse("4.21"), scan=True).scan
    assert not ucode(b"ucode=1", parse("4.21"), scan=True).scan


@pytest.mark.parametrize(("number", "wanted"), [(0, 0), (1, 1), (2, 2), (3, 0), (-1, 2), (-2, 1), (-3, 0), (-9, 0)])
def test_by_number(number: int, wanted: int) -> None:
    assert claimed(Ucode(number), 2) == wanted


@pytest.mark.parametrize(
    ("policies", "wanted", "expected"),
    [
        ((), Ucode(), Roles()),
        ((), Ucode(1, True), Roles()),
        ((False, False), Ucode(), Roles(0, (1, 2))),
        ((False, False), Ucode(1), Roles(1, (2,))),
        ((False, False), Ucode(-1), Roles(2, (1,))),
        ((False, False), Ucode(0, True), Roles(0, (1, 2), (1, 2))),
        ((True, False), Ucode(), Roles(0, (2,))),
        ((False, True, False), Ucode(3, True), Roles(3, (1,), (1,))),
    ],
)
def test_roles(policies: tuple[bool, ...], wanted: Ucode, expected: Roles) -> None:
    assert all(roles(policies, wanted, parse(release)) == expected for release in (*OLD, *NEW))


def test_of_two_policies_one_is_taken() -> None:
    assert roles((True, True), Ucode(), parse("4.19")).candidates == (1,)
    assert roles((True, True), Ucode(), parse("4.20")).candidates == (2,)
