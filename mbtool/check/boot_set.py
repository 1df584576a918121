"""A boot set: the files and words that are to boot together, and what follows from them at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from mbtool.check import kernel_settings
from mbtool.check.image import Image
from mbtool.check.kernel_settings import Settings
from mbtool.check.loader import Loader
from mbtool.check.named_files import XenConfig
from mbtool.check.trees import TreeFile
from mbtool.errors import MbtoolError
from mbtool.formats import xen_versions
from mbtool.formats.sbat_level import SbatLevel
from mbtool.formats.xen_versions import XenVersion
from mbtool.plan import cmdline, xen_modules, xen_options
from mbtool.plan.xen_modules import XSM_MAGIC, Roles, Ucode
from mbtool.plan.xen_options import Mode
from mbtool.source import Limits, open_file

SCANS_BY_DEFAULT = ("CONFIG_UCODE_SCAN_DEFAULT=y", "CONFIG_MICROCODE_SCAN_DEFAULT=y")
"""What Xen 4.21, and 4.22, calls that it looks for microcode without being told."""


class Firmware(StrEnum):
    """What starts the machine."""

    BIOS = "bios"
    UEFI = "uefi"


@dataclass(frozen=True)
class BootSet:
    """Absent parts are None. ``dom0_mem``: as after ``dom0_mem=``; it is one more option of Xen's.

    ``xen_cfg``: the configuration of Xen's EFI loader. ``require``: names of kernel modules that
    the initrd must hold. ``secure_boot``: the firmware verifies what it starts. ``sbat_level``: what shim
    still starts then. ``modules``: what Xen is handed behind dom0's kernel, in order and dom0's initrd among it;
    empty where only that one is known.
    """

    xen: Image | None = None
    kernel: Image | None = None
    initrd: Image | None = None
    xen_cfg: XenConfig | None = None
    cmdline: str | None = None
    xen_cmdline: str | None = None
    dom0_mem: str | None = None
    asked_mode: Mode | None = None
    firmware: Firmware | None = None
    require: tuple[str, ...] = ()
    loaders: tuple[Loader, ...] = ()
    """One of them starts the set; none are asked for when empty."""
    secure_boot: bool = False
    sbat_level: SbatLevel | None = None
    modules: tuple[Image, ...] = ()
    limits: Limits = field(default_factory=Limits)

    @property
    def images(self) -> Iterator[Image]:
        """The images that are there, of Xen's other modules those in which it finds microcode."""
        read = {self.roles.microcode, *self.roles.scanned} - {0}
        microcode = filter(holds_microcode, (self.modules[number - 1] for number in sorted(read)))
        found = (self.xen, self.kernel, self.initrd, *microcode)
        return iter(dict.fromkeys(image for image in found if image is not None))

    @property
    def on_xen(self) -> bool:
        """Whether the kernel is to be dom0: something in the set is only of use to Xen."""
        told = (self.xen, self.xen_cfg, self.xen_cmdline, self.dom0_mem, self.asked_mode)
        return any(part is not None for part in told)

    @property
    def on_bios(self) -> bool:
        """Whether no EFI firmware has a part in it: so it is said, or only loaders on a BIOS are asked for."""
        told = {row.on for row in self.loaders} or {self.firmware or ""}
        return told == {Firmware.BIOS}

    @property
    def options(self) -> bytes:
        """Xen's own command line, with dom0_mem in it."""
        words = [self.xen_cmdline or "", f"dom0_mem={self.dom0_mem}" if self.dom0_mem else ""]
        own, extra = xen_options.split(os.fsencode(words[0]))
        return b" ".join(part for part in (own, os.fsencode(words[1])) if part) + (b" --" + extra if extra else b"")

    @property
    def dom0_cmdline(self) -> bytes | None:
        """dom0's command line as Xen puts it together, None when nobody gave it one. InputError for a NUL."""
        string = None if self.cmdline is None else os.fsencode(self.cmdline)
        return cmdline.dom0_cmdline(string, self.options, self.version) or string

    @property
    def mode(self) -> Mode:
        """The mode asked for, else what Xen's command line says, else PV."""
        if self.asked_mode is not None:
            return self.asked_mode
        return xen_options.dom0_mode(self.options) or Mode.PV

    @cached_property
    def xen_settings(self) -> tuple[str, ...] | None:
        """Xen's own configuration (``CONFIG_PV=y``), None when the image does not tell it or there is none."""
        try:
            node = self.xen.find("xen-config") if self.xen is not None else None
        except MbtoolError:
            return None  # said of the file itself
        settings = node.get("settings") if node else None
        return tuple(map(str, settings)) if isinstance(settings, tuple) else None

    @cached_property
    def kernel_settings(self) -> Settings:
        """The Linux kernel's own configuration; nothing where there is none or it is not told."""
        return Settings() if self.kernel is None else kernel_settings.read(self.kernel, self.release, self.version)

    @cached_property
    def ucode(self) -> Ucode:
        """Where Xen looks for microcode: as it is told, else as it was built."""
        scan = any(setting in SCANS_BY_DEFAULT for setting in self.xen_settings or ())
        return xen_modules.ucode(self.options, self.version, scan=scan)

    @cached_property
    def roles(self) -> Roles:
        """What Xen takes its modules for; nothing is known when they are not."""
        flask = self.xen_settings is None or "CONFIG_XSM_FLASK=y" in self.xen_settings
        policies = [flask and is_policy(image) for image in self.modules]
        return xen_modules.roles(policies, self.ucode, self.version)

    def with_initrds(self, initrds: tuple[Image, ...]) -> BootSet:
        """The set with several initrds, in order: on Xen they are modules, of which dom0 gets one."""
        if self.on_xen:
            return replace(self, modules=initrds).handed()
        return replace(self, initrd=Image.joined(initrds, self.limits))

    def handed(self) -> BootSet:
        """The set with the initrd that dom0 gets of the modules."""
        number = next(iter(self.roles.candidates), 0)
        return replace(self, initrd=self.modules[number - 1] if number else None)

    def whole(self) -> BootSet:
        """The set with the initrd that a unified kernel image brings along, where it is given no other."""
        if self.kernel is None or self.initrd is not None or self.on_xen:
            return self
        carried = self.kernel.section(".initrd")
        return self if carried is None else replace(self, initrd=carried)

    @cached_property
    def version(self) -> XenVersion:
        """Xen's version as its image tells it; the newest known when there is no image or it does not tell."""
        node = None
        if self.xen is not None:
            try:
                node = self.xen.find("xen-hypervisor")
            except MbtoolError:
                node = None  # said of the file itself
        try:
            told = node and node.get("version")
            return xen_versions.parse(str(told)) if told else xen_versions.NEWEST
        except MbtoolError:
            return xen_versions.OLDEST

    @cached_property
    def release(self) -> str:
        """The Linux kernel's release (``6.1.0-56-amd64``), "" when it is no Linux or does not tell."""
        if self.kernel is None:
            return ""
        try:
            root = self.kernel.root
        except MbtoolError:
            return ""
        bzimage = root.find("bzimage")
        text = bzimage.get("kernel_version_string") if bzimage else None
        if not isinstance(text, str) or not text:
            node = root.find("linux-kernel")
            text = str(node.get("version") or "") if node else ""
        release = text.split(" ")[0]
        return release if release[:1].isdigit() else ""


