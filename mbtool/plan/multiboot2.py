"""The plan for a Multiboot 2 kernel: where it and its modules go, the boot information, the entry state.

::

    | 0x30000 boot information, memory map last | 1 MiB … kernel … | modules, each on a page | symbols |

Multiboot2 Specification 2.0, sections "OS image format", "I386 machine state", "Boot information format". What GRUB
does where the specification is silent: grub-core/loader/multiboot_mbi2.c. The tags that need EFI or a started video
mode are not given; the image can do without them (section "Information request header tag").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mbtool.errors import RefusedError, UnsupportedError
from mbtool.formats import multiboot2, multiboot2_info
from mbtool.formats import multiboot2_header_tags as header_tags
from mbtool.formats import multiboot2_info_tags as info_tags
from mbtool.formats.elf_file import ElfFile
from mbtool.formats.elf_headers import SHDR, Shdr
from mbtool.formats.multiboot2_header_tags import FROM_START, INFO_NAMES, OPTIONAL, Address, Relocatable
from mbtool.formats.multiboot2_tags import HEAD_SIZE, UnknownTag
from mbtool.formats.multiboot_shared import BasicMemory
from mbtool.plan.e820 import E820Map
from mbtool.plan.elf_load import ElfImage, elf_image, symbols
from mbtool.plan.load import MAP_MAX, Load, LoadPlan, MachinePatch, MachineValue, MapShape, Part, Registers
from mbtool.plan.memory import PAGE, Range
from mbtool.plan.modules import ModuleFile, after, behind, place
from mbtool.plan.room import HIGH, LOW, Room

LOADER_NAME = "mbtool"
EGA_TEXT = info_tags.Framebuffer(
    framebuffer_addr=0xB8000,
    framebuffer_pitch=160,
    framebuffer_width=80,
    framebuffer_height=25,
    framebuffer_bpp=16,
    framebuffer_type=2,
)
"""The text mode that a BIOS leaves."""
PREFER_HIGHEST = 2
MAP_ENTRY = 24


@dataclass(frozen=True, slots=True)
class _Image:
    """Loads of the kernel as linked and the memory that they span; ``elf`` unless the address tag says it all."""

    loads: list[Load]
    span: Range
    elf: ElfImage | None = None

    def moved(self, delta: int) -> list[Load]:
        return [Load(load.name, load.address + delta, load.content, load.zero) for load in self.loads]


def plan(
    kernel: str,
    size: int,
    header: multiboot2.Multiboot2Header,
    header_offset: int,
    elf: ElfFile | None,
    cmdline: str,
    modules: Sequence[ModuleFile] = (),
    memory: E820Map | None = None,
) -> LoadPlan:
    """What to load for the file ``kernel`` of ``size`` bytes, whose Multiboot 2 header stands at ``header_offset``.

    Without ``memory`` the plan is for any PC: nothing is moved to a place that only a large machine has, and the
    stub fills in the memory map. Raises RefusedError for what a loader must refuse: unknown required tags, a
    place that is not free, modules that do not fit below 4 GiB.
    """
    _check_tags(kernel, header)
    room = Room(memory)
    image = _image(kernel, size, header, header_offset, elf)
    base = _place(kernel, image.span, header.find(Relocatable), room)
    delta = base - image.span.start
    loads = image.moved(delta)
    # above the kernel, unless it was put as high as possible
    within = behind(base + image.span.size) if base == image.span.start or not room.known else HIGH
    placed = place(modules, within, room, kernel)
    loads += (item.load for item in placed)
    tags: list[object] = [
        info_tags.LoadBaseAddress(base),
        info_tags.CommandLine(cmdline),
        info_tags.BootLoaderName(LOADER_NAME),
    ]
    tags += (info_tags.Module(item.start, item.end, item.module.cmdline) for item in placed)
    if image.elf is not None:
        sections, more = symbols(image.elf, size, room, after(placed, within))
        loads += more
        if sections:
            tags.append(_elf_sections(image.elf.elf, sections))
    tags.append(EGA_TEXT)
    entry = _entry(header, image) + delta
    return _finished(kernel, tags, loads, entry, room, memory)


def _finished(
    kernel: str, tags: list[object], loads: list[Load], entry: int, room: Room, memory: E820Map | None
) -> LoadPlan:
    """The boot information behind the other tags: memory sizes, and the memory map last, so that it can grow."""
    mem = BasicMemory(memory.mem_lower, memory.mem_upper) if memory else BasicMemory(0, 0)
    entries = tuple(
        info_tags.MemoryMapEntry(entry.range.start, entry.range.size, entry.type)
        for entry in (memory.entries if memory else ())
    )
    info = multiboot2_info.build(multiboot2_info.Multiboot2Info.of(*tags, mem, info_tags.MemoryMap(entries)))
    growth = 0 if memory else MAP_ENTRY * MAP_MAX
    at = room.find("the boot information", len(info) + growth, kernel, align=PAGE, within=LOW)
    load = Load("boot information", at, info, growth)
    registers = Registers(entry, eax=multiboot2.BOOTLOADER_MAGIC, ebx=at)
    if memory:
        return LoadPlan("multiboot2", (load, *loads), registers)
    # behind the other tags: memory sizes (16 bytes), the map's head (16), its entries, the end tag
    end = at + len(info) - HEAD_SIZE
    mem_at, map_at = end - 32, end - 16
    patches = (
        MachinePatch(at, MachineValue.MAP_ENTRIES, MAP_ENTRY, len(info)),
        MachinePatch(map_at + 4, MachineValue.MAP_ENTRIES, MAP_ENTRY, 16),
        MachinePatch(mem_at + 8, MachineValue.MEM_LOWER),
        MachinePatch(mem_at + 12, MachineValue.MEM_UPPER),
    )
    return LoadPlan("multiboot2", (load, *loads), registers, MapShape.MULTIBOOT2, end, patches)


def _check_tags(kernel: str, header: multiboot2.Multiboot2Header) -> None:
    """Refuse what must be understood and is not."""
    for tag in header.tags:
        if tag.flags & OPTIONAL:
            continue
        if isinstance(tag.value, UnknownTag):
            raise RefusedError("unsupported tag", source=kernel, found=f"{tag.value.type:#x}")
        if isinstance(tag.value, header_tags.InformationRequest):
            unknown = [number for number in tag.value.mbi_tag_types if number not in INFO_NAMES]
            if unknown:
                raise RefusedError("unsupported information tag", source=kernel, found=f"{unknown[0]:#x}")
        if isinstance(tag.value, header_tags.ConsoleFlags) and tag.value.console_flags & 3 == 1:
            raise RefusedError(
                "the kernel requires a console and cannot use the text mode, which is all there is",
                source=kernel,
                field="console_flags",
                found=f"{tag.value.console_flags:#x}",
            )


def _image(
    kernel: str, size: int, header: multiboot2.Multiboot2Header, header_offset: int, elf: ElfFile | None
) -> _Image:
    address = header.find(Address)
    if address is not None:
        return _by_address(kernel, size, address, header_offset)
    if elf is None:
        raise UnsupportedError(
            "Multiboot 2 header without address tag in a file that is no ELF file", source=kernel
        )
    image = elf_image(kernel, size, elf)
    return _Image(image.loads(), image.span, image)


def _by_address(kernel: str, size: int, tag: Address, header_offset: int) -> _Image:
    load_addr = tag.header_addr - header_offset if tag.load_addr == FROM_START else tag.load_addr
    offset = header_offset - (tag.header_addr - load_addr)
    load_size = (tag.load_end_addr or load_addr + size - offset) - load_addr
    if load_addr < 0 or not 0 <= offset <= size or not 0 <= load_size <= size - offset:
        raise RefusedError(
            "the address tag does not fit the file",
            source=kernel,
            offset=header_offset,
            expected=f"within {size} bytes",
            found=f"{load_size} bytes from {offset:#x}",
        )
    zero = max(0, tag.bss_end_addr - load_addr - load_size) if tag.bss_end_addr else 0
    if not load_size + zero:
        raise RefusedError("nothing to load in the file", source=kernel, offset=header_offset)
    loads = [Load(kernel, load_addr, Part(kernel, offset, load_size), zero)]
    return _Image(loads, Range.at(load_addr, load_size + zero))


def _place(kernel: str, linked: Range, tag: Relocatable | None, room: Room) -> int:
    """Where the image begins: as linked, or where its header lets it be put."""
    if tag is None:
        room.take("the kernel", linked, kernel)
        return linked.start
    low = max(tag.min_addr, HIGH.start)
    within = Range(low, max(low, tag.max_addr))  # GRUB: the image ends at max_addr or below
    return room.find(
        "the kernel",
        linked.size,
        kernel,
        align=tag.align or 1,
        within=within,
        highest=tag.preference == PREFER_HIGHEST,
    )


def _entry(header: multiboot2.Multiboot2Header, image: _Image) -> int:
    """The entry point as linked: what its tag says, else the ELF file's."""
    tag = header.find(header_tags.EntryAddress)
    if tag is not None:
        return tag.entry_addr
    if header.find(Address) is not None:
        raise RefusedError("load address tag without entry address tag", source=image.loads[0].name)
    assert image.elf is not None
    return image.elf.entry


def _elf_sections(elf: ElfFile, sections: tuple[Shdr, ...]) -> info_tags.ElfSections:
    layout = SHDR[elf.header.ei_class]
    stored = b"".join(layout.build(section) for section in sections)
    return info_tags.ElfSections(layout.size, elf.header.e_shstrndx, stored)
