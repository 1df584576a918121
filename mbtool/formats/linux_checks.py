"""What can be wrong with the setup header of a Linux kernel: it contradicts the protocol, itself or the file.

Source: Linux, Documentation/arch/x86/boot.rst.
"""

from __future__ import annotations

from collections.abc import Iterator

from mbtool.formats import linux_boot
from mbtool.formats import linux_boot_names as names
from mbtool.formats.linux_boot import PARAGRAPH, SETUP_HEADER, START, SetupHeader
from mbtool.model import Finding, Severity

MAX_REAL_MODE = 32 * 1024
"""Bytes of boot sector and setup together: boot.rst, "The Real-Mode Kernel Header"."""
MAX_LOW = 512 * 1024
"""Bytes of a zImage's protected-mode part: it must fit between 64 KiB and 0x90000."""
MAX_ALIGNMENT_POWER = 32
HIGH = 0x100000
"""Where a bzImage's protected-mode part is loaded and entered, unless it is relocated (boot.rst, code32_start)."""
PAGE = 4096
MEMORY_END = 0xE0000000
"""From here to 4 GiB no machine has memory, and behind it not every one."""


def findings(header: SetupHeader, size: int) -> Iterator[Finding]:
    """All that is odd about the header of a kernel file of ``size`` bytes."""
    yield from _shape(header)
    yield from _extent(header, size)
    if header.payload is not None:
        yield from _payload(header, header.payload, size)
    yield from _flags(header)
    yield from _placement(header)
    yield from _for_the_loader(header)


def _finding(
    id_: str,
    severity: Severity,
    message: str,
    field: str,
    expected: object = "",
    found: object = "",
    remedy: str = "",
) -> Finding:
    offset = START + SETUP_HEADER.offsets[field][0]
    return Finding(id_, severity, message, field, offset, str(expected), str(found), remedy)


def _shape(header: SetupHeader) -> Iterator[Finding]:
    """The header's own form: flag, jump, version, length."""
    if header.boot_flag != linux_boot.BOOT_FLAG:
        found = f"{header.boot_flag:#06x}"
        yield _finding("LINUX-BOOT-FLAG", Severity.WARNING, "the boot flag is wrong", "boot_flag", "0xaa55", found)
    if header.old:
        return
    version = "{}.{:02}".format(*header.protocol)
    if not header.measured:
        message = "no short jump over the header: its length is taken from its version"
        yield _finding(
            "LINUX-JUMP", Severity.WARNING, message, "jump", "0xeb and a distance", f"{header.jump:#06x}"
        )
    elif header.end < header.version_end:
        message = f"the header ends before the last field of version {version}"
        yield _finding(
            "LINUX-HEADER-LENGTH",
            Severity.WARNING,
            message,
            "jump",
            f"an end at {header.version_end:#x}",
            f"{header.end:#x}",
        )
    latest = "{}.{:02}".format(*linux_boot.LATEST)
    if header.protocol > linux_boot.LATEST:
        message = "a boot protocol newer than any known: fields that it may have added are not shown"
        yield _finding("LINUX-PROTOCOL", Severity.INFO, message, "version", f"up to {latest}", version)
    elif header.protocol < (2, 0):
        message = "a boot protocol that no kernel had"
        yield _finding("LINUX-PROTOCOL", Severity.WARNING, message, "version", f"2.00 to {latest}", version)
    elif header.protocol == linux_boot.BURNT:
        message = "a boot protocol that was taken back: to be read as 2.13"
        yield _finding("LINUX-PROTOCOL", Severity.INFO, message, "version", "2.13 or 2.15", version)


def _extent(header: SetupHeader, size: int) -> Iterator[Finding]:
    """The two parts of the kernel against each other and against the file."""
    if header.setup_sects == 0:
        message = "0 setup sectors mean 4; Xen takes it for none"
        yield _finding("LINUX-SETUP-SECTS", Severity.INFO, message, "setup_sects", 4, 0)
    if header.setup_size > MAX_REAL_MODE:
        found = f"{header.setup_size} bytes"
        message = "the real-mode part is too large"
        expected = f"at most {MAX_REAL_MODE} bytes"
        yield _finding("LINUX-SETUP-SECTS", Severity.WARNING, message, "setup_sects", expected, found)
    system = header.system_size
    needed = header.setup_size + (system or 0)
    # syssize counts paragraphs: the last one may be there in part only.
    if size <= needed - PARAGRAPH or size < header.setup_size:
        yield _finding(
            "LINUX-TRUNCATED",
            Severity.ERROR,
            "the file ends before the kernel does",
            "syssize",
            f"{needed} bytes",
            size,
            "the copy is incomplete: fetch it again",
        )
    if system is None:
        return
    if system == 0 and header.protocol >= (2, 4):
        yield _finding("LINUX-SYSSIZE", Severity.WARNING, "no protected-mode part", "syssize", "more than 0", 0)
    if not header.old and not header.loaded_high and system > MAX_LOW:
        message = "too large to be loaded low"
        yield _finding(
            "LINUX-SYSSIZE", Severity.ERROR, message, "syssize", f"at most {MAX_LOW} bytes", f"{system} bytes"
        )


