"""No false alarm: every boot image of the Debian packages is clean, and so are sets of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mbtool.check.boot_set import Firmware, open_set
from mbtool.check.image import Image
from mbtool.check.report import check_image, check_set
from mbtool.errors import UnknownFormatError
from mbtool.plan.xen_options import Mode
from mbtool.source import open_file
from tests.check.sets import ids, initrd
from tests.debian import CACHE, PACKAGES

pytestmark = pytest.mark.real

NO_IMAGES = ("/doc/", "/man/", "/lib/modules/", "/locale/", "/lintian/", "/python", "/mbr/", "/bin/", "/sbin/")
TRUE = {
    "xen-4.17-amd64.efi": {"PE-NX-WRITABLE-CODE"},
    "memtest86+ia32.efi": {"SBAT-LINE"},
    "memtest86+x64.efi": {"SBAT-LINE"},
    "memtest86+ia32.iso": {"SBAT-LINE"},
    "memtest86+x64.iso": {"SBAT-LINE"},
}
"""Warnings that are no false alarm: objdump -p shows NX_COMPAT beside a section with WRITE and EXECUTE; the text of
memtest86+'s .sbat section has five columns."""


def images(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root.parent))
        if path.is_file() and not path.is_symlink() and not any(part in f"/{name}" for part in NO_IMAGES):
            yield path


@pytest.mark.parametrize("package", PACKAGES)
def test_every_image_of_a_package(debian: Callable[[str], Path], package: str) -> None:
    for path in images(debian(package)):
        with open_file(path) as source:
            try:
                found = check_image(Image(str(path), source))
            except UnknownFormatError:
                continue
        assert ids(found) == TRUE.get(path.name, set()), path.relative_to(CACHE)
        assert all(problem.severity != "error" for problem in found)


NO_DOM0 = {"vmlinuz_cloud": {"LINUX-NO-DOM0"}}
"""Healthy, but no dom0."""


@pytest.mark.parametrize("mode", [Mode.PV, Mode.PVH])
@pytest.mark.parametrize("kernel", ["vmlinuz", "vmlinuz_cloud", "vmlinuz_rt"])
def test_debians_xen_with_its_kernels(
    request: pytest.FixtureRequest, tmp_path: Path, xen_gz: Path, kernel: str, mode: Mode
) -> None:
    linux: Path = request.getfixturevalue(kernel)
    (tmp_path / "initrd").write_bytes(initrd(linux.name.removeprefix("vmlinuz-")))
    files: dict[str, Any] = {"xen": xen_gz, "kernel": linux, "initrd": tmp_path / "initrd"}
    words: dict[str, Any] = {"asked_mode": mode, "xen_cmdline": f"placeholder dom0={mode} dom0_mem=512M"}
    for firmware in Firmware:
        with open_set(**files, **words, firmware=firmware, cmdline="placeholder root=/dev/sda1 ro quiet") as boot:
            assert {problem.id for problem in check_set(boot)} == NO_DOM0.get(kernel, set())


def test_the_installer(debian: Callable[[str], Path]) -> None:
    root = debian("debian-installer-12-netboot-amd64")
    (linux,) = root.glob("**/text/debian-installer/amd64/linux")
    for firmware in Firmware:
        with open_set(kernel=linux, initrd=linux.parent / "initrd.gz", firmware=firmware, cmdline="quiet") as boot:
            assert check_set(boot) == []
