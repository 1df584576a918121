"""A Linux kernel for the x86 boot protocol 2.00 and later: setup header, EFI stub, payload.

::

    0        boot sector and setup (real mode), the setup header at 0x1f1
    …        protected-mode part, (setup_sects + 1) * 512 bytes from the start: decompressor with the payload in it
    end      CRC-32 until Linux 6.14; behind it, when the image is signed, the certificate table

Source: Linux, Documentation/arch/x86/boot.rst.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mbtool.beside import Afterwards, Beside
from mbtool.errors import FormatError, MbtoolError
from mbtool.formats import linux_boot, linux_checks, linux_crc
from mbtool.formats.context import Context
from mbtool.formats.linux_boot import SetupHeader
from mbtool.model import Field, Finding, Node, Severity
from mbtool.source import Source

VERSION_AREA = 0x200
"""``kernel_version`` counts from here."""
MAX_VERSION_STRING = 256
HEAD_START = 0.1
"""Seconds in which the payload's decoder is under way: it takes longest, and should not wait for anything else."""


def reject(source: Source) -> str:
    """Why this is no kernel of protocol 2.00 or later ("" when it is one)."""
    head = source.read(0, linux_boot.MAX_END)
    if head[0x202:0x206] != b"HdrS":
        return "no HdrS at 0x202"
    try:
        linux_boot.parse(head)
    except FormatError as error:
        return f"HdrS at 0x202, but the {error.problem}"
    return ""


def open_payload(source: Source) -> Source:
    """The payload that the setup header names, as a source of its own.

    Raises FormatError when there is none (before 2.08, or no compressed kernel) or it lies outside of the file.
    """
    offset, length = payload_place(source)
    return source.part(offset, length, f"{source.name}:payload")


def payload_place(source: Source) -> tuple[int, int]:
    """File offset and length (bytes) of the payload. Raises FormatError as ``open_payload`` does."""
    reason = reject(source)
    if reason:
        raise FormatError(f"no bzImage: {reason}", source=source.name)
    header = linux_boot.read(source)
    if header.payload is None:
        raise FormatError(
            "the setup header names no payload", source=source.name, offset=0x248, field="payload_offset"
        )
    offset, length = header.payload
    if offset + length > source.size:
        raise FormatError(
            "the payload ends behind the file",
            source=source.name,
            offset=0x24C,
            field="payload_length",
            expected=f"at most {max(0, source.size - offset)}",
            found=str(length),
        )
    return offset, length


def inspect(source: Source, context: Context) -> Node:
    """The kernel as a tree: its header's fields, the PE view of it, the payload and what is in it.

    A kernel that is to be loaded low (the header's LOADED_HIGH is clear) is a ``zimage``.
    """
    head = source.read(0, linux_boot.MAX_END)
    header = linux_boot.parse(head, source=source.name)
    size = source.size
    with Beside(lambda: _payload(source, context, header, size)) as payload:
        if source.streamed:
            payload.result()  # a stream has one reader at a time
        payload.wait(HEAD_START)
        findings = [*linux_checks.findings(header, size)]
        fields = [*_version(source, header, findings), *linux_boot.fields(header, head)]
        fields += _parts(header, head, size)
        crc = linux_crc.check(source, header, str(fields[0].value))
        if crc is not None:
            field, problems = linux_crc.show(crc)
            fields.append(field)
            findings += problems
        frugal = replace(context, budget=Afterwards(context.budget, payload))
        efi = _pe(source, frugal, head, findings)
        told = (finding.id for pe in efi for node in pe.walk() for finding in node.findings)
        if efi and "PE-SECTION-CUT" not in told:
            findings = list(map(_not_truncated, findings))
        info = [*_kernel_info(source, header, findings)]
        children = [*efi, *payload.result(), *info]
    kind = "bzimage" if header.loaded_high else "zimage"
    return Node(kind, 0, size, tuple(fields), tuple(children), tuple(findings))


def _version(source: Source, header: SetupHeader, findings: list[Finding]) -> Iterator[Field]:
    """The kernel's own text about its version; a finding when the pointer to it makes no sense."""
    name = "kernel_version_string"
    if not header.has("kernel_version") or not header.kernel_version:
        yield Field(name, "", meaning="none", telling=True)
        return
    at = VERSION_AREA + header.kernel_version
    room = min(MAX_VERSION_STRING, header.setup_size - at)
    raw = source.read(at, room)
    text = raw.split(b"\0")[0]
    yield Field(name, text.decode("utf-8", "backslashreplace"), at, len(text), "", text, telling=True)
    if room <= 0:
        problem, expected = "lies outside of the setup", f"less than {header.setup_size - VERSION_AREA:#x}"
    elif not raw:
        problem, expected = "lies behind the file", "a place in the file"
    elif len(text) == len(raw):
        problem, expected = "has no end", f"a NUL within {room} bytes"
    else:
        return
    found = f"{header.kernel_version:#x}"
    message = f"the version string {problem}"
    findings.append(
        Finding("LINUX-VERSION-STRING", Severity.WARNING, message, "kernel_version", 0x20E, expected, found)
    )


def _parts(header: SetupHeader, head: bytes, size: int) -> Iterator[Field]:
    """Where the protected-mode part is, what follows it, and the payload in words."""
    system = header.system_size
    rest = max(0, size - header.setup_size)
    words = "" if system is not None else "to the end of the file: the header does not tell"
    yield Field("protected_mode_offset", header.setup_size)
    yield Field("protected_mode_size", rest if system is None else system, meaning=words)
    if system is not None and rest > system:
        by = "certificates or other parts of the PE image" if head[:2] == b"MZ" else "not part of the kernel"
        yield Field("trailing_size", rest - system, header.setup_size + system, rest - system, by)
    if header.payload is None:
        known = header.protocol >= (2, 8)
        words = "no compressed kernel inside" if known else "the header does not tell: older than 2.08"
        yield Field("payload", None, meaning=words, telling=True)
    else:
        offset, length = header.payload
        yield Field("payload", f"{length} bytes at {offset:#x}")


def _pe(source: Source, context: Context, head: bytes, findings: list[Finding]) -> list[Node]:
    """The image as a PE file, which it is to EFI."""
    if head[:2] != b"MZ":
        return []
    from mbtool.formats import pe

    try:
        return [] if pe.reject(source) else [pe.inspect(source, context)]
    except MbtoolError as error:
        findings.append(Finding.of(error, "LINUX-PE"))
        return []


def _not_truncated(finding: Finding) -> Finding:
    """What the setup header says to be missing is nothing when all that the PE view has is there."""
    if finding.id != "LINUX-TRUNCATED":
        return finding
    return replace(
        finding,
        id="LINUX-SYSSIZE",
        severity=Severity.WARNING,
        message="more than the file holds, which is whole by its PE view",
        remedy="",
    )


def _payload(source: Source, context: Context, header: SetupHeader, size: int) -> list[Node]:
    if header.payload is None:
        return []
    offset, length = header.payload
    length = min(length, size - offset)
    return [context.inside(source.part(offset, length, f"{source.name}:payload"), offset)] if length > 0 else []


def _kernel_info(source: Source, header: SetupHeader, findings: list[Finding]) -> Iterator[Node]:
    if not header.has("kernel_info_offset") or not header.kernel_info_offset:
        return
    from mbtool.formats import linux_kernel_info

    try:
        yield linux_kernel_info.node(source, header.setup_size + header.kernel_info_offset)
    except MbtoolError as error:
        findings.append(Finding.of(error, "LINUX-KERNEL-INFO", Severity.WARNING))
