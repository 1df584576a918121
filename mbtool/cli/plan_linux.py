"""``mbtool plan linux``: what a boot loader makes of a Linux kernel, its initrd and command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mbtool.cli.plan_report import E820, Cmdline, Force, Json, Svg


def plan_linux(
    kernel: Annotated[Path, typer.Option("--kernel", metavar="FILE", help="A bzImage.")],
    initrd: Annotated[Path | None, typer.Option("--initrd", metavar="FILE", help="Its initial ramdisk.")] = None,
    cmdline: Cmdline = "",
    e820: E820 = None,
    boot_params: Annotated[
        Path | None, typer.Option("--boot-params", metavar="FILE", help="Write the boot_params page, 4096 bytes.")
    ] = None,
    svg: Svg = None,
    json: Json = False,
    force: Force = False,
) -> None:
    """Plan the start of a Linux kernel by its boot protocol.

    Where all goes, boot_params, the entry registers. Without --e820 the plan is for any PC, and the
    loader fills in the memory map. Exit status: 0 it can start, 2 it cannot, or unusable
    input.

    \b
    Examples:
      mbtool plan linux --kernel vmlinuz --initrd initrd.img --cmdline console=ttyS0 --e820 qemu-q35:1024M
      mbtool plan linux --kernel vmlinuz --initrd initrd.img --e820 /proc/iomem --svg vmlinuz.svg
      mbtool plan linux --kernel vmlinuz --e820 dmesg.txt --boot-params zero-page.bin
    """
    from mbtool.cli.plan_report import memory_map, show
    from mbtool.plan import linux_boot
    from mbtool.plan.linux_kernel import HEAD_READ
    from mbtool.plan.modules import ModuleFile
    from mbtool.plan.outline_load import content_at, of_linux
    from mbtool.source import open_file

    memory = memory_map(e820)
    ramdisk = None
    if initrd is not None:
        with open_file(initrd) as source:
            ramdisk = ModuleFile(str(initrd), source.size)
    with open_file(kernel) as source:
        plan = linux_boot.plan(str(kernel), source.read(0, HEAD_READ), source.size, cmdline, ramdisk, memory)
    also = {boot_params: content_at(plan.load_plan, plan.params_at)} if boot_params else {}
    show(of_linux(plan, memory), json=json, svg=svg, force=force, also=also)
