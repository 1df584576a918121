"""Whatever goes wrong while a disk is built: nothing half under its name, nothing that was there is lost."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mbtool.build.disk import build_disk
from mbtool.disk import image
from mbtool.disk.boot_set import BootSet
from mbtool.errors import InputError

MIB = 1 << 20
BUILD = "mbtool.build.disk"
FULL = "No space left on device"


@pytest.fixture(scope="module")
def initrd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("initrd") / "initrd.img"
    path.write_bytes(random.Random(1).randbytes(40 * MIB))
    return path


@pytest.fixture
def command(samples: Path, initrd: Path) -> list[str]:
    """A build that takes a moment; the output is to be added."""
    kernel = str(samples / "multiboot1/multiboot1.elf")
    return [sys.executable, "-m", "mbtool", "build-disk", "--kernel", kernel, "--initrd", str(initrd), "--force"]


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """An image that is there already, in a directory of its own."""
    path = tmp_path / "out" / "disk.img"
    path.parent.mkdir()
    path.write_bytes(b"older image")
    return path


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def refused(command: list[str], words: str, file_size: int | None = None) -> None:
    """The command ends with status 2 and one line that says ``words``; no file may grow past ``file_size``."""

    def limit() -> None:
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 16 MiB, in memory."""
    place = tmp_path / "mounted"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", place], capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_file_that_may_not_grow(command: list[str], older: Path) -> None:
    refused([*command, "-o", str(older)], f"{older}: cannot write: File too large", 40 * MIB)
    assert older.read_bytes() == b"older image"
    assert names(older.parent) == ["disk.img"]


def test_a_full_file_system(command: list[str], mounted: Path) -> None:
    for path in (mounted / "disk.img", mounted / "other.img"):
        if path.name == "other.img":
            path.write_bytes(b"older image")
        refused([*command, "-o", str(path)], f"{path}: cannot write: {FULL}")
    assert names(mounted) == ["other.img"]
    assert (mounted / "other.img").read_bytes() == b"older image"
    assert shutil.disk_usage(mounted).used < MIB


def test_a_file_system_full_to_the_last_block(command: list[str], samples: Path, mounted: Path) -> None:
    """Room for ever more of it, until all fits: the description too."""
    command[command.index("--initrd") + 1] = str(samples / "initrd/initrd.img")
    filler, output = mounted / "filler", mounted / "disk.img"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match=FULL):
        while True:
            file.write(bytes(4096))
    statuses: list[int] = []
    while 0 not in statuses and len(statuses) < 50:
        done = subprocess.run([*command, "-o", str(output)], capture_output=True, text=True)
        statuses.append(done.returncode)
        if done.returncode:
            assert done.stderr.count("\n") == 1
            assert FULL in done.stderr
            assert names(mounted) == ["filler"]
        os.truncate(filler, filler.stat().st_size - 3 * 4096)
    assert set(statuses[:-1]) == {2}
    assert len(statuses) > 3
    assert names(mounted) == ["disk.img", "disk.img.toml", "filler"]


def test_a_read_only_file_system(command: list[str], mounted: Path) -> None:
    (mounted / "disk.img").write_bytes(b"older image")
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    refused([*command, "-o", str(mounted / "disk.img")], "cannot write: Read-only file system")
    assert names(mounted) == ["disk.img"]


def test_killed_at_any_moment(command: list[str], older: Path) -> None:
    """The image is the older one or, from some moment on, the new one; nothing else has appeared."""
    digests: list[str] = []
    delay = 0.02
    while len(set(digests)) < 2 and delay < 60:
        with subprocess.Popen([*command, "-o", str(older)], stdout=subprocess.DEVNULL) as process:
            time.sleep(delay)
            process.kill()
        digests.append(hashlib.sha256(older.read_bytes()).hexdigest())
        left = set(names(older.parent)) - {"disk.img", "disk.img.toml"}
        assert all(name.startswith(".disk.img") and name.endswith(".tmp") for name in left), left
        delay *= 1.2
    older.unlink()
    subprocess.run([*command, "-o", str(older)], check=True, stdout=subprocess.DEVNULL)
    assert digests == [hashlib.sha256(b"older image").hexdigest()] * (len(digests) - 1) + [
        hashlib.sha256(older.read_bytes()).hexdigest()
    ]
    assert len(digests) > 3


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_killed_while_another_program_writes(
    command: list[str], older: Path, tool: Any, sent: signal.Signals
) -> None:
    """What is left of a disk for hypervisors tells by its name what it was to be; asked to end, nothing is left."""
    tool("qemu-img")
    with subprocess.Popen([*command, "--format", "qcow2", "-o", str(older)], stdout=subprocess.DEVNULL) as process:
        while not list(older.parent.glob(".*/*")) and process.poll() is None:
            time.sleep(0.002)
        left = set(names(older.parent)) - {"disk.img"}
        process.send_signal(sent)
    assert left
    assert all(name.startswith(".disk.img.") and name.endswith(".tmp") for name in left), left
    if process.returncode:
        assert older.read_bytes() == b"older image"
        assert process.returncode == (-sent if sent == signal.SIGKILL else 128 + sent)
        assert sent == signal.SIGKILL or names(older.parent) == ["disk.img"]


