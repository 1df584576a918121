"""What Xen derives from a kernel: against recorded boots, Xen's messages, and the limits of each rule."""

from __future__ import annotations

import json
import lzma
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.errors import MbtoolError, RefusedError
from mbtool.formats import xen_versions
from mbtool.formats.dom_parms import DomParms, PaeMode
from mbtool.formats.elf_build import build_elf
from mbtool.formats.elf_headers import EHDR, PT_LOAD, PT_NOTE, SHT_NOTE, SHT_STRTAB, SHT_SYMTAB, Ehdr, Phdr, Shdr
from mbtool.formats.elf_notes import build_notes
from mbtool.formats.xen_dom_parms import derive
from mbtool.formats.xen_notes import XenNote
from mbtool.formats.xen_versions import XenVersion
from mbtool.model import Node
from mbtool.source import BytesSource
from tests.formats.linux_notes import LINUX_6_1
from tests.formats.test_elf import inspect
from tests.formats.test_elf_notes import grub_image

DATA = Path(__file__).parent.parent / "data"
BASE = 0xFFFFFFFF80000000


def u64(value: int) -> bytes:
    return value.to_bytes(8, "little")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


LINUX = {XenNote.GUEST_OS: b"linux\0", XenNote.XEN_VERSION: b"xen-3.0\0"}
START, SIZE = 0x1000000, 0x400000


def kernel(notes: dict[XenNote, bytes], *, elf_class: int = 64, entry: int = START, **change: int) -> bytes:
    """A kernel of SIZE bytes at START with these notes added to LINUX; ``change`` is for its load segment."""
    data = build_notes([("Xen", type_, desc) for type_, desc in {**LINUX, **notes}.items() if desc])
    load = Phdr(**{"p_flags": 5, "p_paddr": START, "p_memsz": SIZE, "p_align": 0x200000, **change})
    return build_elf([(load, b"code"), (Phdr(p_type=PT_NOTE), data)], elf_class=elf_class, entry=entry)


def xen(version: tuple[int, int]) -> XenVersion:
    return xen_versions.parse("{}.{}".format(*version))


def of(data: bytes, *, hvm: bool = False, version: tuple[int, int] = (4, 17)) -> DomParms:
    return derive(BytesSource(data), hvm=hvm, version=xen(version))


# --- recorded boots of real Xen


def unpacked(name: str) -> bytes:
    return lzma.LZMADecompressor().decompress((DATA / "kernels" / name).read_bytes())


RECORDINGS = [
    ("xen4.15.7-linux61-512M", "linux-6.1.0-56-amd64.skeleton.xz", (4, 15)),
    ("xen4.17.7-linux61-512M", "linux-6.1.0-56-amd64.skeleton.xz", (4, 17)),
    ("xen4.18.0-linux61-512M", "linux-6.1.0-56-amd64.skeleton.xz", (4, 18)),
    ("xen4.22.0-linux61-512M", "linux-6.1.0-56-amd64.skeleton.xz", (4, 22)),
    ("xen4.17.7-grub-64M", "grub-2.06-x86_64-xen.skeleton.xz", (4, 17)),
]


