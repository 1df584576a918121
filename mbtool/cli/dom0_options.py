"""What ``build-dom0`` and ``plan dom0`` ask alike: the options, and how their words become values."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mbtool.errors import InputError

if TYPE_CHECKING:
    from mbtool.build.dom0 import Request


class ModeChoice(StrEnum):
    """``mbtool.plan.xen_options.Mode``, known before anything of the builder is."""

    PV = "pv"
    PVH = "pvh"


Kernel = Annotated[Path, typer.Option("--kernel", metavar="FILE", help="dom0's kernel: a bzImage or an ELF file.")]
Mode = Annotated[
    ModeChoice | None, typer.Option(help="The kind of domain (default: by dom0= in --xen-cmdline, else pv).")
]
Initrd = Annotated[Path | None, typer.Option("--initrd", metavar="FILE", help="Its initial ramdisk.")]
Dom0Mem = Annotated[
    str | None,
    typer.Option("--dom0-mem", metavar="AMOUNT", help="Xen's dom0_mem=: 2G, 1G,max:2G, min:1G,50%, …"),
]
HostMem = Annotated[
    str | None,
    typer.Option(
        "--host-mem", metavar="SIZE", help="The host's RAM (64G), of which dom0_mem may take a part or the rest."
    ),
]
Cmdline = Annotated[str | None, typer.Option("--cmdline", metavar="TEXT", help="dom0's command line.")]
XenCmdline = Annotated[str, typer.Option("--xen-cmdline", metavar="TEXT", help="Xen's command line.")]
XenVersion = Annotated[
    str | None,
    typer.Option("--xen-version", metavar="VERSION", help="The version instead (default: the newest known)."),
]
AllocBase = Annotated[
    str | None,
    typer.Option(
        "--alloc-base", metavar="ADDRESS", help="PV: machine address of dom0's memory (default: from 0x30000000)."
    ),
]
InitrdBase = Annotated[
    str | None,
    typer.Option(
        "--initrd-base", metavar="ADDRESS", help="PV: machine address of the initrd (default: ends at 0x3fa00000)."
    ),
]
NrPages = Annotated[
    int | None,
    typer.Option("--nr-pages", min=1, metavar="N", help="dom0's pages, whatever dom0_mem and the host say."),
]
PredictFrames = Annotated[
    bool,
    typer.Option(
        "--predict-frames",
        help="PV: foretell from --e820 where dom0's memory and the initrd will be on the machine.",
    ),
]
Vcpus = Annotated[
    int | None, typer.Option("--vcpus", min=1, metavar="N", help="The machine's processors (default: one).")
]
InitrdCmdline = Annotated[
    str, typer.Option("--initrd-cmdline", metavar="TEXT", help="PVH: the initrd's own string.")
]
MaxOutput = Annotated[
    int, typer.Option("--max-output", min=1, metavar="MIB", help="Most that the kernel may unpack to.")
]
MaxRatio = Annotated[
    int, typer.Option("--max-ratio", min=1, metavar="N", help="Most that it may expand, times its size.")
]


def request(
    *,
    mode: ModeChoice | None,
    host_mem: str | None,
    alloc_base: str | None,
    initrd_base: str | None,
    max_output: int,
    max_ratio: int,
    **given: Any,
) -> Request:
    """The request that the options make; ``given`` are fields of it. InputError for no address or no size."""
    from mbtool.build.dom0 import Request
    from mbtool.plan.dom0_mem import size
    from mbtool.plan.xen_options import Mode
    from mbtool.source import MIB, Limits

    return Request(
        mode=Mode(mode) if mode else None,
        host_mem=None if host_mem is None else size(host_mem, "--host-mem"),
        alloc_base=address("--alloc-base", alloc_base),
        initrd_base=address("--initrd-base", initrd_base),
        limits=Limits(max_output * MIB, max_ratio),
        **given,
    )


def address(option: str, text: str | None) -> int | None:
    """The number that an option gives, None when it is not given; InputError for what is none."""
    if text is None:
        return None
    try:
        return int(text, 0)
    except ValueError:
        raise InputError(f"{option}: {text!r} is no address", expected="something like 0x30000000") from None
