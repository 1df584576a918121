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
NO_DOM0 = (
    HEAD
    + ARRANGEMENT
    + (
        "(XEN) Freed 656kB init memory\r\nmapping kernel into physical memory\r\nabout to get started...\r\n"
        "(XEN) Hardware Dom0 halted: halting machine\r\n"
    )
)
"""Debian's cloud kernel has no dom0 support: what it and its init say on hvc0 goes nowhere, and then it halts."""
PVH_HALTS = HEAD + (
    "(XEN) *** Building a PVH Dom0 ***\r\n(XEN) Guest Loglevel: All\r\n"
    "(XEN) *** Serial input to DOM0 (type 'CTRL-a' three times to switch input)\r\n"
    "(XEN) Freed 656kB init memory\r\n(XEN) Hardware Dom0 halted: halting machine\r\n"
)
"""Linux 6.1 as PVH dom0 in QEMU 11.1.3: at its first page fault it reads another CR2 than the processor's."""
STAMPED = PVH_HALTS.replace("(XEN) ", "(XEN) [2026-11-24 01:02:03] ")


@pytest.mark.parametrize("console", [NO_DOM0, PVH_HALTS, STAMPED])
@pytest.mark.parametrize("wanted", [Stage.USERSPACE, Stage.POWER_OFF])
def test_a_kernel_that_gives_up_at_once_has_not_powered_off(console, wanted):
    expected = Expectation(wanted)
    assert enough(console, expected)
    verdict = judge(Run(console, End.STOPPED), expected, 60)
    assert (verdict.outcome, verdict.stage) == (Outcome.FAILED, Stage.DOM0_BUILT)
    assert "failed in kernel, after dom0 built: Hardware Dom0 halted" in verdict.reason


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
        (NO_ROOT + "(XEN) Hardware Dom0 halted: halting machine\r\n", Stage.POWER_OFF),
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


def test_only_where_the_machine_puts_things_may_differ():
    moved = [line.replace("30000000->0000000038", "20000000->0000000028") for line in LINES]
    run = Run(HEAD + ARRANGEMENT, End.STOPPED)
    verdict = judge(run, Expectation(Stage.DOM0_BUILT, arrangement=moved), 60)
    assert verdict.outcome is Outcome.PROVEN
    assert verdict.differences == [(moved[2], LINES[2], True)]


@pytest.mark.parametrize(
    ("line", "planned", "observed"),
    [
        (-1, "830791c0", "830791d0"),
        (2, "0000000038000000", "0000000034000000"),  # the block's size, which the kernel decides
        (2, "98052 pages", "98051 pages"),
        (4, "ffffffff84c00000", "ffffffff85000000"),
    ],
)
def test_what_the_images_decide_may_not_differ(line, planned, observed):
    other = [text.replace(planned, observed) for text in LINES]
    verdict = judge(Run(HEAD + ARRANGEMENT, End.STOPPED), Expectation(Stage.DOM0_BUILT, arrangement=other), 60)
    assert (verdict.outcome, verdict.exit_code) == (Outcome.DIFFERS, 1)
    assert verdict.differences == [(other[line], LINES[line], False)]
    assert "1 line" in verdict.reason


def test_a_line_too_few_or_too_many_moves_no_other():
    extra = "Dom0 memory clipped to 1024 pages"
    assert observe.differences([LINES[0], extra, *LINES[1:]], LINES) == [(extra, "", False)]
    assert observe.differences(LINES, [LINES[0], extra, *LINES[1:]]) == [("", extra, False)]


PVH = """\
(XEN) Xen-e820 RAM map:\r
(XEN)  [0000000000000000, 000000000009fbff] (usable)\r
(XEN) *** Building a PVH Dom0 ***\r
(XEN) Dom0 memory allocation stats:\r
(XEN) order  0 allocations: 2\r
(XEN) Dom0 memory map:\r
(XEN)  [0000000000000000, 000000000009efff] (usable)\r
(XEN)  [000000000009fc00, 000000000009ffff] (reserved)\r
(XEN)  [0000000000100000, 0000000008060f25] (usable)\r
"""
PVH_END = "(XEN) WARNING: PVH is an experimental mode with limited functionality\r\n"


def test_a_pvh_dom0s_lines_are_read_back():
    console = stages.plain(PVH + PVH_END)
    lines = [line.removeprefix("(XEN) ") for line in stages.plain(PVH).splitlines()]
    assert observe.arrangement(console) == lines[5:]
    assert not observe.complete(stages.plain(PVH))
    assert observe.complete(console)


