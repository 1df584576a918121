"""Names of the numbers in Linux's setup header: flag bits, boot loaders, subarchitectures, types of setup_data.

Source: Linux, Documentation/arch/x86/boot.rst ("Details of Header Fields", "Special Command Line Options"),
arch/x86/include/uapi/asm/bootparam.h and setup_data.h.
"""

from __future__ import annotations

from mbtool.formats.wire import flag_names

LOADED_HIGH = 1 << 0
loadflags = flag_names({0: "LOADED_HIGH", 1: "KASLR_FLAG", 5: "QUIET_FLAG", 6: "KEEP_SEGMENTS", 7: "CAN_USE_HEAP"})

XLF_KERNEL_64 = 1 << 0
XLF_CAN_BE_LOADED_ABOVE_4G = 1 << 1
XLF_EFI_HANDOVER_32 = 1 << 2
XLF_EFI_HANDOVER_64 = 1 << 3
XLF_EFI_KEXEC = 1 << 4
XLF_5LEVEL = 1 << 5
XLF_5LEVEL_ENABLED = 1 << 6
XLF_MEM_ENCRYPTION = 1 << 7
xloadflags = flag_names(
    {
        0: "XLF_KERNEL_64",
        1: "XLF_CAN_BE_LOADED_ABOVE_4G",
        2: "XLF_EFI_HANDOVER_32",
        3: "XLF_EFI_HANDOVER_64",
        4: "XLF_EFI_KEXEC",
        5: "XLF_5LEVEL",
        6: "XLF_5LEVEL_ENABLED",
        7: "XLF_MEM_ENCRYPTION",
    }
)

RAMDISK_IMAGE_START_MASK = 0x07FF
RAMDISK_LOAD_FLAG = 0x4000
RAMDISK_PROMPT_FLAG = 0x8000

VID_MODE = {0xFFFF: "normal", 0xFFFE: "extended", 0xFFFD: "ask"}

HARDWARE_SUBARCH = {0: "PC", 1: "lguest", 2: "Xen", 3: "Intel MID (Moorestown)", 4: "CE4100 TV platform"}

SETUP_INDIRECT = 1 << 31
SETUP_E820_EXT = 1
SETUP_TYPES = {
    0: "SETUP_NONE",
    SETUP_E820_EXT: "SETUP_E820_EXT",
    2: "SETUP_DTB",
    3: "SETUP_PCI",
    4: "SETUP_EFI",
    5: "SETUP_APPLE_PROPERTIES",
    6: "SETUP_JAILHOUSE",
    7: "SETUP_CC_BLOB",
    8: "SETUP_IMA",
    9: "SETUP_RNG_SEED",
    10: "SETUP_KEXEC_KHO",
}

EXTENDED, SPECIAL = 0xE, 0xF
LOADERS = {
    0x0: "LILO",
    0x1: "Loadlin",
    0x2: "bootsect-loader",
    0x3: "Syslinux",
    0x4: "Etherboot/gPXE/iPXE",
    0x5: "ELILO",
    0x7: "GRUB",
    0x8: "U-Boot",
    0x9: "Xen",
    0xA: "Gujin",
    0xB: "QEMU",
    0xC: "Arcturus Networks uCbootloader",
    0xD: "kexec-tools",
    0x11: "Minimal Linux Bootloader",
    0x12: "OVMF",
    0x13: "barebox",
}


def loader(type_of_loader: int, ext_loader_type: int, ext_loader_ver: int) -> str:
    """A boot loader's name and version: type in the high four bits (E: see ext_loader_type), version in the low."""
    kind = type_of_loader >> 4
    if kind == SPECIAL:
        return "undefined" if type_of_loader == 0xFF else "special"
    if kind == EXTENDED:
        kind = ext_loader_type + 0x10
    version = (type_of_loader & 0xF) + (ext_loader_ver << 4)
    return f"{LOADERS.get(kind, f'loader {kind:#x}')}, version {version}"


def ram_size(word: int) -> str:
    """``ram_size`` in words: the RAM disk's start on a floppy disk (KiB) and two flags, for kernels long gone."""
    parts = [f"image at {word & RAMDISK_IMAGE_START_MASK} KiB"] if word & RAMDISK_IMAGE_START_MASK else []
    parts += ["RAMDISK_LOAD_FLAG"] * bool(word & RAMDISK_LOAD_FLAG)
    parts += ["RAMDISK_PROMPT_FLAG"] * bool(word & RAMDISK_PROMPT_FLAG)
    unknown = word & ~(RAMDISK_IMAGE_START_MASK | RAMDISK_LOAD_FLAG | RAMDISK_PROMPT_FLAG) & 0xFFFF
    return ", ".join(parts + [f"bits {unknown:#x}"] * bool(unknown))


def setup_type_name(type_: int) -> str:
    """``SETUP_IMA``, ``SETUP_INDIRECT | SETUP_IMA``, ``type 77``."""
    if type_ == SETUP_INDIRECT:
        return "SETUP_INDIRECT"
    name = SETUP_TYPES.get(type_ & ~SETUP_INDIRECT, f"type {type_ & ~SETUP_INDIRECT}")
    return f"SETUP_INDIRECT | {name}" if type_ & SETUP_INDIRECT else name
