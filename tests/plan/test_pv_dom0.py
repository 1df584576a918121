"""The plan as a whole: start_info, what is refused and in which words, machine defaults, console lines."""

from __future__ import annotations

import dataclasses

import pytest

from mbtool.errors import InputError, MbtoolError, RefusedError
from mbtool.formats import pv_start_info
from mbtool.formats.dom_parms import DomParms, LoadSegment, PaeMode
from mbtool.plan import arrangement, pv_dom0
from mbtool.plan.machine import Machine
from mbtool.plan.memory import PAGE, TOP, Range
from tests.plan.kernels import MIB, SLOT_1, TOP_2G, kernel, planned

XEN_START = 0xFFFF_8000_0000_0000


def refused(parms: DomParms, error: type[MbtoolError] = RefusedError, **given: int) -> str:
    with pytest.raises(error) as caught:
        planned(parms, **given)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize(
    ("parms", "message"),
    [
        (kernel(virt_base=XEN_START - MIB, start=0), "DOM0 image overlaps with Xen private area."),
        (kernel(virt_base=0xFFFF_87FF_FFF0_0000), "DOM0 image overlaps with Xen private area."),
        (kernel(virt_hypercall=TOP_2G - 1), "Invalid HYPERCALL_PAGE field in ELF notes."),
        (kernel(virt_hypercall=TOP_2G + 8 * MIB), "Invalid HYPERCALL_PAGE field in ELF notes."),
        (kernel(p2m_base=TOP_2G - MIB), "DOM0 P->M table overlaps initial mapping"),  # ends where it begins
        (kernel(p2m_base=TOP_2G + 8 * MIB), "DOM0 P->M table overlaps initial mapping"),
        (kernel(f_required=1 << 3), "Dom0 requires supervisor-mode execution"),
        (kernel(p_memsz=9 * MIB), "program segments total to more than the input image size"),
        (kernel(filesz=4 * MIB + 1), "Failed to load the kernel binary"),
        (kernel(virt_base=0x7FFF_FFF0_0000), "the initial mapping has addresses that no x86-64 CPU has"),
        (kernel(p2m_base=XEN_START), "INIT_P2M lies where dom0 cannot have memory"),
        (kernel(p2m_base=0x7FFF_FFFF_F000), "INIT_P2M lies where dom0 cannot have memory"),
        (kernel(virt_base=TOP_2G + 1), "VIRT_BASE is not at a page"),
    ],
)
def test_refusals(parms: DomParms, message: str) -> None:
    assert refused(parms).startswith(message)


def test_what_is_just_not_refused() -> None:
    planned(kernel(virt_base=0xFFFF_8800_0000_0000))
    planned(kernel(virt_base=0x7FFF_FF80_0000))
    planned(kernel(virt_hypercall=TOP_2G + 8 * MIB - 1))
    planned(kernel(p2m_base=TOP_2G - MIB - PAGE))
    planned(kernel(p2m_base=TOP_2G + 8 * MIB + PAGE))
    planned(kernel(p_memsz=8 * MIB))
    planned(kernel(filesz=4 * MIB))


def test_too_small() -> None:
    """Xen's message first, then what takes the room, the least that would do, and how to get it."""
    assert refused(kernel(60 * MIB, start=16 * MIB), initrd_len=MIB + 1, nr_pages=16384) == (
        "Domain 0 allocation is too small for kernel image: kernel, page tables and padding take a block of"
        " 128 MiB, the initrd 1.0 MiB; expected at least 130 MiB, found 64 MiB (give dom0_mem=130M or more)"
    )
    assert refused(kernel(3 * MIB), nr_pages=1024).startswith("Dom0 allocation too small for initial P->M table: ")


def test_too_small_for_good() -> None:
    """Kernels that no memory suffices for; soon found out."""
    overlapping = refused(kernel(1 << 46, virt_base=0))
    assert overlapping.startswith(
        "Domain 0 allocation is too small for kernel image, and no amount would do: DOM0 P->M"
    )
    huge = refused(kernel(1 << 46, virt_base=0, p2m_base=None))
    assert huge.startswith("Domain 0 allocation is too small for kernel image: ")
    assert "no domain can be that large" in huge


