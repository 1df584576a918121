"""The plan for a Multiboot 1 kernel: where it and its modules go, the boot information, the entry state.

::

    | 0x30000 boot information, memory map | 1 MiB … kernel … | modules, each on a page |

Multiboot Specification 0.6.96, sections "OS image format", "Machine state", "Boot information format".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mbtool.errors import RefusedError, UnsupportedError
from mbtool.formats import multiboot1, multiboot1_info
from mbtool.formats.elf_file import ElfFile
from mbtool.formats.elf_headers import PT_LOAD
from mbtool.formats.multiboot1_wire import INFO_FIELDS, MemoryMapEntry, Module
from mbtool.formats.multiboot_shared import BasicMemory
from mbtool.plan.load import MAP_MAX, Load, LoadPlan, MachinePatch, MachineValue, MapShape, Part, Registers
from mbtool.plan.memory import up

BOOT_MAGIC = 0x2BADB002
"""In eax at entry."""
INFO_ADDRESS = 0x30000
MIN_LOAD = 0x100000
MODULE_ALIGN = 1 << 20
"""Of the first module: leaves a kernel a little room behind itself."""
LOADER_NAME = "mbtool"
FOUR_GIB = 1 << 32
FLAGS_UNDERSTOOD = 0x10007
"""Page-aligned modules, memory, video mode (a wish); address fields. Unknown bits below 16 must be refused."""


@dataclass(frozen=True, slots=True)
class ModuleFile:
    """A module: the name of its file, bytes, command line (its first word is the file's name, as loaders do it)."""

    file: str
    size: int
    cmdline: str


def plan(
    kernel: str,
    size: int,
    header: multiboot1.Multiboot1Header,
    header_offset: int,
    elf: ElfFile | None,
    cmdline: str,
    modules: Sequence[ModuleFile] = (),
) -> LoadPlan:
    """What to load for the file ``kernel`` of ``size`` bytes, whose Multiboot header stands at ``header_offset``.

    Raises RefusedError for what no loader takes: unknown required features, segments below 1 MiB, nothing below
    4 GiB left for a module.
    """
    if header.flags & 0xFFFF & ~FLAGS_UNDERSTOOD:
        raise RefusedError(
            "unsupported flags in the Multiboot header",
            source=kernel,
            offset=header_offset + 4,
            found=f"{header.flags:#x}",
        )
    if header.flags >> 16 & 1:
        loads, entry = _by_address_fields(kernel, size, header, header_offset)
    elif elf is not None:
        loads, entry = _by_segments(kernel, elf)
    else:
        raise UnsupportedError(
            "Multiboot header without address fields in a file that is no ELF file", source=kernel
        )
    at = up(max(load.range.end for load in loads), MODULE_ALIGN)
    placed = []
    for module in modules:
        loads.append(Load(module.file, at, Part(module.file, 0, module.size)))
        placed.append(Module(mod_start=at, mod_end=at + module.size, string=module.cmdline))
        at = up(at + module.size)
    if at > FOUR_GIB:
        raise RefusedError("the modules do not fit below 4 GiB", source=kernel, found=f"{at:#x}")
    info = multiboot1_info.build(
        multiboot1_info.Multiboot1Info(
            mem=BasicMemory(mem_lower=0, mem_upper=0),
            cmdline=cmdline,
            mods=tuple(placed),
            mmap=(MemoryMapEntry(base_addr=0, length=0, type=0),) * MAP_MAX,
            boot_loader_name=LOADER_NAME,
        ),
        INFO_ADDRESS,
    )
    offsets = INFO_FIELDS.offsets
    return LoadPlan(
        "multiboot1",
        (Load("boot information", INFO_ADDRESS, info), *loads),
        Registers(entry, eax=BOOT_MAGIC, ebx=INFO_ADDRESS),
        MapShape.MULTIBOOT1,
        INFO_FIELDS.parse(info).mmap_addr,
        (
            MachinePatch(INFO_ADDRESS + offsets["mem_lower"][0], MachineValue.MEM_LOWER),
            MachinePatch(INFO_ADDRESS + offsets["mem_upper"][0], MachineValue.MEM_UPPER),
            MachinePatch(INFO_ADDRESS + offsets["mmap_length"][0], MachineValue.MAP_ENTRIES, 24),
        ),
    )


def _by_segments(kernel: str, elf: ElfFile) -> tuple[list[Load], int]:
    loads = []
    entry = elf.header.e_entry
    for phdr in elf.program_headers:
        if phdr.p_type != PT_LOAD or not phdr.p_memsz:
            continue
        if phdr.p_paddr < MIN_LOAD or phdr.p_paddr + phdr.p_memsz > FOUR_GIB:
            raise RefusedError(
                "segment lies below 1 MiB or above 4 GiB",
                source=kernel,
                offset=phdr.p_offset,
                field="p_paddr",
                found=f"{phdr.p_paddr:#x}",
            )
        part = Part(kernel, phdr.p_offset, min(phdr.p_filesz, phdr.p_memsz))
        loads.append(Load(kernel, phdr.p_paddr, part, phdr.p_memsz - part.size))
        if phdr.p_vaddr <= elf.header.e_entry < phdr.p_vaddr + phdr.p_memsz:
            entry = elf.header.e_entry - phdr.p_vaddr + phdr.p_paddr
    if not loads:
        raise RefusedError("nothing to load in the ELF file", source=kernel)
    return loads, entry


def _by_address_fields(
    kernel: str, size: int, header: multiboot1.Multiboot1Header, header_offset: int
) -> tuple[list[Load], int]:
    fields = header.addresses
    assert fields is not None
    offset = header_offset - (fields.header_addr - fields.load_addr)
    load_size = (fields.load_end_addr or fields.load_addr + size - offset) - fields.load_addr
    if offset < 0 or load_size < 0 or offset + load_size > size:
        raise RefusedError(
            "the Multiboot address fields do not fit the file",
            source=kernel,
            offset=header_offset,
            expected=f"within {size} bytes",
            found=f"{load_size} bytes from {offset:#x}",
        )
    zero = max(0, fields.bss_end_addr - fields.load_addr - load_size) if fields.bss_end_addr else 0
    return [Load(kernel, fields.load_addr, Part(kernel, offset, load_size), zero)], fields.entry_addr
