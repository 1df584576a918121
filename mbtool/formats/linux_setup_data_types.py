"""What ``setup_data`` pieces hold: the layouts of those types that have a fixed form.

Source: Linux, arch/x86/include/uapi/asm/setup_data.h, arch/x86/include/asm/setup_data.h (``struct pci_setup_rom``,
``struct efi_setup_data``), arch/x86/coco/sev/vc-shared.c (``struct cc_setup_data``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mbtool.formats.linux_boot_names import SETUP_INDIRECT, setup_type_name
from mbtool.formats.wire import Layout, choice_names
from mbtool.formats.wire_plain import Array, Bytes, Int8ul, Int16ul, Int32ul, Int64ul, Padding, Struct


@dataclass(frozen=True, slots=True)
class E820Entry:
    """``struct boot_e820_entry``: ``size`` bytes of memory from physical address ``addr``."""

    addr: int
    size: int
    type: int


E820_TYPES = {
    1: "usable",
    2: "reserved",
    3: "ACPI data",
    4: "ACPI NVS",
    5: "unusable",
    7: "persistent",
    12: "persistent, of an old kind",
    128: "reserved by the kernel",
    0xEFFFFFFF: "soft reserved",
}
E820 = Layout(
    E820Entry,
    Struct("addr" / Int64ul, "size" / Int64ul, "type" / Int32ul),
    hex={"addr", "size"},
    telling={"addr", "size", "type"},
    meanings={"type": choice_names(E820_TYPES)},
)


@dataclass(frozen=True, slots=True)
class SetupIndirect:
    """``struct setup_indirect``: ``len`` bytes of data of another type at physical address ``addr``."""

    type: int
    reserved: int
    len: int
    addr: int


INDIRECT = Layout(
    SetupIndirect,
    Struct("type" / Int32ul, "reserved" / Int32ul, "len" / Int64ul, "addr" / Int64ul),
    hex={"type", "addr"},
    telling={"type", "len", "addr"},
    meanings={"type": setup_type_name},
)


@dataclass(frozen=True, slots=True)
class PciRom:
    """``struct pci_setup_rom`` of a 64-bit kernel, behind its ``setup_data``; ``pcilen`` bytes of ROM follow."""

    vendor: int
    devid: int
    pcilen: int
    segment: int
    bus: int
    device: int
    function: int


PCI_ROM = Layout(
    PciRom,
    Struct(
        "vendor" / Int16ul,
        "devid" / Int16ul,
        Padding(4),
        "pcilen" / Int64ul,
        "segment" / Int64ul,
        "bus" / Int64ul,
        "device" / Int64ul,
        "function" / Int64ul,
    ),
    hex={"vendor", "devid", "segment", "bus", "device"},
    telling={"vendor", "devid", "pcilen"},
)


@dataclass(frozen=True, slots=True)
class EfiSetup:
    """``struct efi_setup_data``, all physical addresses: what kexec keeps of the first kernel's EFI tables."""

    fw_vendor: int
    unused: int
    tables: int
    smbios: int
    reserved: tuple[int, ...] = (0,) * 8


EFI = Layout(
    EfiSetup,
    Struct(
        "fw_vendor" / Int64ul,
        "unused" / Int64ul,
        "tables" / Int64ul,
        "smbios" / Int64ul,
        "reserved" / Array(8, Int64ul),
    ),
    hex={"fw_vendor", "unused", "tables", "smbios", "reserved"},
    telling={"tables"},
)


@dataclass(frozen=True, slots=True)
class Jailhouse:
    """``struct jailhouse_setup_data`` up to version 1; version 2 appends ``flags``."""

    version: int
    compatible_version: int
    pm_timer_address: int
    num_cpus: int
    pci_mmconfig_base: int
    tsc_khz: int
    apic_khz: int
    standard_ioapic: int
    cpu_ids: bytes


JAILHOUSE = Layout(
    Jailhouse,
    Struct(
        "version" / Int16ul,
        "compatible_version" / Int16ul,
        "pm_timer_address" / Int16ul,
        "num_cpus" / Int16ul,
        "pci_mmconfig_base" / Int64ul,
        "tsc_khz" / Int32ul,
        "apic_khz" / Int32ul,
        "standard_ioapic" / Int8ul,
        "cpu_ids" / Bytes(255),
    ),
    hex={"pm_timer_address", "pci_mmconfig_base"},
    telling={"version", "num_cpus"},
)


@dataclass(frozen=True, slots=True)
class CcBlob:
    """``struct cc_setup_data``: physical address of the confidential computing blob."""

    cc_blob_address: int


CC_BLOB = Layout(CcBlob, Struct("cc_blob_address" / Int32ul), hex={"cc_blob_address"}, telling={"cc_blob_address"})


@dataclass(frozen=True, slots=True)
class Ima:
    """``struct ima_setup_data``: measurements of the kernel before kexec, ``size`` bytes at physical ``addr``."""

    addr: int
    size: int


IMA = Layout(Ima, Struct("addr" / Int64ul, "size" / Int64ul), hex={"addr"}, telling={"addr", "size"})


@dataclass(frozen=True, slots=True)
class Kho:
    """``struct kho_data``: where kexec handover left its tree and its scratch areas (physical addresses, bytes)."""

    fdt_addr: int
    fdt_size: int
    scratch_addr: int
    scratch_size: int


KHO = Layout(
    Kho,
    Struct("fdt_addr" / Int64ul, "fdt_size" / Int64ul, "scratch_addr" / Int64ul, "scratch_size" / Int64ul),
    hex={"fdt_addr", "scratch_addr"},
    telling={"fdt_addr", "scratch_addr"},
)

LAYOUTS: dict[int, Layout[Any]] = {
    3: PCI_ROM,
    4: EFI,
    6: JAILHOUSE,
    7: CC_BLOB,
    8: IMA,
    10: KHO,
    SETUP_INDIRECT: INDIRECT,
}
"""What the data of a type begins with. SETUP_E820_EXT is an array of ``E820``; the others are free in form."""
