"""``mbtool build-disk``: one bootable disk image, for BIOS and UEFI, without root."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mbtool.errors import InputError

if TYPE_CHECKING:
    from mbtool.build.disk import BuiltDisk
    from mbtool.disk.boot_set import Module


class Loader(StrEnum):
    """What a disk starts with; see ``mbtool.build.disk_manifest.LOADERS``."""

    STUB = "stub"
    GRUB = "grub"


class Format(StrEnum):
    """What an image file is; see ``mbtool.build.disk_manifest.DISK_FORMATS``."""

    RAW = "raw"
    ISO = "iso"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    VHD = "vhd"


def build_disk(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Image to write.")],
    manifest: Annotated[
        Path | None, typer.Argument(metavar="[MANIFEST]", help="A TOML description; options override it.")
    ] = None,
    xen: Annotated[Path | None, typer.Option("--xen", metavar="FILE", help="Xen, for BIOS (xen.gz).")] = None,
    xen_efi: Annotated[
        Path | None,
        typer.Option("--xen-efi", metavar="FILE", help="Xen, for UEFI (default: found beside --xen)."),
    ] = None,
    kernel: Annotated[
        Path | None, typer.Option("--kernel", metavar="FILE", help="The kernel; with Xen, dom0's.")
    ] = None,
    initrd: Annotated[Path | None, typer.Option("--initrd", metavar="FILE", help="Its initial ramdisk.")] = None,
    efi_stub: Annotated[
        Path | None,
        typer.Option("--efi-stub", metavar="FILE", help="systemd's linuxx64.efi.stub, to start Linux on UEFI."),
    ] = None,
    os_release: Annotated[
        Path | None, typer.Option("--os-release", metavar="FILE", help="What that image says of its system.")
    ] = None,
    module: Annotated[
        list[str] | None,
        typer.Option("--module", metavar="FILE[:TEXT]", help="A module and its command line (repeat)."),
    ] = None,
    cmdline: Annotated[
        str | None, typer.Option("--cmdline", metavar="TEXT", help="The kernel's command line.")
    ] = None,
    xen_cmdline: Annotated[
        str | None, typer.Option("--xen-cmdline", metavar="TEXT", help="Xen's command line.")
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", metavar="SIZE", help="Least size of the ESP (K, M, G); it grows to fit.")
    ] = None,
    label: Annotated[str | None, typer.Option("--label", metavar="TEXT", help="The ESP's label.")] = None,
    loader: Annotated[
        Loader | None,
        typer.Option(
            "--loader",
            help="What starts the kernels: mbtool's own, or the host's GRUB with a menu.",
            show_default="stub",
        ),
    ] = None,
    format: Annotated[  # noqa: A002
        Format | None,
        typer.Option(
            "--format",
            help="A raw disk; an ISO, for CDs and sticks; or, by qemu-img, one for hypervisors.",
            show_default="raw",
        ),
    ] = None,
    verify_reproducible: Annotated[
        bool, typer.Option("--verify-reproducible", help="Build it twice and compare.")
    ] = False,
    write_device: Annotated[
        bool, typer.Option("--write-device", help="FILE is a device: overwrite what is on it, without asking.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an older image.")] = False,
    no_sync: Annotated[
        bool, typer.Option("--no-sync", help="Do not wait until the image has reached the storage.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document (mbtool schema build-disk).")] = False,
) -> None:
    """Write one disk image that boots on BIOS and UEFI machines.

    Root is not needed; nor is another program, but for GRUB and hypervisors' formats. The same files give the same
    bytes; times come from SOURCE_DATE_EPOCH. Beside FILE, FILE.toml describes what was built, and builds it again.
    Devices are refused without --write-device.

    Exit status: 0 written, 2 nothing written.

    \b
    Examples:
      mbtool build-disk --xen xen.gz --kernel vmlinuz --initrd initrd.img -o disk.img
      mbtool build-disk --kernel vmlinuz --initrd initrd.img --efi-stub linuxx64.efi.stub -o disk.img
      mbtool build-disk --kernel kernel.elf --module data.bin:'first module' -o disk.img
      mbtool build-disk image.toml --loader grub --format iso -o boot.iso
      mbtool build-disk image.toml --write-device -o /dev/sdX
      SOURCE_DATE_EPOCH=0 mbtool build-disk image.toml --verify-reproducible -o disk.img
    """
    from mbtool.build import disk, disk_manifest
    from mbtool.build.device import is_device
    from mbtool.cli.progress import Bar
    from mbtool.render.style import human_size

    described = disk_manifest.load(manifest) if manifest else disk_manifest.EMPTY
    overrides = {
        "xen": xen,
        "xen-efi": xen_efi,
        "kernel": kernel,
        "initrd": initrd,
        "efi-stub": efi_stub,
        "os-release": os_release,
        "cmdline": cmdline,
        "xen-cmdline": xen_cmdline,
        "modules": [_module(text) for text in module or ()],
        "esp-size": size,
        "label": label,
        "loader": loader and loader.value,
        "format": format and format.value,
    }
    boot = disk_manifest.boot_set(described, overrides, disk.source_date_epoch())
    with Bar(f"writing {output.name}") as bar:
        if write_device:
            if verify_reproducible:
                raise InputError("--verify-reproducible compares files, and --write-device writes none")
            built = disk.write_device(boot, output, bar)
        elif is_device(output):
            raise InputError(
                "is a device", source=str(output), remedy="--write-device overwrites it, without asking"
            )
        else:
            built = disk.build_disk(
                boot, output, force=force, verify=verify_reproducible, sync=not no_sync, progress=bar
            )
    if json:
        from mbtool.render.json import dumps

        print(dumps(_json(built, boot.format)))
        return
    for note in built.notes:
        print(note)
    print(f"{output}: {human_size(built.size)}, boots on {' and '.join(built.firmware)}")


def _module(text: str) -> Module:
    """``FILE`` or ``FILE:TEXT``; a file that is called so, colon and all, is meant before any other."""
    from mbtool.disk.boot_set import Module

    if Path(text).exists():
        return Module(Path(text))
    path, _, words = text.partition(":")
    return Module(Path(path), words)


def _json(built: BuiltDisk, kind: str) -> dict[str, Any]:
    return {
        "schema": "mbtool/build-disk/1",
        "output": str(built.path),
        "format": kind,
        "size": built.size,
        "firmware": list(built.firmware),
        "files": [{"path": path, "offset": at, "size": size} for path, (at, size) in built.files.items()],
        "description": built.description and str(built.description),
        "notes": list(built.notes),
    }
