"""``mbtool prove`` as its user meets it: verdicts, statuses, reports. A script plays QEMU, but for one test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import jsonschema
import pytest

from tests.cli.run import mbtool
from tests.conftest import ROOT

SCHEMA = json.loads((ROOT / "mbtool" / "schemas" / "prove.schema.json").read_text())
LAYOUT = [" Dom0 kernel: 64-bit, lsb, paddr 0 -> 0x1000", " ENTRY ADDRESS: ffffffff80000000"]
GOOD = "(XEN) Xen version 4.17.7 (Debian)\n" + "".join(f"(XEN) {line}\n" for line in LAYOUT)


@pytest.fixture
def stage(tmp_path: Path):
    """``stage(console, status)``: a dom0 directory, a disk, and an environment whose QEMU prints that and exits."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tmp_path / "dom0").mkdir()
    (tmp_path / "dom0" / "layout.txt").write_text("".join(f"{line}\n" for line in LAYOUT))
    (tmp_path / "dom0" / "layout.json").write_text('{"nr_pages": 1000, "mode": "pv"}')
    for image in (tmp_path / "dom0" / "disk.img", tmp_path / "disk.img"):
        image.write_bytes(b"\xeb".ljust(510, b"\0") + b"\x55\xaa" + bytes(65024))

    def setup(console: str, status: int = 0) -> dict[str, str]:
        (tmp_path / "console").write_text(console)
        complaint = "echo 'no such machine' >&2" if status else ""
        script = f"#!/bin/sh\ncat {tmp_path / 'console'}\n{complaint}\nexit {status}\n"
        (tools / "qemu-system-x86_64").write_text(script)
        (tools / "qemu-system-x86_64").chmod(0o755)
        return {**os.environ, "PATH": f"{tools}:/usr/bin:/bin"}

    return setup


@pytest.mark.parametrize(
    ("target", "console", "status", "outcome", "code"),
    [
        ("dom0", GOOD, 0, "proven", 0),
        ("dom0", GOOD.replace("ffffffff80000000", "ffffffff80000040"), 0, "differs", 1),
        ("dom0", GOOD.partition("(XEN)  ENTRY")[0], 0, "failed", 1),
        ("dom0", "mbtool stub: error: cannot read the disk\n", 0, "failed", 1),
        ("disk.img", "Linux version 6.1\nRun /init as init process\n", 0, "proven", 0),
        ("disk.img", "Linux version 6.1\nKernel panic - not syncing: VFS\n", 0, "failed", 1),
        ("disk.img", "hello\n", 0, "proven", 0),
        ("disk.img", "", 1, "unable", 2),
    ],
)
def test_verdicts(tmp_path: Path, stage, target: str, console: str, status: int, outcome: str, code: int) -> None:
    done = mbtool("prove", "--accel", "tcg", "--json", target, cwd=tmp_path, env=stage(console, status))
    assert (done.returncode, done.stderr) == (code, "")
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    (boot,) = document["boots"]
    assert (boot["outcome"], boot["memory"]) == (outcome, 1024)


def test_a_disk_without_boot_code_is_not_even_tried_on_a_bios(tmp_path: Path, stage) -> None:
    env = stage("Linux version 6.1\nRun /init as init process\n")
    (tmp_path / "disk.img").write_bytes(bytes(510) + b"\x55\xaa" + bytes(65024))
    done = mbtool("prove", "--json", "disk.img", cwd=tmp_path, env=env)
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    assert done.returncode == 1
    assert document["boots"][0]["outcome"] == "failed"
    assert "no boot code" in document["boots"][0]["reason"]


def test_a_missing_qemu_is_a_verdict(tmp_path: Path, stage) -> None:
    env = {**stage(GOOD), "PATH": str(tmp_path)}
    done = mbtool("prove", "--json", "--junit", "junit.xml", "dom0", cwd=tmp_path, env=env)
    assert done.returncode == 2
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    assert document["boots"][0]["outcome"] == "unable"
    assert "not installed" in document["boots"][0]["reason"]
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("errors"), suite.get("failures")) == ("1", "0")


def test_text_names_what_differs(tmp_path: Path, stage) -> None:
    env = stage(GOOD.replace("ffffffff80000000", "ffffffff80000040"))
    done = mbtool(
        "prove", "--accel", "tcg", "--log", "console.txt", "--junit", "junit.xml", "dom0", cwd=tmp_path, env=env
    )
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith("differs: dom0 on bios (tcg, ")
    assert lines[1:] == [
        "  planned    ENTRY ADDRESS: ffffffff80000000",
        "  observed   ENTRY ADDRESS: ffffffff80000040",
    ]
    assert (tmp_path / "console.txt").read_text().startswith("# bios\n(XEN) Xen version")
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")


