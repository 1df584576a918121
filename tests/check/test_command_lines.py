"""Command lines: Xen's lists by release, options on the wrong side, contradictions, lengths."""

from __future__ import annotations

from pathlib import Path

import pytest

from mbtool.check.command_lines import known_options
from mbtool.check.report import Problem
from mbtool.plan.xen_options import Mode
from tests.check.sets import XEN, ids, problems, vmlinux, vmlinuz


def found(tmp_path: Path, xen: str, cmdline: str | None = None, *, version: str = "4.18.0") -> list[Problem]:
    files = {"xen": XEN / f"xen-{version}.gz", "kernel": vmlinux()}
    return problems(tmp_path, files, xen_cmdline=xen, cmdline=cmdline)


def test_debians_own_lines_are_clean(tmp_path: Path) -> None:
    """What grub-mkconfig writes, and what Xen's documentation gives as examples."""
    xen = "placeholder dom0_mem=2G,max:2G loglvl=all com1=115200,8n1 console=com1,vga no-real-mode edd=off"
    assert found(tmp_path, xen, "placeholder root=UUID=1 ro console=hvc0 earlyprintk=xen quiet") == []
    assert found(tmp_path, "iommu=no-intremap ivrs_ioapic[4]=00:14.0 spec-ctrl=no-xen dom0=pv sched=credit2") == []


@pytest.mark.parametrize(
    ("xen", "option", "severity", "expected"),
    [
        ("dom0_men=1G", "dom0_men", "warning", "dom0_mem"),
        ("consle=com1", "consle", "warning", "console"),
        ("wallclock=efi", "wallclock", "warning", ""),
        ("frobnicate", "frobnicate", "info", ""),
    ],
)
def test_unknown_options(tmp_path: Path, xen: str, option: str, severity: str, expected: str) -> None:
    (problem,) = found(tmp_path, xen)
    assert (problem.id, problem.severity) == ("XEN-OPTION-UNKNOWN", severity)
    assert problem.evidence.field == option
    assert problem.evidence.expected == expected


def test_options_by_release() -> None:
    """Read off Xen's branches: wallclock= came with 4.20, gdb= went with 4.19; dit= came with 4.17."""
    assert "wallclock" not in known_options((4, 19))
    assert "wallclock" in known_options((4, 20))
    assert "gdb" in known_options((4, 18))
    assert "gdb" not in known_options((4, 19))
    assert "dit" in known_options((4, 17))
    assert known_options((4, 30)) == known_options((4, 22))


@pytest.mark.parametrize(
    ("xen", "cmdline"),
    [
        ("", "dom0_mem=1G"),
        ("", "console=com1"),
        ("", "com2=115200,8n1"),
        ("", "ucode=scan"),
        ("", "loglvl=all"),
        ("", "spec-ctrl=no"),
        ("root=/dev/sda1", ""),
        ("console=ttyS0,115200", ""),
        ("console=hvc0", ""),
        ("quiet", ""),
    ],
)
def test_the_wrong_side(tmp_path: Path, xen: str, cmdline: str) -> None:
    assert ids(found(tmp_path, xen, cmdline)) == {"CMDLINE-WRONG-SIDE"}


def test_what_both_read(tmp_path: Path) -> None:
    """And the word that Debian's configuration puts in front of both lines."""
    both = "placeholder acpi=force mem=1G watchdog reboot=acpi nosmp numa=off edd=off"
    assert "CMDLINE-WRONG-SIDE" not in ids(found(tmp_path, both, both))


def test_what_follows_the_dashes_is_for_dom0(tmp_path: Path) -> None:
    assert found(tmp_path, "console=com1 -- console=hvc0 root=/dev/sda1 quiet") == []


def test_mode_asked_for_and_mode_told(tmp_path: Path) -> None:
    files = {"xen": XEN / "xen-4.18.0.gz", "kernel": vmlinux()}
    assert ids(problems(tmp_path, files, xen_cmdline="dom0=pvh", asked_mode=Mode.PV)) == {"MODE-CONTRADICTED"}
    assert ids(problems(tmp_path, files, xen_cmdline="", asked_mode=Mode.PVH)) == {"MODE-CONTRADICTED"}
    assert problems(tmp_path, files, xen_cmdline="dom0=pvh,verbose", asked_mode=Mode.PVH) == []


def test_long_lines(tmp_path: Path) -> None:
    """start_info has room for 1023 bytes and a NUL; an option of Xen's for 127."""
    assert found(tmp_path, "", "x" * 1023) == []
    assert ids(found(tmp_path, "", "x" * 1024)) == {"CMDLINE-CUT"}
    assert found(tmp_path, "cpuid=" + "x" * 121) == []
    assert ids(found(tmp_path, "cpuid=" + "x" * 122)) == {"XEN-OPTION-LONG"}