def test_a_pvh_dom0s_map_may_lie_elsewhere_but_not_be_smaller():
    observed = observe.arrangement(stages.plain(PVH + PVH_END))
    moved = [line.replace("9efff] (usable)", "9ffff] (usable)") for line in observed if "reserved" not in line]
    assert {difference.placed for difference in observe.differences(observed, moved)} == {True}
    smaller = [line.replace("0000000008060f25", "0000000006060f25") for line in observed]
    assert [difference.placed for difference in observe.differences(observed, smaller)] == [False]


def test_a_line_that_is_not_whole_yet_is_none():
    partial = HEAD + ARRANGEMENT[: ARRANGEMENT.index("ENTRY ADDRESS") + len("ENTRY ADDRESS: ffffffff83")]
    assert not observe.complete(stages.plain(partial))
    assert not enough(partial, Expectation(Stage.DOM0_BUILT, arrangement=LINES))


def test_the_initrd_has_a_machine_address_and_a_virtual_one():
    planned = [observe.PHYSICAL, " Init. ramdisk: " + "0" * 16 + "->" + "0" * 12 + "1000"]
    planned += [observe.HEADINGS[1], planned[1]]
    moved = planned[1].replace("0" * 16, "0" * 12 + "1000").replace("->0000000000001000", "->0000000000002000")
    observed = [planned[0], moved, planned[2], moved]
    assert observe.differences(planned, observed) == [(planned[1], moved, True), (planned[1], moved, False)]


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


def test_watching_stops_at_a_failure_that_nothing_follows():
    expected = Expectation(patterns=("MARKER",))
    assert not enough("mbtool stub: error: cannot read", expected)
    assert enough("mbtool stub: error: cannot read the disk: xen\r\n", expected)
    assert enough(REFUSED, expected)
    assert not enough("BdsDxe: failed to load Boot0001\r\n", expected)  # there may be a Boot0002


SHELL = (
    'BdsDxe: failed to load Boot0001 "UEFI QEMU HARDDISK QM00013 " from PciRoot(0x0)/Pci(0x2,0x0): Not Found\r\n'
    'BdsDxe: loading Boot0002 "EFI Internal Shell" from Fv(7CB8BDC9-F8EB-4F34-AAEA-3EE4AF6516A1)\r\n'
    "UEFI Interactive Shell v2.2\r\nEDK II\r\nUEFI v2.70 (EDK II, 0x00010000)\r\n"
    "Press ESC in 1 seconds to skip startup.nsh or any other key to continue.\r\n"
)
"""OVMF, of a disk with nothing for it."""


@pytest.mark.parametrize(
    ("before", "prompt", "words"),
    [(SHELL, "Shell> ", "failed to load Boot0001"), ("GRUB loading.\r\n", "grub rescue> ", "failed in loader")],
)
def test_nobody_answers_a_prompt(before: str, prompt: str, words: str):
    expected = Expectation(Stage.USERSPACE)
    assert not enough(before, expected)
    assert not enough(f"{before}{prompt}ls\r\nAnd more", expected)  # what a script says
    assert enough(before + prompt, expected)
    verdict = judge(Run(before + prompt, End.STOPPED), expected, 60)
    assert verdict.outcome is Outcome.FAILED
    assert words in verdict.reason


@pytest.mark.parametrize(
    ("console", "outcome"),
    [
        ("mbtool stub\r\nhello\r\n", Outcome.PROVEN),
        ("", Outcome.PROVEN),
        (HEAD, Outcome.FAILED),  # Xen began and did not end as Xen does
        ("mbtool stub: error: no memory\r\n", Outcome.FAILED),
    ],
)
def test_a_kernel_without_known_words_has_to_power_off_by_itself(console, outcome):
    assert judge(Run(console, End.POWER_OFF), Expectation(Stage.USERSPACE), 60).outcome is outcome
    assert judge(Run(console, End.RESET), Expectation(Stage.USERSPACE), 60).outcome is Outcome.FAILED


def test_patterns_that_never_came_are_named():
    verdict = judge(Run(HEAD, End.POWER_OFF), Expectation(patterns=("MARKER",)), 60)
    assert verdict.missing == ["MARKER"]
    assert "MARKER" in verdict.reason
