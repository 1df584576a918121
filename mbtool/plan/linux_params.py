"""The ``boot_params`` page that a loader hands to Linux at its 32-bit entry.

Linux: Documentation/arch/x86/boot.rst ("32-bit Boot Protocol"), zero-page.rst.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mbtool.formats import linux_boot_params
from mbtool.formats.linux_boot_params import BOOT_PARAMS, E820_MAX_ENTRIES_ZEROPAGE, BootParams
from mbtool.formats.linux_boot_params_parts import ScreenInfo
from mbtool.formats.linux_setup_data_types import E820Entry
from mbtool.plan.e820 import E820Map
from mbtool.plan.linux_kernel import LinuxKernel
from mbtool.plan.memory import Range

SIZE = linux_boot_params.SIZE
ALT_MEM_K, E820_ENTRIES, E820_TABLE = (
    BOOT_PARAMS.offsets[name][0] for name in ("alt_mem_k", "e820_entries", "e820_table")
)
"""Offsets of what only the machine knows."""
UNDEFINED_LOADER = 0xFF
QUIET_FLAG, CAN_USE_HEAP = 1 << 5, 1 << 7
HEAP_END = 0xE000
"""End of the 16-bit setup code's stack and heap, from its start (boot.rst, "Sample Boot Configuration")."""
HEAP_END_PTR = HEAP_END - 0x200
"""What the setup header calls it (boot.rst, "heap_end_ptr")."""
MASK32 = 0xFFFFFFFF
VGA_TEXT = ScreenInfo(
    orig_y=24,
    orig_video_mode=3,
    orig_video_cols=80,
    orig_video_lines=25,
    orig_video_isVGA=1,
    orig_video_points=16,
)
"""The text mode that a BIOS leaves; the cursor in the last line, behind what was printed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the loader decided: physical addresses and bytes."""

    code32_start: int
    alignment: int | None
    """None: as in the image."""
    cmdline_at: int
    quiet: bool
    initrd: Range | None


def boot_params(kernel: LinuxKernel, settings: Settings, memory: E820Map | None) -> bytes:
    """The page: the kernel's own setup header and what the loader fills in. At most 128 entries of the map fit."""
    initrd = settings.initrd or Range(0, 0)
    header = replace(
        kernel.header,
        type_of_loader=UNDEFINED_LOADER,
        loadflags=kernel.header.loadflags | (QUIET_FLAG if settings.quiet else 0),
        code32_start=settings.code32_start,
        cmd_line_ptr=settings.cmdline_at,
        ramdisk_image=initrd.start & MASK32,
        ramdisk_size=initrd.size & MASK32,
    )
    if header.has("heap_end_ptr"):
        header = replace(header, loadflags=header.loadflags | CAN_USE_HEAP, heap_end_ptr=HEAP_END_PTR)
    if settings.alignment is not None:
        header = replace(header, kernel_alignment=settings.alignment)
    params = BootParams(
        screen_info=VGA_TEXT,
        ext_ramdisk_image=initrd.start >> 32,
        ext_ramdisk_size=initrd.size >> 32,
        hdr=header,
    )
    if memory is not None:
        entries = (E820Entry(entry.range.start, entry.range.size, entry.type) for entry in memory.entries)
        params = linux_boot_params.with_memory_map(
            replace(params, alt_mem_k=memory.mem_upper), tuple(entries)[:E820_MAX_ENTRIES_ZEROPAGE]
        )
    return linux_boot_params.build(params)
