"""Bad input is normal input: whatever is in the files and words, there is a verdict, and never a traceback."""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

import pytest

from mbtool.check.boot_set import BootSet, Firmware
from mbtool.check.capabilities import why_not
from mbtool.check.image import Image
from mbtool.check.loaders import loaders, newest
from mbtool.check.named_files import XenConfig
from mbtool.check.report import check_set
from mbtool.check.trees import FolderTree
from mbtool.errors import MbtoolError
from mbtool.plan.xen_options import Mode
from mbtool.source import BytesSource
from tests.check.sets import XEN, initrd, vmlinux, vmlinuz
from tests.conftest import ROOT

SAMPLES = [
    ROOT / "samples" / name for name in ("multiboot1/multiboot1.elf", "multiboot2/multiboot2.elf", "pvh/pvh.elf")
]
KERNELS = [vmlinux(), vmlinuz(), initrd(), *(path.read_bytes() for path in SAMPLES)]
HYPERVISORS = [gzip.decompress((XEN / name).read_bytes()) for name in ("xen-4.18.0.gz", "xen-4.14.5.efi.gz")]
WORDS: dict[str, tuple[Any, ...]] = {
    "cmdline": (None, "", "console=com1 " + "x" * 2000, "a\0b", "\udcff"),
    "xen_cmdline": (
        None,
        "",
        "dom0=pvh",
        "dom0_mem=64M ucode=scan",
        "dom0_mem=50% foo",
        "dom0_mem=1T -- x",
        "=",
        "--",
    ),
    "dom0_mem": (None, "64M", "max:", "9" * 40),
    "asked_mode": (None, *Mode),
    "firmware": (None, *Firmware),
    "require": ((), ("ext4",)),
    "secure_boot": (False, True),
}


def damaged(data: bytes, dice: random.Random) -> bytes:
    """A few bytes changed, most of them in the headers; sometimes the end cut off."""
    bad = bytearray(data)
    for _ in range(dice.randrange(8)):
        at = dice.randrange(min(len(bad), dice.choice((64, 0x300, len(bad)))))
        bad[at] = dice.choice((0, 255, dice.randrange(256), bad[at] ^ 1 << dice.randrange(8)))
    if dice.random() < 0.2:
        del bad[dice.randrange(len(bad)) :]
    return bytes(bad)


def image(name: str, data: bytes) -> Image:
    return Image(name, BytesSource(data, name))


@pytest.mark.parametrize("seed", range(60))
def test_there_is_always_a_verdict(seed: int) -> None:
    dice = random.Random(seed)
    config = bytes(dice.choice(b"[]=#;\n\t kernelglobadft\0\xff") for _ in range(dice.randrange(80)))
    kernel = image("kernel", damaged(dice.choice(KERNELS), dice))
    boot = BootSet(
        dice.choice((None, image("xen", damaged(dice.choice(HYPERVISORS), dice)))),
        kernel,
        dice.choice((None, image("initrd", damaged(dice.choice(KERNELS), dice)))),
        dice.choice((None, XenConfig("xen.cfg", config, FolderTree(Path("gone")), "xen.cfg"))),
        **{name: dice.choice(values) for name, values in WORDS.items()},
    )
    for problem in check_set(boot):
        assert problem.words.title
        assert problem.evidence.message
    for row in newest(loaders()):
        try:
            why_not(kernel, row)
        except MbtoolError:
            continue
