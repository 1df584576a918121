"""The ``boot_params`` page as a tree, and what is odd about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mbtool.formats import linux_boot, linux_edd
from mbtool.formats.linux_boot_params import BOOT_PARAMS, E820_MAX_ENTRIES_ZEROPAGE, SIZE, BootParams, parse
from mbtool.formats.linux_boot_params_parts import (
    APM_BIOS_INFO,
    EFI_INFO,
    IST_INFO,
    OLPC_OFW_HEADER,
    SCREEN_INFO,
    SYS_DESC_TABLE,
)
from mbtool.formats.linux_edd import EDD_INFO, EDD_MBR_SIG_MAX, EDDMAXNR
from mbtool.formats.linux_setup_data_types import E820, E820Entry
from mbtool.formats.wire import Layout
from mbtool.model import Finding, Node, Severity

_PARTS: dict[str, tuple[str, Layout[Any]]] = {
    "screen_info": ("screen-info", SCREEN_INFO),
    "apm_bios_info": ("apm-bios-info", APM_BIOS_INFO),
    "ist_info": ("ist-info", IST_INFO),
    "sys_desc_table": ("sys-desc-table", SYS_DESC_TABLE),
    "olpc_ofw_header": ("olpc-ofw-header", OLPC_OFW_HEADER),
    "efi_info": ("efi-info", EFI_INFO),
}


def node(page: bytes, *, source: str = "") -> Node:
    """The ``boot-params`` node: plain fields, and a child for each structure that says something."""
    params = parse(page, source=source)
    nested = {*_PARTS, "hdr", "e820_table", "eddbuf"}
    fields = []
    for name, (offset, size) in BOOT_PARAMS.offsets.items():
        raw = page[offset : offset + size]
        if name not in nested and (any(raw) or not name.startswith("pad")):
            fields.append(BOOT_PARAMS.field(name, getattr(params, name), raw, offset))
    return Node("boot-params", 0, SIZE, tuple(fields), tuple(_children(page, params)), tuple(_findings(params)))


def _children(page: bytes, params: BootParams) -> Iterator[Node]:
    for name, (kind, layout) in _PARTS.items():
        offset, size = BOOT_PARAMS.offsets[name]
        if any(page[offset : offset + size]):
            yield Node(kind, offset, size, layout.fields(page, offset, base=-offset))
    start, size = BOOT_PARAMS.offsets["hdr"]
    header = linux_boot.fields(params.hdr, page)
    moved = tuple(replace(field, offset=(field.offset or 0) - start) for field in header)
    yield Node("setup-header", start, size, moved)
    start = BOOT_PARAMS.offsets["e820_table"][0]
    for number in range(len(params.memory_map)):
        at = start + number * E820.size
        yield Node("e820-entry", at, E820.size, E820.fields(page, at, base=-at))
    start = BOOT_PARAMS.offsets["eddbuf"][0]
    for number, disk in enumerate(params.disks):
        at = start + number * EDD_INFO.size
        path = linux_edd.path(disk)
        yield Node("edd-info", at, EDD_INFO.size, EDD_INFO.fields(page, at, base=-at) + ((path,) if path else ()))


def _findings(params: BootParams) -> Iterator[Finding]:
    for name, most in (
        ("e820_entries", E820_MAX_ENTRIES_ZEROPAGE),
        ("eddbuf_entries", EDDMAXNR),
        ("edd_mbr_sig_buf_entries", EDD_MBR_SIG_MAX),
    ):
        count = getattr(params, name)
        if count > most:
            yield _finding("BOOT-PARAMS-COUNT", "counts more entries than fit", name, f"at most {most}", str(count))
    if params.sentinel:
        yield _finding(
            "BOOT-PARAMS-SENTINEL",
            "is not zero: the kernel takes the page for badly made and clears most of it",
            "sentinel",
            "0",
            f"{params.sentinel:#x}",
            Severity.WARNING,
        )
    if params.hdr.old:
        yield _finding(
            "BOOT-PARAMS-HEADER", "no setup header in it", "hdr", "HdrS at 0x202", f"{params.hdr.header:#x}"
        )
    yield from _memory_findings(params.memory_map)


def _memory_findings(memory_map: tuple[E820Entry, ...]) -> Iterator[Finding]:
    end, before = 0, None
    for entry in sorted((entry for entry in memory_map if entry.size), key=lambda entry: entry.addr):
        if entry.addr + entry.size > 1 << 64:
            words = f"{entry.size:#x} bytes at {entry.addr:#x}"
            yield _finding("E820-WRAPS", "memory beyond 2^64", "e820_table", "an end up to 2^64", words)
        if before is not None and entry.addr < end and entry.type != before.type:
            words = f"{entry.addr:#x} to {end:#x}"
            message = "two kinds of memory at the same addresses"
            yield _finding("E820-OVERLAP", message, "e820_table", "", words, Severity.WARNING)
        if entry.addr + entry.size > end:
            end, before = entry.addr + entry.size, entry


def _finding(
    id_: str, message: str, field: str, expected: str, found: str, severity: Severity = Severity.ERROR
) -> Finding:
    return Finding(id_, severity, message, field, BOOT_PARAMS.offsets[field][0], expected, found)
