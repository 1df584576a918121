"""Boot information straight from running loaders: QEMU's own and the GRUB of this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.formats import multiboot1_info, multiboot2_info
from mbtool.formats.memory import Memory
from mbtool.formats.multiboot2_info_tags import CommandLine, Module
from mbtool.source import BytesSource
from tests.formats import multiboot_capture as capture

pytestmark = pytest.mark.boot


@pytest.fixture
def work(tmp_path: Path, tool: Callable[[str], str]) -> Path:
    for name in ("nasm", "ld", "tar", "grub-mkimage", "qemu-system-i386"):
        tool(name)
    capture.prepare(tmp_path)
    return tmp_path


@pytest.mark.parametrize("loader", ["qemu", "grub"])
def test_multiboot1(work: Path, loader: str):
    left = capture.boot_qemu(work) if loader == "qemu" else capture.boot_grub(work, "multiboot")
    info = multiboot1_info.parse(Memory(BytesSource(left.memory)), left.ebx)
    assert info.cmdline is not None
    assert info.cmdline.endswith(capture.COMMAND_LINE)
    assert info.mods is not None
    contents = [left.memory[module.mod_start : module.mod_end] for module in info.mods]
    assert contents == [capture.FIRST, capture.SECOND]


def test_multiboot2(work: Path):
    left = capture.boot_grub(work, "multiboot2")
    info = multiboot2_info.parse(left.memory, left.ebx)
    assert info.find_all(CommandLine) == (CommandLine(capture.COMMAND_LINE),)
    contents = [left.memory[module.mod_start : module.mod_end] for module in info.find_all(Module)]
    assert contents == [capture.FIRST, capture.SECOND]
