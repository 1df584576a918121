"""``mbtool prove``: boot it in QEMU and say whether what happened is what was planned."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class FirmwareChoice(StrEnum):
    """On which firmware to boot."""

    BIOS = "bios"
    UEFI = "uefi"
    BOTH = "both"


class Bus(StrEnum):
    """How the image is attached to the machine."""

    AHCI = "ahci"
    IDE = "ide"
    VIRTIO = "virtio"
    USB = "usb"
    CDROM = "cdrom"


class Accel(StrEnum):
    """``auto``: KVM when it really works here, else TCG."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"


def prove(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="TARGET", help="A directory from build-dom0, a disk image or an ISO.", show_default=False
        ),
    ],
    firmware: Annotated[FirmwareChoice, typer.Option(help="Firmware to boot on.")] = FirmwareChoice.BIOS,
    memory: Annotated[
        int | None,
        typer.Option(min=8, metavar="MIB", help="Memory of the machine (default: 1024, more for a large dom0)."),
    ] = None,
    cpu: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="QEMU's CPU model (default: qemu64, with what a PVH dom0 needs)."),
    ] = None,
    smp: Annotated[int, typer.Option(min=1, metavar="N", help="Number of CPUs.")] = 1,
    accel: Annotated[Accel, typer.Option(help="How QEMU runs the guest.")] = Accel.AUTO,
    bus: Annotated[
        Bus | None,
        typer.Option(help="How the image is attached (default: ahci, an ISO as cdrom).", show_default=False),
    ] = None,
    expect: Annotated[
        list[str] | None, typer.Option(metavar="REGEX", help="Must appear on the console (repeat).")
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Give up after this long.")] = 120,
    log: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep the console's text in this file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document (mbtool schema prove).")] = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a JUnit report.")] = None,
) -> None:
    """Boot an image in QEMU and say whether all went as planned.

    The serial console is read while it boots. For a directory from build-dom0, what Xen prints about dom0 is
    compared with the plan, line by line; where in the machine's memory things lie is told, but the machine's to
    decide. An image alone has to show all that --expect asks for; without it, to reach userspace or to power itself
    off.

    Exit status: 0 proven, 1 not proven, 2 QEMU is missing or cannot run this.

    \b
    Examples:
      mbtool prove dom0/
      mbtool prove --firmware both --expect 'login:' dom0/disk.img
      mbtool prove --timeout 300 --log console.txt --junit boot.xml dom0/
    """
    from dataclasses import replace

    from mbtool.cli.prove_report import Reports, conduct
    from mbtool.prove.qemu import Firmware, Machine, kvm_works
    from mbtool.prove.target import target as what

    wanted = what(target, tuple(expect or ()))
    accel_name = ("kvm" if kvm_works() else "tcg") if accel is Accel.AUTO else accel.value
    bus_name = bus.value if bus else "cdrom" if wanted.cdrom else "ahci"
    kinds = [Firmware.BIOS, Firmware.UEFI] if firmware is FirmwareChoice.BOTH else [Firmware(firmware.value)]
    machine = Machine(
        memory=memory or wanted.memory,
        cpu=cpu or wanted.cpu,
        smp=smp,
        accel=accel_name,
        bus=bus_name,
        extra=wanted.devices,
    )
    machines = [replace(machine, firmware=kind) for kind in kinds]
    raise typer.Exit(conduct(target, wanted, machines, timeout, Reports(json, log, junit)))
