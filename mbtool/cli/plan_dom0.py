"""``mbtool plan dom0``: what Xen builds for its first domain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mbtool.cli import dom0_options as options
from mbtool.cli.plan_report import E820, Force, Json, Svg

if TYPE_CHECKING:
    from mbtool.build.dom0 import Request
    from mbtool.plan.outline import Outline
    from mbtool.source import Source


def plan_dom0(
    kernel: options.Kernel,
    mode: options.Mode = None,
    initrd: options.Initrd = None,
    dom0_mem: options.Dom0Mem = None,
    host_mem: options.HostMem = None,
    cmdline: options.Cmdline = None,
    xen_cmdline: options.XenCmdline = "",
    xen: Annotated[
        Path | None, typer.Option("--xen", metavar="FILE", help="The Xen image, to plan for its version.")
    ] = None,
    xen_version: options.XenVersion = None,
    alloc_base: options.AllocBase = None,
    initrd_base: options.InitrdBase = None,
    nr_pages: options.NrPages = None,
    e820: E820 = None,
    predict_frames: options.PredictFrames = False,
    vcpus: options.Vcpus = None,
    initrd_cmdline: options.InitrdCmdline = "",
    svg: Svg = None,
    json: Json = False,
    force: Force = False,
    max_output: options.MaxOutput = 2048,
    max_ratio: options.MaxRatio = 400,
) -> None:
    """Plan what Xen builds for dom0.

    Xen's own lines come first, then its virtual and the machine's memory. Nothing is written; mbtool build-dom0
    takes the same options and writes it all. --e820 says how much memory the host has, and what of it is drawn; for
    a PVH dom0, which has one memory that it sees as physical, it is what dom0's memory map is cut from, and a boot
    log also knows the machine's ACPI tables. What Xen would refuse is refused with its message.

    Exit status: 0 planned, 1 dom0 will not start by it (an error was found), 2 Xen refuses it, or unusable input.

    \b
    Examples:
      mbtool plan dom0 --kernel /boot/vmlinuz --initrd /boot/initrd.img --dom0-mem 2G
      mbtool plan dom0 --kernel vmlinuz --xen xen.gz --e820 qemu-q35:1024M --svg dom0.svg
      mbtool plan dom0 --mode pvh --kernel vmlinuz --e820 xen-boot.log --dom0-mem 2G
      mbtool plan dom0 --kernel vmlinuz --json | jq '.spaces[0].regions'
    """
    from contextlib import ExitStack

    from mbtool.cli.plan_report import show
    from mbtool.source import open_file

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
        xen_version=xen_version,
        alloc_base=alloc_base,
        initrd_base=initrd_base,
        nr_pages=nr_pages,
        host_mem=host_mem,
        max_output=max_output,
        max_ratio=max_ratio,
    )
    with ExitStack() as stack:
        image = stack.enter_context(open_file(kernel))
        ramdisk, hypervisor = (stack.enter_context(open_file(path)) if path else None for path in (initrd, xen))
        outline = (_pvh if request.pvh else _pv)(request, image, ramdisk, hypervisor)
    show(outline, json=json, svg=svg, force=force, also={})


def _pv(request: Request, kernel: Source, initrd: Source | None, xen: Source | None) -> Outline:
    from mbtool.build.dom0 import plan_dom0 as plan
    from mbtool.plan.outline_dom0 import of_pv_dom0

    planned = plan(request, kernel, initrd, xen)
    title = f"{Path(request.kernel).name}, PV dom0 of Xen {planned.plan.version}"
    return of_pv_dom0(planned.plan, title, planned.memory, planned.assumptions)


def _pvh(request: Request, kernel: Source, initrd: Source | None, xen: Source | None) -> Outline:
    from mbtool.build.dom0_pvh import plan_pvh
    from mbtool.plan.outline_pvh import of_pvh_dom0

    planned = plan_pvh(request, kernel, initrd, xen)
    title = f"{Path(request.kernel).name}, PVH dom0 of Xen {planned.plan.version}"
    return of_pvh_dom0(planned.plan, title, planned.assumptions)