@pytest.mark.parametrize(("recording", "skeleton", "version"), RECORDINGS)
def test_recorded_boot(recording, skeleton, version):
    """Xen's console lines state the results; the P2M line tells INIT_P2M, the ramdisk line whether it is mapped."""
    console = "\n".join(json.loads((DATA / "oracle" / f"{recording}.json").read_text())["console"])

    def line(pattern: str) -> tuple[int, ...]:
        match = re.search(pattern, console)
        assert match is not None
        return tuple(int(value, 16) for value in match.groups())

    parms = of(unpacked(skeleton), version=version)
    assert (parms.pstart, parms.pend) == line(r"paddr (\w+) -> (\w+)")
    assert (parms.virt_kstart, parms.virt_kend) == line(r"Loaded kernel: (\w+)->(\w+)")
    assert (parms.virt_base,) == line(r"TOTAL: +(\w+)->")
    assert (parms.virt_entry,) == line(r"ENTRY ADDRESS: (\w+)")
    p2m = line(r"Phys-Mach map: (\w+)->")[0]
    assert p2m == (parms.p2m_base if parms.p2m_base is not None else -(-parms.virt_kend // 4096) * 4096)
    assert ("64-bit, PAE" in console) == (parms.pae is not PaeMode.NO and version < (4, 18))
    virtual = console.split("VIRTUAL MEMORY")[1]
    assert parms.unmapped_initrd == ("linux" in recording)
    assert "Init. ramdisk: ffff" not in virtual


def test_linux_notes():
    data = build_elf([(Phdr(p_flags=7, p_paddr=START, p_memsz=0x3A00000), b""), (Phdr(p_type=PT_NOTE), LINUX_6_1)])
    parms = of(data)
    assert parms == of(data, version=(4, 22))
    assert (parms.loader, parms.guest_os, parms.guest_ver, parms.xen_ver) == ("generic", "linux", "2.6", "xen-3.0")
    assert (parms.f_supported, parms.f_required) == (0x8811, 1)
    assert parms.pae is PaeMode.EXTENDED_CR3
    assert parms.virt_hv_start_low == 0xFFFF800000000000
    pvh = of(data, hvm=True)
    assert (pvh.virt_base, pvh.virt_kstart, pvh.virt_kend) == (0, START, 0x4A00000)
    assert pvh.virt_entry == pvh.phys_entry == 0x1000850


@pytest.mark.real
def test_grub_x86_64(debian, tool, tmp_path):
    data = grub_image("x86_64-xen", debian, tool, tmp_path).read_bytes()
    parms = of(data)
    assert (parms.virt_base, parms.virt_entry, parms.p2m_base, parms.unmapped_initrd) == (0, 0, None, False)
    with pytest.raises(RefusedError, match="Unable to find XEN_ELFNOTE_PHYS32_ENTRY address"):
        of(data, hvm=True)


@pytest.mark.real
def test_grub_pvh(debian, tool, tmp_path):
    data = grub_image("i386-xen_pvh", debian, tool, tmp_path).read_bytes()
    assert of(data, hvm=True).phys_entry == 0x100000
    with pytest.raises(RefusedError, match="Will only load images built for the generic loader"):
        of(data)


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hvmloader", "ERROR: Not a Xen-ELF image: No ELF notes or '__xen_guest' section found"),
        (
            "xen-shim",
            "ERROR: Will only load images built for the generic loader or Linux images"
            " (Not '' and '') or with PHYS32_ENTRY set",
        ),
    ],
)
def test_xen_tools_are_no_pv_kernels(name, message, debian):
    data = (debian("xen-utils-4.17") / "usr/lib/xen-4.17/boot" / name).read_bytes()
    with pytest.raises(RefusedError, match=re.escape(message)):
        of(data)


@pytest.mark.real
def test_xen_shim_is_a_pvh_kernel(debian):
    data = (debian("xen-utils-4.17") / "usr/lib/xen-4.17/boot/xen-shim").read_bytes()
    parms = of(data, hvm=True)
    assert parms.virt_kstart == parms.pstart == 0x200000
    assert parms.phys_entry is not None


# --- each value


def test_defaults():
    parms = of(kernel({}))
    assert (parms.virt_base, parms.elf_paddr_offset, parms.virt_offset) == (0, 0, 0)
    assert (parms.virt_kstart, parms.virt_kend, parms.virt_entry) == (START, START + SIZE, START)
    assert (parms.virt_hypercall, parms.virt_hv_start_low, parms.p2m_base, parms.phys_entry) == (None,) * 4
    assert (parms.phys_align, parms.phys_min, parms.phys_max, parms.phys_reloc) == (None, 0, 0xFFFFFFFF, False)
    assert not parms.unmapped_initrd
    assert not parms.bsd_symtab
    assert not parms.has_supported_features_note
    assert parms.pae is PaeMode.NO
    assert parms.palign == 0x200000


def test_virt_base_and_paddr_offset():
    notes = {XenNote.VIRT_BASE: u64(BASE), XenNote.PADDR_OFFSET: u64(0x1000), XenNote.ENTRY: u64(BASE + START)}
    parms = of(kernel(notes))
    assert parms.virt_offset == BASE - 0x1000
    assert parms.virt_kstart == BASE + START - 0x1000
    assert parms.virt_kend == BASE + START + SIZE - 0x1000
    assert parms.virt_entry == BASE + START