@pytest.mark.parametrize(
    ("rule", "xen", "cmdline"),
    [
        ("DOM0-MEM-ORDER", "dom0_mem=min:2G,max:1G", ""),
        ("DOM0-MEM-ORDER", "dom0_mem=2G,max:1G", ""),
        ("DOM0-MEM-ORDER", "dom0_mem=1G,min:2G", ""),
        ("", "dom0_mem=1G,min:512M,max:2G", ""),
        ("", "dom0_mem=min:10%,max:1G", ""),
        ("PVH-WITHOUT-IOMMU", "dom0=pvh iommu=off", ""),
        ("PVH-WITHOUT-IOMMU", "dom0=pvh iommu=verbose,no", ""),
        ("PVH-WITHOUT-IOMMU", "dom0=pvh no-iommu", ""),
        ("", "dom0=pvh iommu=off iommu=on", ""),
        ("", "dom0=pvh iommu=no-intremap", ""),
        ("", "dom0=pvh iommu=off dom0-iommu=none", ""),
        ("", "iommu=off", ""),
        ("CONSOLE-NOT-CHOSEN", "com1=115200", ""),
        ("CONSOLE-NOT-CHOSEN", "com2=115200 console=com1,vga", ""),
        ("", "com1=115200 console=vga gdb=com1", ""),
        ("", "com1=115200 console=vga,com1", ""),
        ("", "console=com1", "console=hvc0"),
        ("CONSOLE-TAKEN", "console=com1", "console=ttyS0,115200"),
        ("CONSOLE-TAKEN", "console=vga,com2", "console=tty0 console=ttyS1"),
        ("", "console=com1", "console=ttyS0 console=hvc0"),
        ("", "console=com1", "console=ttyS1"),
        ("", "console=vga", "console=ttyS0"),
        ("SCHED-UNKNOWN", "sched=credit3", ""),
        ("", "sched=credit", ""),
    ],
)
def test_options_that_contradict_each_other(tmp_path: Path, rule: str, xen: str, cmdline: str) -> None:
    assert ids(found(tmp_path, xen, cmdline)) - {"DOM0-MEM"} == ({rule} if rule else set())


def test_xens_console_without_xen(tmp_path: Path) -> None:
    def told(cmdline: str) -> set[str]:
        return {problem.id for problem in problems(tmp_path, {"kernel": vmlinuz()}, cmdline=cmdline)}

    assert "CONSOLE-WITHOUT-XEN" in told("root=/dev/sda1 console=hvc0")
    assert "CONSOLE-WITHOUT-XEN" not in told("console=tty0 console=hvc0")
    assert "CONSOLE-WITHOUT-XEN" not in told("quiet")


@pytest.mark.parametrize(
    ("xen", "linux", "rule", "field"),
    [
        ("", "root=/dev/sda1 ro root=/dev/sdb1", "OPTION-REPEATED", "root"),
        ("", "mitigations=off mitigations=auto", "OPTION-REPEATED", "mitigations"),
        ("smt=on smt=off", "", "OPTION-REPEATED", "smt"),
        ("smt no-smt", "", "OPTION-REPEATED", "smt"),
        ("console=vga console=com1,vga com1=115200", "", "OPTION-REPEATED", "console"),
        ("", "ro quiet rw", "OPTIONS-CONTRADICT", "ro"),
        ("", "quiet debug", "OPTIONS-CONTRADICT", "quiet"),
        ("", "nosmp maxcpus=4", "OPTIONS-CONTRADICT", "nosmp"),
        ("", "intel_iommu=on iommu=off", "OPTIONS-CONTRADICT", "iommu=off"),
        ("nosmp maxcpus=4", "", "OPTIONS-CONTRADICT", "nosmp"),
        ("dom0=pvh dom0=pv,verbose", "", "OPTIONS-CONTRADICT", "dom0"),
        ("", "rot=/dev/sda1 ro", "LINUX-OPTION-MISSPELT", "rot"),
        ("", "root=UUID=1 resum=UUID=2", "LINUX-OPTION-MISSPELT", "resum"),
    ],
)
def test_what_takes_another_word_back(tmp_path: Path, xen: str, linux: str, rule: str, field: str) -> None:
    (problem,) = [problem for problem in found(tmp_path, xen, linux) if problem.severity != "info"]
    assert (problem.id, problem.evidence.field) == (rule, field)


@pytest.mark.parametrize(
    ("xen", "linux"),
    [
        ("", "console=tty0 console=hvc0 ro ro root=/dev/sda1 root=/dev/sda1"),
        ("iommu=verbose iommu=required dom0_mem=1G dom0_mem=max:2G smt smt=on nosmp maxcpus=1", ""),
        ("", "nosmp maxcpus=1 video=efifb:off video=vesafb:off -- rw debug"),
        ("", "ro single nomodeset vga=normal foo=/dev/sda1 rd=/dev/sda1"),
    ],
)
def test_what_adds_up(tmp_path: Path, xen: str, linux: str) -> None:
    assert ids(found(tmp_path, xen, linux)) == set()


def test_an_option_that_is_gone(tmp_path: Path) -> None:
    (problem,) = found(tmp_path, "vesa-map=1")
    assert (problem.id, problem.severity) == ("XEN-OPTION-UNKNOWN", "warning")
    assert problem.remedy == "releases up to 4.16 know it: leave it out for 4.18"
