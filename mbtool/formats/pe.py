"""PE/COFF images: EFI-stub kernels, xen.efi, unified kernel images, boot loaders. Also asked about the PE side of a
bzImage with an EFI stub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mbtool.errors import LimitError, MbtoolError
from mbtool.formats import multiboot, pe_directories, pe_names, pe_sections, uki
from mbtool.formats.context import Context
from mbtool.formats.pe_digest import checksum, checksum_place
from mbtool.formats.pe_headers import PE_SIGNATURE, PeHeaders, optional_layout, parse
from mbtool.formats.pe_sections import Section
from mbtool.formats.pe_wire import COFF_HEADER, DATA_DIRECTORY, DOS_HEADER, SECTION_HEADER
from mbtool.model import Field, Finding, Hex, Node, Severity
from mbtool.source import MIB, Source

KERNEL_HALF = 1 << 63
"""An image that wants to live in the upper half of the address space is no program of the firmware's: xen.efi is
linked to where Xen runs."""
MAX_VERIFIED = 512 * MIB


def reject(source: Source) -> str:
    """Why this is not a PE image ("" when it is one)."""
    head = source.read(0, DOS_HEADER.size)
    if head[:2] != b"MZ":
        return "no MZ signature"
    if len(head) < DOS_HEADER.size:
        return "DOS header is cut short"
    at = DOS_HEADER.parse(head).e_lfanew
    found = source.read(at, len(PE_SIGNATURE) + COFF_HEADER.size)
    if not found.startswith(PE_SIGNATURE):
        return f"no PE signature at {at:#x}" if found else f"e_lfanew {at:#x} points past the end"
    return "" if len(found) == len(PE_SIGNATURE) + COFF_HEADER.size else "COFF header is cut short"


def inspect(source: Source, context: Context) -> Node:
    """The ``pe`` node: all headers' fields, then a child per section, signature and what else it holds."""
    headers, findings = parse(source)
    size = source.size
    parts = pe_sections.sections(source, headers, size)
    xen = headers.optional is not None and headers.optional.ImageBase >= KERNEL_HALF
    children = _sections(source, parts, xen, context)
    children += pe_directories.nodes(source, headers, parts, findings)
    children += multiboot.headers(source)
    if xen:
        children += _hypervisor(source, parts)
    signatures = _signatures(source, headers, parts, findings)
    findings += pe_sections.layout_findings(parts, headers)
    findings += _checksum(source, headers)
    findings += _trailing(source, headers, parts, size)
    fields = list(_fields(source, headers, parts, xen))
    if context.full and signatures:
        fields += _verified(source, findings)
    elif not signatures:
        fields.append(Field("signed", False, telling=True))
    return Node("pe", 0, size, tuple(fields), (*children, *signatures), tuple(findings))


# What few images have is loaded when it is seen: it costs as much as all the rest.


def _hypervisor(source: Source, parts: Sequence[Section]) -> list[Node]:
    from mbtool.formats import xen_hypervisor

    node = xen_hypervisor.find(source, 0, _code_end(parts))
    return [] if node is None else [node]


def _signatures(
    source: Source, headers: PeHeaders, parts: Sequence[Section], findings: list[Finding]
) -> list[Node]:
    if not headers.directory(pe_names.CERTIFICATE_TABLE).Size:
        return []
    from mbtool.formats import pe_signature

    return pe_signature.nodes(source, headers, parts, findings)


def _sections(source: Source, parts: Sequence[Section], xen: bool, context: Context) -> list[Node]:
    """The sections' nodes with what each is for and holds; what cannot be read does not hide the header.

    No byte is shown as the content of two sections: images in images that all share one would take forever.
    """
    nodes: list[Node] = []
    shown: list[Section] = []
    for part in parts:
        node = pe_sections.node(source, part)
        try:
            other = next((each for each in shown if each.shares(part)), None)
            if other is None:
                node = uki.describe(source, part, node, xen, context)
            else:
                found = Finding("PE-SECTION-SHARED", Severity.WARNING, f"has bytes in common with {other.name}")
                node = replace(node, findings=(*node.findings, found))
        except MbtoolError as error:
            node = replace(node, findings=(*node.findings, Finding.of(error)))
        nodes.append(node)
        if node.children:
            shown.append(part)
    return nodes


