"""A Linux kernel for the x86 boot protocol 2.00 and later: setup header, EFI stub, payload.

::

    0        boot sector and setup (real mode), the setup header at 0x1f1
    …        protected-mode part, (setup_sects + 1) * 512 bytes from the start: decompressor with the payload in it
    end      CRC-32; behind it, when the image is signed, the certificate table

Linux: Documentation/arch/x86/boot.rst.
"""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.errors import FormatError, MbtoolError
from mbtool.formats import linux_boot, linux_crc, linux_kernel_info
from mbtool.formats.context import Context
from mbtool.formats.linux_boot import SetupHeader
from mbtool.formats.linux_boot_names import XLF_CAN_BE_LOADED_ABOVE_4G, XLF_KERNEL_64
from mbtool.model import Field, Finding, Node, Severity
from mbtool.source import Source

VERSION_AREA = 0x200
"""``kernel_version`` counts from here."""
MAX_VERSION_STRING = 256


def reject(source: Source) -> str:
    """Why this is no kernel of protocol 2.00 or later ("" when it is one)."""
    head = source.read(0, 0x208)
    if head[0x202:0x206] != b"HdrS":
        return "no HdrS at 0x202"
    if len(head) < 0x208:
        return "HdrS at 0x202, but the setup header is cut short"
    return ""


def open_payload(source: Source) -> Source:
    """The payload that the setup header names, as a source of its own.

    Raises FormatError when there is none (before 2.08, or no compressed kernel) or it lies outside of the file.
    """
    header = linux_boot.read(source)
    if header.payload is None:
        raise FormatError("the setup header names no payload", source=source.name, offset=0x248)
    offset, length = header.payload
    if offset + length > source.size:
        raise FormatError(
            "the payload ends behind the file",
            source=source.name,
            offset=0x248,
            field="payload_length",
            expected=f"at most {max(0, source.size - offset)}",
            found=str(length),
        )
    return source.part(offset, length, f"{source.name}:payload")


def inspect(source: Source, context: Context) -> Node:
    """The kernel as a tree: its header's fields, the PE view of it, the payload and what is in it."""
    head = source.read(0, linux_boot.MAX_END)
    header = linux_boot.read(source)
    size = source.size
    fields = linux_boot.fields(header, head)
    findings = list(_findings(header, size))
    version, problem = _version_string(source, header)
    if version is not None:
        fields.insert(0, version)
    findings += problem
    children = []
    if head[:2] == b"MZ":
        from mbtool.formats import pe

        if not pe.reject(source):
            children.append(pe.inspect(source, context))
    if header.has("kernel_info_offset") and header.kernel_info_offset:
        try:
            children.append(linux_kernel_info.node(source, header.setup_size + header.kernel_info_offset))
        except MbtoolError as error:
            findings.append(Finding.of(error, "LINUX-KERNEL-INFO", Severity.WARNING))
    if header.payload is not None:
        offset, length = header.payload
        if offset < size:
            part = source.part(offset, min(length, size - offset), f"{source.name}:payload")
            children.append(context.inside(part, offset))
    elif header.protocol >= (2, 8):
        fields.append(Field("payload", None, meaning="none: no compressed kernel inside", telling=True))
    crc = linux_crc.check(source, header)
    if crc is not None:
        field, problem = linux_crc.show(crc)
        fields.append(field)
        findings += problem
    return Node("bzimage", 0, size, tuple(fields), tuple(children), tuple(findings))


def _version_string(source: Source, header: SetupHeader) -> tuple[Field | None, list[Finding]]:
    """The kernel's version text as a field, named for what it says; a finding when its pointer makes no sense."""
    if not header.has("kernel_version") or not header.kernel_version:
        return None, []
    at = VERSION_AREA + header.kernel_version
    if at >= header.setup_size:
        return None, [
            Finding(
                "LINUX-VERSION-POINTER",
                Severity.WARNING,
                "the version string lies outside of the setup",
                "kernel_version",
                0x20E,
                f"less than {header.setup_size - VERSION_AREA:#x}",
                f"{header.kernel_version:#x}",
            )
        ]
    raw = source.read(at, min(MAX_VERSION_STRING, header.setup_size - at)).split(b"\0")[0]
    return Field("kernel_version_string", raw.decode("utf-8", "replace"), at, len(raw), "", raw, telling=True), []


def _findings(header: SetupHeader, size: int) -> Iterator[Finding]:
    if header.boot_flag != linux_boot.BOOT_FLAG:
        yield Finding(
            "LINUX-BOOT-FLAG",
            Severity.WARNING,
            "the boot flag is wrong",
            "boot_flag",
            0x1FE,
            "0xaa55",
            f"{header.boot_flag:#x}",
        )
    if header.protocol > linux_boot.LATEST:
        yield Finding(
            "LINUX-PROTOCOL",
            Severity.INFO,
            "a boot protocol newer than any known: fields it may have added are shown as they are",
            "version",
            0x206,
            "at most {}.{:02}".format(*linux_boot.LATEST),
            "{}.{:02}".format(*header.protocol),
        )
    # syssize counts paragraphs, rounded up: images that no kernel's build made may end within the last one.
    system = max(1, (header.system_size or 0) - linux_boot.PARAGRAPH + 1)
    if header.setup_size + system > size:
        needed = header.setup_size + system
        yield Finding(
            "LINUX-TRUNCATED",
            Severity.ERROR,
            "the file ends before the kernel does",
            "syssize",
            0x1F4,
            f"at least {needed} bytes",
            str(size),
            "the copy is incomplete: fetch it again",
        )
    if header.payload is not None and sum(header.payload) > size:
        yield Finding(
            "LINUX-PAYLOAD",
            Severity.ERROR,
            "the payload ends behind the file",
            "payload_length",
            0x24C,
            f"at most {max(0, size - header.payload[0])}",
            str(header.payload_length),
        )
    if (
        header.has("xloadflags")
        and header.xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G
        and (not header.xloadflags & XLF_KERNEL_64)
    ):
        yield Finding(
            "LINUX-XLOADFLAGS",
            Severity.WARNING,
            "says that it can be loaded above 4 GiB, but has no 64-bit entry point",
            "xloadflags",
            0x236,
            "XLF_KERNEL_64 set as well",
            f"{header.xloadflags:#x}",
        )
