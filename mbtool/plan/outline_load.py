"""What a boot loader's plan looks like: outlines for Linux, Multiboot and PVH kernels.

Each protocol's structure is imported when one is shown.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from mbtool.model import Node
from mbtool.plan.e820 import E820Map
from mbtool.plan.load import Load, LoadPlan, Part
from mbtool.plan.memory import Range
from mbtool.plan.outline import EntryState, Outline, Region, Use, physical
from mbtool.source import BytesSource

if TYPE_CHECKING:
    from mbtool.plan.linux_boot import LinuxPlan

ANY_PC = "any PC: RAM from 1 MiB on; the loader fills in the memory map and its sizes"
LOADERS_FIELDS = frozenset(
    {
        "type_of_loader",
        "code32_start",
        "ramdisk_image",
        "ramdisk_size",
        "cmd_line_ptr",
        "initrd_addr_max",
        "kernel_alignment",
        "cmdline_size",
        "ext_ramdisk_image",
        "ext_ramdisk_size",
        "alt_mem_k",
    }
)
"""Fields of boot_params and its setup header that a loader writes or goes by; ``ext_`` only when not zero."""
FLAT = {"cs": 0x10, "ds": 0x18, "es": 0x18, "ss": 0x18}
"""Linux's __BOOT_CS and __BOOT_DS, which its 32-bit entry asks for."""


def of_linux(plan: LinuxPlan, memory: E820Map | None) -> Outline:
    """A Linux kernel: boot_params as structure, all three entries as far as the kernel has them.

    Loaders check little: what is wrong with the kernel's header is told with the plan.
    """
    from mbtool.formats import linux_boot_params_node, linux_checks

    carried = plan.load_plan
    kernel = plan.kernel
    state = carried.registers
    zero = {"ebx": 0, "ebp": 0, "edi": 0}
    entries = [EntryState("32-bit", {"eip": state.eip, "esi": state.esi, "esp": state.esp, **zero, **FLAT})]
    if plan.long_mode_entry:
        entries.append(EntryState("64-bit", {"rip": plan.long_mode_entry.rip, "rsi": plan.long_mode_entry.rsi}))
    real = plan.real_mode_entry
    segments = dict.fromkeys(("ds", "es", "fs", "gs", "ss"), real.segment)
    entries.append(EntryState("16-bit", {"cs": real.cs, "ip": real.ip, **segments, "sp": real.sp}))
    major, minor = kernel.header.protocol
    page = content_at(carried, plan.params_at)
    return Outline(
        "linux",
        f"{_base(kernel.name)}, Linux boot protocol {major}.{minor:02}",
        (physical("physical memory", _regions(carried, kernel.name, "needed to unpack"), memory),),
        tuple(entries),
        _telling(linux_boot_params_node.node(page)),
        memory,
        assumptions=() if memory else (ANY_PC,),
        findings=(*plan.findings, *linux_checks.findings(kernel.header, kernel.size)),
    )


def of_load(plan: LoadPlan, kernel: str, memory: E820Map | None) -> Outline:
    """A Multiboot or PVH kernel, whose file the plan calls ``kernel``: the boot information as structure."""
    state = plan.registers
    titles = {"multiboot1": "Multiboot 1", "multiboot2": "Multiboot 2", "pvh": "PVH"}
    return Outline(
        plan.protocol,
        f"{_base(kernel)}, {titles[plan.protocol]}",
        (physical("physical memory", _regions(plan, kernel, "zeros"), memory),),
        (EntryState("32-bit", {"eip": state.eip, "eax": state.eax, "ebx": state.ebx}),),
        _without_blanks(_information(plan)),
        memory,
        assumptions=() if memory else (ANY_PC,),
    )


def _telling(node: Node) -> Node:
    """The tree with the loader's fields among those that are shown without being asked."""
    fields = tuple(
        replace(field, telling=True)
        if field.name in LOADERS_FIELDS and (field.value or not field.name.startswith("ext_"))
        else field
        for field in node.fields
    )
    return replace(node, fields=fields, children=tuple(map(_telling, node.children)))


def _without_blanks(node: Node) -> Node:
    """The tree without the memory map's entries that the loader has yet to fill in."""
    return replace(node, children=tuple(child for child in node.children if child.get("length") != 0))


def content_at(plan: LoadPlan, address: int) -> bytes:
    """The bytes that the plan itself puts at a physical address, as it makes them."""
    (content,) = (load.content for load in plan.loads if load.address == address)
    assert isinstance(content, bytes)
    return content


def _regions(plan: LoadPlan, kernel: str, behind: str) -> tuple[Region, ...]:
    """A region per load, and one for the zeros behind it, which are ``behind`` for the kernel."""
    regions = []
    for load in plan.loads:
        use, name = _use(load, kernel), _base(load.name)
        if load.size:
            regions.append(Region(name, use, Range.at(load.address, load.size)))
        if load.zero:
            words = behind if use is Use.KERNEL else "room for the memory map"
            regions.append(Region(f"{name}: {words}", Use.SPARE, Range.at(load.address + load.size, load.zero)))
    return tuple(_joined(regions))


def _joined(regions: list[Region]) -> list[Region]:
    """Segments that adjoin and are alike, as one."""
    joined: list[Region] = []
    for region in sorted(regions, key=lambda region: region.range):
        last = joined[-1] if joined else None
        if last and (last.name, last.use, last.range.end) == (region.name, region.use, region.range.start):
            joined[-1] = replace(last, range=Range(last.range.start, region.range.end))
        else:
            joined.append(region)
    return joined


def _use(load: Load, kernel: str) -> Use:
    if not isinstance(load.content, Part):
        return Use.INFO
    return Use.KERNEL if load.content.file == kernel else Use.MODULE


def _base(name: str) -> str:
    return PurePath(name).name or name


def _information(plan: LoadPlan) -> Node:
    """The boot information where ebx points, as a tree."""
    address = plan.registers.ebx
    content = BytesSource(content_at(plan, address))
    if plan.protocol == "multiboot1":
        from mbtool.formats import multiboot1_info

        return multiboot1_info.inspect(content, address)
    if plan.protocol == "multiboot2":
        from mbtool.formats import multiboot2_info

        return multiboot2_info.inspect(content)
    from mbtool.formats import hvm_start_info

    return hvm_start_info.inspect(content, base=address)