def test_a_set_killed_at_any_moment(samples: Path, tmp_path: Path) -> None:
    """What build-dom0 writes is there whole at every moment: the older set or the new one."""
    out = tmp_path / "dom0"
    kernels = [samples / "pv-dom0" / name for name in ("pv-dom0.elf", "pv-dom0-mapped.elf")]
    commands = [
        [sys.executable, "-m", "mbtool", "build-dom0", "--kernel", str(kernel), "--force", "-o", str(out)]
        for kernel in kernels
    ]

    def contents() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in out.iterdir()}

    subprocess.run(commands[0], check=True, stdout=subprocess.DEVNULL)
    older = contents()
    delay = 0.02
    while contents() == older and delay < 60:
        with subprocess.Popen(commands[1], stdout=subprocess.DEVNULL) as process:
            time.sleep(delay)
            process.kill()
        left = set(names(tmp_path)) - {"dom0"}
        assert all(name.startswith(".dom0.") and name.endswith(".tmp") for name in left), left
        delay *= 1.1
    newer = contents()
    subprocess.run(commands[1], check=True, stdout=subprocess.DEVNULL)
    assert contents() == newer


# ---- within one process, at the very moment ------------------------------------------------------------------


@pytest.fixture
def boot(samples: Path, tmp_path: Path) -> BootSet:
    kernel, initrd = tmp_path / "kernel", tmp_path / "initrd"
    shutil.copy(samples / "multiboot1/multiboot1.elf", kernel)
    initrd.write_bytes(b"initrd" * 1000)
    for path in (kernel, initrd):  # the clock of a file system is coarse: a change must not fall into the same tick
        os.utime(path, (1, 1))
    return BootSet(kernel, initrd)


@pytest.mark.parametrize("change", ["initrd", "kernel"])
def test_input_that_changes_between_planning_and_writing(
    boot: BootSet, older: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    real = image.plan_disk

    def late(request: image.DiskRequest) -> image.DiskPlan:
        plan = real(request)
        path = boot.kernel.with_name(change)
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        return plan

    monkeypatch.setattr(f"{BUILD}.plan_disk", late)
    with pytest.raises(InputError, match=f"{change}: changed while it was being read .*start again"):
        build_disk(boot, older, force=True)
    assert older.read_bytes() == b"older image"
    assert names(older.parent) == ["disk.img"]


@pytest.mark.parametrize("becomes", ["nothing", "a file"])
def test_the_directory_vanishes(boot: BootSet, older: Path, monkeypatch: pytest.MonkeyPatch, becomes: str) -> None:
    real = image.write_disk

    def late(plan: image.DiskPlan, fd: int, progress: image.Progress) -> None:
        real(plan, fd, progress)
        shutil.rmtree(older.parent)
        if becomes == "a file":
            older.parent.touch()

    monkeypatch.setattr(f"{BUILD}.write_disk", late)
    with pytest.raises(InputError, match=r"cannot write|parent directory does not exist"):
        build_disk(boot, older, force=True)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError, OSError])
def test_interrupted(
    boot: BootSet,
    older: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
    named: bool,
) -> None:
    """Also where a file cannot be kept without a name until it is whole."""
    during: list[list[str]] = []

    def stop(plan: image.DiskPlan, fd: int, progress: image.Progress) -> None:
        during.append(names(older.parent))
        raise error("stop")

    if named:
        monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)
    monkeypatch.setattr(f"{BUILD}.write_disk", stop)
    with pytest.raises((error, InputError)):
        build_disk(boot, older, force=True)
    assert (len(during[0]) == 2) == named
    assert older.read_bytes() == b"older image"
    assert names(older.parent) == ["disk.img"]


@pytest.mark.parametrize("named", [False, True])
def test_the_new_image_takes_the_place_of_the_older(
    boot: BootSet, older: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    if named:
        monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)
    before = os.umask(0o027)
    try:
        build_disk(boot, older, force=True)
    finally:
        os.umask(before)
    assert older.stat().st_mode & 0o777 == 0o640
    assert older.stat().st_size > 32 * MIB
    assert names(older.parent) == ["disk.img", "disk.img.toml"]


def test_nothing_is_overwritten_unasked(boot: BootSet, older: Path) -> None:
    with pytest.raises(InputError, match=r"disk\.img: is there already"):
        build_disk(boot, older, force=False)
    older.unlink()
    description = older.with_name("disk.img.toml")
    description.write_text("kernel = 'mine'\n")
    with pytest.raises(InputError, match=r"disk\.img\.toml: is there already"):
        build_disk(boot, older, force=False)
    assert description.read_text() == "kernel = 'mine'\n"
    assert names(older.parent) == ["disk.img.toml"]
