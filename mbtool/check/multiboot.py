"""Multiboot kernels: whether loaders find the header, and take what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mbtool.check.boot_set import BootSet
from mbtool.check.image import Image
from mbtool.check.rule import Evidence, image_rule, set_rule
from mbtool.errors import FormatError, MbtoolError, RefusedError
from mbtool.formats.multiboot_placement import OUTSIDE
from mbtool.formats.multiboot_search import MULTIBOOT1, MULTIBOOT2
from mbtool.model import Node
from mbtool.source import MIB, Budget, BytesSource, Source

if TYPE_CHECKING:
    from mbtool.plan.load import LoadPlan

HEADERS = ("multiboot1-header", "multiboot2-header")
MISSES = tuple(
    f"MULTIBOOT{version}-{what}" for version in (1, 2) for what in ("PAST-LIMIT", "MISALIGNED", "CHECKSUM")
)
OTHER_WAYS = ("xen-notes", "xen-guest-string", "multiboot1-header", "multiboot2-header")
"""Nodes that show that a kernel without the one kind of header is loaded in another way."""
SECTOR = 512
MAX_UNPACKED = 64 * MIB
MEMORY_END = 0xE0000000
"""Below 4 GiB no machine that is known has memory behind this: QEMU's pc has most, 3.5 GiB; devices follow."""
EFI_BOOT_SERVICES, EFI_AMD64_ENTRY = 7, 9


LOADED = ("elf", "pe", "multiboot-image")
"""Kinds of files whose own Multiboot headers loaders look for."""


def headers(image: Image) -> list[Node]:
    """The Multiboot headers by which an image can be loaded, not those of what is inside it."""
    content = image.content
    return [node for node in content.children if node.kind in HEADERS] if content.kind in LOADED else []


@image_rule("MULTIBOOT-NOT-FOUND")
def not_found(image: Image) -> Iterator[Evidence]:
    """There is nearly a header, none that loaders find, and no other way to start the kernel."""
    content = image.content
    if any(node.kind in OTHER_WAYS for node in content.walk()):
        return
    for finding in content.findings:
        if finding.id in MISSES:
            far = in_front(content, finding.offset or 0) if finding.id.endswith("PAST-LIMIT") else ""
            yield Evidence(
                f"nothing that a loader finds: {finding.message}" + (f"; in front of it: {far}" if far else ""),
                image.path,
                content.kind,
                finding.offset,
                finding.field,
                finding.expected,
                finding.found,
                remedy=finding.remedy,
            )
            return


def in_front(content: Node, at: int) -> str:
    """What of an ELF file lies before an offset, the largest first; "" when that cannot be told."""
    sizes = {
        str(node.get("name") or "a section"): min(node.offset + node.size, at) - node.offset
        for node in content.children
        if node.kind == "elf-section" and 0 < node.offset < at
    }
    parts = [
        f"{name} ({sizes[name]} bytes)" for name in sorted(sizes, key=lambda name: -sizes[name]) if sizes[name]
    ]
    segments = [node for node in content.children if node.kind == "elf-segment" and node.offset + node.size > at]
    start = min((node.offset for node in segments), default=0)
    if start > at - start:
        parts.insert(0, f"nothing up to {start:#x} of the file, where its segment begins")
    return ", ".join(parts[:4])


def is_part(image: Image) -> bool:
    """Whether a header's addresses count a boot sector that is put in front, as in GRUB's lzma_decompress.img.

    Source: GRUB, grub-core/boot/i386/pc/startup_raw.S; the sector is diskboot.img.
    """
    for node in headers(image):
        header_addr, load_addr = node.get("header_addr"), node.get("load_addr")
        if isinstance(header_addr, int) and isinstance(load_addr, int):
            return node.offset - (header_addr - load_addr) == -SECTOR
    return False


@image_rule("MULTIBOOT-REFUSED")
def refused(image: Image) -> Iterator[Evidence]:
    """What the header and the file say cannot be loaded: the planner's refusal, before any machine is known."""
    if not any(addressed(node) or image.content.kind != "pe" for node in headers(image)):
        return  # xen.efi has the header of xen.gz among its code: no one takes it for more than an EFI program
    from mbtool.plan.protocols import Protocol, load_plan

    source = unpacked(image)
    if source is None:
        return
    protocols = {"multiboot1-header": Protocol.MULTIBOOT1, "multiboot2-header": Protocol.MULTIBOOT2}
    for node in headers(image):
        try:
            plan = load_plan(protocols[node.kind], source, image.path, "")
            if reason := past_memory(plan):
                yield Evidence(
                    reason,
                    image.path,
                    node.kind,
                    node.offset,
                    expected=f"an end at {MEMORY_END:#x} at most",
                    id="MULTIBOOT-PAST-MEMORY",
                )
            entry = plan.registers.eip
            if not any(entry in load.range for load in plan.loads):
                yield Evidence(OUTSIDE, image.path, node.kind, found=f"{entry:#x}", id="MULTIBOOT-ENTRY")
            elif only_zeros(plan, entry):
                yield Evidence(
                    "the entry point lies in memory that is only zeros",
                    image.path,
                    node.kind,
                    node.offset,
                    expected="an entry point in bytes that the file holds",
                    found=f"{entry:#x}",
                    id="MULTIBOOT-ENTRY-ZEROS",
                )
        except (RefusedError, FormatError) as error:
            if not only_low(error):
                yield Evidence.of(error, image.path, node=node.kind)
        except MbtoolError:
            pass  # no refusal: what cannot be planned is not known to be wrong


