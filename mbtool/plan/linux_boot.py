"""The plan for a Linux kernel (bzImage): where it and its initrd go, the ``boot_params`` page, the entry state.

::

    | 0x30000 boot_params | 0x3e000 command line | … kernel: all the memory it needs … | initrd, on a page |

Linux: Documentation/arch/x86/boot.rst ("32-bit Boot Protocol", "Details of Header Fields"), zero-page.rst. A
relocatable kernel never runs below its preferred address (arch/x86/boot/compressed/head_64.S), so no place below
it is considered.
"""

from __future__ import annotations

from dataclasses import dataclass

from mbtool.errors import RefusedError
from mbtool.formats.linux_boot_params import E820_MAX_ENTRIES_ZEROPAGE
from mbtool.formats.multiboot_shared import bytes_of
from mbtool.model import Finding, Severity
from mbtool.plan import linux_params
from mbtool.plan.e820 import FOUR_GIB, E820Map
from mbtool.plan.linux_kernel import LinuxKernel, linux_kernel
from mbtool.plan.linux_params import ALT_MEM_K, E820_ENTRIES, E820_TABLE, HEAP_END, Settings, boot_params
from mbtool.plan.load import Load, LoadPlan, MachinePatch, MachineValue, MapShape, Part, Registers
from mbtool.plan.memory import PAGE, TOP, Range
from mbtool.plan.modules import ModuleFile, behind
from mbtool.plan.room import HIGH, LOW, Room


@dataclass(frozen=True, slots=True)
class RealModeEntry:
    """Registers at the 16-bit entry, interrupts off; ``segment`` is for ds, es, fs, gs and ss."""

    cs: int
    ip: int
    segment: int
    sp: int


@dataclass(frozen=True, slots=True)
class LongModeEntry:
    """Registers at the 64-bit entry: paging on, all that the plan names mapped where it is, interrupts off."""

    rip: int
    rsi: int


@dataclass(frozen=True, slots=True)
class LinuxPlan:
    """The plan for the 32-bit entry, and where its parts are: physical addresses."""

    load_plan: LoadPlan
    kernel: LinuxKernel
    memory: Range
    """What the kernel needs from where it is loaded until it knows the machine's memory."""
    params_at: int
    cmdline_at: int
    initrd: Range | None
    findings: tuple[Finding, ...] = ()

    @property
    def real_mode_entry(self) -> RealModeEntry:
        """The 16-bit entry: with the real-mode part where ``boot_params`` is, which it then makes by itself.

        Its setup header must be that of ``boot_params``; up to HEAP_END the memory behind it is its own.
        """
        segment = self.params_at >> 4
        return RealModeEntry(segment + 0x20, 0, segment, HEAP_END)

    @property
    def long_mode_entry(self) -> LongModeEntry | None:
        """The 64-bit entry, None when the kernel has none."""
        return LongModeEntry(self.memory.start + 0x200, self.params_at) if self.kernel.has_64_bit_entry else None


