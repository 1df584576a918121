"""Writing to devices. A file plays the device, but for the name; as root, a loop device is written as well."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mbtool.build import device
from mbtool.build.disk import build_disk, write_device
from mbtool.disk.boot_set import BootSet
from mbtool.errors import InputError, MbtoolError
from tests.cli.run import mbtool
from tests.conftest import ROOT

KERNEL = ROOT / "samples" / "multiboot1" / "multiboot1.elf"
BOOT = BootSet(kernel=KERNEL)
MIB = 1 << 20


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of old bytes that is taken for a device."""
    path = tmp_path / "device"
    path.write_bytes(os.urandom(MIB) * 40)
    monkeypatch.setattr(device, "is_device", lambda path: True)
    return path


def test_it_is_the_disk_and_its_table_reaches_to_the_end(played: Path, tmp_path: Path, tool) -> None:
    built = write_device(BOOT, played)
    assert (built.size, built.description) == (40 * MIB, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["device"]
    done = subprocess.run([tool("sgdisk"), "-v", played], capture_output=True, text=True)
    assert "No problems found" in done.stdout
    assert "Caution" not in done.stdout
    (name, (offset, size)) = next(iter(built.files.items()))
    content = subprocess.run([tool("mtype"), "-i", f"{played}@@1M", f"::{name}"], capture_output=True, check=True)
    assert content.stdout == played.read_bytes()[offset : offset + size] == KERNEL.read_bytes()
    esp = tmp_path / "esp"
    esp.write_bytes(played.read_bytes()[MIB : -2 * MIB])
    subprocess.run([tool("fsck.fat"), "-n", esp], check=True, capture_output=True)


def test_nothing_is_written_to_one_that_is_too_small(played: Path) -> None:
    os.truncate(played, 20 * MIB)
    before = played.read_bytes()
    with pytest.raises(InputError, match="does not fit"):
        write_device(BOOT, played)
    assert played.read_bytes() == before


@pytest.mark.parametrize("place", ["mountinfo", "partition", "swaps"])
def test_nothing_is_written_to_one_in_use(played: Path, tmp_path: Path, monkeypatch, place: str) -> None:
    number = device._number(played.stat().st_rdev)
    (tmp_path / "mountinfo").write_text(
        f"22 1 8:99 / / rw - ext4 none rw\n23 1 {number} / /mnt/x rw - ext4 none rw\n"
    )
    (tmp_path / "swaps").write_text(f"Filename Type\n{played} partition\n")
    (tmp_path / number / "sda1").mkdir(parents=True)
    (tmp_path / number / "sda1" / "dev").write_text("8:99\n")
    nowhere = tmp_path / "nowhere"
    monkeypatch.setattr(device, "MOUNTS", tmp_path / "mountinfo" if place != "swaps" else nowhere)
    monkeypatch.setattr(device, "SWAPS", tmp_path / "swaps" if place == "swaps" else nowhere)
    monkeypatch.setattr(device, "SYSFS", tmp_path if place == "partition" else nowhere)
    before = played.read_bytes()
    where = {"mountinfo": "mounted at /mnt/x", "partition": "mounted at /", "swaps": "swap space"}[place]
    with pytest.raises(InputError, match=f"is in use: {where}"):
        write_device(BOOT, played)
    assert played.read_bytes() == before


def test_a_failing_device_is_one_line(played: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(InputError, match="cannot write: Input/output error"):
        write_device(BOOT, played)


def test_only_raw_disks(played: Path) -> None:
    with pytest.raises(InputError, match="raw disk"):
        write_device(BootSet(kernel=KERNEL, format="qcow2"), played)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "/dev/null"], "/dev/null: is a device (--write-device"),
        (["-o", "/dev/null", "--force"], "/dev/null: is a device (--write-device"),
        (["-o", "/dev/null", "--write-device"], "/dev/null: has no size"),
        (["-o", "disk.img", "--write-device"], "disk.img: is no device"),
        (["-o", "/dev/null", "--write-device", "--verify-reproducible"], "--verify-reproducible"),
    ],
)
def test_command_line(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = mbtool("build-disk", "--kernel", KERNEL, *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert words in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A loop device and its file, where one can be had."""
    file = tmp_path / "backing"
    file.write_bytes(os.urandom(MIB) * 40)
    try:
        done = subprocess.run(["losetup", "-f", "--show", file], capture_output=True, text=True)
    except OSError:
        pytest.skip("no losetup here")
    if done.returncode:
        pytest.skip(f"no loop device here: {done.stderr.strip()}")
    path = Path(done.stdout.strip())
    try:
        yield path, file
    finally:
        subprocess.run(["losetup", "-d", path], check=True)


def test_a_block_device(loop: tuple[Path, Path], tmp_path: Path) -> None:
    path, file = loop
    done = mbtool("build-disk", "--kernel", KERNEL, "--write-device", "-o", path)
    assert (done.returncode, done.stderr) == (0, "")
    build_disk(BOOT, tmp_path / "disk.img", force=False)
    esp = slice(2 * MIB, 30 * MIB)  # the tables before it have other ids: they come from the disk's size too
    assert file.read_bytes()[esp] == (tmp_path / "disk.img").read_bytes()[esp]
    holder = os.open(path, os.O_RDWR | os.O_EXCL)
    try:
        with pytest.raises(MbtoolError, match="for itself alone"):
            write_device(BOOT, path)
    finally:
        os.close(holder)