def _fields(source: Source, headers: PeHeaders, parts: Sequence[Section], xen: bool) -> Iterator[Field]:
    """Every header field in the order of the file, led by what the image is."""
    names = [part.name for part in parts]
    if purpose := uki.purpose(names, xen):
        yield Field("purpose", purpose, telling=True)
    yield from DOS_HEADER.fields(source.read(0, DOS_HEADER.size))
    at = headers.dos.e_lfanew
    yield Field("Signature", PE_SIGNATURE, at, len(PE_SIGNATURE), raw=PE_SIGNATURE)
    at += len(PE_SIGNATURE)
    yield from COFF_HEADER.fields(source.read(at, COFF_HEADER.size), base=at)
    if headers.optional is None:
        return
    layout = optional_layout(headers.optional)
    yield from layout.fields(source.read(headers.optional_offset, layout.size), base=headers.optional_offset)
    for index, directory in enumerate(headers.directories):
        at = headers.directories_offset + index * DATA_DIRECTORY.size
        meaning = _holder(index, directory.VirtualAddress, parts) if directory.Size else "absent"
        value = (Hex(directory.VirtualAddress), directory.Size)
        raw = DATA_DIRECTORY.build(directory)
        yield Field(pe_names.DIRECTORIES[index], value, at, len(raw), meaning, raw)


def _holder(index: int, address: int, parts: Sequence[Section]) -> str:
    """Where a data directory points: the certificate table is the one that is no part of the loaded image."""
    if index == pe_names.CERTIFICATE_TABLE:
        return "file offset, bytes"
    part = pe_sections.at_rva(parts, address)
    return f"RVA in {part.name}, bytes" if part else "RVA in no section, bytes"


def _checksum(source: Source, headers: PeHeaders) -> Iterator[Finding]:
    if headers.optional is None or not headers.optional.CheckSum:
        return
    computed = checksum(source, headers)
    if computed != headers.optional.CheckSum:
        yield Finding(
            "PE-CHECKSUM",
            Severity.INFO,
            "is not that of the file (firmware does not look at it)",
            "CheckSum",
            checksum_place(headers),
            f"{computed:#x}",
            f"{headers.optional.CheckSum:#x}",
        )


def _trailing(source: Source, headers: PeHeaders, parts: Sequence[Section], size: int) -> Iterator[Finding]:
    """Bytes behind all that the headers account for; up to 7 are padding for a signature."""
    certificates = headers.directory(pe_names.CERTIFICATE_TABLE)
    ends = [
        headers.sections_offset + len(parts) * SECTION_HEADER.size,
        certificates.VirtualAddress + certificates.Size,
        *(part.offset + part.stored for part in parts),
    ]
    if strings := pe_sections.string_table(headers):
        # Its first 4 bytes say how long it is, themselves included.
        ends.append(strings + max(4, int.from_bytes(source.read(strings, 4), "little")))
    if size - max(ends) >= 8:
        yield Finding(
            "PE-TRAILING",
            Severity.INFO,
            f"{size - max(ends)} bytes follow that no header accounts for",
            offset=max(ends),
        )


def _code_end(parts: Sequence[Section]) -> int:
    """File offset (bytes) behind the last section that stays loaded: debug information does not."""
    return max(
        (part.offset + part.stored for part in parts if not part.header.Characteristics & pe_names.MEM_DISCARDABLE),
        default=0,
    )


def _verified(source: Source, findings: list[Finding]) -> Iterator[Field]:
    """What lief makes of the signatures."""
    from mbtool.formats import pe_signature

    try:
        if source.size > MAX_VERIFIED:
            raise LimitError(f"signatures of images above {MAX_VERIFIED // MIB} MiB are not verified")
        verdicts = pe_signature.verify(source.read(0, source.size))
    except MbtoolError as error:
        findings.append(Finding.of(error, "PE-SIGNATURE-UNVERIFIED", Severity.WARNING))
        return
    yield Field("verified", verdicts, meaning="by lief, against the certificates in the signatures", telling=True)
    for verdict in verdicts:
        if verdict != "OK":
            findings.append(
                Finding("PE-SIGNATURE-INVALID", Severity.ERROR, "a signature does not verify", found=verdict)
            )
