"""``mbtool prove``: boot it in QEMU and say whether what happened is what was planned."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class FirmwareChoice(StrEnum):
    """On which firmware to boot."""

    BIOS = "bios"
    UEFI = "uefi"
    BOTH = "both"


class Accel(StrEnum):
    """``auto``: KVM when it really works here, else TCG."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"


def prove(
    target: Annotated[
        Path, typer.Argument(help="A directory from build-dom0, a disk image or an ISO.", show_default=False)
    ],
    firmware: Annotated[FirmwareChoice, typer.Option(help="Firmware to boot on.")] = FirmwareChoice.BIOS,
    memory: Annotated[int, typer.Option(min=8, metavar="MIB", help="Memory of the machine.")] = 1024,
    cpu: Annotated[str, typer.Option(help="QEMU's CPU model.")] = "qemu64",
    smp: Annotated[int, typer.Option(min=1, help="Number of CPUs.")] = 1,
    accel: Annotated[Accel, typer.Option(help="How QEMU runs the guest.")] = Accel.AUTO,
    bus: Annotated[str, typer.Option(help="How the disk is attached: ahci, ide, virtio, usb, cdrom.")] = "ahci",
    expect: Annotated[
        list[str] | None, typer.Option(metavar="REGEX", help="Must appear on the console (repeat).")
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Give up after this long.")] = 120,
    log: Annotated[Path | None, typer.Option(help="Keep the console's text in this file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document (mbtool schema prove).")] = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a JUnit report.")] = None,
) -> None:
    """Boot it in QEMU and say whether what happened is what was planned.

    The serial console is read while it boots; what Xen prints about dom0 is compared with the plan that build-dom0
    wrote, line by line. Exit status: 0 proven, 1 not proven, 2 QEMU is missing or cannot run this.

    \b
    Examples:
      mbtool prove dom0/
      mbtool prove --firmware both --expect 'login:' dom0/disk.img
      mbtool prove --timeout 300 --log console.txt --junit boot.xml dom0/
    """
    from mbtool.cli.prove_report import conduct
    from mbtool.prove.qemu import Firmware, Machine, kvm_works

    accel_name = accel.value
    if accel is Accel.AUTO:
        accel_name = "kvm" if kvm_works() else "tcg"
    wanted = [Firmware.BIOS, Firmware.UEFI] if firmware is FirmwareChoice.BOTH else [Firmware(firmware.value)]
    machines = [Machine(kind, memory, cpu, smp, accel_name, bus=bus) for kind in wanted]
    status = conduct(target, machines, tuple(expect or ()), timeout, log, json, junit, sys.stdout)
    raise typer.Exit(status)
