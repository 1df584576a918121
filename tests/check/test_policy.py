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
