"""What a kernel was built with: its configuration, from the file that distributions install beside it or inside.

Sources: Linux, kernel/configs.c, arch/x86/kernel/setup.c (``setup_arch``), usr/Kconfig, init/initramfs.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mbtool.errors import MbtoolError
from mbtool.formats import linux_details
from mbtool.record import record
from mbtool.source import MIB, read_file

if TYPE_CHECKING:
    from mbtool.check.image import Image
    from mbtool.formats.xen_versions import XenVersion

MAX_CONFIG = 4 * MIB


@record
class Settings:
    """``where``: the file, or ``IKCONFIG``; ``lines``: those of the configuration, none where nothing tells it."""

    where: str = ""
    lines: frozenset[bytes] = frozenset()

    def on(self, name: str) -> bool:
        """Whether something is built into the kernel."""
        return f"{name}=y".encode() in self.lines

    def off(self, name: str) -> bool:
        """Whether the configuration says that something is not there."""
        return f"# {name} is not set".encode() in self.lines

    def text(self, name: str) -> bytes:
        """What a setting says between its quotes; b"" where there is none."""
        start = f'{name}="'.encode()
        line = next((line for line in self.lines if line.startswith(start)), b"")
        return re.sub(rb"\\(.)", rb"\1", line[len(start) : -1])

    def cmdline(self, given: bytes | None) -> bytes | None:
        """The command line that the kernel goes by: its own in front of what a loader gives, or in place of it."""
        if not self.on("CONFIG_CMDLINE_BOOL"):
            return given
        own = self.text("CONFIG_CMDLINE")
        if self.on("CONFIG_CMDLINE_OVERRIDE"):
            return own
        return given and b" ".join((own, given))

    @property
    def own_initramfs(self) -> bool:
        """Whether the kernel brings an initramfs along, of which nothing is known. Every kernel has three files."""
        return bool(self.text("CONFIG_INITRAMFS_SOURCE"))


def read(kernel: Image, release: str, version: XenVersion) -> Settings:
    """The settings of a kernel. ``version``: of the Xen that unpacks it, where one does."""
    try:
        where, text = _beside(kernel, release) or _inside(kernel, version)
    except MbtoolError:
        return Settings()  # nobody promised that there is one; what is wrong with the kernel is said elsewhere
    return Settings(where, frozenset(text.splitlines()))


def _beside(kernel: Image, release: str) -> tuple[str, bytes] | None:
    """Name and text of the configuration that was installed with a kernel."""
    if not release or "/" in release:
        return None  # a name of its own that the file brings along is no way out of these directories
    for config in _places(Path(kernel.path), release):
        try:
            return str(config), read_file(config, MAX_CONFIG)
        except MbtoolError:
            continue
    return None


def _places(kernel: Path, release: str) -> Iterator[Path]:
    """Where distributions put it: ``config-RELEASE`` beside the kernel, else ``config`` beside the modules."""
    yield kernel.with_name(f"config-{release}")
    if kernel.parent.name == release:
        yield kernel.with_name("config")  # the kernel is in there, too: Fedora, Debian from 14 on
    elif kernel.parent.name == "boot":
        for modules in ("usr/lib/modules", "lib/modules"):
            yield kernel.parent.parent / modules / release / "config"


def _inside(kernel: Image, version: XenVersion) -> tuple[str, bytes]:
    """The configuration that a kernel built with CONFIG_IKCONFIG carries; b"" when it carries none."""
    place = kernel.place("linux-kernel")
    if place is None or not place.node.children:
        return "", b""
    elf = kernel.dom0_kernel(version).elf
    return "IKCONFIG", linux_details.config(elf, place.start, place.start + place.node.size) or b""