def plan(
    name: str,
    head: bytes,
    size: int,
    cmdline: str,
    initrd: ModuleFile | None = None,
    memory: E820Map | None = None,
) -> LinuxPlan:
    """What to load for the bzImage ``name`` of ``size`` bytes that begins with ``head``.

    Without ``memory`` the plan is for any PC: the kernel at its preferred address, the initrd above it, and the
    stub fills in the memory map. With it the initrd goes as high as it may. Raises FormatError for no bzImage,
    UnsupportedError or RefusedError for one without a 32-bit entry, RefusedError for a command line or an initrd
    that is too big (by how much).
    """
    kernel = linux_kernel(name, head, size)
    text = bytes_of(cmdline, "cmdline")
    if len(text) - 1 > kernel.cmdline_max:
        raise RefusedError(
            f"the command line is {len(text) - 1 - kernel.cmdline_max} bytes too long: the kernel would cut it",
            source=name,
            field="cmdline_size",
            expected=f"at most {kernel.cmdline_max} bytes",
            found=f"{len(text) - 1}",
        )
    room = Room(memory)
    at, alignment = _place_kernel(kernel, room)
    span = Range.at(at, kernel.needed)
    placed = _place_initrd(kernel, initrd, room, span.end) if initrd and initrd.size else None
    params_at = room.find("boot_params", linux_params.SIZE, name, align=PAGE, within=LOW)
    behind_heap = Range(params_at + HEAP_END, max(params_at + HEAP_END, LOW.end))
    cmdline_at = room.find("the command line", len(text), name, align=16, within=behind_heap)
    settings = Settings(
        code32_start=at + kernel.entry_offset,
        alignment=alignment,
        cmdline_at=cmdline_at,
        quiet="quiet" in cmdline.split(),
        initrd=placed,
    )
    loads = [
        Load("boot_params", params_at, boot_params(kernel, settings, memory)),
        Load("command line", cmdline_at, text),
        Load(name, at, Part(name, kernel.header.setup_size, kernel.prot_size), kernel.needed - kernel.prot_size),
    ]
    if initrd and placed:
        loads.append(Load(initrd.file, placed.start, Part(initrd.file, 0, initrd.size)))
    registers = Registers(settings.code32_start, esi=params_at, esp=params_at)
    if memory:
        carried = LoadPlan("linux", tuple(loads), registers)
    else:
        patches = (
            MachinePatch(params_at + E820_ENTRIES, MachineValue.MAP_ENTRIES),
            MachinePatch(params_at + ALT_MEM_K, MachineValue.MEM_UPPER),
        )
        carried = LoadPlan("linux", tuple(loads), registers, MapShape.LINUX, params_at + E820_TABLE, patches)
    findings = () if memory is None or len(memory.entries) <= E820_MAX_ENTRIES_ZEROPAGE else (_cut(memory),)
    return LinuxPlan(carried, kernel, span, params_at, cmdline_at, placed, findings)


def _cut(memory: E820Map) -> Finding:
    return Finding(
        "E820-CUT",
        Severity.WARNING,
        "boot_params cannot hold the whole memory map: the kernel is not told of what comes last",
        "e820_table",
        expected=f"at most {E820_MAX_ENTRIES_ZEROPAGE} entries",
        found=f"{len(memory.entries)}",
        remedy="join entries, or start it by EFI, whose stub hands on the rest as setup_data",
    )


def _place_kernel(kernel: LinuxKernel, room: Room) -> tuple[int, int | None]:
    """Where the protected-mode part is loaded, and the alignment to tell the kernel (None: its own)."""
    preferred = Range.at(kernel.preferred, kernel.needed)
    if not kernel.relocatable or not room.known or room.free(preferred):
        room.take("the kernel", preferred, kernel.name)
        return preferred.start, None
    within = Range(kernel.preferred, max(kernel.preferred, HIGH.end))
    fitting = (align for align in kernel.alignments if room.largest(align, within) >= kernel.needed)
    alignment = next(fitting, kernel.alignments[-1])
    at = room.find("the kernel", kernel.needed, kernel.name, align=alignment, within=within)
    return at, None if alignment == kernel.alignments[0] else alignment


def _place_initrd(kernel: LinuxKernel, initrd: ModuleFile, room: Room, kernel_end: int) -> Range:
    """As high as it may go on a known machine, else as low as possible above the kernel."""
    above = behind(kernel_end)
    limit = min(kernel.initrd_max + 1, FOUR_GIB)
    choices = [Range(min(above.start, limit), limit)]
    if kernel.above_4g:
        choices += [above, Range(FOUR_GIB, TOP)]
    within = next((span for span in choices if room.largest(PAGE, span) >= initrd.size), choices[0])
    start = room.find("the initrd", initrd.size, kernel.name, align=PAGE, within=within, highest=True)
    return Range.at(start, initrd.size)
