"""``mbtool check``: will these files boot, each for itself and together?"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mbtool.errors import InputError


class ModeChoice(StrEnum):
    """How Xen runs dom0."""

    PV = "pv"
    PVH = "pvh"


class FirmwareChoice(StrEnum):
    """What starts the machine."""

    BIOS = "bios"
    UEFI = "uefi"


class FailOn(StrEnum):
    """The least severity that makes the exit status 1."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


def check(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE...]",
            help="Images, each for itself (- is standard input); disk images; directories: /boot, a root.",
        ),
    ] = None,
    xen: Annotated[Path | None, typer.Option("--xen", metavar="FILE", help="The hypervisor of a set.")] = None,
    kernel: Annotated[Path | None, typer.Option("--kernel", metavar="FILE", help="The kernel of a set.")] = None,
    initrd: Annotated[
        list[Path] | None,
        typer.Option(
            "--initrd", metavar="FILE", help="Its initial ramdisk (repeat: Linux gets all as one, Xen as modules)."
        ),
    ] = None,
    xen_cfg: Annotated[
        Path | None,
        typer.Option(
            "--xen-cfg", metavar="FILE", help="xen.efi's configuration; what is not given is taken from it."
        ),
    ] = None,
    cmdline: Annotated[
        str | None, typer.Option("--cmdline", metavar="TEXT", help="The kernel's command line.")
    ] = None,
    xen_cmdline: Annotated[
        str | None, typer.Option("--xen-cmdline", metavar="TEXT", help="Xen's command line.")
    ] = None,
    dom0_mem: Annotated[
        str | None, typer.Option("--dom0-mem", metavar="AMOUNT", help="Xen's dom0_mem=: 2G, 1G,max:2G, …")
    ] = None,
    mode: Annotated[ModeChoice | None, typer.Option("--mode", help="How Xen is to run dom0.")] = None,
    firmware: Annotated[FirmwareChoice | None, typer.Option("--firmware", help="What starts the machine.")] = None,
    secure_boot: Annotated[
        bool, typer.Option("--secure-boot", help="Secure Boot is on: what must be signed is.")
    ] = False,
    sbat_level: Annotated[
        str | None,
        typer.Option(
            "--sbat-level",
            metavar="LEVEL",
            help="What shim still starts: a date (2025051000), latest, or a file with the content of SbatLevel.",
        ),
    ] = None,
    loader: Annotated[
        list[str] | None,
        typer.Option(
            "--loader",
            metavar="NAME[-VERSION][:MODE][:FIRMWARE]",
            help="What starts the set, as in can-boot (repeat: one of them).",
        ),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option("--require", metavar="MODULE", help="A module the initrd must hold (repeat)."),
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--root", metavar="DIR", help="The root of a system: paths begin there.")
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Every file below directories, each for itself.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            metavar="N",
            help="Processes for --recursive (default: one per core, at most four).",
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option("--policy", metavar="FILE", help="Severities, accepted findings, own rules (TOML)."),
    ] = None,
    fail_on: Annotated[
        FailOn | None, typer.Option("--fail-on", help="Least severity for exit status 1 (default: error).")
    ] = None,
    json: Annotated[
        bool,
        typer.Option("--json", help="JSON (mbtool schema check); with --recursive a line per file."),
    ] = False,
    sarif: Annotated[
        Path | None, typer.Option("--sarif", metavar="FILE", help="Write SARIF 2.1.0; - prints it.")
    ] = None,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write a JUnit report.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace older reports.")] = False,
    max_output: Annotated[
        int, typer.Option("--max-output", min=1, metavar="MIB", help="Most that one image may unpack to.")
    ] = 2048,
    max_ratio: Annotated[
        int, typer.Option("--max-ratio", min=1, metavar="N", help="Most that a stream may expand, times its size.")
    ] = 400,
) -> None:
    """Say whether images will boot, alone and as a set, or why not.

    Of a directory (a system's root, or /boot), and of the FAT and ext4 volumes of a disk image, every entry of
    grub.cfg, loader/entries, syslinux.cfg, limine.conf and xen.cfg is checked as a set; with --recursive every file
    below a directory that is an image, each for itself.

    Every finding has a rule (mbtool explain RULE), the place, what happens at boot because of it, and a remedy.
    Exit status: 0 nothing at or above --fail-on, 1 findings, 2 a file cannot be read or is of no known format.

    \b
    Examples:
      mbtool check /boot/vmlinuz-6.1.0-56-amd64
      mbtool check /boot
      mbtool check disk.img
      mbtool check --root sysroot --firmware uefi
      mbtool check --recursive --json --jobs 8 images/ > findings.ndjson
      mbtool check --xen xen.gz --kernel vmlinuz --initrd initrd.img --dom0-mem 512M
      mbtool check --kernel vmlinuz --initrd ucode.img --initrd initrd.img --cmdline root=/dev/sda1
      mbtool check --xen xen.efi --xen-cfg xen.cfg --firmware uefi --policy site.toml --sarif boot.sarif
      mbtool check --secure-boot --sbat-level latest grubx64.efi disk.img
      mbtool check --kernel vmlinuz --initrd initrd.img --require xen-blkfront --json
      mbtool check --kernel kernel.elf --loader grub:multiboot2:bios
    """
    from mbtool.check import loaders as rows
    from mbtool.check import policy as policies
    from mbtool.check import revocation
    from mbtool.check.boot_set import Firmware
    from mbtool.cli.check_report import Output, conduct
    from mbtool.model import Severity
    from mbtool.plan.xen_options import Mode
    from mbtool.source import MIB, Limits

    site = policies.load(policy) if policy else policies.Policy()
    least = Severity(fail_on.value) if fail_on else site.fail_on or Severity.ERROR
    parts: dict[str, Any] = {"xen": xen, "kernel": kernel, "xen_cfg": xen_cfg}
    if initrd:
        parts |= {"initrd": initrd[0], "more_initrds": initrd[1:]}
    words = {"cmdline": cmdline, "xen_cmdline": xen_cmdline, "dom0_mem": dom0_mem}
    more = {
        "asked_mode": Mode(mode.value) if mode else None,
        "firmware": Firmware(firmware.value) if firmware else None,
        "require": tuple(require or ()),
        "loaders": tuple(
            row
            for text in loader or ()
            for row in rows.choose_for(
                rows.loaders(), text, firmware.value if firmware else "", mode.value if mode else ""
            )
        ),
        "secure_boot": secure_boot,
        "sbat_level": revocation.level(sbat_level) if sbat_level else None,
    }
    output = Output(sys.stdout, json, sarif, junit, force, lines=recursive)
    output.ready()
    limits = Limits(max_output * MIB, max_ratio)
    if not recursive:
        raise typer.Exit(conduct(files or [], parts, {**words, **more}, site, least, limits, output, root))
    if root is not None or any(parts.values()) or any(words.values()) or any(more.values()):
        raise InputError(
            "--recursive checks each file for itself, without a question",
            expected="of the options only --jobs, --policy, --fail-on, --max-… and those for output",
        )
    if not files or "" in files:
        raise InputError("nothing to check", expected="files and directories")
    from mbtool.cli import check_many

    raise typer.Exit(check_many.conduct(files or [], site, least, limits, output, jobs or os.cpu_count() or 1))
