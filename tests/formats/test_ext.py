"""ext2, ext3 and ext4 volumes that mke2fs made: every file as it went in."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.check.trees import ExtTree
from mbtool.errors import MbtoolError
from mbtool.formats import ext
from mbtool.identify import inspect
from mbtool.source import BytesSource, open_file
from tests.cli.run import mbtool

UUID = "3a1b3a1b-0000-4000-8000-000000000001"
KINDS = {
    "ext2": ["-t", "ext2", "-b", "1024"],
    "ext3": ["-t", "ext3", "-b", "1024", "-O", "^dir_index"],
    "ext4": ["-t", "ext4"],
    "ext4 of 32 bits": ["-t", "ext4", "-O", "^64bit,^metadata_csum,inline_data", "-b", "2048"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    deep = root / "boot" / "grub"
    deep.mkdir(parents=True)
    chance = random.Random(1)
    (root / "boot" / "large").write_bytes(chance.randbytes(3_000_000))
    (root / "boot" / "sparse").write_bytes(b"a" * 5000 + bytes(2_000_000) + b"z" * 5000)
    (root / "boot" / "small").write_bytes(b"small")
    (root / "boot" / "empty").write_bytes(b"")
    (root / "vmlinuz").symlink_to("boot/large")
    (root / "far").symlink_to("/" + "boot/../" * 20 + "boot/small")
    (root / "loop").symlink_to("loop")
    (root / "up").symlink_to("../../../boot")
    for number in range(700):
        (deep / f"module-with-a-long-name-{number}.mod").write_bytes(str(number).encode())
    return root


def made(tool: Callable[[str], str], folder: Path, options: list[str]) -> Path:
    image = folder.parent / "image"
    subprocess.run(
        [tool("mke2fs"), "-q", *options, "-U", UUID, "-L", "root", "-d", str(folder), str(image), "24M"], check=True
    )
    return image


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_file(tool: Callable[[str], str], folder: Path, kind: str) -> None:
    with open_file(made(tool, folder, KINDS[kind])) as source:
        node = inspect(source)
        assert (node.kind, node.get("generation"), bytes.fromhex(UUID.replace("-", "")) == node.get("s_uuid")) == (
            "ext",
            kind[:4],
            True,
        )
        tree = ExtTree(source)
        assert tree.names("boot") == sorted(path.name for path in (folder / "boot").iterdir())
        for path in folder.rglob("*"):
            name = str(path.relative_to(folder))
            if path.is_file() and not path.is_symlink():
                found = tree.find(name)
                assert found is not None
                assert found.text(1 << 23) == path.read_bytes()
        for link, target in ("vmlinuz", "boot/large"), ("far", "boot/small"), ("up/small", "boot/small"):
            there, other = tree.find(link), tree.find(target)
            assert there is not None
            assert other is not None
            assert there.key == other.key
        assert tree.find("loop") is None
        assert tree.find("boot") is None
        assert tree.find("boot/small/more") is None
        assert tree.find("boot/Small") is None
        free = tree.free("")
    assert free is not None
    told = subprocess.run([tool("dumpe2fs"), "-h", str(folder.parent / "image")], capture_output=True, text=True)
    words = dict(line.split(":", 1) for line in told.stdout.splitlines() if ":" in line)
    number = {name: int(words[name]) for name in ("Free blocks", "Reserved block count", "Block size")}
    assert free == (number["Free blocks"] - number["Reserved block count"]) * number["Block size"]


def test_parts_of_a_read(tool: Callable[[str], str], folder: Path) -> None:
    with open_file(made(tool, folder, KINDS["ext4"])) as source:
        found = ExtTree(source).find("boot/sparse")
        assert found is not None
        data = (folder / "boot" / "sparse").read_bytes()
        with found.open() as file:
            for start, size in (
                (0, 10),
                (4990, 20),
                (9000, 1),
                (2_004_990, 9000),
                (len(data) - 3, 9),
                (len(data), 1),
            ):
                assert file.read(start, size) == data[start : start + size]


def test_damage_is_told_in_a_line(tool: Callable[[str], str], folder: Path) -> None:
    """Whatever bytes are wrong, nothing else than an MbtoolError comes out, and soon."""
    data = made(tool, folder, KINDS["ext4"]).read_bytes()
    chance = random.Random(2)
    used = [at for at in range(0, len(data), 512) if any(data[at : at + 512])][:4000]
    for _ in range(150):
        broken = bytearray(data)
        for _ in range(20):
            broken[chance.choice(used[:200]) + chance.randrange(512)] = chance.randrange(256)
        source = BytesSource(bytes(broken))
        if ext.reject(source):
            continue
        try:
            tree = ExtTree(source)
            for name in ("boot/large", "vmlinuz", "boot/grub/module-with-a-long-name-5.mod"):
                found = tree.find(name)
                if found is not None:
                    with found.open() as file:
                        file.read(0, 100_000)
        except MbtoolError:
            pass


def test_features_that_are_not_followed(tool: Callable[[str], str], folder: Path, tmp_path: Path) -> None:
    data = bytearray(made(tool, folder, KINDS["ext4"]).read_bytes())
    data[1024 + 0x60 + 1] |= 0x10  # dirdata
    path = tmp_path / "other"
    path.write_bytes(data)
    done = mbtool("check", path)
    assert done.returncode == 2
    assert "features 0x1000 are not followed" in done.stderr
