"""From the files of a boot to a disk: which protocol each wants, what goes on the ESP, what the stub loads."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from mbtool.disk import grub_set, protocols, xen_cfg
from mbtool.disk.content import Content
from mbtool.disk.grub import GrubBios
from mbtool.disk.grub_set import Entry, Open
from mbtool.disk.image import UEFI_PROGRAM, DiskRequest, Partition
from mbtool.disk.kernel import BootFile, boot_file
from mbtool.disk.protocols import DiskFile, Protocol
from mbtool.errors import InputError
from mbtool.formats import pe, pe_headers
from mbtool.plan.load import LoadPlan, moved_into
from mbtool.source import MIB, Source, open_file, read_file

EFI_DIRECTORY = "EFI/BOOT"
"""Of the program that firmware starts; Xen looks for its files beside itself."""
MAX_OS_RELEASE = MIB


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
    efi_stub: Path | None = None
    """systemd's stub, to make Linux start on UEFI."""
    os_release: Path | None = None
    """What the image made with it says of its system; None: just which kernel it has."""
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
    """What the disk is written as: raw, iso, or one of ``mbtool.build.disk_format``."""
    loader: str = "stub"
    """"stub", or "grub" with a menu: this one first, then ``entries``; it waits ``timeout`` seconds."""
    title: str = ""
    entries: Sequence[Entry] = ()
    timeout: int = 5


@dataclass(slots=True)
class _Disk:
    files: dict[str, Content] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, path: str, content: Content) -> None:
        if self.files.setdefault(path, content) != content:
            raise InputError("two different files would have this name on the disk", source=path)


def complete(boot: BootSet) -> BootSet:
    """The boot set with the Xen EFI image named that lies beside the Xen given, if there is one."""
    return boot if boot.xen_efi or boot.xen is None else replace(boot, xen_efi=efi_beside(boot.xen))


def request(boot: BootSet) -> tuple[DiskRequest, list[str]]:
    """The disk for a boot set, and notes on what it can and cannot do (for the user).

    Raises MbtoolError for files that cannot be read, are damaged or fit no protocol.
    """
    disk = _Disk()
    with ExitStack() as stack:

        def opened(path: Path, fallback: str, unpack: bool = False) -> BootFile:
            return stack.enter_context(boot_file(path, fallback, unpack=unpack))

        if boot.loader == "grub":
            return _with_grub(disk, boot, opened)
        if boot.entries:
            raise InputError("several entries need a menu, which GRUB has", remedy="add --loader grub")
        with_xen = boot.xen is not None or boot.xen_efi is not None
        kernel = opened(boot.kernel, "kernel", unpack=not with_xen)
        initrd = opened(boot.initrd, "initrd") if boot.initrd else None
        modules = [(opened(m.path, f"module{number}"), m.cmdline) for number, m in enumerate(boot.modules)]
        if with_xen:
            if boot.efi_stub is not None:
                raise InputError(
                    "an EFI stub is for Linux alone: UEFI starts Xen's EFI image", source=str(boot.efi_stub)
                )
            xen = opened(boot.xen, "xen", unpack=True) if boot.xen else None
            efi = complete(boot).xen_efi
            if xen is not None and not pe.reject(xen.source):
                if efi is not None:
                    raise InputError("is for UEFI, and so is the other Xen image", source=str(boot.xen))
                xen, efi = None, boot.xen
            plan = _xen(disk, boot, xen, opened(efi, "xen.efi") if efi else None, kernel, initrd, modules)
        else:
            plan = _alone(disk, boot, kernel, initrd, modules)
    return _request(disk, boot, plan), disk.notes


def _request(disk: _Disk, boot: BootSet, plan: LoadPlan | None, grub: GrubBios | None = None) -> DiskRequest:
    for path, file in boot.files:
        from mbtool.disk.content import file_content

        disk.add(path.strip("/"), file_content(file))
    iso = boot.format == "iso"
    return DiskRequest(
        disk.files, plan, grub, boot.partitions, boot.label, boot.mtime, esp_size=boot.esp_size, iso=iso
    )


