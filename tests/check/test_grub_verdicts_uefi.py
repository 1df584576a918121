"""can-boot beside GRUB's linux command on UEFI, which since 2.12 takes EFI programs, too. Nothing is started."""

from __future__ import annotations

import gzip
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.check.capabilities import why_not
from mbtool.check.image import Image
from mbtool.check.loaders import choose, loaders
from mbtool.errors import UnknownFormatError
from mbtool.prove.qemu import uefi_firmware
from mbtool.source import BytesSource
from tests import grub
from tests.check.sets import XEN
from tests.check.test_grub_verdicts import MB1, changed
from tests.conftest import missing
from tests.formats.linux_images import kernel as bzimage
from tests.qemu import run

pytestmark = [pytest.mark.boot, pytest.mark.real]

FOLDER = Path("/usr/lib/grub/x86_64-efi")
MODULES = ("normal", "serial", "terminal", "echo", "test", "linux", "memdisk", "tar", "fat", "part_msdos")
IMAGE_VERSION = 24 + 44
"""MajorImageVersion, bytes from the PE signature."""
MAGIC = "invalid magic number"


def cases(vmlinuz: bytes) -> dict[str, tuple[bytes, str, str]]:
    """Name: the file, what GRUB 2.06 says to it ("" when it loads it), and what 2.12 and later say."""
    at = int.from_bytes(vmlinuz[0x3C:0x40], "little") + IMAGE_VERSION
    assert vmlinuz[at : at + 2] == b"\1\0"
    old = changed(vmlinuz, at, b"\0\0")
    return {
        "debian": (vmlinuz, "", ""),
        "no-flag": (changed(vmlinuz, 0x1FE, b"\0\0"), MAGIC, ""),
        "old-stub": (old, "", ""),
        "old-stub-no-flag": (changed(old, 0x1FE, b"\0\0"), MAGIC, MAGIC),
        "no-stub": (bzimage(0x20F, payload=bytes(4096)), "", ""),
        "protocol": (bzimage(0x202, payload=bytes(4096)), *("version too old for 32-bit boot",) * 2),
        "xen-efi": (gzip.decompress((XEN / "xen-4.14.5.efi.gz").read_bytes()), MAGIC, ""),
        "multiboot": (MB1, MAGIC, MAGIC),
    }


NAMES = ("debian", "no-flag", "old-stub", "old-stub-no-flag", "no-stub", "protocol", "xen-efi", "multiboot")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str], vmlinuz: Path) -> dict[str, str]:
    """What GRUB said about each case, on the serial port."""
    if not FOLDER.is_dir():
        missing("GRUB for UEFI machines (grub-efi-amd64-bin)")
    work = tmp_path_factory.mktemp("grub")
    program = work / "esp" / "EFI" / "BOOT" / "BOOTX64.EFI"
    program.parent.mkdir(parents=True)
    script = ["serial --unit=0", "terminal_output serial"]
    for name, (data, *_) in cases(vmlinuz.read_bytes()).items():
        (work / "esp" / name).write_bytes(data)
        attempt = f"if linux (hd0,1)/{name}; then echo '[loaded]'; else echo '[refused]'; fi"
        script += [f"echo '<{name}>'", attempt]
    (work / "script").write_text("\n".join((*script, "echo '<end>'\n")))
    (work / "grub.cfg").write_text("normal (memdisk)/script")
    command = [
        tool("grub-mkimage"),
        "-O",
        "x86_64-efi",
        "-p",
        "/",
        "-c",
        str(work / "grub.cfg"),
        "-o",
        str(program),
    ]
    command += ["-m", str(grub.archive(work / "memdisk.tar", [work / "script"]))]
    subprocess.run([*command, *MODULES], check=True)
    code, variables = uefi_firmware()
    machine = ["-machine", "q35", "-m", "512", "-drive", f"if=pflash,format=raw,readonly=on,file={code}"]
    machine += ["-drive", f"if=pflash,format=raw,snapshot=on,file={variables}"]
    machine += ["-drive", f"format=raw,file=fat:rw:{work}/esp"]
    console = run(machine, until="<end>").console
    return dict(re.findall(r"<([a-z0-9-]+)>(.*?)(?=<)", console, re.DOTALL))


@pytest.mark.parametrize("name", NAMES)
def test_grub_says_the_same(said: dict[str, str], tool: Callable[[str], str], vmlinuz: Path, name: str) -> None:
    version = grub.version(tool)
    data, *messages = cases(vmlinuz.read_bytes())[name]
    message = messages[version >= "2.12"]
    assert ("[loaded]" in said[name]) == (not message), said[name]
    assert message in said[name]
    (row,) = choose(loaders(), f"grub-{version}:linux:uefi")
    try:
        reason = why_not(Image(name, BytesSource(data, name)), row)
    except UnknownFormatError:
        reason = "no image of any kind"
    assert row.words_for(reason) == message
    assert bool(reason) == bool(message), reason
