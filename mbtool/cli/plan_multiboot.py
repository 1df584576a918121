"""``mbtool plan multiboot``: what a boot loader makes of a Multiboot or PVH kernel and its modules."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mbtool.cli.plan_report import E820, Cmdline, Force, Json, Svg


class ProtocolChoice(StrEnum):
    """``auto``: Multiboot 2 where the kernel has it, else Multiboot 1, else PVH."""

    AUTO = "auto"
    MULTIBOOT1 = "1"
    MULTIBOOT2 = "2"
    PVH = "pvh"


def plan_multiboot(
    kernel: Annotated[
        Path, typer.Option("--kernel", metavar="FILE", help="A Multiboot or PVH kernel; may be compressed.")
    ],
    module: Annotated[
        list[str] | None,
        typer.Option("--module", metavar="FILE[:TEXT]", help="A module and its command line (repeat)."),
    ] = None,
    cmdline: Cmdline = "",
    protocol: Annotated[
        ProtocolChoice, typer.Option(help="Which protocol, for a kernel that has several.")
    ] = ProtocolChoice.AUTO,
    e820: E820 = None,
    info: Annotated[
        Path | None, typer.Option("--info", metavar="FILE", help="Write the boot information as it is in memory.")
    ] = None,
    svg: Svg = None,
    json: Json = False,
    force: Force = False,
) -> None:
    """Plan how a loader starts a Multiboot 1, 2 or PVH kernel.

    Command lines of Multiboot 1 begin with the file's name, as its loaders write them. Without --e820 the plan is
    for any PC, and the loader fills in the memory map. Exit status: 0 it can start, 2 no loader can start it so, or
    unusable input.

    \b
    Examples:
      mbtool plan multiboot --kernel xen.gz --module vmlinuz:console=hvc0 --module initrd.img --e820 qemu-q35:1024M
      mbtool plan multiboot --kernel kernel.elf --protocol 1 --e820 xen-boot.log --info info.bin
      mbtool decode multiboot2-info info.bin
    """
    from mbtool.cli.plan_report import memory_map, show
    from mbtool.disk.kernel import boot_file
    from mbtool.errors import UnsupportedError
    from mbtool.plan.modules import ModuleFile
    from mbtool.plan.outline_load import content_at, of_load
    from mbtool.plan.protocols import Protocol, load_plan, protocol_of
    from mbtool.source import open_file

    memory = memory_map(e820)
    modules = []
    for text in module or ():
        path, _, words = text.partition(":")
        with open_file(path) as source:
            modules.append(ModuleFile(path, source.size, words))
    with boot_file(kernel, "kernel", unpack=True) as opened:
        source_ = opened.source
        chosen = protocol_of(source_) if protocol is ProtocolChoice.AUTO else Protocol[protocol.name]
        if chosen is Protocol.LINUX:
            raise UnsupportedError("is a Linux kernel", source=str(kernel), remedy="use mbtool plan linux")
        plan = load_plan(chosen, source_, str(kernel), cmdline, modules, memory)
    also = {info: content_at(plan, plan.registers.ebx)} if info else {}
    show(of_load(plan, str(kernel), memory), json=json, svg=svg, force=force, also=also)