def _payload(header: SetupHeader, payload: tuple[int, int], size: int) -> Iterator[Finding]:
    offset, length = payload
    system = header.system_size or 0
    if offset + length > size:
        yield _finding(
            "LINUX-PAYLOAD",
            Severity.ERROR,
            "the payload ends behind the file",
            "payload_length",
            f"at most {max(0, size - offset)}",
            length,
        )
    elif header.payload_offset + length > system:
        yield _finding(
            "LINUX-PAYLOAD",
            Severity.WARNING,
            "the payload ends behind the protected-mode part, which is all that a loader loads",
            "payload_length",
            f"at most {max(0, system - header.payload_offset)}",
            length,
        )
    if length == 0:
        yield _finding(
            "LINUX-PAYLOAD", Severity.WARNING, "the payload is empty", "payload_length", "more than 0", 0
        )


_NEEDS = (
    (names.XLF_CAN_BE_LOADED_ABOVE_4G, names.XLF_KERNEL_64, "to be loaded above 4 GiB takes a 64-bit entry point"),
    (names.XLF_5LEVEL, names.XLF_KERNEL_64, "5-level paging takes a 64-bit kernel"),
    (names.XLF_5LEVEL_ENABLED, names.XLF_5LEVEL, "5-level paging is enabled, but the kernel does not know it"),
)
"""Flags of xloadflags of which the first means nothing without the second."""


def _flags(header: SetupHeader) -> Iterator[Finding]:
    if not header.has("xloadflags"):
        return
    flags = header.xloadflags
    found = f"{flags:#x}"
    for flag, needed, message in _NEEDS:
        if flags & flag and not flags & needed:
            expected = f"{names.xloadflags(needed)} beside {names.xloadflags(flag)}"
            yield _finding("LINUX-XLOADFLAGS", Severity.WARNING, message, "xloadflags", expected, found)
    if flags & names.XLF_CAN_BE_LOADED_ABOVE_4G and not header.relocatable_kernel:
        message = "to be loaded above 4 GiB takes a relocatable kernel"
        yield _finding("LINUX-XLOADFLAGS", Severity.WARNING, message, "relocatable_kernel", 1, 0)
    handover = flags & (names.XLF_EFI_HANDOVER_32 | names.XLF_EFI_HANDOVER_64)
    if handover and not header.handover_offset:
        message = "an EFI handover entry is promised, but it has no place"
        yield _finding("LINUX-XLOADFLAGS", Severity.WARNING, message, "handover_offset", "not 0", 0)


def _placement(header: SetupHeader) -> Iterator[Finding]:
    """Alignment, preferred address and memory needed."""
    alignment = header.kernel_alignment
    if header.has("relocatable_kernel") and header.relocatable_kernel and alignment.bit_count() != 1:
        message = "the alignment of a relocatable kernel is no power of two"
        severity = Severity.WARNING if alignment else Severity.ERROR
        yield _finding(
            "LINUX-ALIGNMENT", severity, message, "kernel_alignment", "a power of two", f"{alignment:#x}"
        )
    elif header.has("init_size"):
        if header.min_alignment >= MAX_ALIGNMENT_POWER or 1 << header.min_alignment > max(alignment, 1):
            message = "the least alignment is above the preferred one"
            expected = f"2^n up to {alignment:#x}"
            found = f"2^{header.min_alignment}"
            yield _finding("LINUX-ALIGNMENT", Severity.WARNING, message, "min_alignment", expected, found)
        if header.relocatable_kernel and header.pref_address % alignment:
            message = "the preferred address does not have the kernel's alignment"
            expected = f"a multiple of {alignment:#x}"
            found = f"{header.pref_address:#x}"
            yield _finding("LINUX-ALIGNMENT", Severity.WARNING, message, "pref_address", expected, found)
    if header.has("init_size") and header.init_size < (header.system_size or 0):
        message = "needs less memory than its protected-mode part has bytes"
        expected = f"at least {header.system_size}"
        yield _finding("LINUX-INIT-SIZE", Severity.ERROR, message, "init_size", expected, header.init_size)
    elif packed(header) and header.xloadflags & names.XLF_KERNEL_64 and header.init_size % PAGE:
        message = "is not counted in whole pages: the kernel moves itself up by it, and its page tables with it"
        expected = f"a multiple of {PAGE}"
        yield _finding("LINUX-INIT-SIZE", Severity.ERROR, message, "init_size", expected, header.init_size)


def _for_the_loader(header: SetupHeader) -> Iterator[Finding]:
    """Fields that a loader may write, and finds as the kernel's build left them."""
    if not packed(header):
        return
    if header.realmode_swtch:
        message = "a hook is named that only a loader could bring along"
        found = f"{header.realmode_swtch:#x}"
        yield _finding("LINUX-HOOK", Severity.WARNING, message, "realmode_swtch", 0, found)
    if header.loaded_high and header.code32_start != HIGH:
        message = "the entry point is not where the kernel is loaded"
        found = f"{header.code32_start:#x}"
        yield _finding("LINUX-HOOK", Severity.ERROR, message, "code32_start", f"{HIGH:#x}", found)
    if header.has("setup_data") and header.setup_data:
        message = "a list is said to be in memory that only a loader could have filled"
        severity = Severity.WARNING if header.setup_data < MEMORY_END else Severity.ERROR
        yield _finding("LINUX-HOOK", severity, message, "setup_data", 0, f"{header.setup_data:#x}")


def packed(header: SetupHeader) -> bool:
    """Whether a kernel is packed inside, as in every Linux since 2.6.24: other programs have the header, too."""
    return header.payload is not None and header.payload[1] > 0
