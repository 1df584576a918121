"""The sample descriptions of disks do what their comments say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.run import mbtool

MARKS = {"xen-dom0": "pv: end", "multiboot": "mb1: end", "menu": "mb2: end"}


def test_each_says_how_to_use_it(samples: Path) -> None:
    paths = sorted((samples / "disks").glob("*.toml"))
    assert [path.stem for path in paths] == ["linux", "menu", "multiboot", "xen-dom0"]
    for path in paths:
        text = path.read_text()
        assert f"mbtool build-disk samples/disks/{path.name}" in text
        assert MARKS.get(path.stem, "mbtool prove") in text


@pytest.mark.boot
def test_multiboot(samples: Path, tmp_path: Path, tool) -> None:
    tool("qemu-system-x86_64")
    assert mbtool("build-disk", samples / "disks" / "multiboot.toml", "-o", tmp_path / "disk.img").returncode == 0
    expect = ["--expect", "text=initrd.img first module$", "--expect", MARKS["multiboot"]]
    done = mbtool("prove", *expect, tmp_path / "disk.img")
    assert done.returncode == 0, done.stdout


@pytest.mark.boot
def test_menu(samples: Path, tmp_path: Path, tool) -> None:
    tool("qemu-system-x86_64")
    tool("grub-mkimage")
    image = tmp_path / "menu.iso"
    done = mbtool("build-disk", samples / "disks" / "menu.toml", "-o", image)
    assert done.returncode == 0, done.stderr
    assert "boots on bios and uefi" in done.stdout
    expect = ["--expect", "string=a module$", "--expect", MARKS["menu"]]
    done = mbtool("prove", *expect, image)
    assert done.returncode == 0, done.stdout


@pytest.mark.real
def test_xen_and_linux(samples: Path, tmp_path: Path, debian, vmlinuz_cloud: Path) -> None:
    debian("xen-hypervisor-4.17-amd64")
    debian("systemd-boot-efi")
    more: dict[str, list[str | Path]] = {"xen-dom0": [], "linux": ["--kernel", vmlinuz_cloud]}
    for name in more:
        options = [samples / "disks" / f"{name}.toml", *more[name], "-o", tmp_path / f"{name}.img"]
        done = mbtool("build-disk", *options, "--verify-reproducible")
        assert (done.returncode, done.stderr) == (0, "")
        assert "boots on bios and uefi" in done.stdout
