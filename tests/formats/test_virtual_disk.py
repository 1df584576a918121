"""Images of hypervisors: the disk that inspect shows in them is the one that qemu-img put in."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from mbtool import identify
from mbtool.errors import MbtoolError
from mbtool.formats.virtual_disk import VirtualDisk
from mbtool.model import Node
from mbtool.source import BytesSource, open_file
from tests.cli.run import mbtool

WRITTEN = {
    "qcow2": ["-O", "qcow2"],
    "qcow2, version 2": ["-O", "qcow2", "-o", "compat=0.10"],
    "qcow2, small clusters": ["-O", "qcow2", "-o", "cluster_size=512"],
    "qcow2, compressed": ["-c", "-O", "qcow2"],
    "vmdk": ["-O", "vmdk"],
    "vmdk, zeroed grains": ["-O", "vmdk", "-o", "zeroed_grain=on"],
    "vhd": ["-O", "vpc", "-o", "subformat=dynamic,force_size=on"],
}
UNREADABLE = {
    "vmdk": ["-O", "vmdk", "-o", "subformat=streamOptimized"],
    "qcow2, other compression": ["-O", "qcow2", "-o", "compression_type=zstd"],
    "qcow2, extended entries": ["-O", "qcow2", "-o", "extended_l2=on"],
}


@pytest.fixture(scope="module")
def raw(samples, tmp_path_factory) -> Path:
    image = Path(tmp_path_factory.mktemp("raw") / "disk.img")
    done = mbtool("build-disk", "--kernel", samples / "multiboot1/multiboot1.elf", "-o", image)
    assert done.returncode == 0, done.stderr
    return image


def converted(raw: Path, options: list[str], out: Path, tool) -> Path:
    subprocess.run([tool("qemu-img"), "convert", "-f", "raw", *options, raw, out], check=True)
    return out


def inspect(path: Path) -> Node:
    with open_file(path) as source:
        return identify.inspect(source)


@pytest.mark.parametrize("what", WRITTEN)
def test_the_disk_inside_is_shown(what, raw, tool, tmp_path):
    node = inspect(converted(raw, WRITTEN[what], tmp_path / "image", tool))
    assert node.kind == what.split(",")[0]
    assert node["virtual_size"] == raw.stat().st_size
    assert node.children[-1] == inspect(raw)
    assert not node.findings


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_cannot_be_read_is_said(what, raw, tool, tmp_path):
    node = inspect(converted(raw, UNREADABLE[what], tmp_path / "image", tool))
    assert [finding.id for finding in node.findings] == ["VIRTUAL-DISK"]


def test_a_disk_that_is_being_unpacked_has_one_reader_at_a_time():
    source = BytesSource(bytes(512))
    assert not VirtualDisk(source, 512, 512, lambda number: 0).streamed
    source.streamed = True
    assert VirtualDisk(source, 512, 512, lambda number: 0).streamed


def test_a_backing_file_is_never_opened(raw, tool, tmp_path):
    image = tmp_path / "image"
    subprocess.run([tool("qemu-img"), "create", "-q", "-f", "qcow2", "-b", raw, "-F", "raw", image], check=True)
    assert "backing file" in inspect(image).findings[0].message


def test_a_disk_of_one_block_over_and_over_ends(raw):
    """A VHD whose table has the same block everywhere, read from end to end."""
    from mbtool.formats.virtual_disk import ROOM, VirtualDisk

    disk = VirtualDisk(BytesSource(raw.read_bytes()[:4096]), 1 << 62, 512, lambda number: 0)
    assert sum(map(len, disk.chunks())) <= ROOM + 8 * 4096
    assert disk.damage is not None


@pytest.mark.parametrize("what", ["qcow2", "qcow2, compressed", "vmdk", "vhd"])
def test_damaged_images_end_in_findings_or_one_error(what, raw, tool, tmp_path):
    data = converted(raw, WRITTEN[what], tmp_path / "image", tool).read_bytes()
    rng = random.Random(5)
    tables = [at for at in range(0, min(len(data), 1 << 20), 4) if any(data[at : at + 4])][:3000]
    for _ in range(60):
        broken = bytearray(data)
        for _ in range(rng.choice((1, 3))):
            broken[rng.choice((rng.randrange(128), rng.choice(tables)))] = rng.choice((0, 1, 0x80, 0xFF))
        try:
            identify.inspect(BytesSource(bytes(broken[: rng.choice((len(data), len(data) // 2))])))
        except MbtoolError:
            continue