def past_memory(plan: LoadPlan) -> str:
    """That a kernel goes where no machine has memory, "" when it does not."""
    end = max((load.range.end for load in plan.loads), default=0)
    return f"it takes memory up to {end:#x}, where machines have their devices" if end > MEMORY_END else ""


def only_zeros(plan: LoadPlan, address: int) -> bool:
    """Whether a physical address is in what loaders clear (p_memsz past p_filesz, bss_end_addr)."""
    return any(load.address + load.size <= address < load.range.end for load in plan.loads)


def only_low(error: MbtoolError) -> bool:
    """Whether a planner refuses no more than a place below 1 MiB: mbtool's stub has none there, GRUB has."""
    places = {"no free memory where the kernel goes": error.expected, "segment lies below 1 MiB": error.found}
    text = next((place for start, place in places.items() if error.problem.startswith(start)), "")
    match = re.search(r"\[(0x[0-9a-f]+),", text)
    return match is not None and int(match[1], 16) < MIB


def unpacked(image: Image) -> Source | None:
    """The kernel as a loader sees it, None when its stream is damaged or too large to be one."""
    if not image.codec:
        return image.source if image.source.size <= MAX_UNPACKED else None
    from mbtool.formats import compression

    stream = compression.open_stream(image.source, Budget(image.limits))
    data = stream.read(0, MAX_UNPACKED + 1)
    return None if stream.damage is not None or len(data) > MAX_UNPACKED else BytesSource(data, image.path)


@image_rule("MULTIBOOT1-ELF64")
def elf64(image: Image) -> Iterator[Evidence]:
    """A 64-bit ELF file without address fields: only some loaders take it by Multiboot 1."""
    content = image.content
    if content.kind != "elf" or content.get("ei_class") != 2:
        return
    for node in headers(image):
        if node.kind == "multiboot1-header" and node.get("load_addr") is None:
            yield Evidence(
                "a 64-bit ELF file with a Multiboot 1 header that has no address fields",
                image.path,
                f"{content.kind}/{node.kind}",
                node.offset,
                "flags",
                expected="an ELF32 file, or address fields (flag bit 16)",
                found="ELF64",
            )


@image_rule("MULTIBOOT-PHDRS-FAR")
def program_headers_far(image: Image) -> Iterator[Evidence]:
    """GRUB reads the program headers from what it searched for the Multiboot header, and no further."""
    for node in headers(image):
        if end := program_headers_too_far(image.content, node):
            yield Evidence(
                "the program headers are further from the start than GRUB reads",
                image.path,
                image.content.kind,
                field="e_phoff",
                expected=f"an end of at most {_limit(node):#x}",
                found=f"{end:#x}",
            )


@image_rule("MULTIBOOT-NO-SECTIONS")
def no_sections(image: Image) -> Iterator[Evidence]:
    """GRUB 2.12 and later load no ELF file without a section header table."""
    content = image.content
    if content.kind == "elf" and content.get("e_shnum") == 0 and not all(map(addressed, headers(image))):
        yield Evidence(
            "a Multiboot kernel without a section header table",
            image.path,
            content.kind,
            field="e_shnum",
            expected="a section header table, or address fields in the Multiboot header",
            found="0",
        )


def program_headers_too_far(content: Node, header: Node) -> int:
    """Where program headers end that a loader needs and does not reach (bytes from the file's start), else 0."""
    if content.kind != "elf" or addressed(header):
        return 0
    values = [content.get(name) for name in ("e_phoff", "e_phnum", "e_phentsize")]
    start, count, size = (value if isinstance(value, int) else 0 for value in values)
    end = start + count * size
    return end if end > _limit(header) else 0


def addressed(header: Node) -> bool:
    """Whether a header says by itself where the image goes, so that it need not be an ELF file."""
    return any(node.get("load_addr") is not None for node in (header, *header.children))


def _limit(header: Node) -> int:
    return MULTIBOOT1.limit if header.kind == "multiboot1-header" else MULTIBOOT2.limit


@set_rule("MULTIBOOT2-NO-EFI")
def efi_tags(boot: BootSet) -> Iterator[Evidence]:
    """A Multiboot 2 kernel on UEFI that cannot use what the firmware offers."""
    from mbtool.check.boot_set import Firmware

    if boot.firmware is not Firmware.UEFI or boot.on_xen or boot.kernel is None:
        return
    for node in _headers(boot.kernel):
        if node.kind == "multiboot2-header" and not {EFI_BOOT_SERVICES, EFI_AMD64_ENTRY} <= tag_types(node):
            yield Evidence(
                "the header asks for no EFI boot services: the loader leaves them before it starts the kernel",
                boot.kernel.path,
                node.kind,
                node.offset,
                expected="tags 7 (EFI boot services) and 9 (EFI amd64 entry address), if the kernel needs them",
            )


def tag_types(header: Node) -> set[int]:
    """The types of a Multiboot 2 header's tags."""
    return {tag["type"] for tag in header.children if isinstance(tag.get("type"), int)}  # type: ignore[misc]


def _headers(image: Image) -> list[Node]:
    try:
        return headers(image)
    except MbtoolError:
        return []
