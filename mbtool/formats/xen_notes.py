"""Xen's ELF notes: every ``XEN_ELFNOTE_*`` with its meaning, its value decoded the way Xen decodes it.

Source: xen/include/public/elfnote.h, features.h; decoding: xen/common/libelf/libelf-dominfo.c, libelf-tools.c.
"""

from __future__ import annotations

from enum import Enum, IntEnum

from mbtool.record import record


class XenNote(IntEnum):
    """``XEN_ELFNOTE_*``: what a kernel tells the builder of its domain."""

    INFO = 0
    ENTRY = 1
    HYPERCALL_PAGE = 2
    VIRT_BASE = 3
    PADDR_OFFSET = 4
    XEN_VERSION = 5
    GUEST_OS = 6
    GUEST_VERSION = 7
    LOADER = 8
    PAE_MODE = 9
    FEATURES = 10
    BSD_SYMTAB = 11
    HV_START_LOW = 12
    L1_MFN_VALID = 13
    SUSPEND_CANCEL = 14
    INIT_P2M = 15
    MOD_START_PFN = 16
    SUPPORTED_FEATURES = 17
    PHYS32_ENTRY = 18
    PHYS32_RELOC = 19


XEN_NOTE_NAMES = {int(note): note.name for note in XenNote} | {
    0x1000001: "CRASH_INFO",
    0x1000002: "CRASH_REGS",
    0x2000000: "DUMPCORE_NONE",
    0x2000001: "DUMPCORE_HEADER",
    0x2000002: "DUMPCORE_XEN_VERSION",
    0x2000003: "DUMPCORE_FORMAT_VERSION",
}
"""Note type to name, without the ``XEN_ELFNOTE_`` prefix."""


class Form(Enum):
    """How a descriptor is read."""

    ADDRESS = "address"
    NUMBER = "number"
    STRING = "string"
    PAIRS = "mask/value pairs"
    WORDS = "32-bit words"
    FEATURES = "feature names"


@record
class NoteKind:
    """What a note type means: ``words`` for people, ``telling`` when it is worth showing unasked."""

    form: Form
    words: str
    telling: bool = False


KINDS = {
    XenNote.INFO: NoteKind(Form.STRING, "free NAME=VALUE text, which Xen ignores"),
    XenNote.ENTRY: NoteKind(Form.ADDRESS, "virtual address of the PV entry point", True),
    XenNote.HYPERCALL_PAGE: NoteKind(Form.ADDRESS, "virtual address of the page that Xen fills with hypercalls"),
    XenNote.VIRT_BASE: NoteKind(Form.ADDRESS, "virtual address of the domain's first page", True),
    XenNote.PADDR_OFFSET: NoteKind(Form.ADDRESS, "subtracted from every p_paddr"),
    XenNote.XEN_VERSION: NoteKind(Form.STRING, "interface version of Xen it is built for", True),
    XenNote.GUEST_OS: NoteKind(Form.STRING, "operating system", True),
    XenNote.GUEST_VERSION: NoteKind(Form.STRING, "version of the operating system"),
    XenNote.LOADER: NoteKind(Form.STRING, "domain builder it is made for", True),
    XenNote.PAE_MODE: NoteKind(Form.STRING, "uses PAE page tables (means something to 32-bit kernels only)"),
    XenNote.FEATURES: NoteKind(Form.FEATURES, "features supported, required when marked with !", True),
    XenNote.BSD_SYMTAB: NoteKind(Form.STRING, "whether the symbol table is to be loaded behind the kernel"),
    XenNote.HV_START_LOW: NoteKind(Form.ADDRESS, "lowest address at which it lets Xen's own range begin"),
    XenNote.L1_MFN_VALID: NoteKind(Form.PAIRS, "mask and value that tell page-table entries holding an MFN"),
    XenNote.SUSPEND_CANCEL: NoteKind(Form.NUMBER, "whether a suspend may be cancelled"),
    XenNote.INIT_P2M: NoteKind(Form.ADDRESS, "virtual address at which it wants the first P2M table", True),
    XenNote.MOD_START_PFN: NoteKind(Form.NUMBER, "whether the initrd may be left unmapped", True),
    XenNote.SUPPORTED_FEATURES: NoteKind(Form.NUMBER, "supported features as bits", True),
    XenNote.PHYS32_ENTRY: NoteKind(Form.ADDRESS, "physical address of the 32-bit PVH entry point", True),
    XenNote.PHYS32_RELOC: NoteKind(Form.WORDS, "can be moved for PVH: alignment, lowest and highest address", True),
}

FEATURE_NAMES = {
    0: "writable_page_tables",
    1: "writable_descriptor_tables",
    2: "auto_translated_physmap",
    3: "supervisor_mode_kernel",
    4: "pae_pgdir_above_4gb",
    5: "mmu_pt_update_preserve_ad",
    6: "highmem_assist",
    7: "gnttab_map_avail_bits",
    8: "hvm_callback_vector",
    9: "hvm_safe_pvclock",
    10: "hvm_pirqs",
    11: "dom0",
    12: "grant_map_identity",
    13: "memory_op_vnode_supported",
    14: "ARM_SMCCC_supported",
    15: "linux_rsdp_unrestricted",
    16: "not_direct_mapped",
    17: "direct_mapped",
    18: "runstate_phys_area",
    19: "vcpu_time_phys_area",
    20: "dm_msix_all_writes",
}
"""``XENFEAT_*`` bits (xen/include/public/features.h)."""

STRING_FEATURES = {FEATURE_NAMES[bit]: bit for bit in (0, 1, 2, 3, 4, 8, 11)}
"""The only names that Xen knows in a FEATURES string (elf_xen_feature_names)."""
FEAT_DOM0 = 11
MAX_FEATURE = 63
"""Longest feature name in a FEATURES string; Xen cuts longer ones in two."""


def number(desc: bytes) -> int:
    """A numeric descriptor of 1, 2, 4 or 8 bytes; any other size reads as 0 (elf_note_numeric)."""
    return int.from_bytes(desc, "little") if len(desc) in (1, 2, 4, 8) else 0


def numbers(desc: bytes, unit: int) -> tuple[int, ...]:
    """A descriptor as numbers of ``unit`` bytes; none when it is no multiple of it (elf_note_numeric_array)."""
    if len(desc) % unit:
        return ()
    return tuple(int.from_bytes(desc[at : at + unit], "little") for at in range(0, len(desc), unit))


def feature_list(text: str) -> tuple[str, ...]:
    """The names in a FEATURES string, ``!`` of required ones kept, cut where Xen cuts them."""
    names = []
    at = 0
    while at < len(text):
        bar = text.find("|", at, at + MAX_FEATURE)
        names.append(text[at : bar if bar >= 0 else at + MAX_FEATURE])
        at = bar + 1 if bar >= 0 else at + MAX_FEATURE
    return tuple(names)


def feature_bits(text: str) -> tuple[int, int, str | None]:
    """(supported bits, required bits, first unknown required name) of a FEATURES string (elf_xen_parse_features).

    Xen stops at an unknown required name and refuses the kernel; an unknown supported name means nothing.
    """
    supported = required = 0
    for name in feature_list(text):
        bit = STRING_FEATURES.get(name.removeprefix("!"))
        if bit is not None:
            supported |= 1 << bit
            required |= (1 << bit) * name.startswith("!")
        elif name.startswith("!"):
            return supported, required, name[1:]
    return supported, required, None
