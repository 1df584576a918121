"""Unified images: objdump reads every section back, and what was there stays where it was."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from mbtool.disk.content import Content, chunks
from mbtool.disk.pe_append import append_sections
from mbtool.errors import MbtoolError

ADDED: list[tuple[str, Content]] = [
    (".osrel", b"ID=test\n"),
    (".cmdline", b"console=ttyS0"),
    (".linux", bytes(range(256)) * 100 + b"x"),
    (".initrd", b"070701" * 999),
]


def sections(path: Path, objdump: str) -> dict[str, tuple[int, int, int]]:
    """Name to (VirtualSize, address, file offset), as objdump says."""
    text = subprocess.run([objdump, "-h", path], capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^ +\d+ (\S+) +([0-9a-f]+) +([0-9a-f]+) +[0-9a-f]+ +([0-9a-f]+)", text, re.MULTILINE)
    return {name: (int(size, 16), int(vma, 16), int(offset, 16)) for name, size, vma, offset in rows}


@pytest.fixture(params=["systemd", "xen", "memtest"])
def program(request, debian, xen_efi) -> Path:
    match request.param:
        case "systemd":
            return Path(debian("systemd-boot-efi")) / "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
        case "xen":
            return Path(xen_efi)
        case _:
            return Path(debian("memtest86+")) / "boot/memtest86+x64.efi"


@pytest.mark.real
def test_objdump_reads_everything_back(program, tool, tmp_path):
    joined, offsets = append_sections(program.read_bytes(), ADDED, program.name)
    image = tmp_path / "image.efi"
    image.write_bytes(b"".join(chunks(joined)))
    before, after = sections(program, tool("objdump")), sections(image, tool("objdump"))
    original, written = program.read_bytes(), image.read_bytes()
    for name, (size, address, offset) in before.items():
        assert after[name][:2] == (size, address)
        if name in (".text", ".rodata", ".data"):
            new = after[name][2]
            assert written[new : new + 512] == original[offset : offset + 512], name
    end = max(address + size for size, address, _ in before.values())
    for name, content in ADDED:
        size, address, offset = after[name]
        assert isinstance(content, bytes)
        assert size == len(content)
        # objdump shows addresses with the image base, sections begin on a page behind all others
        assert address % 4096 == 0
        assert address >= end
        end = address + size
        assert offset == offsets[name]
        assert written[offset : offset + size] == content


@pytest.mark.parametrize("data", [b"", b"MZ", b"MZ" + bytes(100), b"\x7fELF" + bytes(1000)])
def test_what_is_no_program_is_refused(data):
    with pytest.raises(MbtoolError):
        append_sections(data, ADDED, "file")


def test_long_section_names_are_refused(debian):
    stub = Path(debian("systemd-boot-efi")) / "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
    with pytest.raises(MbtoolError, match="longer than 8"):
        append_sections(stub.read_bytes(), [(".muchtoolong", b"")], "stub")
