"""Xen's notes: numbers, names, decoded values, and what is odd about them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.formats.elf_build import build_elf
from mbtool.formats.elf_headers import PT_NOTE, Phdr
from mbtool.formats.elf_notes import build_notes
from mbtool.formats.xen_notes import KINDS, XenNote, feature_bits, feature_list, number, numbers
from mbtool.model import Field, Hex, Node
from tests.formats.linux_notes import LINUX_6_1
from tests.formats.test_elf import ids, inspect


def test_numbers_are_those_of_elfnote_h():
    """XEN_ELFNOTE_* 0 to 19 in the order of xen/include/public/elfnote.h."""
    assert " ".join(note.name for note in XenNote) == (
        "INFO ENTRY HYPERCALL_PAGE VIRT_BASE PADDR_OFFSET XEN_VERSION GUEST_OS GUEST_VERSION LOADER PAE_MODE"
        " FEATURES BSD_SYMTAB HV_START_LOW L1_MFN_VALID SUSPEND_CANCEL INIT_P2M MOD_START_PFN SUPPORTED_FEATURES"
        " PHYS32_ENTRY PHYS32_RELOC"
    )
    assert [int(note) for note in XenNote] == list(range(20))
    assert set(KINDS) == set(XenNote), "each has a meaning"


def xen_notes(*notes: tuple[int, bytes], owner: str = "Xen") -> Node:
    """The ``xen-notes`` node of a file with these notes."""
    data = build_notes([(owner, type_, desc) for type_, desc in notes])
    node = inspect(build_elf([(Phdr(p_type=PT_NOTE, p_align=4), data)])).find("xen-notes")
    assert node is not None
    return node


def field(node: Node, name: str) -> Field:
    return next(field for field in node.fields if field.name == name)


def test_linux():
    root = inspect(build_elf([(Phdr(p_type=PT_NOTE, p_align=4), LINUX_6_1)]))
    node = root.find("xen-notes")
    assert node is not None
    assert node.size == 504
    assert not ids(node)
    assert {field.name: field.value for field in node.fields} == {
        "GUEST_OS": "linux",
        "GUEST_VERSION": "2.6",
        "XEN_VERSION": "xen-3.0",
        "VIRT_BASE": 0xFFFFFFFF80000000,
        "INIT_P2M": 0x8000000000,
        "ENTRY": 0xFFFFFFFF830791C0,
        "FEATURES": ("!writable_page_tables", "pae_pgdir_above_4gb"),
        "SUPPORTED_FEATURES": 0x8801,
        "PAE_MODE": "yes",
        "LOADER": "generic",
        "L1_MFN_VALID": ((1, 1),),
        "SUSPEND_CANCEL": 1,
        "MOD_START_PFN": 1,
        "HV_START_LOW": 0xFFFF800000000000,
        "PADDR_OFFSET": 0,
        "PHYS32_ENTRY": 0x1000850,
    }
    assert isinstance(node["ENTRY"], Hex)
    # XENFEAT_* bits 0, 11 and 15 of xen/include/public/features.h
    assert field(node, "SUPPORTED_FEATURES").meaning == "writable_page_tables, dom0, linux_rsdp_unrestricted"
    assert field(node, "FEATURES").meaning == "required: writable_page_tables; supported: pae_pgdir_above_4gb"
    for part in node.fields:
        assert part.offset is not None
        assert LINUX_6_1[part.offset : part.offset + len(part.raw)] == part.raw


@pytest.mark.parametrize(
    ("type_", "desc", "value", "words"),
    [
        (0, b"KEY=text\0", "KEY=text", "free NAME=VALUE text, which Xen ignores"),
        (
            2,
            (0xC0101000).to_bytes(4, "little"),
            0xC0101000,
            "virtual address of the page that Xen fills with hypercalls",
        ),
        (9, b"yes,bimodal\0", "yes,bimodal", KINDS[XenNote.PAE_MODE].words),
        (10, b"\0", (), KINDS[XenNote.FEATURES].words),
        (11, b"yes\0", "yes", KINDS[XenNote.BSD_SYMTAB].words),
        (13, bytes(8), ((0, 0),), KINDS[XenNote.L1_MFN_VALID].words),
        (14, b"\1\0\0\0", 1, "a suspend may be cancelled"),
        (14, bytes(4), 0, "a suspend cannot be cancelled"),
        (16, bytes(4), 0, "the initrd must be mapped"),
        (16, b"\2\0\0\0", 2, "the initrd may be left unmapped"),
        (17, bytes(4), 0, "none"),
        (17, (1 << 31).to_bytes(4, "little"), 1 << 31, "bit 31"),
        (19, b"", (), KINDS[XenNote.PHYS32_RELOC].words),
        (19, bytes.fromhex("00002000 00001000 ffffffff"), (0x200000, 0x100000, 0xFFFFFFFF), None),
    ],
)
def test_decoded(type_, desc, value, words):
    node = xen_notes((type_, desc))
    (found,) = node.fields
    assert found.name == XenNote(type_).name
    assert found.value == value
    assert words is None or found.meaning == words
    assert not ids(node)


def test_unknown_and_crash_notes_are_named():
    node = xen_notes((20, b"new"), (0x1000001, b"crash"), (0x2000003, b"dump"))
    assert [part.name for part in node.fields] == ["TYPE_0x14", "CRASH_INFO", "DUMPCORE_FORMAT_VERSION"]
    assert field(node, "TYPE_0x14").meaning == "unknown to Xen, which ignores it"


@pytest.mark.parametrize(
    ("notes", "finding"),
    [
        ([(1, bytes(3))], "XEN-NOTE-SIZE"),
        ([(1, b"")], "XEN-NOTE-SIZE"),
        ([(1, bytes(16))], "XEN-NOTE-SIZE"),
        ([(6, b"linu"), (7, b"2.6\0")], "XEN-NOTE-STRING"),
        ([(6, b"linux\0"), (6, b"other\0")], "XEN-NOTE-REPEATED"),
        ([(10, b"!unheard_of\0")], "XEN-FEATURE-UNKNOWN"),
        ([(10, b"!\0")], "XEN-FEATURE-UNKNOWN"),
    ],
)
def test_odd_notes_have_findings(notes, finding):
    assert finding in ids(xen_notes(*notes))


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_number_sizes(size):
    """elf_note_numeric: these sizes and no others."""
    assert number(b"\xfe" + b"\xff" * (size - 1)) == (1 << 8 * size) - 2
    assert not ids(xen_notes((1, bytes(size))))


@pytest.mark.parametrize("size", [0, 3, 5, 6, 7, 9, 12, 16])
def test_other_sizes_read_as_zero(size):
    assert number(b"\xff" * size) == 0


def test_number_arrays():
    assert numbers(bytes.fromhex("0100000002000000"), 4) == (1, 2)
    assert numbers(bytes(7), 4) == ()
    assert numbers(b"", 4) == ()


def test_the_last_note_counts():
    assert xen_notes((6, b"first\0"), (6, b"last\0"))["GUEST_OS"] == "last"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        ("a", ("a",)),
        ("a|b", ("a", "b")),
        ("a|", ("a",)),
        ("|a", ("", "a")),
        ("x" * 62 + "|y", ("x" * 62, "y")),  # the bar is the last character that Xen looks at
        ("x" * 63 + "|y", ("x" * 63, "", "y")),  # the name fills its buffer: the bar begins the next one
        ("x" * 64, ("x" * 63, "x")),
    ],
)
def test_feature_list(text, names):
    """Cut as elf_xen_parse_features does with its buffer of 64 bytes."""
    assert feature_list(text) == names


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("", (0, 0, None)),
        ("writable_page_tables", (1, 0, None)),
        ("!writable_page_tables|pae_pgdir_above_4gb", (0x11, 1, None)),
        ("writable_descriptor_tables|auto_translated_physmap|supervisor_mode_kernel", (0xE, 0, None)),
        ("hvm_callback_vector|!dom0", (0x900, 0x800, None)),
        ("unheard_of|dom0", (0x800, 0, None)),
        ("dom0|!unheard_of|writable_page_tables", (0x800, 0, "unheard_of")),
        ("!", (0, 0, "")),
        ("highmem_assist", (0, 0, None)),  # a bit, but no name that the string may have
        ("DOM0", (0, 0, None)),
    ],
)
def test_feature_bits(text, bits):
    assert feature_bits(text) == bits


@given(st.text(st.characters(max_codepoint=255), max_size=200))
def test_feature_list_loses_nothing_but_bars(text):
    assert "".join(feature_list(text)).replace("|", "") == text.replace("|", "")


@given(st.lists(st.tuples(st.integers(0, 21), st.binary(max_size=20)), min_size=1, max_size=6))
def test_any_descriptor_is_shown(notes):
    assert len(xen_notes(*notes).fields) == len({type_ for type_, _ in notes})
