"""What Xen prints with ``dom0=pvh,verbose`` of what is planned here, in its own lines.

Xen: xen/arch/x86/hvm/dom0_build.c; xen/common/libelf/libelf-dominfo.c, ``elf_xen_addr_calc_check``;
xen/arch/x86/e820.c, ``print_e820_memory_map``. It prints the kernel's addresses from 4.19 on, the map from 4.17 on.
"""

from __future__ import annotations

from mbtool.plan.pvh_dom0 import PvhPlan

TYPES = {1: "(usable)", 2: "(reserved)", 3: "(ACPI data)", 4: "(ACPI NVS)", 5: "(unusable)"}
UNSET = (1 << 64) - 1


def lines(plan: PvhPlan) -> tuple[str, ...]:
    """The lines without ``(XEN) `` and line ends; leading blanks are Xen's. The map is always there."""
    result = ["*** Building a PVH Dom0 ***"]
    if plan.rules.checked_address:
        result += _addresses(plan)
    if plan.moved:
        was = plan.kernel.shifted(-plan.moved)
        result.append(
            f"d0 kernel: Moving [{was.start:016x}, {was.end - 1:016x}]"
            f" -> [{plan.kernel.start:016x}, {plan.kernel.end - 1:016x}]"
        )
    result.append("Dom0 memory map:")
    for entry in plan.memory_map:
        kind = TYPES.get(entry.type, f"type {entry.type}")
        result.append(f" [{entry.range.start:016x}, {entry.range.end - 1:016x}] {kind}")
    return tuple(result)


def table(plan: PvhPlan) -> tuple[str, ...]:
    """Where everything lies, and how dom0 starts. Xen prints none of this."""
    regions = [
        f" {name.replace('_', ' ') + ':':16}{span.start:016x}->{span.end:016x}" for name, span in plan.regions
    ]
    registers = (f"{name}={value:#x}" for name, value in plan.registers.items() if "_" not in name)
    return ("PHYSICAL ADDRESSES OF DOM0:", *regions, f" ENTRY:          {', '.join(registers)}")


def _addresses(plan: PvhPlan) -> list[str]:
    parms = plan.parms
    values = {
        "virt_base": parms.virt_base,
        "elf_paddr_offset": parms.elf_paddr_offset,
        "virt_offset": parms.virt_offset,
        "virt_kstart": parms.virt_kstart,
        "virt_kend": parms.virt_kend,
        "virt_entry": parms.virt_entry,
        "p2m_base": UNSET if parms.p2m_base is None else parms.p2m_base,
    }
    return ["ELF: addresses:", *(f"    {name:16} = {value:#x}" for name, value in values.items())]
