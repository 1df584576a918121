"""Names of the numbers in ELF headers (System V gABI; psABI and GNU additions for x86)."""

from __future__ import annotations

DATA_NAMES = {1: "little-endian", 2: "big-endian"}

TYPE_NAMES = {0: "none", 1: "relocatable", 2: "executable", 3: "shared object", 4: "core"}

MACHINE_NAMES = {
    0: "none",
    2: "SPARC",
    3: "Intel 80386",
    8: "MIPS",
    20: "PowerPC",
    21: "PowerPC64",
    22: "S/390",
    40: "ARM",
    50: "IA-64",
    62: "x86-64",
    183: "AArch64",
    243: "RISC-V",
    247: "BPF",
    258: "LoongArch",
}

PHDR_TYPE_NAMES = {
    0: "NULL",
    1: "LOAD",
    2: "DYNAMIC",
    3: "INTERP",
    4: "NOTE",
    5: "SHLIB",
    6: "PHDR",
    7: "TLS",
    0x6474E550: "GNU_EH_FRAME",
    0x6474E551: "GNU_STACK",
    0x6474E552: "GNU_RELRO",
    0x6474E553: "GNU_PROPERTY",
    0x6474E554: "GNU_SFRAME",
}

PHDR_FLAG_NAMES = {0: "X", 1: "W", 2: "R"}

SHDR_TYPE_NAMES = {
    0: "NULL",
    1: "PROGBITS",
    2: "SYMTAB",
    3: "STRTAB",
    4: "RELA",
    5: "HASH",
    6: "DYNAMIC",
    7: "NOTE",
    8: "NOBITS",
    9: "REL",
    10: "SHLIB",
    11: "DYNSYM",
    14: "INIT_ARRAY",
    15: "FINI_ARRAY",
    16: "PREINIT_ARRAY",
    17: "GROUP",
    18: "SYMTAB_SHNDX",
    0x6FFFFFF5: "GNU_ATTRIBUTES",
    0x6FFFFFF6: "GNU_HASH",
    0x6FFFFFFD: "VERDEF",
    0x6FFFFFFE: "VERNEED",
    0x6FFFFFFF: "VERSYM",
    0x70000001: "X86_64_UNWIND",
}

SHDR_FLAG_NAMES = {
    0: "WRITE",
    1: "ALLOC",
    2: "EXECINSTR",
    4: "MERGE",
    5: "STRINGS",
    6: "INFO_LINK",
    7: "LINK_ORDER",
    8: "OS_NONCONFORMING",
    9: "GROUP",
    10: "TLS",
    11: "COMPRESSED",
    28: "X86_64_LARGE",
    31: "EXCLUDE",
}