def test_pvh_ignores_virtual_addresses():
    notes = {
        XenNote.VIRT_BASE: u64(BASE),
        XenNote.PADDR_OFFSET: u64(0x1000),
        XenNote.ENTRY: u64(BASE + START),
        XenNote.PHYS32_ENTRY: u32(START + 0x10),
    }
    parms = of(kernel(notes), hvm=True)
    assert (parms.virt_base, parms.elf_paddr_offset, parms.virt_kstart) == (0, 0, START)
    assert parms.virt_entry == parms.phys_entry == START + 0x10


def test_pvh_before_4_16_kept_virtual_addresses():
    notes = {XenNote.VIRT_BASE: u64(BASE), XenNote.ENTRY: u64(BASE + START), XenNote.PHYS32_ENTRY: u32(START)}
    parms = of(kernel(notes), hvm=True, version=(4, 15))
    assert (parms.virt_base, parms.virt_kstart, parms.virt_entry) == (BASE, BASE + START, BASE + START)


def test_segments_that_xen_loads():
    """PT_LOAD with one of R, W and X; lowest address to highest end, wherever they stand in the table."""
    notes = build_notes([("Xen", type_, desc) for type_, desc in LINUX.items()])
    segments = [
        (Phdr(p_flags=4, p_paddr=0x300000, p_memsz=0x1000, p_align=0x1000), b""),
        (Phdr(p_flags=0, p_paddr=0x0, p_memsz=0x10000000, p_align=1 << 30), b""),
        (Phdr(p_flags=1, p_paddr=0x100000, p_memsz=0x80000, p_align=0x10), b"x"),
        (Phdr(p_type=PT_NOTE), notes),
        (Phdr(p_type=6, p_flags=7, p_paddr=0x0, p_memsz=0x10000000), b""),
    ]
    parms = of(build_elf(segments, entry=0x100000))
    assert (parms.pstart, parms.pend, parms.palign) == (0x100000, 0x301000, 0x1000)
    assert [segment.p_paddr for segment in parms.segments] == [0x300000, 0x100000]


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        (b"yes\0", PaeMode.EXTENDED_CR3),
        (b"no\0", PaeMode.NO),
        (b"bimodal\0", PaeMode.BIMODAL),
        (b"yes,bimodal\0", PaeMode.BIMODAL),
        (b"yes, please\0", PaeMode.NO),
    ],
)
def test_pae_mode(text, mode):
    assert of(kernel({XenNote.PAE_MODE: text})).pae is mode


@pytest.mark.parametrize(("value", "unmapped"), [(b"\1\0\0\0", True), (bytes(4), False), (b"\0" * 7 + b"\1", True)])
def test_mod_start_pfn(value, unmapped):
    assert of(kernel({XenNote.MOD_START_PFN: value})).unmapped_initrd == unmapped


def test_strings_are_cut_at_15_characters():
    parms = of(kernel({XenNote.GUEST_VERSION: b"0123456789abcdefgh\0"}))
    assert parms.guest_ver == "0123456789abcde"


def test_feature_notes_add_up():
    notes = {XenNote.FEATURES: b"!writable_page_tables\0", XenNote.SUPPORTED_FEATURES: u32(0x8800)}
    parms = of(kernel(notes))
    assert (parms.f_supported, parms.f_required) == (0x8801, 1)


@pytest.mark.parametrize(
    ("desc", "expected"),
    [
        (u32(0x400000), (0x400000, 0, 0xFFFFFFFF)),
        (u32(0x400000) + u32(0x100000), (0x400000, 0x100000, 0xFFFFFFFF)),
        (u32(0x400000) + u32(0x100000) + u32(0x7FFFFFFF), (0x400000, 0x100000, 0x7FFFFFFF)),
        (u32(0x400000) + b"xy", (0, 0, 0xFFFFFFFF)),
    ],
)
def test_phys32_reloc(desc, expected):
    notes = {XenNote.PHYS32_ENTRY: u32(START), XenNote.PHYS32_RELOC: desc}
    parms = of(kernel(notes), hvm=True, version=(4, 19))
    assert parms.phys_reloc
    assert (parms.phys_align, parms.phys_min, parms.phys_max) == expected
    old = of(kernel(notes), hvm=True, version=(4, 18))
    assert (old.phys_reloc, old.phys_align) == (False, None)


def test_last_note_counts():
    notes = build_notes([("Xen", 6, b"minix\0"), *(("Xen", type_, desc) for type_, desc in LINUX.items())])
    data = build_elf(
        [(Phdr(p_flags=7, p_paddr=START, p_memsz=SIZE), b""), (Phdr(p_type=PT_NOTE), notes)], entry=START
    )
    assert of(data).guest_os == "linux"


