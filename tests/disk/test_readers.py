"""Programs of others read whole disks, and agree: partition tables, file system, every file, every kernel."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.disk.boot_set import BootSet, Module, request
from mbtool.disk.content import chunks, file_content
from mbtool.disk.image import DiskRequest, Partition
from tests.disk.boots import write

MIB = 1 << 20
SECTOR = 512
Tool = Callable[[str], str]


@pytest.fixture(scope="module")
def extra(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of sizes that are no multiple of anything."""
    folder = tmp_path_factory.mktemp("extra")
    sizes = {"one": 1, "odd": 100_001, "cluster": 4096, "large": 270 * MIB + 7}
    for name, size in sizes.items():
        with (folder / name).open("wb") as file:
            file.write(name.encode()[:size])
            file.truncate(size)
    return {name: folder / name for name in sizes}


@pytest.fixture(scope="module", params=["multiboot1", "multiboot2", "pvh", "xen"])
def made(
    request: pytest.FixtureRequest,
    samples: Path,
    extra: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, DiskRequest]:
    """Disks with small and with large clusters, with more partitions, with Xen for both firmwares."""
    name = request.param
    kernel = samples / name / f"{name}.elf"
    more = [("docs/Read me.text", extra["odd"]), ("docs/deep/er/x", extra["one"])]
    if name == "xen":
        debian = request.getfixturevalue("debian")
        (xen,) = debian("xen-hypervisor-4.17-amd64").glob("boot/xen-*.gz")
        (kernel,) = debian("linux-image-amd64").glob("boot/vmlinuz-*")
        boot = BootSet(kernel, samples / "initrd/initrd.img", xen=xen, cmdline="console=hvc0", label="XEN", mtime=1)
    elif name == "pvh":
        partitions = [Partition("root", file_content(extra["odd"])), Partition("spare", b"", 3 * MIB)]
        boot = BootSet(
            kernel, modules=[Module(extra["large"])], files=more, partitions=partitions, mtime=1_700_000_000
        )
    elif name == "multiboot2":
        boot = BootSet(kernel, modules=[Module(extra["one"], "text")], esp_size=300 * MIB)
    else:
        boot = BootSet(kernel, samples / "initrd/initrd.img", modules=[Module(extra["cluster"])], files=more)
    return _made(boot, tmp_path_factory.mktemp(name))


def _made(boot: BootSet, folder: Path) -> tuple[Path, DiskRequest]:
    wanted, _ = request(boot)
    return write(wanted, folder), wanted


def content(wanted: DiskRequest, name: str) -> bytes:
    return b"".join(chunks(wanted.files[name]))


def esp(disk: Path, sfdisk: str) -> tuple[int, int]:
    """Byte offset and size of the EFI system partition, as sfdisk says."""
    done = subprocess.run([sfdisk, "-d", disk], capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if "type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B" in line]
    match = re.search(r"start= *(\d+), size= *(\d+),", lines[0])
    assert match and len(lines) == 1, done.stdout
    return int(match[1]) * SECTOR, int(match[2]) * SECTOR


@pytest.mark.real
def test_partition_tables(made: tuple[Path, DiskRequest], tool: Tool) -> None:
    disk, wanted = made
    done = subprocess.run([tool("sgdisk"), "-v", disk], capture_output=True, text=True)
    assert "No problems found" in done.stdout, done.stdout
    assert "partition table" not in done.stderr
    done = subprocess.run([tool("sfdisk"), "--verify", disk], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No errors detected" in done.stdout
    listed = subprocess.run([tool("sgdisk"), "-p", disk], capture_output=True, text=True).stdout
    names = ["BIOS boot", "EFI system partition", *(partition.name for partition in wanted.partitions)]
    row = re.compile(r" +\d+ +\d+ +\d+ +[\d.]+ [KMG]iB +[0-9A-F]{4} +(.*)")
    assert [match[1] for line in listed.splitlines() if (match := row.match(line))] == names


@pytest.mark.real
def test_file_system(made: tuple[Path, DiskRequest], tool: Tool, tmp_path: Path) -> None:
    disk, wanted = made
    offset, size = esp(disk, tool("sfdisk"))
    volume = tmp_path / "esp"
    words = [f"if={disk}", f"of={volume}", "bs=1M", "conv=sparse", "iflag=skip_bytes,count_bytes"]
    subprocess.run(["dd", *words, f"skip={offset}", f"count={size}"], check=True, capture_output=True)
    done = subprocess.run([tool("fsck.fat"), "-n", "-v", volume], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert f"{offset // SECTOR} hidden sectors" in done.stdout
    magic = subprocess.run([tool("file"), "-b", disk, volume], capture_output=True, text=True).stdout.splitlines()
    assert "DOS/MBR boot sector" in magic[0]
    assert "ID=0xee" in magic[0]
    assert "FAT (32 bit)" in magic[1]
    assert f'label: "{wanted.label:11}"' in magic[1]


@pytest.mark.real
def test_mtools_and_grub_read_every_file(made: tuple[Path, DiskRequest], tool: Tool, tmp_path: Path) -> None:
    disk, wanted = made
    offset, _ = esp(disk, tool("sfdisk"))
    copied = tmp_path / "copied"
    copied.mkdir()
    subprocess.run([tool("mcopy"), "-snQ", "-i", f"{disk}@@{offset}", "::/", copied], check=True)
    found = {str(path.relative_to(copied)) for path in copied.rglob("*") if path.is_file()}
    assert found == set(wanted.files)
    grub = tool("grub-fstest")
    for name in wanted.files:
        data = content(wanted, name)
        assert (copied / name).read_bytes() == data, name
        place = f"(loop0,gpt2)/{name}"
        done = subprocess.run([grub, disk, "cmp", place, copied / name], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, ""), name
    shutil.rmtree(copied)


@pytest.mark.real
def test_kernels_are_what_grub_takes_them_for(made: tuple[Path, DiskRequest], tool: Tool, tmp_path: Path) -> None:
    """The files on the disk, as a loader finds them there."""
    _, wanted = made
    assert wanted.boot is not None
    kinds = {"multiboot1": "--is-x86-multiboot", "multiboot2": "--is-x86-multiboot2"}
    for name in wanted.files:
        stem = Path(name).name.split(".")[0]
        kind = kinds.get(stem) or ("--is-x86-multiboot2" if name.startswith("boot/xen") else None)
        kind = "--is-x86-linux" if stem.startswith("vmlinuz") else kind
        kind = "--is-x86_64-efi" if name.endswith("BOOTX64.EFI") else kind
        if kind:
            path = tmp_path / "kernel"
            path.write_bytes(content(wanted, name))
            assert subprocess.run([tool("grub-file"), kind, path]).returncode == 0, name
