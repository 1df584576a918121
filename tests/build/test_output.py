"""Outputs: there whole or not at all, whatever goes wrong."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mbtool.build.output import OutputDirectory, open_output, write_file
from mbtool.errors import InputError

NAMES = ("a.bin", "b.txt")


def write_set(path: Path, a: bytes = b"new", *, force: bool = False) -> None:
    with OutputDirectory(path, NAMES, force=force) as output:
        output.write("a.bin", a)
        output.write("b.txt", iter([b"x", b"", b"yz"]))


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_set(tmp_path: Path) -> None:
    with OutputDirectory(tmp_path / "out", NAMES, force=False) as output:
        written = output.write("b.txt", iter([b"x" * 10, b"y" * 5]))
        assert names(tmp_path) != ["out"], "not in its place before it is whole"
    assert (written.name, written.size) == ("b.txt", 15)
    assert written.sha256 == hashlib.sha256(b"x" * 10 + b"y" * 5).hexdigest()
    assert (tmp_path / "out" / "b.txt").read_bytes() == b"x" * 10 + b"y" * 5
    assert names(tmp_path) == ["out"], "nothing is left beside it"


def test_modes_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_set(tmp_path / "out")
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "out" / "a.bin").stat().st_mode & 0o777 == 0o640


def test_empty_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_set(tmp_path / "out")
    assert names(tmp_path / "out") == ["a.bin", "b.txt"]
    assert names(tmp_path) == ["out"]


def test_older_set_needs_force(tmp_path: Path) -> None:
    write_set(tmp_path / "out", b"old")
    with pytest.raises(InputError, match=r"is there and not empty.*--force"):
        write_set(tmp_path / "out")
    assert (tmp_path / "out" / "a.bin").read_bytes() == b"old"
    write_set(tmp_path / "out", force=True)
    assert (tmp_path / "out" / "a.bin").read_bytes() == b"new"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("make", ["file", "directory", "link"])
def test_other_files_are_never_lost(tmp_path: Path, make: str) -> None:
    """Not even with force, and not when a directory has the name of one of ours."""
    out = tmp_path / "out"
    out.mkdir()
    if make == "file":
        (out / "diary").write_text("dear")
    elif make == "directory":
        (out / "a.bin").mkdir()
    else:
        (out / "a.bin").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="holds other files"):
        write_set(out, force=True)
    assert len(names(out)) == 1


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, InputError])
@pytest.mark.parametrize("older", [False, True])
def test_failure_changes_nothing(tmp_path: Path, error: type[BaseException], older: bool) -> None:
    if older:
        write_set(tmp_path / "out", b"old")

    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise error("stop")

    with pytest.raises(error), OutputDirectory(tmp_path / "out", NAMES, force=True) as output:
        output.write("a.bin", b"new")
        output.write("b.txt", pieces())
    assert names(tmp_path) == (["out"] if older else [])
    assert not older or (tmp_path / "out" / "a.bin").read_bytes() == b"old"


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="cannot write: No space left on device"):
        write_set(tmp_path / "out")
    assert names(tmp_path) == []


@pytest.mark.parametrize("sync", [True, False])
def test_a_filled_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool
) -> None:
    """With sync: content, name, directory, in this order. Without: none of it is waited for."""
    flushed: list[tuple[bool, list[str]]] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        flushed.append((stat.S_ISDIR(os.fstat(fd).st_mode), names(tmp_path)))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with open_output(tmp_path / "image", force=False, sync=sync) as fd:
        os.write(fd, b"content")
    assert flushed == ([(False, []), (True, ["image"])] if sync else [])
    assert (tmp_path / "image").read_bytes() == b"content"


@pytest.mark.parametrize("can", [True, False])
def test_an_older_set_is_replaced_by_exchange_where_that_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can: bool
) -> None:
    """Between two renames nothing has the set's name."""
    renamed = []
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        renamed.append(self.name)
        return real(self, target)

    write_set(tmp_path / "out", b"old")
    if not can:
        monkeypatch.setattr("mbtool.build.output.exchange", lambda first, second: False)
    monkeypatch.setattr(Path, "rename", rename)
    write_set(tmp_path / "out", b"new", force=True)
    assert (tmp_path / "out" / "a.bin").read_bytes() == b"new"
    assert names(tmp_path) == ["out"]
    assert len(renamed) == (0 if can else 2)


def test_rename_that_fails_brings_the_older_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mbtool.build.output.exchange", lambda first, second: False)
    write_set(tmp_path / "out", b"old")
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if (self / "b.txt").exists() and target.name == "out" and (self / "a.bin").read_bytes() == b"new":
            raise OSError(5, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(InputError, match="Input/output error"):
        write_set(tmp_path / "out", force=True)
    assert (tmp_path / "out" / "a.bin").read_bytes() == b"old"
    assert names(tmp_path) == ["out"]


def test_places_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path, words in (
        (tmp_path / "file", "no directory"),
        (Path("/dev/null"), "no directory"),
        (tmp_path / "missing" / "out", "parent directory does not exist"),
        (tmp_path / "file" / "out", "parent directory does not exist"),
    ):
        with pytest.raises(InputError, match=words):
            write_set(path, force=True)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(InputError):
        write_set(loop, force=True)


def test_output_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_set(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "real") == ["a.bin", "b.txt"]


def test_single_file(tmp_path: Path) -> None:
    target = tmp_path / "image"
    assert write_file(target, b"one", force=False).size == 3
    with pytest.raises(InputError, match="is there already"):
        write_file(target, b"two", force=False)
    write_file(target, iter([b"t", b"wo"]), force=True)
    assert target.read_bytes() == b"two"
    assert names(tmp_path) == ["image"]
    with pytest.raises(InputError, match="no regular file"):
        write_file(Path("/dev/null"), b"", force=True)
    with pytest.raises(InputError):
        write_file(tmp_path / "none" / "image", b"", force=True)