def test_bsd_symbol_table():
    """elf_parse_bsdsyms: 264 bytes of headers in ELF64, then both tables, each rounded up to 8."""
    notes = build_notes([("Xen", type_, desc) for type_, desc in LINUX.items()] + [("Xen", 11, b"yes\0")])
    sections = [
        (".symtab", Shdr(sh_type=SHT_SYMTAB, sh_link=2), bytes(100)),
        (".strtab", Shdr(sh_type=SHT_STRTAB), bytes(50)),
    ]
    load = Phdr(p_flags=7, p_paddr=START, p_memsz=0x1001)
    parms = of(build_elf([(load, b""), (Phdr(p_type=PT_NOTE), notes)], sections, entry=START))
    assert parms.bsd_symtab_range == (START + 0x1008, START + 0x1008 + 264 + 104 + 56)
    assert parms.virt_kend == parms.bsd_symtab_range[1]
    without = of(build_elf([(load, b""), (Phdr(p_type=PT_NOTE), notes)], sections[1:], entry=START))
    assert (without.bsd_symtab, without.bsd_symtab_range, without.virt_kend) == (True, None, START + 0x1001)


# --- where notes are looked for


def from_section(*, segment: bytes = b"", section: bytes = b"") -> bytes:
    load = (Phdr(p_flags=7, p_paddr=START, p_memsz=SIZE), b"")
    segments = [load, (Phdr(p_type=PT_NOTE), segment)] if segment else [load]
    return build_elf(segments, [(".note", Shdr(sh_type=SHT_NOTE), section)], entry=START)


def guest(name: bytes) -> bytes:
    return build_notes([("Xen", 6, name), ("Xen", 5, b"xen-3.0\0")])


def test_sections_only_when_no_segment_has_xen_notes():
    other = build_notes([("GNU", 3, bytes(20))])
    assert of(from_section(section=guest(b"linux-s\0"))).guest_os == "linux-s"
    assert of(from_section(segment=other, section=guest(b"linux-s\0"))).guest_os == "linux-s"
    both = from_section(segment=guest(b"linux-p\0"), section=guest(b"linux-s\0"))
    assert of(both).guest_os == "linux-p"


def test_note_segment_at_offset_0_is_ignored():
    notes = guest(b"linux\0")
    data = bytearray(
        build_elf([(Phdr(p_flags=7, p_paddr=START, p_memsz=SIZE), b""), (Phdr(p_type=PT_NOTE), notes)])
    )
    data[64 + 56 + 8 : 64 + 56 + 16] = bytes(8)
    with pytest.raises(RefusedError, match="Not a Xen-ELF image"):
        of(bytes(data))


# --- refusals, with Xen's words


def refusal(data: bytes, *, hvm: bool = False, version: tuple[int, int] = (4, 17), pv32: bool = True) -> str:
    with pytest.raises(RefusedError) as info:
        derive(BytesSource(data, "vmlinux"), hvm=hvm, version=xen(version), pv32=pv32)
    assert info.value.source == "vmlinux"
    return info.value.problem


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        (
            {XenNote.GUEST_OS: b"NetBSD\0", XenNote.LOADER: b"special\0"},
            "ERROR: Will only load images built for the generic loader or Linux images"
            " (Not 'special' and 'NetBSD') or with PHYS32_ENTRY set",
        ),
        (
            {XenNote.XEN_VERSION: b"xen-4.0\0"},
            "ERROR: Xen will only load images built for Xen v3.0 (Not 'xen-4.0')",
        ),
        ({XenNote.XEN_VERSION: b""}, "ERROR: Xen will only load images built for Xen v3.0 (Not '')"),
        ({XenNote.PADDR_OFFSET: u64(0)}, "ERROR: ELF_PADDR_OFFSET set, VIRT_BASE unset"),
        ({XenNote.VIRT_BASE: u64(BASE)}, "ERROR: ELF start or entries are out of bounds"),
        ({XenNote.INIT_P2M: u64(START)}, "ERROR: P->M table base is out of bounds"),
        ({XenNote.SUPPORTED_FEATURES: u32(1)}, "Kernel does not support Dom0 operation"),
        ({XenNote.FEATURES: b"!unheard_of\0"}, "Could not construct domain 0"),
    ],
)
def test_refused(notes, message):
    assert refusal(kernel(notes)) == message


