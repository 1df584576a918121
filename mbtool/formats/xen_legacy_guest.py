"""The ``__xen_guest`` string: what kernels said to Xen before ELF notes.

A section of that name holds comma-separated ``KEY=value`` pairs, ended by NUL. Source:
xen/common/libelf/libelf-dominfo.c, elf_xen_parse_guest_info.
"""

from __future__ import annotations

from mbtool.source import Source

SECTION = "__xen_guest"
MAX_NAME = 31
MAX_VALUE = 127
MAX_TEXT = 1 << 16

KEYS = {
    "LOADER": "domain builder it is made for",
    "GUEST_OS": "operating system",
    "GUEST_VER": "version of the operating system",
    "XEN_VER": "interface version of Xen it is built for",
    "PAE": "uses PAE page tables",
    "BSD_SYMTAB": "the symbol table is to be loaded behind the kernel",
    "VIRT_BASE": "virtual address of the domain's first page",
    "VIRT_ENTRY": "virtual address of the PV entry point",
    "ELF_PADDR_OFFSET": "subtracted from every p_paddr",
    "HYPERCALL_PAGE": "number of the page, counted from VIRT_BASE, that Xen fills with hypercalls",
    "FEATURES": "features supported, required when marked with !",
}


def read_text(source: Source, offset: int) -> str:
    """The string at ``offset`` of a file: up to its NUL, or where the file or MAX_TEXT ends."""
    return source.read(offset, MAX_TEXT).split(b"\0", 1)[0].decode("latin-1")


def parse_pairs(text: str) -> tuple[tuple[str, str], ...]:
    """The (key, value) pairs in order. Keys and values longer than Xen's buffers are cut in two, as it does."""
    pairs = []
    at = 0
    while at < len(text):
        name, at, mark = _word(text, at, ",=", MAX_NAME)
        value = ""
        if mark == "=":
            value, at, _ = _word(text, at, ",", MAX_VALUE)
        pairs.append((name, value))
    return tuple(pairs)


def _word(text: str, at: int, marks: str, limit: int) -> tuple[str, int, str]:
    """(text up to the next mark, where to go on, the mark met); at most ``limit`` characters."""
    end = at
    while end < len(text) and end - at < limit and text[end] not in marks:
        end += 1
    mark = text[end] if end < len(text) and end - at < limit else ""
    return text[at:end], end + len(mark), mark


def build_text(pairs: tuple[tuple[str, str], ...]) -> bytes:
    """The section's content for these pairs."""
    return ",".join(f"{name}={value}" if value else name for name, value in pairs).encode("latin-1") + b"\0"


def c_number(text: str) -> int:
    """What ``simple_strtoull(text, NULL, 0)`` makes of it: 0x and 0 prefixes, digits up to the first other one.

    Source: xen/lib/strtoull.c. No sign, no blanks; wraps at 64 bits.
    """
    base, digits = 10, "0123456789"
    if text[:1] == "0":
        base, digits = 8, "01234567"
        if text[1:2] in ("x", "X") and text[2:3].lower() in tuple("0123456789abcdef"):
            base, digits, text = 16, "0123456789abcdef", text[2:]
    value = 0
    for char in text.lower():
        if char not in digits:
            break
        value = (value * base + int(char, 16)) & 0xFFFFFFFFFFFFFFFF
    return value
