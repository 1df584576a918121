"""The one piece of memory that Xen fills for a PVH kernel: its initrd, and all that it is told.

::

    | initrd | its string | … page | command line | modlist entry | hvm_start_info |

Strings end on the kernel's words (8 bytes for ELF64, 4 for ELF32). Xen: xen/arch/x86/hvm/dom0_build.c,
``pvh_load_kernel``.
"""

from __future__ import annotations

from mbtool.formats import hvm_start_info
from mbtool.plan.memory import PAGE, Range, up
from mbtool.plan.pvh_versions import PvhRules
from mbtool.record import record

START_INFO_SIZE = hvm_start_info.size_of(1)
"""Xen leaves the room of version 1 and says version 0."""


@record
class Region:
    """The one piece of memory that Xen finds for all that it tells the kernel; parts that are absent are None."""

    initrd: Range | None
    """The initrd's exact bytes."""
    initrd_cmdline: Range | None
    """Its string, final NUL included."""
    cmdline: Range | None
    """dom0's command line, final NUL included."""
    modlist: Range | None
    start_info: Range

    @property
    def range(self) -> Range:
        parts = (self.initrd, self.cmdline, self.modlist, self.start_info)
        return Range(next(part.start for part in parts if part is not None), self.start_info.end)


def module_string(initrd_len: int | None, string: bytes | None, how: PvhRules) -> bytes | None:
    """The initrd's string as far as this Xen hands it on."""
    if initrd_len is None or not how.module_string or (how.string_counted and not string):
        return None
    return string


def size_looked_for(
    initrd_len: int | None, string: bytes | None, cmdline: bytes | None, how: PvhRules, word: int
) -> int:
    """Bytes of free memory that Xen looks for: up to 4.20 it forgets the initrd's string."""
    size = START_INFO_SIZE
    if initrd_len is not None:
        initrd = up(initrd_len, word) if how.string_counted else initrd_len
        if how.string_counted and string is not None:
            initrd += len(string) + 1
        size += up(initrd) + hvm_start_info.MODLIST_ENTRY.size
    return size + (0 if cmdline is None else up(len(cmdline) + 1, word))


def lay_out(
    at: int, initrd_len: int | None, string: bytes | None, cmdline: bytes | None, how: PvhRules, word: int
) -> Region:
    """pvh_load_kernel's second half: one thing behind the other from ``at`` on."""
    initrd = initrd_cmdline = line = modlist = None
    if initrd_len is not None:
        initrd = Range.at(at, initrd_len)
        at += up(initrd_len, word if how.module_string else PAGE)
        if string is not None:
            initrd_cmdline = Range.at(at, len(string) + 1)
            at = initrd_cmdline.end
        at = up(at)
    if cmdline is not None:
        line = Range.at(at, len(cmdline) + 1)
        at += up(line.size, word)
    if initrd is not None:
        modlist = Range.at(at, hvm_start_info.MODLIST_ENTRY.size)
        at = modlist.end
    return Region(initrd, initrd_cmdline, line, modlist, Range.at(at, START_INFO_SIZE))