def test_generic_loader_need_not_be_linux():
    assert of(kernel({XenNote.GUEST_OS: b"NetBSD\0", XenNote.LOADER: b"generic\0"})).guest_os == "NetBSD"


def test_failure_without_words_since_4_21():
    assert refusal(kernel({XenNote.FEATURES: b"!unheard_of\0"}), version=(4, 21)) == "Could not construct d0"


def test_no_notes():
    data = build_elf([(Phdr(p_flags=7, p_paddr=START, p_memsz=SIZE), b"")], entry=START)
    message = "ERROR: Not a Xen-ELF image: No ELF notes or '__xen_guest' section found"
    assert refusal(data) == message
    assert refusal(data, hvm=True) == message


def test_phys32_entry_alone_is_enough_for_pvh():
    notes = build_notes([("Xen", 18, u32(START))])
    data = build_elf(
        [(Phdr(p_flags=7, p_paddr=START, p_memsz=SIZE), b""), (Phdr(p_type=PT_NOTE), notes)], entry=START
    )
    assert of(data, hvm=True).phys_entry == START
    assert refusal(data).startswith("ERROR: Will only load images")
    assert of(data, version=(4, 15)).phys_entry == START, "4.15 did not ask which it was"


def test_pvh_needs_its_entry():
    assert refusal(kernel({}), hvm=True) == "Unable to find XEN_ELFNOTE_PHYS32_ENTRY address"


def test_paddr_offset_without_virt_base_in_pvh():
    notes = {XenNote.PADDR_OFFSET: u64(0), XenNote.PHYS32_ENTRY: u32(START)}
    assert refusal(kernel(notes), hvm=True, version=(4, 17)) == "ERROR: ELF_PADDR_OFFSET set, VIRT_BASE unset"
    assert of(kernel(notes), hvm=True, version=(4, 18)).phys_entry == START


def test_dom0_feature_in_pvh_since_4_22():
    notes = {XenNote.SUPPORTED_FEATURES: u32(1), XenNote.PHYS32_ENTRY: u32(START)}
    assert of(kernel(notes), hvm=True, version=(4, 21)).f_supported == 1
    assert refusal(kernel(notes), hvm=True, version=(4, 22)) == "Kernel does not support Dom0 operation"
    either = {**notes, XenNote.FEATURES: b"dom0\0"}
    assert of(kernel(either), hvm=True, version=(4, 22)).f_supported == 0x801


@pytest.mark.parametrize(
    ("entry", "fits"),
    [(START - 1, False), (START, True), (START + SIZE - 1, True), (START + SIZE, True), (START + SIZE + 1, False)],
)
def test_entry_boundary(entry, fits):
    """The end counts as inside (elf_xen_addr_calc_check)."""
    if fits:
        assert of(kernel({XenNote.ENTRY: u64(entry)})).virt_entry == entry
    else:
        assert refusal(kernel({XenNote.ENTRY: u64(entry)})) == "ERROR: ELF start or entries are out of bounds"


@pytest.mark.parametrize(
    ("p2m", "fits"), [(START - 1, True), (START, False), (START + SIZE - 1, False), (START + SIZE, True)]
)
def test_p2m_boundary(p2m, fits):
    if fits:
        assert of(kernel({XenNote.INIT_P2M: u64(p2m)})).p2m_base == p2m
    else:
        assert refusal(kernel({XenNote.INIT_P2M: u64(p2m)})) == "ERROR: P->M table base is out of bounds"


def test_addresses_wrap_as_in_c():
    notes = {XenNote.VIRT_BASE: u64(0), XenNote.PADDR_OFFSET: u64(START + 1)}
    message = refusal(kernel(notes))
    assert message == "ERROR: ELF start or entries are out of bounds"


