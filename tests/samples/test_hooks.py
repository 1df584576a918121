"""The packaging hooks among the samples, run in a root of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.check.sets import RELEASE, XEN, initrd, vmlinuz
from tests.conftest import ROOT, missing

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


def kernel_hooks(root: Path, run_parts: str, folder: str = "postinst.d") -> subprocess.CompletedProcess[str]:
    """As a kernel package's postinst runs the hooks (linux-run-hooks)."""
    kernel = root / "boot" / f"vmlinuz-{RELEASE}"
    command = [run_parts, "--exit-on-error", f"--arg={RELEASE}", f"--arg={kernel}"]
    env = {"PATH": f"{root / 'bin'}:{os.environ['PATH']}", "MBTOOL_ROOT": str(root)}
    hooks = root / "etc" / "kernel" / folder
    return subprocess.run([*command, str(hooks)], env=env, capture_output=True, text=True, timeout=60)


@pytest.fixture
def run_parts(root: Path, tool: Callable[[str], str]) -> str:
    """The program, with the hook where it looks."""
    folder = root / "etc" / "kernel" / "postinst.d"
    folder.mkdir(parents=True)
    shutil.copy(HOOKS / "zzz-mbtool-check", folder)
    return tool("run-parts")


def policy(root: Path, text: str) -> None:
    path = root / "etc" / "mbtool" / "check.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_debians_hook(root: Path, run_parts: str) -> None:
    done = kernel_hooks(root, run_parts)
    assert done.returncode == 0
    assert "grub.cfg: Debian GNU/Linux: nothing found" in done.stderr
    (root / "boot" / f"initrd.img-{RELEASE}").unlink()
    done = kernel_hooks(root, run_parts)
    assert done.returncode == 0  # told, but nobody said that it should stop anything
    assert "[ENTRY-FILE]" in done.stderr
    policy(root, 'fail-on = "error"\n')
    assert kernel_hooks(root, run_parts).returncode == 1
    policy(root, 'fail-on = "error"\n[severity]\nENTRY-FILE = "warning"\n')
    assert kernel_hooks(root, run_parts).returncode == 0


def test_debians_hook_without_grub(root: Path, run_parts: str) -> None:
    """The kernel, its initrd and the newest Xen are a set."""
    boot = root / "boot"
    (boot / "grub" / "grub.cfg").unlink()
    policy(root, 'fail-on = "error"\n')
    assert "the set: nothing found" in kernel_hooks(root, run_parts).stderr
    (boot / f"vmlinuz-{RELEASE}").write_bytes(vmlinuz(version=0x207))
    assert kernel_hooks(root, run_parts).returncode == 0  # any loader starts it
    (boot / "xen-4.18-amd64.gz").write_bytes((XEN / "xen-4.18.0.gz").read_bytes())
    done = kernel_hooks(root, run_parts)
    assert done.returncode == 1
    assert "[XEN-BZIMAGE-VERSION]" in done.stderr
    (boot / f"vmlinuz-{RELEASE}").unlink()
    assert kernel_hooks(root, run_parts).returncode == 0  # removed


def test_kernel_installs_hook(root: Path, tool: Callable[[str], str]) -> None:
    """By kernel-install itself, which is told to run this plugin alone."""
    conf = root / "conf"
    conf.mkdir()
    (conf / "install.conf").write_text(f"layout=other\nBOOT_ROOT={root / 'boot'}\n")
    kernel = root / "boot" / f"vmlinuz-{RELEASE}"

    def install(verb: str) -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": f"{root / 'bin'}:{os.environ['PATH']}",
            "MBTOOL_ROOT": str(root),
            "MACHINE_ID": "0123456789abcdef0123456789abcdef",
            "KERNEL_INSTALL_CONF_ROOT": str(conf),
            "KERNEL_INSTALL_PLUGINS": str(HOOKS / "95-mbtool-check.install"),
        }
        command = [tool("kernel-install"), verb, RELEASE, *([str(kernel)] if verb == "add" else [])]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)

    done = install("add")
    assert done.returncode == 0, done.stderr
    assert "linux.conf: Linux: nothing found" in done.stderr
    (root / "boot" / f"initrd.img-{RELEASE}").unlink()
    done = install("remove")
    assert done.returncode == 0
    assert "[ENTRY-FILE]" in done.stderr
    policy(root, 'fail-on = "error"\n')
    assert install("add").returncode != 0


