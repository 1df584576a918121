"""The ESP writer: fsck.fat and mtools must agree with it, and so must mbtool's own FAT reader."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from mbtool.disk.esp import EspPlan, plan_esp
from mbtool.errors import InputError
from mbtool.formats import fat, fat_files
from mbtool.source import MIB, open_file

_random = random.Random(1)
FILES = {
    "EFI/BOOT/BOOTX64.EFI": _random.randbytes(2827721),
    "EFI/BOOT/BOOTX64.cfg": b"[global]\n",
    "vmlinuz-6.1.0-56-amd64": _random.randbytes(600_000),
    "vmlinuz-6.1.0-57-amd64": b"x",
    "empty": b"",
    "EFI/debian/deeper/still/z.txt": b"abc",
    "EFI/Ünïcode name.conf": b"name outside ASCII",
    "KERNEL.BIN": b"short name as it is",
    **{f"many/file number {number}.text": b"%d" % number for number in range(60)},
}


def write(plan: EspPlan, files: dict[str, bytes], path: Path) -> Path:
    with path.open("wb") as out:
        out.truncate(plan.size)
        for offset, data in plan.metadata:
            out.seek(offset)
            out.write(data)
        for name, data in files.items():
            offset, size = plan.extents[name]
            assert size == len(data)
            out.seek(offset)
            out.write(data)
    return path


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    plan = plan_esp([(name, len(data)) for name, data in FILES.items()], volume_id=0x1234ABCD, mtime=1700000000)
    return write(plan, FILES, tmp_path_factory.mktemp("esp") / "esp.img")


def test_fsck_finds_nothing(image, tool):
    done = subprocess.run([tool("fsck.fat"), "-vn", image], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "32 bit entries" in done.stdout


def test_mtools_reads_every_file_back(image, tool):
    for name, data in FILES.items():
        if name.isascii():
            done = subprocess.run([tool("mtype"), "-i", image, f"::/{name}"], capture_output=True)
            assert done.stdout == data, name
    listing = subprocess.run([tool("mdir"), "-i", image, "::/"], capture_output=True, text=True).stdout
    assert "1234-ABCD" in listing
    assert "2023-11-14" in listing


def test_own_reader_finds_every_file_contiguous(image):
    with open_file(image) as source:
        volume = fat.open_volume(source)
        found = {file.path: file for file in fat_files.files(source, volume)}
        for name, data in FILES.items():
            file = found[f"/{name}"]
            assert len(file.runs) == (1 if data else 0)
            assert b"".join(source.read(*run) for run in file.runs) == data
    assert volume.bits == 32


def test_files_start_where_they_are_asked_to(tool, tmp_path):
    plan = plan_esp([(name, len(data)) for name, data in FILES.items()], volume_id=1, mtime=0, align=2048)
    assert all(offset % 2048 == 0 for offset, _ in plan.extents.values())
    image = write(plan, FILES, tmp_path / "esp.img")
    done = subprocess.run([tool("fsck.fat"), "-vn", image], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "Free cluster summary wrong" not in done.stdout
    for name in ("EFI/BOOT/BOOTX64.cfg", "many/file number 59.text"):
        assert subprocess.check_output([tool("mtype"), "-i", image, f"::/{name}"]) == FILES[name]


def test_large_files_get_large_clusters_and_size_is_honoured(tool, tmp_path):
    plan = plan_esp([("initrd", 300 * MIB)], volume_id=1, mtime=0, min_size=512 * MIB)
    assert 512 * MIB <= plan.size < 513 * MIB
    path = tmp_path / "esp.img"
    with path.open("wb") as out:
        out.truncate(plan.size)
        for offset, data in plan.metadata:
            out.seek(offset)
            out.write(data)
    done = subprocess.run([tool("fsck.fat"), "-vn", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "4096 bytes per cluster" in done.stdout


@pytest.mark.parametrize(
    "names",
    [("a", "A"), ("dir/x", "dir"), ("a//b",), ("what?",), ("x" * 256,), ("trailing.",), ("../up:",)],
)
def test_names_that_fat_cannot_hold_are_refused(names):
    with pytest.raises(InputError):
        plan_esp([(name, 1) for name in names], volume_id=1, mtime=0)


def test_dates_that_fat_has_not_are_refused(tool, tmp_path):
    last = plan_esp([("a", 1)], volume_id=1, mtime=4354819199)
    image = write(last, {"a": b"x"}, tmp_path / "esp.img")
    assert "2107-12-31" in subprocess.check_output([tool("mdir"), "-i", image, "::/"], text=True)
    with pytest.raises(InputError, match="before 2108"):
        plan_esp([("a", 1)], volume_id=1, mtime=4354819200)


def test_four_gib_are_refused():
    with pytest.raises(InputError, match="less than 4 GiB"):
        plan_esp([("big", 1 << 32)], volume_id=1, mtime=0)


def test_damaged_volumes_end_in_one_error_or_a_reason(image):
    data = bytearray(image.read_bytes()[: 1 * MIB])
    from mbtool.source import BytesSource

    for offset in range(11, 48):
        for value in (0, 1, 0xFF):
            broken = data.copy()
            broken[offset] = value
            source = BytesSource(bytes(broken))
            if not fat.reject(source):
                list(fat_files.files(source, fat.open_volume(source)))
