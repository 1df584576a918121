"""The plan for a Multiboot 1 kernel: where it and its modules go, the boot information, the entry state.

::

    | 0x30000 boot information, memory map | 1 MiB … kernel … | modules, each on a page | symbols |

Multiboot Specification 0.6.96, sections "OS image format", "Machine state", "Boot information format".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mbtool.errors import RefusedError, UnsupportedError
from mbtool.formats import multiboot1, multiboot1_info
from mbtool.formats.elf_file import ElfFile
from mbtool.formats.elf_headers import SHDR, SHT_SYMTAB
from mbtool.formats.multiboot1_wire import INFO_FIELDS, ElfSections, MemoryMapEntry, Module
from mbtool.formats.multiboot_shared import BasicMemory
from mbtool.plan.e820 import E820Map
from mbtool.plan.elf_load import ElfImage, elf_image, symbols
from mbtool.plan.load import MAP_MAX, Load, LoadPlan, MachinePatch, MachineValue, MapShape, Part, Registers
from mbtool.plan.memory import PAGE, Range
from mbtool.plan.modules import ModuleFile, Placed, after, behind, place
from mbtool.plan.room import LOW, Room

LOADER_NAME = "mbtool"
FLAGS_UNDERSTOOD = 0x10007
"""Page-aligned modules, memory, video mode (a wish); address fields. Unknown bits below 16 must be refused."""
MAP_ENTRY = 24


def plan(
    kernel: str,
    size: int,
    header: multiboot1.Multiboot1Header,
    header_offset: int,
    elf: ElfFile | None,
    cmdline: str,
    modules: Sequence[ModuleFile] = (),
    memory: E820Map | None = None,
) -> LoadPlan:
    """What to load for the file ``kernel`` of ``size`` bytes, whose Multiboot header stands at ``header_offset``.

    Without ``memory`` the plan is for any PC, and the stub fills in the memory map. Raises RefusedError for what
    no loader takes: unknown required features, a place that is not free, modules that do not fit below 4 GiB.
    """
    if header.flags & 0xFFFF & ~FLAGS_UNDERSTOOD:
        raise RefusedError(
            "unsupported flags in the Multiboot header",
            source=kernel,
            offset=header_offset + 4,
            found=f"{header.flags:#x}",
        )
    room = Room(memory)
    image = None
    if header.flags & multiboot1.ADDRESSES:
        load, entry = _by_address_fields(kernel, size, header, header_offset)
        loads, span = [load], load.range
    elif elf is not None:
        image = elf_image(kernel, size, elf)
        loads, span, entry = image.loads(), image.span, image.entry
    else:
        problem = "Multiboot header without address fields in a file that is no ELF file"
        raise UnsupportedError(problem, source=kernel)
    room.take("the kernel", span, kernel)
    placed = place(modules, behind(span.end), room, kernel)
    loads += (item.load for item in placed)
    info = _info(cmdline, placed, memory)
    if image is not None:
        syms, more = _symbols(image, size, room, after(placed, behind(span.end)))
        loads += more
        info = replace(info, syms=syms)
    return _finished(kernel, info, loads, entry, room, memory)


def _info(cmdline: str, placed: Sequence[Placed], memory: E820Map | None) -> multiboot1_info.Multiboot1Info:
    entries = [
        MemoryMapEntry(base_addr=entry.range.start, length=entry.range.size, type=entry.type)
        for entry in (memory.entries if memory else ())
    ]
    unknown = (MemoryMapEntry(base_addr=0, length=0, type=0),) * MAP_MAX
    return multiboot1_info.Multiboot1Info(
        mem=BasicMemory(memory.mem_lower, memory.mem_upper) if memory else BasicMemory(0, 0),
        cmdline=cmdline,
        mods=tuple(Module(item.start, item.end, item.module.cmdline) for item in placed),
        mmap=tuple(entries) if memory else unknown,
        boot_loader_name=LOADER_NAME,
    )


def _symbols(image: ElfImage, size: int, room: Room, within: Range) -> tuple[ElfSections | None, list[Load]]:
    """Section headers and symbols, of a file that has symbols: many have only the names of their sections."""
    sections, loads = symbols(image, size, room, within)
    if not any(section.sh_type == SHT_SYMTAB for section in sections):
        return None, []
    layout = SHDR[image.elf.header.ei_class]
    stored = b"".join(layout.build(section) for section in sections)
    return ElfSections(layout.size, image.elf.header.e_shstrndx, stored), loads


def _finished(
    kernel: str,
    info: multiboot1_info.Multiboot1Info,
    loads: list[Load],
    entry: int,
    room: Room,
    memory: E820Map | None,
) -> LoadPlan:
    size = len(multiboot1_info.build(info, 0))
    at = room.find("the boot information", size, kernel, align=PAGE, within=LOW)
    content = multiboot1_info.build(info, at)
    first = Load("boot information", at, content)
    registers = Registers(entry, eax=multiboot1.BOOTLOADER_MAGIC, ebx=at)
    if memory:
        return LoadPlan("multiboot1", (first, *loads), registers)
    offsets = {name: place[0] for name, place in INFO_FIELDS.offsets.items()}
    patches = (
        MachinePatch(at + offsets["mem_lower"], MachineValue.MEM_LOWER),
        MachinePatch(at + offsets["mem_upper"], MachineValue.MEM_UPPER),
        MachinePatch(at + offsets["mmap_length"], MachineValue.MAP_ENTRIES, MAP_ENTRY),
    )
    map_address = INFO_FIELDS.parse(content).mmap_addr
    return LoadPlan("multiboot1", (first, *loads), registers, MapShape.MULTIBOOT1, map_address, patches)


def _by_address_fields(
    kernel: str, size: int, header: multiboot1.Multiboot1Header, header_offset: int
) -> tuple[Load, int]:
    fields = header.addresses
    assert fields is not None
    offset = header_offset - (fields.header_addr - fields.load_addr)
    load_size = (fields.load_end_addr or fields.load_addr + size - offset) - fields.load_addr
    if not 0 <= offset <= size or not 0 <= load_size <= size - offset:
        raise RefusedError(
            "the Multiboot address fields do not fit the file",
            source=kernel,
            offset=header_offset,
            expected=f"within {size} bytes",
            found=f"{load_size} bytes from {offset:#x}",
        )
    zero = max(0, fields.bss_end_addr - fields.load_addr - load_size) if fields.bss_end_addr else 0
    if not load_size + zero:
        raise RefusedError("nothing to load in the file", source=kernel, offset=header_offset)
    return Load(kernel, fields.load_addr, Part(kernel, offset, load_size), zero), fields.entry_addr