def test_debians_hook_when_a_kernel_goes(root: Path, run_parts: str) -> None:
    """As its postrm: the files are gone, grub.cfg is not written again."""
    (root / "etc" / "kernel" / "postinst.d").rename(root / "etc" / "kernel" / "postrm.d")
    for name in (f"vmlinuz-{RELEASE}", f"initrd.img-{RELEASE}"):
        (root / "boot" / name).unlink()
    done = kernel_hooks(root, run_parts, "postrm.d")
    assert done.returncode == 0
    assert f"vmlinuz-{RELEASE}" in done.stderr
    assert "[ENTRY-FILE]" in done.stderr


KERNEL_SPEC = """
Name: kernel-test
Version: 1
Release: 1
Summary: A kernel
License: MIT
BuildArch: noarch
%description
A kernel.
%install
mkdir -p %{buildroot}/lib/modules/1
touch %{buildroot}/lib/modules/1/vmlinuz
%files
/lib/modules/1/vmlinuz
"""


def test_rpms_triggers(tmp_path: Path, tool: Callable[[str], str], debian: Callable[[str], Path]) -> None:
    """By rpm itself, in a root with a shell, and an mbtool that says how it was called and finds something."""
    build, rpm = tool("rpmbuild"), tool("rpm")
    if os.geteuid():
        missing("root, which rpm --root needs")
    spec, system = tmp_path / "kernel-test.spec", tmp_path / "root"
    spec.write_text(KERNEL_SPEC)
    for each in (spec, HOOKS / "mbtool-check.spec"):
        subprocess.run([build, "-D", f"_topdir {tmp_path}", "-bb", str(each)], check=True, capture_output=True)
    for folder in ("bin", "usr/bin", "boot", "dev", "tmp", "var/tmp", "var/lib/rpm", "etc/mbtool"):
        (system / folder).mkdir(parents=True)
    shutil.copy(debian("busybox-static") / "bin" / "busybox", system / "bin" / "sh")
    (system / "dev" / "null").touch()
    program = system / "usr" / "bin" / "mbtool"
    program.write_text('#!/bin/sh\necho "called: $*"\nexit 1\n')
    program.chmod(0o755)

    def run(*words: str) -> str:
        command = [rpm, "--root", str(system), "--dbpath", "/var/lib/rpm", "--nodeps", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stderr

    assert "called" not in run("-i", str(tmp_path / "RPMS/noarch/mbtool-check-1-1.noarch.rpm"))
    kernel = str(tmp_path / "RPMS/noarch/kernel-test-1-1.noarch.rpm")
    assert "called: check /boot\nmbtool: look at this" in run("-i", kernel)
    assert "called: check /boot\n" in run("-e", "kernel-test")
    (system / "etc/mbtool/check.toml").touch()
    assert "called: check /boot --policy /etc/mbtool/check.toml\n" in run("-i", kernel)
    program.unlink()
    assert run("-e", "kernel-test").count("called") == 0


@pytest.mark.parametrize("name", ["github.yml", "gitlab.yml"])
def test_jobs(root: Path, name: str) -> None:
    """What they run, but for installing mbtool: exit status, and the report that the next step takes."""
    text = (HOOKS / name).read_text()
    (command,) = re.findall(r"^ *- (?:run: )?(mbtool check .*)$", text, re.MULTILINE)
    (report,) = re.findall(r"(?:sarif_file|junit): (\S+)$", text, re.MULTILINE)
    images = root / "images"
    images.mkdir()
    for source, target in ((f"vmlinuz-{RELEASE}", "vmlinuz"), (f"initrd.img-{RELEASE}", "initrd.img")):
        shutil.copy(root / "boot" / source, images / target)
    shutil.copy(root / "boot" / "xen.gz", images)
    (images / "README").write_text("no image\n")
    env = {"PATH": f"{root / 'bin'}:{os.environ['PATH']}"}

    def job() -> int:
        (root / report).unlink(missing_ok=True)
        done = subprocess.run(["sh", "-e", "-c", command], cwd=root, env=env, capture_output=True, timeout=60)
        assert (root / report).stat().st_size
        return done.returncode

    assert job() == 0
    (images / "vmlinuz").write_bytes(vmlinuz()[:-1000])
    assert job() == 1


@pytest.mark.parametrize("hook", ["zzz-mbtool-check", "95-mbtool-check.install"])
def test_without_mbtool_nothing_happens(root: Path, hook: str) -> None:
    (root / "bin" / "mbtool").unlink()
    done = subprocess.run([HOOKS / hook, "add"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, timeout=60)
    assert done.returncode == 0
