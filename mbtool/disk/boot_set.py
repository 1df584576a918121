"""From the files of a boot to a disk: which protocol each wants, what goes on the ESP, what the stub loads."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from mbtool.disk import protocols, xen_cfg
from mbtool.disk.content import Content
from mbtool.disk.image import DiskRequest, Partition
from mbtool.disk.kernel import BootFile, boot_file
from mbtool.disk.protocols import DiskFile, Protocol
from mbtool.errors import InputError
from mbtool.formats import pe
from mbtool.plan.load import LoadPlan

EFI_DIRECTORY = "EFI/BOOT"
BOOT_FILE = f"{EFI_DIRECTORY}/BOOTX64.EFI"
"""What firmware starts from a disk that it does not know; Xen looks for its files beside itself."""


@dataclass(frozen=True, slots=True)
class Module:
    """A module for a Multiboot kernel: its file and its command line."""

    path: Path
    cmdline: str = ""


@dataclass(frozen=True, slots=True)
class BootSet:
    """What a user wants to boot. ``kernel`` alone, or ``xen`` (or just ``xen_efi``) with ``kernel`` as dom0."""

    kernel: Path
    initrd: Path | None = None
    xen: Path | None = None
    xen_efi: Path | None = None
    modules: Sequence[Module] = ()
    cmdline: str = ""
    xen_cmdline: str = ""
    files: Sequence[tuple[str, Path]] = ()
    """Further files for the ESP: path there, file."""
    partitions: Sequence[Partition] = ()
    label: str = "MBTOOL"
    mtime: int = 0
    esp_size: int = 0
    format: str = "raw"
    """What the disk is written as: raw, or one of ``mbtool.build.disk_format``."""


@dataclass(slots=True)
class _Disk:
    files: dict[str, Content] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, path: str, content: Content) -> None:
        if self.files.setdefault(path, content) != content:
            raise InputError("two different files would have this name on the disk", source=path)


def request(boot: BootSet) -> tuple[DiskRequest, list[str]]:
    """The disk for a boot set, and notes on what it can and cannot do (for the user).

    Raises MbtoolError for files that cannot be read, are damaged or fit no protocol.
    """
    disk = _Disk()
    with ExitStack() as stack:

        def opened(path: Path, fallback: str, *, unpack: bool = False) -> BootFile:
            return stack.enter_context(boot_file(path, fallback, unpack=unpack))

        with_xen = boot.xen is not None or boot.xen_efi is not None
        kernel = opened(boot.kernel, "kernel", unpack=not with_xen)
        initrd = opened(boot.initrd, "initrd") if boot.initrd else None
        modules = [(opened(m.path, f"module{number}"), m.cmdline) for number, m in enumerate(boot.modules)]
        if with_xen:
            xen = opened(boot.xen, "xen", unpack=True) if boot.xen else None
            efi = boot.xen_efi or (boot.xen and efi_beside(boot.xen))
            if xen is not None and not pe.reject(xen.source):
                if efi is not None:
                    raise InputError("is for UEFI, and so is the other Xen image", source=str(boot.xen))
                xen, efi = None, boot.xen
            plan = _xen(disk, boot, xen, opened(efi, "xen.efi") if efi else None, kernel, initrd, modules)
        else:
            plan = _alone(disk, boot, kernel, initrd, modules)
    for path, file in boot.files:
        from mbtool.disk.content import file_content

        disk.add(path.strip("/"), file_content(file))
    request = DiskRequest(disk.files, plan, boot.partitions, boot.label, boot.mtime, boot.esp_size)
    return request, disk.notes


def firmware(request: DiskRequest) -> tuple[str, ...]:
    """On which firmware a disk boots: "bios", "uefi"."""
    bios = ("bios",) if request.boot is not None else ()
    return (*bios, "uefi") if BOOT_FILE in request.files else bios


def efi_beside(xen: Path) -> Path | None:
    """Xen's EFI image in the directory of its Multiboot image: the one of the same name, else the only one."""
    same = xen.with_name(xen.name.removesuffix(".gz") + ".efi")
    if same.exists():
        return same
    found = sorted(xen.parent.glob("xen*.efi"))
    return found[0] if len(found) == 1 and found[0] != xen else None


def _xen(
    disk: _Disk,
    boot: BootSet,
    xen: BootFile | None,
    xen_efi: BootFile | None,
    kernel: BootFile,
    initrd: BootFile | None,
    modules: list[tuple[BootFile, str]],
) -> LoadPlan | None:
    """Xen with dom0: the files, Xen's EFI configuration, and what the BIOS stub loads if there is a Xen for it."""
    home = f"{EFI_DIRECTORY}/"
    if xen_efi is not None:
        if pe.reject(xen_efi.source):
            raise InputError("is no EFI program", source=xen_efi.source.name, expected="Xen's EFI image")
        disk.add(BOOT_FILE, xen_efi.content)
        ramdisk = initrd.name if initrd else None
        disk.add(home + "BOOTX64.cfg", xen_cfg.build(boot.xen_cmdline, kernel.name, boot.cmdline, ramdisk))
        if modules:
            disk.notes.append("UEFI: further modules are not loaded (Xen's EFI configuration has no key for them)")
    else:
        disk.notes.append("BIOS only: no Xen EFI image was given or found beside Xen")
    all_modules = [(kernel, boot.cmdline), *([(initrd, "")] if initrd else []), *modules]
    for file, _ in all_modules:
        disk.add(home + file.name, file.content)
    if xen is None:
        disk.notes.append("UEFI only: no Xen was given that a BIOS can start")
        return None
    disk.add(f"boot/{xen.name}", xen.content)
    files = [DiskFile(home + file.name, file, text) for file, text in all_modules]
    hypervisor = DiskFile(f"boot/{xen.name}", xen, boot.xen_cmdline)
    return protocols.load_plan(Protocol.MULTIBOOT1, hypervisor, files)


def _alone(
    disk: _Disk, boot: BootSet, kernel: BootFile, initrd: BootFile | None, modules: list[tuple[BootFile, str]]
) -> LoadPlan:
    """A kernel without Xen, started by the protocol that it speaks."""
    protocol = protocols.protocol_of(kernel.source)
    if protocol is Protocol.LINUX and modules:
        raise InputError("a Linux kernel takes an initrd and no modules", source=kernel.source.name)
    if initrd is not None:
        modules = [(initrd, ""), *modules]
    if protocol is Protocol.LINUX:
        disk.notes.append("BIOS only: UEFI wants a unified kernel image, made with systemd's stub")
    else:
        disk.notes.append(f"BIOS only: UEFI firmware does not start {protocol} kernels")
    files = [DiskFile(f"boot/{file.name}", file, text) for file, text in [(kernel, boot.cmdline), *modules]]
    for item in files:
        disk.add(item.path, item.file.content)
    return protocols.load_plan(protocol, files[0], files[1:])