def _with_grub(disk: _Disk, boot: BootSet, opened: Open) -> tuple[DiskRequest, list[str]]:
    if boot.efi_stub is not None or (boot.xen is None and boot.xen_efi is not None):
        raise InputError("GRUB starts neither EFI stubs nor Xen's EFI image", remedy="give --xen and --kernel")
    modules = [(module.path, module.cmdline) for module in boot.modules]
    first = Entry(boot.kernel, boot.title, boot.initrd, boot.xen, modules, boot.cmdline, boot.xen_cmdline)
    bios = grub_set.fill([first, *boot.entries], boot.timeout, opened, disk.add, disk.notes)
    return _request(disk, boot, None, bios), disk.notes


def firmware(request: DiskRequest) -> tuple[str, ...]:
    """On which firmware a disk boots: "bios", "uefi"."""
    bios = ("bios",) if request.bios else ()
    return (*bios, "uefi") if UEFI_PROGRAM in request.files else bios


def efi_beside(xen: Path) -> Path | None:
    """Xen's EFI image in the directory of its Multiboot image: the one of the same name, else the only one.

    None where there is none, or ``xen`` is an EFI image itself.
    """
    with open_file(xen) as source:
        if not pe.reject(source):
            return None
    same = xen.with_name(xen.name.removesuffix(".gz") + ".efi")
    if same.exists():
        return same
    found = sorted(xen.parent.glob("xen*.efi"))
    return found[0] if len(found) == 1 and found[0] != xen else None


def _refuse_other_program(source: Source) -> None:
    """Xen is linked to run in the upper half of the address space: no other EFI program is."""
    headers = None if pe.reject(source) else pe_headers.parse(source)[0]
    if headers is None or headers.optional is None or not headers.optional.ImageBase >> 63:
        raise InputError("is no EFI program of Xen's", source=source.name, expected="an image like xen.efi")


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
        _refuse_other_program(xen_efi.source)
        disk.add(UEFI_PROGRAM, xen_efi.content)
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
    if boot.efi_stub is not None and protocol is not Protocol.LINUX:
        raise InputError(f"a {protocol} kernel cannot be put into an EFI stub", source=kernel.source.name)
    if initrd is not None:
        modules = [(initrd, ""), *modules]
    files = [DiskFile(f"boot/{file.name}", file, text) for file, text in [(kernel, boot.cmdline), *modules]]
    plan = protocols.load_plan(protocol, files[0], files[1:])
    if boot.efi_stub is not None:
        return _unified(disk, boot, boot.efi_stub, files, plan)
    if protocol is Protocol.LINUX:
        disk.notes.append("BIOS only: UEFI wants a unified kernel image, made with systemd's stub (--efi-stub)")
    else:
        disk.notes.append(f"BIOS only: UEFI firmware does not start {protocol} kernels")
    for item in files:
        disk.add(item.path, item.file.content)
    return plan


def _unified(disk: _Disk, boot: BootSet, stub: Path, files: list[DiskFile], plan: LoadPlan) -> LoadPlan:
    """Linux and its initrd, once on the disk: sections of the image that UEFI starts, which the BIOS stub reads."""
    from mbtool.disk import uki

    os_release = "" if boot.os_release is None else _text(boot.os_release)
    kernel, *rest = files
    initrd = rest[0].file if rest else None
    image = uki.build(read_file(stub, uki.MAX_STUB), str(stub), kernel.file, initrd, boot.cmdline, os_release)
    disk.add(UEFI_PROGRAM, image.content)
    places = {kernel.path: image.offsets[".linux"]}
    places |= {item.path: image.offsets[".initrd"] for item in rest if item.size}
    return moved_into(plan, UEFI_PROGRAM, places)


def _text(path: Path) -> str:
    try:
        return read_file(path, MAX_OS_RELEASE).decode()
    except UnicodeDecodeError as error:
        raise InputError("is no UTF-8 text", source=str(path)) from error