def test_a_large_dom0_gets_a_large_machine(tmp_path: Path, stage) -> None:
    env = stage(GOOD)
    (tmp_path / "dom0" / "layout.json").write_text(f'{{"nr_pages": {4 << 18}, "mode": "pv"}}')
    boot = json.loads(mbtool("prove", "--json", "dom0", cwd=tmp_path, env=env).stdout)["boots"][0]
    assert boot["memory"] == 4096 + 512
    boot = json.loads(mbtool("prove", "--json", "--memory", "700", "dom0", cwd=tmp_path, env=env).stdout)["boots"][
        0
    ]
    assert boot["memory"] == 700


@pytest.mark.parametrize(
    "arguments",
    [
        ["--expect", "(", "disk.img"],
        ["--log", "absent/console.txt", "disk.img"],
        ["--log", "disk.img", "disk.img"],
        ["--junit", "/dev/null", "disk.img"],
        ["absent.img"],
        ["dom0/layout.txt"],
        [ROOT / "samples" / "multiboot1" / "multiboot1.elf"],
        ["bin"],
        ["--bus", "scsi", "disk.img"],
        ["--timeout", "0", "disk.img"],
        ["--memory", "1", "disk.img"],
        ["--smp", "many", "disk.img"],
        [],
    ],
)
def test_unusable_arguments_boot_nothing(tmp_path: Path, stage, arguments: list[str | Path]) -> None:
    done = mbtool("prove", *arguments, cwd=tmp_path, env=stage(GOOD))
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_qemu_ends_with_the_program_and_the_log_is_kept(tmp_path: Path, stage, sent: signal.Signals) -> None:
    env = {**stage(""), "PYTHONPATH": str(ROOT)}
    script = f"#!/bin/sh\necho $$ > {tmp_path}/pid\necho 'Linux version 6'\nexec sleep 60\n"
    (tmp_path / "bin" / "qemu-system-x86_64").write_text(script)
    command = [sys.executable, "-m", "mbtool", "prove", "--accel", "tcg", "--log", "console.txt", "disk.img"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=env,
        stderr=subprocess.PIPE,
        # What runs in the background of a shell is born deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    qemu = Path("/proc") / (tmp_path / "pid").read_text().strip() / "stat"
    time.sleep(0.5)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    assert b"Traceback" not in errors
    while qemu.exists() and ") Z " not in qemu.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if sent != signal.SIGKILL:
        assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[sent]
        assert "Linux version 6" in (tmp_path / "console.txt").read_text()


def test_a_damaged_layout_is_named(tmp_path: Path, stage) -> None:
    env = stage(GOOD)
    for text in ("", "[]", '{"nr_pages": "many"}', '{"nr_pages": null}'):
        (tmp_path / "dom0" / "layout.json").write_text(text)
        done = mbtool("prove", "dom0", cwd=tmp_path, env=env)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "mbtool: dom0/layout.json: is no layout that build-dom0 wrote\n"


@pytest.mark.boot
@pytest.mark.real
@pytest.mark.parametrize(("mode", "kernel"), [("pv", "pv-dom0/pv-dom0-mapped.elf"), ("pvh", "pvh/pvh.elf")])
def test_a_dom0_directory_is_proven_on_both_firmwares(
    tmp_path: Path, tool, xen_gz: Path, samples: Path, mode: str, kernel: str
) -> None:
    """Real QEMU, SeaBIOS, OVMF and Xen: the plan's lines, all of them, as Xen prints them."""
    tool("qemu-system-x86_64")
    done = mbtool(
        *("build-dom0", "--mode", mode, "--xen", xen_gz, "--kernel", samples / kernel),
        *("--initrd", samples / "initrd" / "initrd.img", "--dom0-mem", "128M"),
        *("--cmdline", "some  words", "-o", tmp_path / "dom0"),
    )
    assert done.returncode == 0, done.stderr
    words = r"cmd_line=some  words$" if mode == "pv" else r"some  words"
    done = mbtool("prove", "--firmware", "both", "--json", "--expect", words, tmp_path / "dom0")
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    assert [(boot["firmware"], boot["outcome"]) for boot in document["boots"]] == [
        ("bios", "proven"),
        ("uefi", "proven"),
    ], document
    for boot in document["boots"]:
        assert {difference["placed"] for difference in boot["differences"]} <= {True}
