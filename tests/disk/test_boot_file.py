"""Kernels are unpacked for the disk, in bounded memory; what is damaged or too large is refused."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
from pathlib import Path

import pytest

from mbtool.disk import kernel
from mbtool.disk.content import chunks
from mbtool.disk.kernel import boot_file
from mbtool.errors import FormatError, LimitError

MIB = 1 << 20


@pytest.fixture(scope="module")
def large(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A Multiboot kernel of 60 MiB, packed, and its bytes."""
    data = (samples / "multiboot1/multiboot1.elf").read_bytes() + random.Random(1).randbytes(60 * MIB)
    path = tmp_path_factory.mktemp("large") / "kernel.gz"
    path.write_bytes(gzip.compress(data, 1))
    return path, data


def test_a_large_kernel_is_what_was_packed(large: tuple[Path, bytes]) -> None:
    path, data = large
    with boot_file(path, "kernel", unpack=True) as file:
        assert file.name == "kernel"
        assert b"".join(chunks(file.content)) == data
        assert file.source.size == len(data)
        for offset, size in ((0, 100), (4 * MIB - 1, 2), (len(data) - 3, 100), (len(data), 1), (5, 0), (-1, 5)):
            assert file.source.read(offset, size) == (data[offset : offset + size] if offset >= 0 else b"")


def test_memory_stays_bounded(large: tuple[Path, bytes], tmp_path: Path) -> None:
    build = ["build-disk", "--kernel", str(large[0]), "-o", str(tmp_path / "disk.img")]
    code = f"""
import re, sys
from pathlib import Path
from mbtool.__main__ import main
sys.argv = ["mbtool", *{build!r}]
try:
    main()
finally:
    print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) * 1024 < 100 * MIB


def test_too_large_or_damaged(large: tuple[Path, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = tmp_path / "cut.gz"
    cut.write_bytes(large[0].read_bytes()[: 10 * MIB])
    with (
        pytest.raises(FormatError, match=r"cut\.gz: the compressed stream is damaged"),
        boot_file(cut, "", unpack=True),
    ):
        pass
    monkeypatch.setattr(kernel, "MAX_UNPACKED", 8 * MIB)
    with pytest.raises(LimitError, match="unpacks to more than 8 MiB"), boot_file(large[0], "", unpack=True):
        pass
