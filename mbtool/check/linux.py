"""Linux kernels that a loader or the firmware starts itself: limits of the boot protocol, names, EFI."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mbtool.check.boot_set import BootSet, Firmware
from mbtool.check.image import Image
from mbtool.check.multiboot import addressed, headers
from mbtool.check.rule import Evidence, image_rule, set_rule
from mbtool.errors import MbtoolError, RefusedError
from mbtool.model import STREAM_KINDS, Severity

KERNEL_NAME = re.compile(r"(?:vmlinuz|bzImage|kernel)-(?P<release>\d+\.\d+\S*)")
INITRD_NAME = re.compile(r"(?:initrd\.img|initrd|initramfs)-(?P<release>\d+\.\d+\S*?)(?:\.img)?")

INIT_SIZE = 0x260
"""Offset of the field in the file."""
MAX_RATIO = 64
"""Most that a kernel unpacks to, times its payload: what says more is no size."""

REFUSALS = (
    ("the command line is ", "LINUX-CMDLINE-LONG"),
    ("the initrd is too big", "LINUX-INITRD-BIG"),
)
OLD = "too old for the 32-bit entry"
NO_INITRD = "too old for an initrd"


def is_bzimage(image: Image | None) -> bool:
    """Whether the file is a bzImage that can be read."""
    try:
        return image is not None and image.root.kind == "bzimage"
    except MbtoolError:
        return False


@image_rule("LINUX-NAME")
def name(image: Image) -> Iterator[Evidence]:
    """The file's name names another release than the kernel does."""
    text = image.root.get("kernel_version_string")
    match = KERNEL_NAME.fullmatch(Path(image.path).name)
    if match is None or image.root.kind != "bzimage" or not isinstance(text, str) or not text[:1].isdigit():
        return
    release = text.split(" ")[0]
    if match["release"] != release:
        yield Evidence(
            "the file's name is that of another kernel",
            image.path,
            "bzimage",
            field="kernel_version_string",
            expected=match["release"],
            found=release,
        )


@image_rule("LINUX-PAYLOAD-FORMAT")
def payload(image: Image) -> Iterator[Evidence]:
    """The payload is nothing that a kernel unpacks itself from."""
    root = image.root
    inside = next((node for node in root.children if node.kind == "data"), None)
    if root.kind == "bzimage" and inside is not None and root.get("payload_length"):
        yield Evidence(
            "the payload begins with the signature of no compression",
            image.path,
            "bzimage/data",
            inside.offset,
            expected=", ".join(sorted(STREAM_KINDS)),
            found=image.source.read(inside.offset, 6).hex(" "),
        )


@image_rule("LINUX-INIT-SIZE")
def room(image: Image) -> Iterator[Evidence]:
    """init_size is less than what the payload unpacks to, as the four bytes behind it say."""
    root = image.root
    wanted, length = root.get("init_size"), root.get("payload_length")
    inside = next((node for node in root.children if node.kind in STREAM_KINDS), None)
    if root.kind != "bzimage" or inside is None or not isinstance(wanted, int) or not isinstance(length, int):
        return
    unpacked = int.from_bytes(image.source.read(inside.offset + length - 4, 4), "little")
    if any(finding.id == "LINUX-INIT-SIZE" for finding in root.findings):
        return
    if 0 < wanted < unpacked <= length * MAX_RATIO:
        yield Evidence(
            "needs less memory than its payload unpacks to",
            image.path,
            "bzimage",
            INIT_SIZE,
            "init_size",
            expected=f"at least {unpacked}",
            found=str(wanted),
            severity=Severity.WARNING,
        )


@set_rule("KERNEL-EFI-ON-BIOS")
def efi_on_bios(boot: BootSet) -> Iterator[Evidence]:
    """An EFI program as the kernel of a machine that has no EFI."""
    kernel = boot.kernel
    if boot.firmware is not Firmware.BIOS or boot.on_xen or kernel is None:
        return
    try:
        program = kernel.content.kind == "pe" and not any(map(addressed, headers(kernel)))
    except MbtoolError:
        return  # UNREADABLE says so
    if program:
        yield Evidence(
            "an EFI program, which no BIOS loader starts",
            kernel.path,
            "pe",
            0,
            expected="a bzImage (HdrS at 0x202), or a Multiboot kernel",
            found="a PE image",
        )


@set_rule("LINUX-REFUSED")
def limits(boot: BootSet) -> Iterator[Evidence]:
    """What the boot protocol allows of this kernel: command line, initrd, entry."""
    if boot.on_xen or not is_bzimage(boot.kernel):
        return
    from mbtool.plan import linux_boot
    from mbtool.plan.linux_kernel import HEAD_READ
    from mbtool.plan.modules import ModuleFile

    kernel = boot.kernel
    assert kernel is not None
    initrd = None if boot.initrd is None else ModuleFile(boot.initrd.path, boot.initrd.source.size)
    head = kernel.source.read(0, HEAD_READ)
    try:
        linux_boot.plan(kernel.path, head, kernel.source.size, boot.cmdline or "", initrd)
    except RefusedError as error:
        if error.problem.startswith(OLD) and boot.loaders:  # can-boot knows who has another entry
            if initrd is not None and error.found.startswith("boot protocol 1."):
                yield replace(
                    Evidence.of(error, kernel.path, id="LINUX-INITRD-OLD", node="bzimage"), message=NO_INITRD
                )
            return
        rule = next((id_ for start, id_ in REFUSALS if error.problem.startswith(start)), "LINUX-REFUSED")
        yield Evidence.of(error, kernel.path, id=rule, node="bzimage")
    except MbtoolError:
        return  # no 32-bit entry: loaders that use the 16-bit one still start it


@set_rule("LINUX-NO-EFI-STUB")
def efi_stub(boot: BootSet) -> Iterator[Evidence]:
    """A kernel for UEFI that is no EFI program."""
    if boot.firmware is Firmware.UEFI and not boot.on_xen and is_bzimage(boot.kernel):
        assert boot.kernel is not None
        if boot.kernel.find("pe") is None:
            yield Evidence(
                "the kernel is no EFI program",
                boot.kernel.path,
                "bzimage",
                0,
                expected="an EFI stub (MZ at 0): CONFIG_EFI_STUB=y",
                found=boot.kernel.source.read(0, 2).hex(" "),
            )


@set_rule("INITRD-NAME")
def initrd_name(boot: BootSet) -> Iterator[Evidence]:
    """The initrd's name names another release than the kernel's own."""
    if boot.initrd is None or not boot.release:
        return
    match = INITRD_NAME.fullmatch(Path(boot.initrd.path).name)
    if match is not None and match["release"] != boot.release:
        yield Evidence(
            "the initrd's name is that of another kernel's",
            boot.initrd.path,
            expected=boot.release,
            found=match["release"],
            severity=Severity.INFO if _holds_modules(boot.initrd, boot.release) else None,
        )


def _holds_modules(initrd: Image, release: str) -> bool:
    try:
        trees = [place.node for place in initrd.places if place.node.kind == "kernel-modules"]
    except MbtoolError:
        return False
    return any(node.get("version") == release for node in trees)
