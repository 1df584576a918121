"""Packages of the npm registry that tests run, fetched once into a cache and checked: never installed.

``python -m tests.npm`` fetches all of them.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.debian import CACHE as DEBIAN
from tests.debian import Missing

CACHE = DEBIAN.parent / "npm"

PACKAGES = {
    "v86@0.5.462": "68a3d7ec3773a8028546fda898392a4a3bb4b84ce53b1ce8f8823cd89e544fbf"
    "ad64db1ba00ea4c9a36af4d2809f1be8f61ce927c7508fbbdcbdccf427b23640",
}
"""Name and version, and the SHA-512 of the archive."""


def unpacked(package: str) -> Path:
    """The directory of an unpacked package (``name@version``); Missing when it cannot be fetched here."""
    done = CACHE / package
    if done.is_dir():
        return done
    npm = shutil.which("npm")
    if not npm:
        raise Missing(f"{package} from npm: needs npm, which is not on this machine")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        ran = subprocess.run([npm, "pack", "--silent", package], cwd=work, capture_output=True, text=True)
        if ran.returncode:
            raise Missing(f"{package} from npm: {ran.stderr.strip()[-300:]}")
        (archive,) = Path(work).glob("*.tgz")
        if hashlib.sha512(archive.read_bytes()).hexdigest() != PACKAGES[package]:
            raise Missing(f"{package} from npm: not the archive that was expected")
        with tarfile.open(archive) as tar:
            tar.extractall(work, filter="data")
        try:
            (Path(work) / "package").rename(done)
        except OSError:  # another process was faster
            if not done.is_dir():
                raise
    return done


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
