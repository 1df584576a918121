"""Fixtures shared by all tests: real Debian images, required tools, samples."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from tests.debian import Missing, unpacked

ROOT = Path(__file__).parent.parent
CI = os.environ.get("CI") == "true"

settings.register_profile("mbtool", deadline=None)  # a busy machine is no defect
settings.load_profile("mbtool")


def missing(what: str) -> None:
    """A test cannot run here: under CI=true that is a failure, elsewhere a skip that says what is missing."""
    if CI:
        pytest.fail(f"missing under CI: {what}", pytrace=False)
    pytest.skip(f"missing here: {what}")


@pytest.fixture(scope="session")
def debian() -> Callable[[str], Path]:
    """``debian(package)``: the root directory of an unpacked Debian package."""

    def get(package: str) -> Path:
        try:
            return unpacked(package)
        except Missing as error:
            missing(str(error))
            raise  # not reached: missing() never returns

    return get


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """``tool(name)``: the path of a program that the test needs."""

    def get(name: str) -> str:
        path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
        if not path:
            missing(f"the program {name}")
        return str(path)

    return get


def _only(root: Path, pattern: str) -> Path:
    (path,) = root.glob(pattern)
    return path


@pytest.fixture(scope="session")
def vmlinuz(debian: Callable[[str], Path]) -> Path:
    """Debian's amd64 kernel: xz payload, signed."""
    return _only(debian("linux-image-amd64"), "boot/vmlinuz-*")


@pytest.fixture(scope="session")
def vmlinuz_cloud(debian: Callable[[str], Path]) -> Path:
    """Debian's cloud kernel: legacy lz4 payload."""
    return _only(debian("linux-image-cloud-amd64"), "boot/vmlinuz-*")


@pytest.fixture(scope="session")
def vmlinuz_rt(debian: Callable[[str], Path]) -> Path:
    """Debian's real-time kernel: xz payload, other addresses."""
    return _only(debian("linux-image-rt-amd64"), "boot/vmlinuz-*")


@pytest.fixture(scope="session")
def xen_gz(debian: Callable[[str], Path]) -> Path:
    """Debian's Xen: gzip, ELF32, Multiboot 1 and 2."""
    return _only(debian("xen-hypervisor-4.17-amd64"), "boot/xen-*.gz")


@pytest.fixture(scope="session")
def xen_efi(debian: Callable[[str], Path]) -> Path:
    """Debian's Xen as an EFI program."""
    return _only(debian("xen-hypervisor-4.17-amd64"), "boot/xen-*.efi")


@pytest.fixture(scope="session")
def samples() -> Path:
    """The directory of the project's own sample images."""
    return ROOT / "samples"
