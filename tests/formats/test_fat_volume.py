"""FAT volumes as mkfs.fat makes them, each width with its own boot sector."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mbtool import identify
from mbtool.source import open_file


@pytest.mark.parametrize(("bits", "blocks"), [(12, 1440), (16, 16384), (32, 40960)])
@pytest.mark.parametrize("label", ["", "EFI SYSTEM"])
def test_label_and_identity(bits: int, blocks: int, label: str, tool, tmp_path: Path):
    path = tmp_path / "fat.img"
    options = ["-n", label] if label else []
    command = [tool("mkfs.fat"), "-C", "-F", str(bits), "-i", "1234abcd", *options, str(path), str(blocks)]
    subprocess.run(command, capture_output=True, check=True)
    with open_file(path) as source:
        node = identify.inspect(source)
    assert (node.kind, node["bits"], node["BS_VolID"]) == ("fat", bits, 0x1234ABCD)
    assert node["label"] == (label or "NO NAME")  # so mkfs.fat marks a volume that has none
