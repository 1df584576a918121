"""Verdicts from consoles as real boots print them (Xen 4.17 and Linux 6.1 from Debian, under QEMU)."""

from __future__ import annotations

import pytest

from mbtool.prove import observe, stages
from mbtool.prove.qemu import End, Run
from mbtool.prove.stages import Stage
from mbtool.prove.verdict import Expectation, Outcome, enough, judge

ARRANGEMENT = """\
(XEN) *** Building a PV Dom0 ***\r
(XEN)  Xen  kernel: 64-bit, lsb\r
(XEN)  Dom0 kernel: 64-bit, PAE, lsb, paddr 0x1000000 -> 0x4a00000\r
(XEN) PHYSICAL MEMORY ARRANGEMENT:\r
(XEN)  Dom0 alloc.:   0000000030000000->0000000038000000 (98052 pages to be allocated)\r
(XEN) VIRTUAL MEMORY ARRANGEMENT:\r
(XEN)  TOTAL:         ffffffff80000000->ffffffff84c00000\r
(XEN)  ENTRY ADDRESS: ffffffff830791c0\r
(XEN) Dom0 has maximum 1 VCPUs\r
"""
LINES = [
    " Dom0 kernel: 64-bit, PAE, lsb, paddr 0x1000000 -> 0x4a00000",
    "PHYSICAL MEMORY ARRANGEMENT:",
    " Dom0 alloc.:   0000000030000000->0000000038000000 (98052 pages to be allocated)",
    "VIRTUAL MEMORY ARRANGEMENT:",
    " TOTAL:         ffffffff80000000->ffffffff84c00000",
    " ENTRY ADDRESS: ffffffff830791c0",
]
HEAD = "mbtool stub\r\n(XEN) Xen version 4.17.7 (Debian 4.17.7)\r\n"
REFUSED = HEAD + (
    "(XEN) ****************************************\r\n(XEN) Panic on CPU 0:\r\n"
    "(XEN) Domain 0 allocation is too small for kernel image\r\n"
    "(XEN) ****************************************\r\n"
)
NO_ROOT = (
    HEAD
    + ARRANGEMENT
    + (
        "[    0.000000] Linux version 6.1.0-56-amd64 (debian-kernel@lists.debian.org)\r\n"
        "[    3.643648] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r\n"
        "(XEN) Hardware Dom0 crashed: rebooting machine in 5 seconds.\r\n"
    )
)


def test_the_arrangement_is_read_back_whole():
    assert observe.arrangement(stages.plain(HEAD + ARRANGEMENT)) == LINES
    assert observe.arrangement(HEAD) == []


def test_time_stamps_on_the_console_do_not_matter():
    stamped = ARRANGEMENT.replace("(XEN) ", "(XEN) [2026-11-24 01:02:03] ")
    assert observe.arrangement(stages.plain(stamped)) == LINES


@pytest.mark.parametrize(
    ("console", "stage"),
    [
        ("", Stage.NOTHING),
        ("BdsDxe: loading Boot0001", Stage.FIRMWARE),
        ("mbtool stub\r\n", Stage.LOADER),
        (HEAD, Stage.XEN),
        (HEAD + ARRANGEMENT, Stage.DOM0_BUILT),
        (NO_ROOT, Stage.KERNEL),
        (NO_ROOT + "[    4.1] Run /init as init process\n", Stage.USERSPACE),
        ("[    5.0] reboot: Power down\n", Stage.POWER_OFF),
    ],
)
def test_stages(console, stage):
    assert stages.reached(console) == stage


@pytest.mark.parametrize(
    ("console", "by", "words"),
    [
        (REFUSED, "Xen", "Domain 0 allocation is too small for kernel image"),
        (NO_ROOT, "kernel", "VFS: Unable to mount root fs"),
        ("mbtool stub: error: cannot read the disk: xen\r\n", "stub", "cannot read the disk: xen"),
    ],
)
def test_known_failures_are_told_with_their_own_words(console, by, words):
    verdict = judge(Run(console, End.RESET), Expectation(Stage.USERSPACE), 60)
    assert verdict.outcome is Outcome.FAILED
    assert verdict.exit_code == 1
    assert words in verdict.reason
    assert f"failed in {by}" in verdict.reason


def test_as_planned():
    run = Run(HEAD + ARRANGEMENT, End.STOPPED)
    verdict = judge(run, Expectation(Stage.DOM0_BUILT, arrangement=LINES), 60)
    assert (verdict.outcome, verdict.exit_code) == (Outcome.PROVEN, 0)


def test_addresses_that_the_machine_decides_are_masked_and_others_are_not():
    moved = [line.replace("30000000->0000000038", "20000000->0000000028") for line in LINES]
    run = Run(HEAD + ARRANGEMENT, End.STOPPED)
    assert judge(run, Expectation(Stage.DOM0_BUILT, arrangement=moved), 60).outcome is Outcome.PROVEN
    other = [line.replace("830791c0", "830791d0") for line in LINES]
    verdict = judge(run, Expectation(Stage.DOM0_BUILT, arrangement=other), 60)
    assert verdict.outcome is Outcome.DIFFERS
    assert verdict.differences == [(" ENTRY ADDRESS: ffffffff830791d0", " ENTRY ADDRESS: ffffffff830791c0")]


@pytest.mark.parametrize(
    ("run", "outcome", "code"),
    [
        (Run(HEAD, End.TIMEOUT), Outcome.TIMEOUT, 1),
        (Run(HEAD, End.TRIPLE_FAULT), Outcome.FAILED, 1),
        (Run(HEAD, End.POWER_OFF), Outcome.FAILED, 1),
        (Run("", End.QEMU, "qemu-system-x86_64: no such option"), Outcome.UNABLE, 2),
    ],
)
def test_ways_to_end_are_told_apart(run, outcome, code):
    verdict = judge(run, Expectation(Stage.USERSPACE), 60)
    assert (verdict.outcome, verdict.exit_code) == (outcome, code)


def test_watching_stops_when_all_is_seen_and_not_before():
    expected = Expectation(Stage.DOM0_BUILT, patterns=("ENTRY",), arrangement=LINES)
    assert not enough(HEAD, expected)
    assert not enough(HEAD + ARRANGEMENT[: ARRANGEMENT.index("ENTRY")], expected)
    assert enough(HEAD + ARRANGEMENT, expected)
    assert not enough(HEAD + ARRANGEMENT, Expectation())


def test_patterns_that_never_came_are_named():
    verdict = judge(Run(HEAD, End.POWER_OFF), Expectation(patterns=("MARKER",)), 60)
    assert verdict.missing == ["MARKER"]
    assert "MARKER" in verdict.reason
