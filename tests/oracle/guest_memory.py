"""The memory of a PVH dom0, read from outside while its machine stands still.

QEMU's gdb server takes a guest's addresses for the host's while the guest runs without paging of its own. The
machine's RAM is a file, though: in it lies the VMCB that Xen started dom0 with, which names the nested page tables.
AMD64 Architecture Programmer's Manual, volume 2, appendix B (VMCB), 5.3 (long-mode page translation).
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

PAGE = 4096
NP_ENABLE, N_CR3 = 0x090, 0x0B0
CR0, RIP = 0x558, 0x578
ADDRESS = 0x000F_FFFF_FFFF_F000


class GuestMemory:
    """The first domain entered at ``entry``; LookupError when its VMCB is not found. Use with ``with``."""

    def __init__(self, ram: Path, entry: int) -> None:
        """``ram``: the RAM of a q35 machine, what lies below 4 GiB first."""
        size = ram.stat().st_size
        self._low = size if size < 0xB000_0000 else 0x8000_0000
        with ram.open("rb") as file:
            self._ram = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._root = self._find(entry)

    def __enter__(self) -> GuestMemory:
        return self

    def __exit__(self, *_: object) -> None:
        self._ram.close()

    def _find(self, entry: int) -> int:
        """The nested page tables of a VMCB whose save area stands at ``entry``, paging off."""
        wanted = struct.pack("<Q", entry)
        at = -1
        while (at := self._ram.find(wanted, at + 1)) >= 0:
            vmcb = at - RIP
            if vmcb < 0 or vmcb % PAGE:
                continue
            enabled, root, cr0 = (self._stored(vmcb + offset) for offset in (NP_ENABLE, N_CR3, CR0))
            if enabled & 1 and root and root % PAGE == 0 and cr0 & 0x8000_0001 == 1:
                return root
        raise LookupError(f"no VMCB at {entry:#x}")

    def _word(self, address: int) -> int:
        return self._stored(self._place(address))

    def _stored(self, place: int) -> int:
        value: int = struct.unpack_from("<Q", self._ram, place)[0]
        return value

    def _place(self, address: int) -> int:
        """Where the RAM at a machine address is in the file."""
        return address if address < self._low else address - (1 << 32) + self._low

    def machine_address(self, address: int) -> int | None:
        """Where the guest's physical ``address`` lies in the machine; None when it is not mapped."""
        table = self._root
        for shift in (39, 30, 21, 12):
            entry = self._word(table + 8 * (address >> shift & 511))
            if not entry & 1:
                return None
            table = entry & ADDRESS
            if shift == 12 or entry & 0x80:
                low = (1 << shift) - 1
                return table & ~low | address & low
        return None

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes of the guest's physical memory, fewer where it is not mapped to RAM."""
        data = b""
        while len(data) < size:
            here = address + len(data)
            at = self.machine_address(here)
            piece = min(size - len(data), PAGE - here % PAGE)
            place = -1 if at is None else self._place(at)
            if not 0 <= place <= len(self._ram) - piece:
                break
            data += self._ram[place : place + piece]
        return data
