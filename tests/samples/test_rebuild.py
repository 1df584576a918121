"""The prebuilt samples are what their sources say, and what they claim to be to foreign tools."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Tool = Callable[[str], str]

ELFS = [
    "multiboot1/multiboot1.elf",
    "multiboot2/multiboot2.elf",
    "pvh/pvh.elf",
    "pv-dom0/pv-dom0.elf",
    "pv-dom0/pv-dom0-mapped.elf",
]


@pytest.fixture
def copy(samples: Path, tmp_path: Path, tool: Tool) -> Path:
    """A copy of samples/ elsewhere, on a machine that can rebuild it."""
    tool("nasm")
    tool("gzip")
    return Path(shutil.copytree(samples, tmp_path / "elsewhere"))


def rebuild(folder: Path, *options: str) -> tuple[int, str]:
    """Exit status and output of a copy's own rebuild."""
    done = subprocess.run(
        [sys.executable, folder / "rebuild", *options], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_the_committed_binaries_come_from_their_sources(copy: Path) -> None:
    status, output = rebuild(copy, "--check")
    assert status == 0, output
    assert output.count(", same") == len(output.splitlines()) == len(ELFS) + 1


def test_check_finds_one_changed_byte_and_writes_nothing(copy: Path) -> None:
    binary = copy / "pvh/pvh.elf"
    good = binary.read_bytes()
    bad = good[:-1] + bytes([good[-1] ^ 1])
    binary.write_bytes(bad)
    status, output = rebuild(copy, "--check")
    assert status == 1
    assert [line for line in output.splitlines() if "DIFFERENT" in line] == [
        f"pvh/pvh.elf: {len(good)} bytes, DIFFERENT"
    ]
    assert binary.read_bytes() == bad
    assert rebuild(copy)[0] == 0
    assert binary.read_bytes() == good


def test_a_missing_binary_is_a_difference(copy: Path) -> None:
    (copy / "initrd/initrd.img").unlink()
    assert rebuild(copy, "--check")[0] == 1


@pytest.mark.parametrize("name", ELFS)
def test_readelf_has_nothing_to_complain_about(samples: Path, tool: Tool, name: str) -> None:
    done = subprocess.run([tool("readelf"), "-aW", samples / name], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "<corrupt" not in done.stdout


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("multiboot1/multiboot1.elf", "--is-x86-multiboot"),
        ("multiboot2/multiboot2.elf", "--is-x86-multiboot2"),
        ("pv-dom0/pv-dom0.elf", "--is-x86_64-xen-domu"),
        ("pv-dom0/pv-dom0-mapped.elf", "--is-x86_64-xen-domu"),
    ],
)
def test_grub_sees_the_kind_of_kernel(samples: Path, tool: Tool, name: str, kind: str) -> None:
    assert subprocess.run([tool("grub-file"), kind, samples / name], check=False).returncode == 0


def test_cpio_lists_both_archives_of_the_initrd(samples: Path, tool: Tool) -> None:
    initrd = (samples / "initrd/initrd.img").read_bytes()
    end = initrd.index(b"\x1f\x8b\x08")
    assert end % 512 == 0

    def listed(archive: bytes) -> list[str]:
        done = subprocess.run([tool("cpio"), "-tv"], input=archive, capture_output=True, check=True)
        return done.stdout.decode().splitlines()

    assert [line.split()[-1] for line in listed(initrd[:end])] == ["kernel", "kernel/mbtool-sample.txt"]
    entries = listed(gzip.decompress(initrd[end:]))
    assert any(line.startswith("-rwxr-xr-x") and line.endswith(" init") for line in entries)
    assert any(line.startswith("crw-------") and "5,   1" in line for line in entries)
    assert any(line.endswith("lib -> usr/lib") for line in entries)
