"""The packaging hooks among the samples, run in a root of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.check.sets import RELEASE, XEN, initrd, vmlinuz
from tests.conftest import ROOT

HOOKS = ROOT / "samples" / "hooks"
CONFIG = ROOT / "tests" / "data" / "boot" / "debian12-grub.cfg"
ENTRY = f"title Linux\nlinux /vmlinuz-{RELEASE}\ninitrd /initrd.img-{RELEASE}\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system's root with a kernel, Xen and both kinds of configuration; and mbtool on the path."""
    boot = tmp_path / "boot"
    for folder in ("grub", "loader/entries"):
        (boot / folder).mkdir(parents=True)
    (boot / "grub" / "grub.cfg").write_text(CONFIG.read_text())
    (boot / "loader" / "entries" / "linux.conf").write_text(ENTRY)
    (boot / f"vmlinuz-{RELEASE}").write_bytes(vmlinuz())
    (boot / f"initrd.img-{RELEASE}").write_bytes(initrd())
    (boot / "xen.gz").write_bytes((XEN / "xen-4.18.0.gz").read_bytes())
    program = tmp_path / "bin" / "mbtool"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m mbtool "$@"\n')
    program.chmod(0o755)
    return tmp_path


def run(root: Path, hook: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": f"{root / 'bin'}:{os.environ['PATH']}", **more}
    return subprocess.run([HOOKS / hook, *arguments], env=env, capture_output=True, text=True, timeout=60)


def debian(root: Path) -> subprocess.CompletedProcess[str]:
    return run(root, "zzz-mbtool-check", RELEASE, f"/boot/vmlinuz-{RELEASE}", MBTOOL_ROOT=str(root))


def test_debians_hook(root: Path) -> None:
    assert debian(root).returncode == 0
    (root / "boot" / f"initrd.img-{RELEASE}").unlink()
    done = debian(root)
    assert done.returncode == 1
    assert "[ENTRY-FILE]" in done.stderr
    policy = root / "etc" / "mbtool" / "check.toml"
    policy.parent.mkdir(parents=True)
    policy.write_text('[severity]\nENTRY-FILE = "warning"\n')
    assert debian(root).returncode == 0
    (root / "boot" / "grub" / "grub.cfg").unlink()
    assert debian(root).returncode == 0


def test_kernel_installs_hook(root: Path) -> None:
    hook, boot = "95-mbtool-check.install", {"KERNEL_INSTALL_BOOT_ROOT": str(root / "boot")}
    assert run(root, hook, "add", RELEASE, **boot).returncode == 0
    (root / "boot" / f"initrd.img-{RELEASE}").unlink()
    assert run(root, hook, "add", RELEASE, **boot).returncode == 1
    assert run(root, hook, "inspect", RELEASE, **boot).returncode == 0


@pytest.mark.parametrize("hook", ["zzz-mbtool-check", "95-mbtool-check.install"])
def test_without_mbtool_nothing_happens(root: Path, hook: str) -> None:
    (root / "bin" / "mbtool").unlink()
    done = subprocess.run([HOOKS / hook, "add"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, timeout=60)
    assert done.returncode == 0