def is_policy(image: Image) -> bool:
    """Whether a file is a security policy for Xen."""
    try:
        return image.source.read(0, len(XSM_MAGIC)) == XSM_MAGIC
    except MbtoolError:
        return False  # said of the file itself


def holds_microcode(image: Image) -> bool:
    """Whether there is microcode in a file; False for one that cannot be read."""
    try:
        return image.find("microcode") is not None
    except MbtoolError:
        return False


@contextmanager
def open_set(
    *,
    xen: Path | TreeFile | None = None,
    kernel: Path | TreeFile | None = None,
    initrd: Path | TreeFile | None = None,
    more_initrds: Sequence[Path] = (),
    xen_cfg: Path | XenConfig | None = None,
    cmdline: str | None = None,
    xen_cmdline: str | None = None,
    limits: Limits | None = None,
    **more: object,
) -> Iterator[BootSet]:
    """The set with its files open; what is not given is taken from the configuration, where that is.

    ``more_initrds``, behind the first one: Linux gets all as one, Xen as modules. Raises InputError for a file that
    cannot be read.
    """
    limits = limits or Limits()
    config = XenConfig.of(xen_cfg) if isinstance(xen_cfg, Path) else xen_cfg
    if config is not None:
        config = config.followed()
        kernel = kernel or config.file("kernel")
        initrd = initrd or config.file("ramdisk")
        cmdline = config.words("kernel") if cmdline is None else cmdline
        xen_cmdline = config.options if xen_cmdline is None else xen_cmdline
    with ExitStack() as stack:

        def image(file: Path | TreeFile | None) -> Image | None:
            if file is None:
                return None
            if isinstance(file, Path):
                return Image(str(file), stack.enter_context(open_file(file)), limits)
            return Image(file.name, stack.enter_context(file.open()), limits)

        first, behind = image(initrd), tuple(map(image, more_initrds))
        boot = BootSet(
            image(xen),
            image(kernel),
            first,
            config,
            cmdline,
            xen_cmdline,
            limits=limits,
            **more,  # type: ignore[arg-type]
        )
        initrds = tuple(found for found in (first, *behind) if found is not None)
        yield boot.with_initrds(initrds) if behind else boot
