"""Planned page tables in the hands of a CPU: unicorn walks them as the processor manuals say."""

from __future__ import annotations

import unicorn
from unicorn import x86_const as x86

from mbtool.plan import page_tables
from mbtool.plan.memory import Range
from mbtool.plan.pv_dom0 import Plan

EFER = 0xC000_0080
LONG_MODE = 0x500  # LME, LMA
PROTECTED_PAGED, PAE = 0x8001_0013, 0x20  # CR0: PE, MP, ET, WP, PG; CR4
READ, WRITE = bytes.fromhex("8a03"), bytes.fromhex("8803")  # mov al, [rbx]; mov [rbx], al
MARK = b"\x5a"
CODE = 0x800
"""Where in the first page of the mapping the instruction is: at the edge of no region."""


class Cpu:
    """The plan's machine memory with its page tables in it; every access runs one instruction on a fresh CPU."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._tables = b"".join(page_tables.frames(plan))
        self._wide = plan.width.bits == 64

    def reads(self, address: int, machine: int) -> bool:
        """Whether a read at virtual ``address`` finds the byte at ``machine``; False for a page fault too."""
        cpu = self._cpu(READ, address)
        in_tables = machine in Range.at(self._plan.page_table_base, len(self._tables))
        if not in_tables:
            cpu.mem_write(machine, MARK)
        expected = cpu.mem_read(machine, 1)[0]
        return self._runs(cpu) and int(cpu.reg_read(x86.UC_X86_REG_AL)) == expected

    def accesses(self, address: int, instruction: bytes) -> bool:
        """Whether ``instruction``, READ or WRITE, goes through at virtual ``address``."""
        return self._runs(self._cpu(instruction, address))

    def _cpu(self, instruction: bytes, address: int) -> unicorn.Uc:
        plan = self._plan
        cpu = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64 if self._wide else unicorn.UC_MODE_32)
        cpu.ctl_set_tlb_mode(unicorn.UC_TLB_CPU)
        for span in (plan.alloc, plan.initrd.paged() if plan.initrd else None):
            if span:
                cpu.mem_map(span.start, span.size)
        cpu.mem_write(plan.page_table_base, self._tables)
        cpu.mem_write(plan.alloc.start + CODE, instruction)
        cpu.reg_write(x86.UC_X86_REG_CR3, plan.page_table_base)
        cpu.reg_write(x86.UC_X86_REG_CR4, PAE)
        cpu.reg_write(x86.UC_X86_REG_MSR, (EFER, LONG_MODE if self._wide else 0))
        cpu.reg_write(x86.UC_X86_REG_CR0, PROTECTED_PAGED)
        cpu.reg_write(x86.UC_X86_REG_RBX if self._wide else x86.UC_X86_REG_EBX, address)
        return cpu

    def _runs(self, cpu: unicorn.Uc) -> bool:
        start = self._plan.space.total.start + CODE
        try:
            cpu.emu_start(start, start + len(READ), count=1)
        except unicorn.UcError:
            return False
        return int(cpu.reg_read(x86.UC_X86_REG_RIP if self._wide else x86.UC_X86_REG_EIP)) == start + len(READ)
