"""Content arrives on the disk as it is, or the change of an input is noticed; its CRC-32 is zlib's."""

from __future__ import annotations

import fcntl
import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.disk import copying
from mbtool.disk.content import Content, FileSlice, Joined, file_content
from mbtool.disk.crc32 import combine, crc32
from mbtool.errors import InputError

DATA = random.Random(1).randbytes(3 * copying.PIECE + 12345)


@given(st.binary(), st.binary())
def test_combined_checksum_is_that_of_the_whole(first: bytes, second: bytes) -> None:
    assert combine(zlib.crc32(first), crc32(second), len(second)) == zlib.crc32(first + second)


def test_combined_checksum_of_much() -> None:
    crc = size = 0
    whole = zlib.crc32(bytes(1 << 20))
    for _ in range(64):
        crc, size = combine(crc, whole, 1 << 20), size + (1 << 20)
    assert crc == zlib.crc32(bytes(size))


def copied(content: Content, path: Path, offset: int = 0) -> tuple[bytes, int]:
    with path.open("w+b") as file:
        crc = copying.copy_content(content, file.fileno(), offset)
        file.seek(offset)
        return file.read(), crc


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(DATA)
    os.utime(path, (1, 1))  # the clock of a file system is coarse: a change must not fall into the same tick
    return path


@pytest.mark.parametrize("stripe", [copying.STRIPE, copying.PIECE, 1])
def test_files_joined_parts_and_bytes(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stripe: int
) -> None:
    monkeypatch.setattr(copying, "STRIPE", stripe)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    whole = file_content(source)
    part = FileSlice(source, 1000, copying.PIECE + 77, whole.stamp)
    middle = DATA[1000 : 1000 + part.size]
    for content, expected in (
        (whole, DATA),
        (part, middle),
        (b"bytes", b"bytes"),
        (Joined((b"head", part, b"", whole, b"tail")), b"head" + middle + DATA + b"tail"),
    ):
        for offset in (0, 4096, 123):
            assert copied(content, tmp_path / "out", offset) == (expected, zlib.crc32(expected))


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert copied(file_content(tmp_path / "empty"), tmp_path / "out") == (b"", 0)


def test_zeros_stay_holes(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(100 << 20)
        file.seek(50 << 20)
        file.write(b"something")
    data, crc = copied(file_content(path), tmp_path / "out")
    assert data == path.read_bytes()
    assert crc == zlib.crc32(data)
    assert (tmp_path / "out").stat().st_blocks * 512 <= 4 * copying.PIECE


def test_blocks_shared_by_the_file_system_are_not_written_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on btrfs and XFS; what the kernel would do is done here, and only what is left over is written."""
    shared = len(DATA) // 4096 * 4096

    def clone(fd: int, request: int, argument: bytes) -> int:
        assert request == 0x4020940D
        assert argument[8:] == b"".join(number.to_bytes(8, "little") for number in (0, shared, 8192))
        os.pwrite(fd, DATA[:shared], 8192)
        return 0

    written = []
    real = os.pwrite
    monkeypatch.setattr(fcntl, "ioctl", clone)
    monkeypatch.setattr(copying, "write_at", lambda fd, data, at: written.append((at, real(fd, data, at))))
    assert copied(file_content(source), tmp_path / "out", 8192) == (DATA, zlib.crc32(DATA))
    assert [at for at, _ in written] == [8192 + 3 * copying.PIECE]


def rewritten(path: Path) -> None:
    path.write_bytes(DATA[::-1])


def replaced(path: Path) -> None:
    path.rename(path.with_name("old"))
    path.write_bytes(DATA)
    os.utime(path, (1, 1))


def shrunk(path: Path) -> None:
    os.truncate(path, 1000)


def grown(path: Path) -> None:
    os.truncate(path, len(DATA) + 1)


@pytest.mark.parametrize("change", [rewritten, replaced, shrunk, grown, Path.unlink])
@pytest.mark.parametrize("late", [False, True], ids=["before", "while"])
def test_a_changing_input_is_noticed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], late: bool
) -> None:
    content = file_content(source)
    real = os.preadv

    def read(fd: int, buffers: list[memoryview], at: int) -> int:
        count = real(fd, buffers, at)
        if at == 0:
            change(source)
        return count

    if late:
        monkeypatch.setattr(os, "preadv", read)
    else:
        change(source)
    with pytest.raises(InputError, match=f"^{source}: (changed while it was being read|cannot open)"):
        copied(content, tmp_path / "out")


def test_an_error_in_one_stripe_ends_all(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "STRIPE", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})

    def full(fd: int, data: bytes, at: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        copied(file_content(source), tmp_path / "out")