@pytest.mark.parametrize("p2m_base", [None, SLOT_1])
@pytest.mark.parametrize("unmapped", [False, True])
@pytest.mark.parametrize("initrd_len", [0, 1, 3 * MIB])
def test_the_remedy_suffices_and_no_mebibyte_less(p2m_base: int | None, unmapped: bool, initrd_len: int) -> None:
    parms = kernel(4 * MIB, p2m_base=p2m_base, unmapped_initrd=unmapped)
    words = refused(parms, nr_pages=1, initrd_len=initrd_len)
    mib = int(words.split("dom0_mem=")[1].split("M")[0])
    planned(parms, nr_pages=mib << 8, initrd_len=initrd_len)
    refused(parms, nr_pages=mib - 1 << 8, initrd_len=initrd_len)


def test_impossible_requests() -> None:
    refused(kernel(elf_class=32))
    refused(kernel(), InputError, nr_pages=0)
    refused(kernel(), InputError, nr_pages=1 << 32)
    refused(kernel(virt_base=TOP - 4 * MIB))


def test_start_info_flags() -> None:
    """PRIVILEGED 1, INITDOMAIN 2, MOD_START_PFN 8 only for an initrd that is there and not mapped."""
    mapped = kernel(unmapped_initrd=False)
    assert planned().start_info.flags == 0x303
    assert planned(initrd_len=0).start_info.flags == 0x303
    assert planned(initrd_len=1).start_info.flags == 0x30B
    assert planned(mapped, initrd_len=1).start_info.flags == 0x303
    assert planned(version="4.22", initrd_len=1).start_info.flags == 0x10B
    assert planned(machine=Machine(pm_bits=5)).start_info.flags == 0x503


@pytest.mark.parametrize("unmapped", [False, True])
def test_no_or_empty_initrd(unmapped: bool) -> None:
    for initrd_len in (None, 0):
        plan = planned(kernel(unmapped_initrd=unmapped), initrd_len=initrd_len)
        assert (plan.start_info.mod_start, plan.start_info.mod_len) == (0, 0)
        assert plan.start_info.first_p2m_pfn == 1 << plan.space.order


@pytest.mark.parametrize(
    ("pae", "version", "magic"),
    [
        (PaeMode.NO, "4.14", b"xen-3.0-x86_64"),
        (PaeMode.EXTENDED_CR3, "4.14", b"xen-3.0-x86_64p"),
        (PaeMode.BIMODAL, "4.17", b"xen-3.0-x86_64p"),
        (PaeMode.EXTENDED_CR3, "4.18", b"xen-3.0-x86_64"),
    ],
)
def test_pae(pae: PaeMode, version: str, magic: bytes) -> None:
    plan = planned(dataclasses.replace(kernel(), pae=pae), version=version)
    assert plan.start_info.magic == magic.ljust(32, b"\0")
    assert (", PAE, lsb" in arrangement.lines(plan)[0]) == magic.endswith(b"p")


def test_command_line_is_cut_with_a_finding() -> None:
    plan = planned(cmdline=b"x" * 1023)
    assert plan.findings == ()
    plan = planned(cmdline=b"x" * 1024)
    assert plan.start_info.cmd_line == b"x" * 1023 + b"\0"
    assert [finding.id for finding in plan.findings] == ["CMDLINE-CUT"]


def test_video() -> None:
    page = pv_dom0.start_info_page(planned())
    assert page[72:80] == bytes.fromhex("90040000 28000000")
    assert page[1168:1208] == bytes.fromhex("03000000 1000 0000 0000 1900 5000").ljust(40, b"\0")
    without = pv_dom0.start_info_page(planned(machine=Machine(vga=None)))
    assert without[72:88] == bytes(16)
    assert without[1168:] == bytes(4096 - 1168)
    assert pv_start_info.parse(page) == planned().start_info


