"""check beside fsck.fat and lsinitramfs: sound and damaged images, judged by both."""

from __future__ import annotations

import gzip
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.check.image import Image
from mbtool.check.report import check_image
from mbtool.formats import fat
from mbtool.formats.cpio import Member, build_cpio
from mbtool.source import open_file
from tests import grub
from tests.check.sets import PROGRAM, ids, problems, vmlinuz, with_folders
from tests.cli.run import mbtool
from tests.conftest import missing

Tool = Callable[[str], str]


def found(path: Path) -> set[str]:
    """The rules that an image breaks, remarks with them."""
    with open_file(path) as source:
        return {problem.id for problem in check_image(Image(str(path), source))}


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory, tool: Tool) -> bytes:
    """FAT32 with two files of three clusters each, one after the other: clusters 3 to 5 and 6 to 8."""
    path = tmp_path_factory.mktemp("fat") / "fat.img"
    subprocess.run([tool("mkfs.fat"), "-C", "-F", "32", "-s", "1", path, "40960"], check=True, capture_output=True)
    for name in ("one", "two"):
        file = path.with_name(name)
        file.write_bytes(name.encode() * 400)
        subprocess.run([tool("mcopy"), "-i", path, file, "::/"], check=True, capture_output=True)
    return path.read_bytes()


def entry(data: bytearray, cluster: int, value: int) -> None:
    """The table's entry of a cluster, in both copies."""
    boot = fat.BOOT_SECTOR.parse(bytes(data[:512]))
    start, size = boot.BPB_RsvdSecCnt * 512, boot.BPB_FATSz32 * 512
    for at in (start, start + size):
        data[at + 4 * cluster : at + 4 * cluster + 4] = value.to_bytes(4, "little")


def one_copy(data: bytearray) -> None:
    boot = fat.BOOT_SECTOR.parse(bytes(data[:512]))
    at = (boot.BPB_RsvdSecCnt + boot.BPB_FATSz32) * 512 + 4 * 3
    data[at] ^= 1


def directory_entry(data: bytearray, name: bytes, at: int, value: bytes) -> None:
    start = data.index(name.ljust(11))
    data[start + at : start + at + len(value)] = value


END = 0x0FFFFFFF
FAT_CASES: dict[str, tuple[str, Callable[[bytearray], object]]] = {
    # name: the finding ("" for none), what is done to the volume
    "sound": ("", lambda data: None),
    "copies differ": ("FAT-COPIES", one_copy),
    "chain too short": ("FAT-CHAIN", lambda data: entry(data, 3, END)),
    "chain to nowhere": ("FAT-CHAIN", lambda data: entry(data, 4, 0x0F00000)),
    "circle": ("FAT-CHAIN", lambda data: entry(data, 5, 3)),
    "cross link": ("FAT-CROSS-LINK", lambda data: entry(data, 3, 7)),
    "file too large": ("FAT-CHAIN", lambda data: directory_entry(data, b"ONE", 28, (9000).to_bytes(4, "little"))),
    "lost clusters": ("FAT-LOST", lambda data: entry(data, 100, END)),
    "free count": ("FAT-FREE-COUNT", lambda data: data.__setitem__(slice(512 + 488, 512 + 492), b"\x07\0\0\0")),
    "backup boot sector": ("FAT-BACKUP-BOOT", lambda data: data.__setitem__(6 * 512 + 71, 0x41)),
}


@pytest.mark.parametrize("name", FAT_CASES)
def test_fsck_fat_agrees(tool: Tool, tmp_path: Path, volume: bytes, name: str) -> None:
    rule, damage = FAT_CASES[name]
    data = bytearray(volume)
    damage(data)
    path = tmp_path / "fat.img"
    path.write_bytes(data)
    done = subprocess.run([tool("fsck.fat"), "-n", path], capture_output=True, text=True)
    complains = done.returncode != 0 or "differences between boot sector and its backup" in done.stdout
    assert complains == bool(rule), done.stdout
    ours = {id_ for id_ in found(path) if id_.startswith("FAT-")}
    assert (rule in ours) if rule else not ours, (ours, done.stdout)


ARCHIVE = build_cpio(
    with_folders(Member("init", PROGRAM, stat.S_IFREG | 0o755), Member("etc/x", b"y" * 5000, stat.S_IFREG))
)
EARLY = build_cpio([Member("kernel/x86/microcode/.enuineIntel.align.", b"\0" * 16, stat.S_IFREG)])
PACKED = gzip.compress(ARCHIVE, mtime=0)
INITRD_CASES: dict[str, tuple[str, bytes]] = {
    # name: the finding ("" for none), the initrd
    "gzip": ("", PACKED),
    "microcode first": ("", EARLY + PACKED),
    "cut stream": ("STREAM-DAMAGED", PACKED[:-40]),
    "cut archive": ("CPIO-TRUNCATED", ARCHIVE[:3000]),
    "no archive": ("UNREADABLE", b"no archive at all" * 100),
    "gzip of no archive": ("INITRD-FORMAT", gzip.compress(b"no archive at all" * 100)),
}


@pytest.mark.parametrize("name", INITRD_CASES)
def test_lsinitramfs_agrees(tool: Tool, tmp_path: Path, name: str) -> None:
    rule, data = INITRD_CASES[name]
    said, ours = lsinitramfs(tool, tmp_path, data)
    assert bool(said) == bool(rule), said
    assert (rule in ours) if rule else not ours


def test_lsinitramfs_wants_a_packed_archive(tool: Tool, tmp_path: Path) -> None:
    """Debian 12's takes a plain archive for microcode and looks for another one behind it; Linux unpacks it."""
    said, ours = lsinitramfs(tool, tmp_path, ARCHIVE)
    assert said in ("cpio: premature end of archive\n", "")
    assert not ours


def lsinitramfs(tool: Tool, tmp_path: Path, data: bytes) -> tuple[str, set[str]]:
    """What lsinitramfs complains of ("" for nothing), and the rules that a set with this initrd breaks."""
    (tmp_path / "initrd").write_bytes(data)
    done = subprocess.run([tool("lsinitramfs"), tmp_path / "initrd"], capture_output=True, text=True)
    ours = ids(problems(tmp_path, {"kernel": vmlinuz(), "initrd": data}))
    return done.stderr if done.returncode else "", ours


def test_a_part_of_grub_is_no_error() -> None:
    """grub-file finds its header, which is for the core image that it becomes a part of; nobody starts it alone."""
    path = grub.FOLDER / "lzma_decompress.img"
    if not path.is_file():
        missing("GRUB for BIOS machines (grub-pc-bin)")
    done = mbtool("check", path)
    assert (done.returncode, done.stdout.count("warning")) == (0, 3)
    done = mbtool("check", "--kernel", path)
    assert (done.returncode, "[KERNEL-IMAGE]" in done.stdout) == (1, True)