@pytest.mark.parametrize(
    ("how", "notes", "message"),
    [
        ({"elf_class": 32}, {}, "Mismatch between Xen and DOM0 kernel"),
        ({"elf_class": 32}, {XenNote.PAE_MODE: b"no\0"}, "Mismatch between Xen and DOM0 kernel"),
        ({"elf_class": 32}, {XenNote.PAE_MODE: b"yes\0"}, ""),
        ({"elf_class": 32}, {XenNote.PAE_MODE: b"bimodal\0"}, ""),
        (
            {"elf_class": 32},
            {XenNote.PAE_MODE: b"yes\0", XenNote.HV_START_LOW: u32(0xF5600001)},
            "",
        ),
        (
            {"elf_class": 32},
            {XenNote.PAE_MODE: b"yes\0", XenNote.HV_START_LOW: u32(0xF5800001)},
            "Dom0 expects too high a hypervisor start address",
        ),
    ],
)
def test_32_bit(how, notes, message):
    data = kernel(notes, **how)
    if message:
        assert refusal(data) == message
    else:
        assert of(data).elf_class == 32
        assert refusal(data, pv32=False) == "Found 32-bit PV kernel, but CONFIG_PV32 missing"
        words = refusal(data, pv32=False, version=(4, 15))
        assert words.startswith("Dom0 failed to switch to compat: -95")  # as 4.14.6 says it


@pytest.mark.parametrize("machine", [3, 183])
def test_elf64_of_another_machine(machine):
    data = bytearray(kernel({}))
    data[18:20] = machine.to_bytes(2, "little")
    assert refusal(bytes(data)) == "Mismatch between Xen and DOM0 kernel"


@pytest.mark.parametrize(("field", "name"), [("e_phoff", "phdr"), ("e_shoff", "shdr")])
def test_header_tables_must_lie_in_the_file(field, name):
    data = kernel({})
    head = EHDR[2].parse(data)
    step = {"e_phoff": 56 * head.e_phnum, "e_shoff": 0}[field]
    for start, fits in ((len(data) - step, True), (len(data) - step + 1, False)):
        values = {key: getattr(head, key) for key in EHDR[2].offsets} | {field: start}
        changed = EHDR[2].build(Ehdr(**values)) + data[64:]
        try:
            of(changed)
            message = ""
        except RefusedError as error:
            message = error.problem
        assert (f"ELF: {name} overflow" in message) != fits


def test_overflow_message():
    data = kernel({})
    cut = data[: 64 + 56]
    assert refusal(cut) == f"ELF: phdr overflow (off {64 + 112:x} > size {len(cut):x})"


# --- shown


def dom_parms(data: bytes) -> Node:
    node = inspect(data).find("dom-parms")
    assert node is not None
    return node


def test_node():
    notes = {
        XenNote.VIRT_BASE: u64(BASE),
        XenNote.ENTRY: u64(BASE + START),
        XenNote.INIT_P2M: u64(1 << 39),
        XenNote.PHYS32_ENTRY: u32(START),
        XenNote.SUPPORTED_FEATURES: u32(0x800),
    }
    node = dom_parms(kernel(notes))
    assert (node["pv"], node["pvh"], node["dom0"]) == (True, True, True)
    assert node["virt_kstart"] == BASE + START
    assert node["virt_entry"] == BASE + START
    assert node["p2m_base"] == 1 << 39
    assert node["phys_entry"] == START
    assert (node["pstart"], node["pend"]) == (START, START + SIZE)


def test_node_of_a_refused_kernel_says_why():
    node = dom_parms(kernel({XenNote.INIT_P2M: u64(START), XenNote.SUPPORTED_FEATURES: u32(0)}))
    words = {field.name: field.meaning for field in node.fields}
    assert (node["pv"], node["pvh"], node["dom0"]) == (False, False, False)
    assert words["pv"].startswith("ERROR: P->M table base is out of bounds")
    assert words["dom0"] == "Kernel does not support Dom0 operation"


def test_no_node_without_anything_for_xen():
    data = build_elf([(Phdr(p_flags=7, p_paddr=START, p_memsz=SIZE), b"")], entry=START)
    assert inspect(data).find("dom-parms") is None


NOTES = st.lists(st.tuples(st.sampled_from(["Xen", "GNU"]), st.integers(0, 20), st.binary(max_size=16)), max_size=8)


@given(NOTES, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.booleans())
def test_any_kernel_is_derived_or_refused(notes, address, size, hvm):
    load = Phdr(p_type=PT_LOAD, p_flags=7, p_paddr=address, p_memsz=size)
    data = build_elf([(load, b""), (Phdr(p_type=PT_NOTE), build_notes(notes))])
    for version in ((4, 14), (4, 17), (4, 22)):
        try:
            parms = of(data, hvm=hvm, version=version)
        except MbtoolError as error:
            assert isinstance(error, RefusedError)
        else:
            assert parms.virt_base <= parms.virt_kstart <= parms.virt_entry <= parms.virt_kend
