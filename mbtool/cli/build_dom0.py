"""``mbtool build-dom0``: write the environment that Xen builds for dom0."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mbtool.cli import dom0_options as options
from mbtool.cli.plan_report import E820
from mbtool.errors import InputError

if TYPE_CHECKING:
    from mbtool.build.dom0_files import Built


def build_dom0(
    kernel: options.Kernel,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Directory to write.")],
    mode: options.Mode = None,
    initrd: options.Initrd = None,
    dom0_mem: options.Dom0Mem = None,
    host_mem: options.HostMem = None,
    cmdline: options.Cmdline = None,
    xen_cmdline: options.XenCmdline = "",
    xen: Annotated[
        Path | None, typer.Option("--xen", metavar="FILE", help="The Xen image: its version, and for the disk.")
    ] = None,
    xen_efi: Annotated[
        Path | None,
        typer.Option("--xen-efi", metavar="FILE", help="Xen for UEFI, for the disk (default: found beside --xen)."),
    ] = None,
    no_disk: Annotated[bool, typer.Option("--no-disk", help="Write no disk.img, also with --xen.")] = False,
    xen_version: options.XenVersion = None,
    alloc_base: options.AllocBase = None,
    initrd_base: options.InitrdBase = None,
    nr_pages: options.NrPages = None,
    e820: E820 = None,
    predict_frames: options.PredictFrames = False,
    vcpus: options.Vcpus = None,
    initrd_cmdline: options.InitrdCmdline = "",
    force: Annotated[bool, typer.Option("--force", help="Replace an older output.")] = False,
    no_sync: Annotated[
        bool, typer.Option("--no-sync", help="Do not wait until disk.img has reached the storage.")
    ] = False,
    max_output: options.MaxOutput = 2048,
    max_ratio: options.MaxRatio = 400,
    json: Annotated[bool, typer.Option("--json", help="Print manifest.json (mbtool schema build-dom0).")] = False,
) -> None:
    """Write what dom0 finds at its first instruction under Xen.

    DIR gets layout.txt (in Xen's own lines), layout.json, start_info.bin, pagetables.bin, p2m.bin, manifest.json;
    for a PVH dom0 hvm_start_info.bin (with the initrd and strings that it points to) and acpi.bin as blobs to load;
    and, with --xen, disk.img: it boots the same files on BIOS and UEFI machines (mbtool prove DIR). P2M entries
    that only the machine can know are all ones. What Xen would refuse is refused with its message.

    Exit status: 0 written, 1 written, but dom0 will not start by it (an error was found), 2 nothing written: Xen
    refuses it, or unusable input.

    \b
    Examples:
      mbtool build-dom0 --kernel /boot/vmlinuz --initrd /boot/initrd.img -o dom0
      mbtool build-dom0 --kernel vmlinuz --xen xen.gz --dom0-mem 2G --cmdline console=hvc0 -o dom0
      mbtool build-dom0 --kernel vmlinuz --host-mem 64G --dom0-mem min:1G,max:8G,10% -o dom0
      mbtool build-dom0 --mode pvh --kernel vmlinuz --initrd initrd.img --e820 xen-boot.log --dom0-mem 2G -o dom0
      mbtool prove dom0
    """
    from mbtool.build.dom0_files import build_dom0 as build
    from mbtool.cli.progress import Bar

    if xen_efi is not None and xen is None:
        raise InputError("--xen-efi goes with --xen", remedy="an EFI image alone can be given as --xen")
    request = options.request(
        kernel=kernel,
        initrd=initrd,
        mode=mode,
        e820=e820,
        predict_frames=predict_frames,
        vcpus=vcpus,
        initrd_cmdline=initrd_cmdline,
        dom0_mem=dom0_mem,
        cmdline=cmdline,
        xen_cmdline=xen_cmdline,
        xen=xen,
        xen_efi=xen_efi,
        disk=xen is not None and not no_disk,
        xen_version=xen_version,
        alloc_base=alloc_base,
        initrd_base=initrd_base,
        nr_pages=nr_pages,
        host_mem=host_mem,
        max_output=max_output,
        max_ratio=max_ratio,
    )
    with Bar("writing disk.img") as bar:
        built = build(request, output, force=force, sync=not no_sync, progress=bar)
    if json:
        from mbtool.render.json import dumps

        print(dumps(built.manifest))
    else:
        _show(built, output, xen=xen is not None)
    if any(finding.severity == "error" for finding in built.planned.plan.findings):
        raise typer.Exit(1)


def _show(built: Built, output: Path, *, xen: bool) -> None:
    from mbtool.render.style import Style
    from mbtool.render.text import finding_lines

    print("\n".join(built.lines))
    for words in built.planned.assumptions:
        print(f"assumed: {words}")
    for line in finding_lines(built.planned.plan.findings, Style.of(sys.stdout)):
        print(line)
    if built.disk is not None:
        print(f"disk.img boots on {' and '.join(built.disk.firmware)}; Xen is told: {built.disk.xen_cmdline}")
        for note in built.disk.notes:
            print(f"disk.img: {note}")
    elif not xen:
        print("no disk.img: that needs --xen")
    print(f"{output}: {', '.join(file.name for file in built.files)}")
