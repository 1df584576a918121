"""Words for the numbers in PE/COFF headers (Microsoft PE Format: the tables of each header field)."""

from __future__ import annotations

MACHINE = {
    0: "any machine",
    0x14C: "i386",
    0x1C0: "Arm",
    0x1C2: "Arm Thumb",
    0x1C4: "Arm Thumb-2",
    0x200: "Itanium",
    0xEBC: "EFI byte code",
    0x5032: "RISC-V 32",
    0x5064: "RISC-V 64",
    0x6232: "LoongArch 32",
    0x6264: "LoongArch 64",
    0x8664: "x86-64",
    0xAA64: "Arm64",
}

CHARACTERISTICS = {
    0: "RELOCS_STRIPPED",
    1: "EXECUTABLE_IMAGE",
    2: "LINE_NUMS_STRIPPED",
    3: "LOCAL_SYMS_STRIPPED",
    4: "AGGRESSIVE_WS_TRIM",
    5: "LARGE_ADDRESS_AWARE",
    7: "BYTES_REVERSED_LO",
    8: "32BIT_MACHINE",
    9: "DEBUG_STRIPPED",
    10: "REMOVABLE_RUN_FROM_SWAP",
    11: "NET_RUN_FROM_SWAP",
    12: "SYSTEM",
    13: "DLL",
    14: "UP_SYSTEM_ONLY",
    15: "BYTES_REVERSED_HI",
}

OPTIONAL_MAGIC = {0x107: "ROM image", 0x10B: "PE32", 0x20B: "PE32+"}

SUBSYSTEM = {
    0: "unknown",
    1: "native",
    2: "Windows graphical",
    3: "Windows console",
    5: "OS/2 console",
    7: "POSIX console",
    8: "native Windows 9x driver",
    9: "Windows CE",
    10: "EFI application",
    11: "EFI boot service driver",
    12: "EFI runtime driver",
    13: "EFI ROM image",
    14: "Xbox",
    16: "Windows boot application",
}

DLL_CHARACTERISTICS = {
    5: "HIGH_ENTROPY_VA",
    6: "DYNAMIC_BASE",
    7: "FORCE_INTEGRITY",
    8: "NX_COMPAT",
    9: "NO_ISOLATION",
    10: "NO_SEH",
    11: "NO_BIND",
    12: "APPCONTAINER",
    13: "WDM_DRIVER",
    14: "GUARD_CF",
    15: "TERMINAL_SERVER_AWARE",
}

NX_COMPAT = 1 << 8

SECTION_FLAGS = {
    3: "TYPE_NO_PAD",
    5: "CNT_CODE",
    6: "CNT_INITIALIZED_DATA",
    7: "CNT_UNINITIALIZED_DATA",
    8: "LNK_OTHER",
    9: "LNK_INFO",
    11: "LNK_REMOVE",
    12: "LNK_COMDAT",
    15: "GPREL",
    17: "MEM_PURGEABLE",
    18: "MEM_LOCKED",
    19: "MEM_PRELOAD",
    24: "LNK_NRELOC_OVFL",
    25: "MEM_DISCARDABLE",
    26: "MEM_NOT_CACHED",
    27: "MEM_NOT_PAGED",
    28: "MEM_SHARED",
    29: "MEM_EXECUTE",
    30: "MEM_READ",
    31: "MEM_WRITE",
}

ALIGN_MASK = 0x00F00000
"""Bits 20-23 are no flags: n stands for an alignment of 2^(n-1) bytes (object files only)."""

MEM_DISCARDABLE = 1 << 25
MEM_EXECUTE = 1 << 29
MEM_WRITE = 1 << 31

DIRECTORIES = (
    "ExportTable",
    "ImportTable",
    "ResourceTable",
    "ExceptionTable",
    "CertificateTable",
    "BaseRelocationTable",
    "Debug",
    "Architecture",
    "GlobalPtr",
    "TLSTable",
    "LoadConfigTable",
    "BoundImport",
    "IAT",
    "DelayImportDescriptor",
    "CLRRuntimeHeader",
    "Reserved",
)
"""Data directories by index; the format has no more than these 16."""

CERTIFICATE_TABLE = 4
BASE_RELOCATION_TABLE = 5
DEBUG = 6

DEBUG_TYPE = {
    0: "unknown",
    1: "COFF symbols",
    2: "CodeView",
    3: "frame pointer omission",
    4: "miscellaneous",
    5: "exceptions",
    6: "fixups",
    9: "Borland",
    13: "profile-guided optimisation",
    16: "reproducible build",
    20: "extended DLL characteristics",
}

RELOCATION_TYPE = {
    0: "ABSOLUTE",
    1: "HIGH",
    2: "LOW",
    3: "HIGHLOW",
    4: "HIGHADJ",
    10: "DIR64",
}


def section_flags(mask: int) -> str:
    """The set bits of a section's ``Characteristics``, the alignment field as bytes."""
    words = [SECTION_FLAGS.get(bit, f"bit {bit}") for bit in range(32) if (mask & ~ALIGN_MASK) >> bit & 1]
    if align := (mask & ALIGN_MASK) >> 20:
        words.append(f"ALIGN_{1 << align - 1}BYTES")
    return ", ".join(words)
