"""Real images: Debian packages fetched once and unpacked into a cache, never installed.

``python -m tests.debian`` fetches all of them; tests ask for one with the ``debian`` fixture.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CACHE = Path(os.environ.get("MBTOOL_TEST_CACHE") or Path(__file__).parent.parent / ".cache" / "debian")

META = ("linux-image-amd64", "linux-image-cloud-amd64", "linux-image-rt-amd64", "gnumach-image-1-486")
"""Packages that only depend on the newest kernel: followed to what they depend on."""

PACKAGES = (
    *META,
    "xen-hypervisor-4.17-amd64",
    "xen-utils-4.17",
    "grub-xen-bin",
    "debian-installer-12-netboot-amd64",
    "memtest86+",
    "ipxe",
    "grub-invaders",
    "syslinux-common",
    "isolinux",
    "systemd-boot-efi",
    "busybox-static",
    "iucode-tool",
    "bochsbios",
    "vgabios",
)


class Missing(Exception):
    """A real image cannot be had here; the message says why."""


def unpacked(package: str) -> Path:
    """The root directory of an unpacked package; Missing when it cannot be fetched here."""
    done = CACHE / package
    if done.is_dir():
        return done
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        if not shutil.which(tool):
            raise Missing(f"{package} from Debian 12: needs {tool}, which is not on this machine")
    name = _depends(package) if package in META else package
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        try:
            _run(["apt-get", "download", name], Path(work), package)
        except Missing:  # the package lists may be old, or not there yet
            subprocess.run(["apt-get", "update", "-q"], capture_output=True, check=False)
            _run(["apt-get", "download", name], Path(work), package)
        (deb,) = Path(work).glob("*.deb")
        root = Path(work) / "root"
        _run(["dpkg-deb", "-x", str(deb), str(root)], Path(work), package)
        try:
            root.rename(done)
        except OSError:  # another process was faster
            if not done.is_dir():
                raise
    return done


def _depends(package: str) -> str:
    text = _run(["apt-cache", "depends", package], Path(), package)
    match = re.search(r"Depends: (\S+)", text)
    if not match:
        raise Missing(f"{package}: names no kernel package")
    return match[1]


def _run(command: list[str], folder: Path, package: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"{package} from Debian 12: {' '.join(command[:2])} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def main() -> None:
    """Fetch everything; exit 1 when something cannot be had."""
    missing = 0
    for package in PACKAGES:
        try:
            print(f"{package}: {unpacked(package).name}")
        except Missing as error:
            missing = 1
            print(error, file=sys.stderr)
    sys.exit(missing)


if __name__ == "__main__":
    main()