@pytest.mark.parametrize(
    ("size", "initrd_len", "alloc", "initrd"),
    [
        (58 * MIB, 1031109, 0x30000000, 0x3F904000),  # as recorded: 64 MiB or more, up to 128
        (4 * MIB, None, 0x30000000, None),
        (4 * MIB, 0, 0x30000000, 0x3FA00000),
        (4 * MIB, 250 * MIB, 0x30000000, 0x3000_0000 + 8 * MIB),  # does not fit below: follows the block
        (4 * MIB, 2000 * MIB, 0x30000000, 0x3000_0000 + 8 * MIB),
        (900 * MIB, MIB, 0x40000000, 0x3F900000),  # a block aligned to its size
    ],
)
def test_default_places(size: int, initrd_len: int | None, alloc: int, initrd: int | None) -> None:
    plan = planned(kernel(size), initrd_len=initrd_len, nr_pages=1 << 21)
    assert plan.alloc.start == alloc
    assert (plan.initrd.start if plan.initrd is not None else None) == initrd


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (Machine(alloc_base=0x30000001), "alloc base is no machine address of a page"),
        (Machine(alloc_base=1 << 52), "alloc base is no machine address of a page"),
        (Machine(alloc_base=0x3010_0000), "alloc base is where no block of dom0's size can be"),
        (Machine(initrd_base=0x1234), "initrd base is no machine address of a page"),
        (Machine(alloc_base=0x10000000, initrd_base=0x10100000), "the initrd overlaps"),
        (Machine(alloc_base=0x10000000, initrd_base=0x0FFFF000), "the initrd overlaps"),
        (Machine(alloc_base=-PAGE), "leaves the 64-bit address space"),
    ],
)
def test_impossible_machines(machine: Machine, words: str) -> None:
    with pytest.raises(InputError, match=words):
        planned(initrd_len=PAGE + 1, machine=machine)
    if machine.initrd_base is None:
        with pytest.raises(InputError, match=words):
            planned(initrd_len=None, machine=machine)


def test_lines_of_absent_parts() -> None:
    """Up to 4.15 Xen prints them; 4.16 and later do not."""
    old, new = (arrangement.lines(planned(version=version)) for version in ("4.15", "4.16"))
    zeros = "0000000000000000->0000000000000000"
    absent = {f" Init. ramdisk: {zeros}", f" Xenstore ring: {zeros}", f" Console ring:  {zeros}"}
    assert set(old) - set(new) == absent
    assert [line for line in old if line not in absent] == list(new)


def test_line_of_an_initrd_that_would_be_mapped() -> None:
    """Up to 4.15, with where it would be: as 4.14.6 printed it."""
    lines = arrangement.lines(planned(kernel(unmapped_initrd=False), version="4.14"))
    assert " Init. ramdisk: ffffffff80400000->ffffffff80400000" in lines


def test_lines_of_a_mapped_initrd() -> None:
    plan = planned(kernel(unmapped_initrd=False), initrd_len=5)
    assert arrangement.lines(plan)[6] == " Init. ramdisk: ffffffff80400000->ffffffff80400005"
    empty = planned(kernel(unmapped_initrd=False), initrd_len=0)
    ramdisks = [line for line in arrangement.lines(empty) if "ramdisk" in line]
    assert ramdisks == [" Init. ramdisk: 000000003fa00000->000000003fa00000"]


def test_other_lines() -> None:
    parms = dataclasses.replace(kernel(), bsd_symtab_range=(0x3FF000, 0x400000))
    lines = arrangement.lines(planned(parms, nr_pages=2048 + 14, version="4.17"))
    assert lines[:2] == (
        " Dom0 kernel: 64-bit, lsb, paddr 0 -> 0x400000",
        " Dom0 symbol map 0x3ff000 -> 0x400000",
    )
    assert lines[3] == " Dom0 alloc.:   0000000030000000->0000000030800000 (14 pages to be allocated)"
    all_owned = planned(kernel(MIB, p2m_base=None), nr_pages=1024)
    assert arrangement.lines(all_owned)[2] == " Dom0 alloc.:   0000000030000000->0000000030400000"
    clipped = pv_dom0.plan(
        kernel(MIB, p2m_base=None),
        initrd_len=None,
        nr_pages=1024,
        cmdline=b"",
        version=all_owned.version,
        clipped=True,
    )
    assert arrangement.lines(clipped)[1] == "Dom0 memory clipped to 1024 pages"
    top = planned(kernel(MIB, virt_base=TOP - 4 * MIB))
    assert " TOTAL:         ffffffffffc00000->0000000000000000" in arrangement.lines(top)


def test_segments_at_strange_places() -> None:
    """A segment whose end wraps is an error, not a traceback."""
    wild = LoadSegment(0, 0, TOP - PAGE, 0, 2 * PAGE, 7, 0)
    parms = dataclasses.replace(kernel(), segments=(wild,))
    plan = planned(parms)
    from mbtool.plan import page_tables

    with pytest.raises(MbtoolError):
        list(page_tables.frames(plan))
    assert plan.alloc == Range.at(0x30000000, 8 * MIB)
