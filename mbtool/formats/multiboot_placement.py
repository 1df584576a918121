"""Where a flat Multiboot image says it goes: the address fields of either version, judged.

Multiboot Specification 0.6.96, "Header address fields"; Multiboot2 Specification 2.0, "Address header tag". Both
place the file so that the header lands on ``header_addr``: the bytes loaded begin in the file at
header offset - (header_addr - load_addr).
"""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.model import Finding, Severity

OUTSIDE = "the entry point lies outside of what is loaded"


def placement_findings(
    header_offset: int,
    header_addr: int,
    load_addr: int,
    load_end_addr: int,
    bss_end_addr: int,
    entry_addr: int | None = None,
    file_size: int | None = None,
) -> Iterator[Finding]:
    """What is wrong with the addresses of a header at ``header_offset`` of a file of ``file_size`` bytes.

    Addresses are physical; ``load_end_addr`` 0 means the end of the file, ``bss_end_addr`` 0 no bss.
    ``entry_addr``: None when the header has none.
    """
    start = header_offset - (header_addr - load_addr)
    stop = start + load_end_addr - load_addr
    file_end = load_addr + max(0, file_size - start) if file_size is not None else 0
    loaded_end = max(load_addr, load_end_addr or file_end)
    if load_addr > header_addr:
        yield _error("load_addr lies above header_addr", "load_addr", f"at most {header_addr:#x}", load_addr)
    elif start < 0:
        least = f"at least {header_addr - header_offset:#x} (header_addr - the header's offset)"
        yield _error("loading would begin before the start of the file", "load_addr", least, load_addr)
    if load_end_addr and load_end_addr < load_addr:
        least = f"at least {load_addr:#x}"
        yield _error("load_end_addr lies below load_addr", "load_end_addr", least, load_end_addr)
    elif load_end_addr and file_size is not None and stop > file_size:
        yield Finding(
            "MULTIBOOT-ADDRESSES",
            Severity.WARNING,
            "the file ends before load_end_addr",
            "load_end_addr",
            expected=f"{stop} bytes of file",
            found=f"{file_size}",
        )
    if bss_end_addr and bss_end_addr < loaded_end:
        least = f"at least {loaded_end:#x}"
        yield _error("bss_end_addr lies below the end of what is loaded", "bss_end_addr", least, bss_end_addr)
    end = max(loaded_end, bss_end_addr) if load_end_addr or bss_end_addr or file_end else 0
    if entry_addr is not None and (entry_addr < load_addr or (end and entry_addr >= end)):
        yield Finding(
            "MULTIBOOT-ENTRY",
            Severity.WARNING,
            OUTSIDE,
            "entry_addr",
            expected=f"[{load_addr:#x}, {end:#x})" if end else f"at least {load_addr:#x}",
            found=f"{entry_addr:#x}",
        )


def _error(message: str, field: str, expected: str, found: int) -> Finding:
    return Finding("MULTIBOOT-ADDRESSES", Severity.ERROR, message, field, expected=expected, found=f"{found:#x}")
