"""Policies: severities, accepted findings, a site's own rules; and what makes no sense in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mbtool.check import policy
from mbtool.check.boot_set import open_set
from mbtool.check.policy import Policy
from mbtool.check.report import check_set
from mbtool.errors import InputError
from mbtool.model import Severity
from tests.check.sets import initrd, vmlinuz


def load(tmp_path: Path, text: str) -> Policy:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return policy.load(path)


def judged(tmp_path: Path, text: str, xen_cmdline: str = "", cmdline: str = "") -> tuple[dict[str, str], list[str]]:
    """Rule to severity of what counts, and the reasons for what does not."""
    (tmp_path / "vmlinuz").write_bytes(vmlinuz())
    (tmp_path / "initrd").write_bytes(initrd("5.10.0"))
    site = load(tmp_path, text)
    files: dict[str, Any] = {"kernel": tmp_path / "vmlinuz", "initrd": tmp_path / "initrd"}
    with open_set(**files, xen_cmdline=xen_cmdline, cmdline=cmdline) as boot:
        kept, ignored = site.judge([*check_set(boot), *site.local(boot)])
    return {problem.id: str(problem.severity) for problem in kept}, [reason for _, reason in ignored]


def test_no_policy(tmp_path: Path) -> None:
    assert judged(tmp_path, "") == ({"INITRD-MODULES": "warning", "XEN-VERSION": "info"}, [])


def test_severities(tmp_path: Path) -> None:
    found, _ = judged(tmp_path, 'fail-on = "warning"\n[severity]\nINITRD-MODULES = "error"')
    assert found["INITRD-MODULES"] == "error"
    assert load(tmp_path, 'fail-on = "warning"').fail_on is Severity.WARNING


def test_ignores_have_a_reason_and_a_place(tmp_path: Path) -> None:
    text = '[[ignore]]\nrule = "INITRD-MODULES"\nreason = "netboot"\nfile = "*/initrd"'
    found, reasons = judged(tmp_path, text)
    assert "INITRD-MODULES" not in found
    assert reasons == ["netboot"]
    assert "INITRD-MODULES" in judged(tmp_path, text.replace("*/initrd", "*/other"))[0]


OWN = '[[rule]]\nid = "SITE-MEM"\nmessage = "say dom0_mem in MiB"\nxen-option = "dom0_mem"\nvalue = "[0-9]+M"\n'


@pytest.mark.parametrize(
    ("text", "xen", "cmdline", "broken"),
    [
        (OWN, "", "", True),
        (OWN, "dom0_mem=1G", "", True),
        (OWN, "dom0_mem=512M", "", False),
        (OWN + "forbid = true", "dom0_mem=512M", "", True),
        (OWN + "forbid = true", "dom0_mem=1G", "", False),
        (OWN.replace("xen-option", "kernel-option"), "dom0_mem=512M", "", True),
        ('[[rule]]\nid = "SITE-RO"\nmessage = "m"\nkernel-option = "ro"', "", "quiet ro", False),
        ('[[rule]]\nid = "SITE-SMT"\nmessage = "m"\nxen-option = "no-smt"', "smt=0", "", True),
        ('[[rule]]\nid = "SITE-SMT"\nmessage = "m"\nxen-option = "no-smt"', "no-smt", "", False),
    ],
)
def test_own_rules(tmp_path: Path, text: str, xen: str, cmdline: str, broken: bool) -> None:
    found, _ = judged(tmp_path, text, xen, cmdline)
    assert any(id_.startswith("SITE-") for id_ in found) == broken


@pytest.mark.parametrize(
    ("option", "value", "line", "broken"),
    [
        ("dom0_mem", "[0-9]+M", "dom0_mem=512M dom0_mem=1G", True),
        ("dom0_mem", "[0-9]+M", "dom0_mem=1G dom0_mem=512M", False),
        ("dom0_mem", "512M,max:1G", "dom0_mem=max:2G dom0_mem=512M dom0_mem=max:1G", True),
        ("dom0_mem", "max:1G,512M", "dom0_mem=max:2G dom0_mem=512M dom0_mem=max:1G", False),
        ("console", "com1.*", "console=com1,vga console=vga", True),
        ("console", "com1.*", "console=vga console=com1,vga", False),
        ("smt", "", "smt no-smt", True),
        ("smt", "", "no-smt smt", False),
        ("no-smt", "", "smt no-smt", False),
        ("dom0", "pvh,verbose", "dom0=pvh dom0=verbose", False),
        ("dom0", "pv", "dom0=pv dom0=pvh", True),
        ("iommu", ".*force.*", "iommu=force iommu=debug", False),
        ("iommu", ".*force.*", "iommu=force no-iommu", True),
        ("pci-phantom", "1:0,1", "pci-phantom=1:0,1 pci-phantom=2:0,1", False),
        ("dom0_max_vcpus", "4", "dom0_max_vcpus=4 dom0_max_vcpus=2", True),
    ],
)
def test_what_of_xens_options_is_in_effect(
    tmp_path: Path, option: str, value: str, line: str, broken: bool
) -> None:
    """Xen, common/kernel.c, parse_params, and the functions of the options, for dom0_mem= parse_dom0_mem."""
    text = f'[[rule]]\nid = "SITE-X"\nmessage = "m"\nxen-option = "{option}"\nvalue = "{value}"'
    assert ("SITE-X" in judged(tmp_path, text, line)[0]) == broken


@pytest.mark.parametrize(
    ("option", "value", "line", "broken"),
    [
        ("console", "hvc0", "console=hvc0 console=tty0", False),
        ("root", "/dev/sda1", "root=/dev/sda1 root=/dev/sdb1", True),
        ("root", "/dev/sdb1", "root=/dev/sda1 root=/dev/sdb1", False),
        ("rd.luks.uuid", "b", "rd.luks.uuid=b rd.luks.uuid=a", False),
        ("log-buf-len", "1M", "log_buf_len=1M", False),
        ("quiet", "", "ro -- quiet", True),
        ("dyndbg", "file a.c [+]p", 'dyndbg="file a.c +p" quiet', False),
    ],
)
def test_what_of_linux_options_is_in_effect(
    tmp_path: Path, option: str, value: str, line: str, broken: bool
) -> None:
    text = f'[[rule]]\nid = "SITE-X"\nmessage = "m"\nkernel-option = "{option}"\nvalue = "{value}"'
    assert ("SITE-X" in judged(tmp_path, text, "", line)[0]) == broken


@pytest.mark.parametrize(
    "text",
    [
        "not toml at all",
        'fail-on = "never"',
        "fail-on = 3",
        'unknown = "x"',
        '[severity]\nNO-SUCH-RULE = "error"',
        '[severity]\nDOM0-MEM = "fatal"',
        'severity = "error"',
        '[[ignore]]\nrule = "DOM0-MEM"',
        '[[ignore]]\nrule = "DOM0-MEM"\nreason = " "',
        '[[ignore]]\nreason = "x"',
        'ignore = "DOM0-MEM"',
        '[[rule]]\nid = "DOM0-MEM"\nmessage = "m"\nxen-option = "x"',
        '[[rule]]\nid = "small"\nmessage = "m"\nxen-option = "x"',
        '[[rule]]\nid = "SITE-X"\nmessage = "m"',
        '[[rule]]\nid = "SITE-X"\nmessage = "m"\nxen-option = "x"\nvalue = "["',
        '[[rule]]\nid = "SITE-X"\nmessage = "m"\nxen-option = "x"\nforbid = "yes"',
    ],
)
def test_nonsense_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError) as caught:
        load(tmp_path, text)
    assert "policy.toml" in str(caught.value)
