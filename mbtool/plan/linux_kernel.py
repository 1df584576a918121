"""What a bzImage's setup header says to a loader that uses the 32-bit entry: sizes, places, limits by version.

Linux: Documentation/arch/x86/boot.rst, "Details of Header Fields". Fields that a version does not have get the
values that loaders assume for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from mbtool.errors import FormatError, RefusedError, UnsupportedError
from mbtool.formats import linux_boot
from mbtool.formats.linux_boot import SetupHeader

HEAD_READ = linux_boot.MAX_END
"""Bytes from the file's start that hold any setup header."""
LOAD_HIGH = 0x100000
"""Where a bzImage is loaded unless it is relocatable."""
TOO_HIGH = 1 << 32
"""No 32-bit entry starts a kernel up there."""
XLF_KERNEL_64, XLF_CAN_BE_LOADED_ABOVE_4G = 1 << 0, 1 << 1
OLD_INITRD_MAX = 0x37FFFFFF
OLD_CMDLINE_SIZE = 255
UNPACKED = 3
"""A kernel that does not tell its init_size is taken to need so many times its own size, as GRUB does."""


@dataclass(frozen=True, slots=True)
class LinuxKernel:
    """A bzImage as a loader sees it; addresses are physical, sizes in bytes."""

    name: str
    header: SetupHeader
    size: int
    """The file's."""

    @property
    def prot_size(self) -> int:
        """Size of the protected-mode part: all that follows the real-mode part, as loaders take it."""
        return self.size - self.header.setup_size

    @property
    def entry_offset(self) -> int:
        """From where the protected-mode part is loaded to its 32-bit entry point."""
        return self.header.code32_start - LOAD_HIGH

    @property
    def relocatable(self) -> bool:
        return bool(self.header.has("relocatable_kernel") and self.header.relocatable_kernel)

    @property
    def runs_at(self) -> int:
        """Its pref_address, below which it never runs; one that is not relocatable moves itself there."""
        return min(max(LOAD_HIGH, self.header.pref_address), TOO_HIGH) if self._told else LOAD_HIGH

    @property
    def preferred(self) -> int:
        """Where it is loaded if nothing is in the way."""
        return self.runs_at if self.relocatable else LOAD_HIGH

    @property
    def needed(self) -> int:
        """Memory that it needs from where it is loaded until it knows the machine's."""
        unpacked = self.header.init_size if self._told else self.prot_size * UNPACKED
        return max(self.prot_size, self.runs_at - self.preferred + unpacked)

    @property
    def alignments(self) -> tuple[int, ...]:
        """Alignments that it can be loaded at, the one it likes best first."""
        best = self.header.kernel_alignment if self.relocatable else 1
        if not best or best & (best - 1):
            return (1,)  # senseless: left to the kernel, which aligns itself
        least = best.bit_length() - 1
        if self.header.has("min_alignment") and self.header.min_alignment:
            least = min(least, self.header.min_alignment)
        return tuple(1 << bit for bit in range(best.bit_length() - 1, least - 1, -1))

    @property
    def initrd_max(self) -> int:
        """The highest address that the initrd may touch."""
        return self.header.initrd_addr_max if self.header.has("initrd_addr_max") else OLD_INITRD_MAX

    @property
    def above_4g(self) -> bool:
        """Initrd and all else may lie anywhere."""
        return bool(self.header.has("xloadflags") and self.header.xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G)

    @property
    def has_64_bit_entry(self) -> bool:
        return bool(self.header.has("xloadflags") and self.header.xloadflags & XLF_KERNEL_64)

    @property
    def cmdline_max(self) -> int:
        """Bytes of the command line without its NUL."""
        return self.header.cmdline_size if self.header.has("cmdline_size") else OLD_CMDLINE_SIZE

    @property
    def _told(self) -> bool:
        """Whether the header tells where the kernel runs and what it needs there."""
        return self.header.has("init_size")


def is_bzimage(head: bytes) -> bool:
    """Whether a file that begins so is a Linux kernel of protocol 2.00 or later."""
    return head[0x1FE:0x200] == b"\x55\xaa" and head[0x202:0x206] == b"HdrS"


def linux_kernel(name: str, head: bytes, size: int) -> LinuxKernel:
    """The kernel in a file of ``size`` bytes that begins with ``head`` (HEAD_READ bytes, fewer in a shorter file).

    Raises FormatError for no bzImage or one that is cut short, RefusedError for one that is too old for the 32-bit
    entry, UnsupportedError for one that has none.
    """
    if not is_bzimage(head):
        raise FormatError("no Linux kernel: HdrS is not at 0x202", source=name)
    header = linux_boot.parse(head, source=name)
    old = header.protocol < (2, 2)
    if old or not header.loaded_high:
        found = f"boot protocol {header.protocol[0]}.{header.protocol[1]:02}" if old else "a zImage"
        raise RefusedError(
            "too old for the 32-bit entry",
            source=name,
            offset=0x206,
            expected="a bzImage of boot protocol 2.02 or later",
            found=found,
        )
    kernel = LinuxKernel(name, header, size)
    if kernel.prot_size <= 0:
        raise FormatError(
            "the file ends before its protected-mode part",
            source=name,
            offset=linux_boot.START,
            field="setup_sects",
            expected=f"more than {header.setup_size} bytes",
            found=f"{size}",
        )
    if not 0 <= kernel.entry_offset < kernel.prot_size:
        raise UnsupportedError(
            "the kernel has no 32-bit entry point, only a 16-bit one",
            source=name,
            offset=0x214,
            field="code32_start",
            expected=f"in [{LOAD_HIGH:#x}, {LOAD_HIGH + kernel.prot_size:#x})",
            found=f"{header.code32_start:#x}",
        )
    return kernel
