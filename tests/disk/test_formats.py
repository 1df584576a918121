"""Images for hypervisors: qemu-img reads the raw disk back from each, and they are the same every time."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path

import pytest

from tests.cli.run import mbtool

FORMATS = {"qcow2": "qcow2", "vmdk": "vmdk", "vhd": "vpc"}
MARKER = "mb1: eax"
"""The sample kernel prints this on the serial port."""


def build(samples: Path, output: Path, *options: str) -> Path:
    done = mbtool("build-disk", "--kernel", samples / "multiboot1/multiboot1.elf", "-o", output, *options)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(params=FORMATS)
def format_name(request) -> str:
    return str(request.param)


def test_qemu_img_reads_the_same_disk_back(samples, tmp_path, tool, format_name):
    qemu_img = tool("qemu-img")
    raw = build(samples, tmp_path / "disk.img")
    image = build(samples, tmp_path / "disk.other", "--format", format_name, "--verify-reproducible")
    driver = FORMATS[format_name]
    subprocess.run([qemu_img, "compare", "-f", "raw", "-F", driver, raw, image], check=True)
    info = subprocess.run([qemu_img, "info", "-f", driver, "--output=json", image], check=True, capture_output=True)
    assert json.loads(info.stdout)["virtual-size"] == raw.stat().st_size
    if driver != "vpc":  # qemu-img has no check for VHD
        subprocess.run([qemu_img, "check", "-f", driver, image], check=True)
    assert f'format = "{format_name}"' in (tmp_path / "disk.other.toml").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "disk.img",
        "disk.img.toml",
        "disk.other",
        "disk.other.toml",
    ]


def test_the_same_elsewhere_and_later(samples, tmp_path, tool, format_name):
    tool("qemu-img")
    images = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        images.append(build(samples, tmp_path / folder / "disk", "--format", format_name).read_bytes())
    assert images[0] == images[1]


def test_a_vhd_keeps_its_size_time_and_checksum(samples, tmp_path, tool, monkeypatch):
    tool("qemu-img")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    image = build(samples, tmp_path / "disk.vhd", "--format", "vhd").read_bytes()
    raw = build(samples, tmp_path / "disk.img")
    footer = image[-512:]
    assert image[:512] == footer
    (stamp,) = struct.unpack_from(">I", footer, 24)
    assert stamp == 1700000000 - 946684800  # seconds since 2000
    assert struct.unpack_from(">Q", footer, 48)[0] == raw.stat().st_size
    (checksum,) = struct.unpack_from(">I", footer, 64)
    assert checksum == ~(sum(footer) - sum(footer[64:68])) & 0xFFFFFFFF


def test_without_qemu_img_one_line_and_no_file(samples, tmp_path, monkeypatch, format_name):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = mbtool(
        "build-disk",
        "--kernel",
        samples / "multiboot1/multiboot1.elf",
        "-o",
        tmp_path / "d",
        "--format",
        format_name,
    )
    assert done.returncode == 2
    assert "qemu-img is not installed" in done.stderr
    assert "qemu-utils" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_failing_qemu_img_leaves_nothing(samples, tmp_path, monkeypatch):
    fake = tmp_path / "bin/qemu-img"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'qemu-img: error while writing: No space left on device' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent))
    out = tmp_path / "out"
    out.mkdir()
    kernel = samples / "multiboot1/multiboot1.elf"
    done = mbtool("build-disk", "--kernel", kernel, "-o", out / "d", "--format", "qcow2")
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert list(out.iterdir()) == []


def test_an_unknown_format_in_a_manifest_is_refused(samples, tmp_path):
    manifest = tmp_path / "image.toml"
    manifest.write_text(f'[boot]\nkernel = "{samples}/multiboot1/multiboot1.elf"\n[disk]\nformat = "floppy"\n')
    done = mbtool("build-disk", manifest, "-o", tmp_path / "d")
    assert done.returncode == 2
    assert "disk.format" in done.stderr
    assert "qcow2" in done.stderr


@pytest.mark.parametrize("line", ["[boot]\ntimeout = -1", "[disk]\nsource-date-epoch = -99999999999999999"])
def test_times_before_all_time_are_refused(line, samples, tmp_path):
    manifest = tmp_path / "image.toml"
    manifest.write_text(line + "\n")
    kernel = samples / "multiboot1/multiboot1.elf"
    done = mbtool("build-disk", manifest, "--kernel", kernel, "--format", "iso", "-o", tmp_path / "d")
    assert done.returncode == 2
    assert "not a number of seconds; expected 0 or more" in done.stderr


@pytest.mark.boot
def test_it_boots(samples, tmp_path, tool, format_name):
    tool("qemu-img")
    tool("qemu-system-x86_64")
    image = build(samples, tmp_path / "disk", "--format", format_name)
    done = mbtool("prove", "--accel", "tcg", "--expect", MARKER, image)
    assert done.returncode == 0, done.stdout + done.stderr
