"""Memory maps read from text: recorded boots, each notation by hand from its printer's source, hostile input."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbtool.errors import InputError, MbtoolError
from mbtool.plan import e820_text, machines
from mbtool.plan.e820 import E820Entry, E820Map
from mbtool.plan.memory import Range
from tests.plan import record_machines

DATA = Path(__file__).parent.parent / "data/e820"


def parse(text: str) -> list[tuple[int, int, int]]:
    """(start, end, type) of each entry."""
    found = e820_text.parse(text.encode(), "map").entries
    return [(entry.range.start, entry.range.end, entry.type) for entry in found]


def recorded(name: str) -> E820Map:
    return e820_text.parse((DATA / name).read_bytes(), name)


# ---- recorded boots ------------------------------------------------------------------------------------------


def test_a_xen_log_says_what_the_machine_of_that_size_has():
    assert recorded("xen-4.17-q35-1024M.log") == machines.memory_map("qemu-q35:1024M")


def test_ram_is_counted_as_xen_counts_it():
    assert recorded("xen-4.17-q35-1024M.log").ram == 1048056 << 10  # "System RAM: 1023MB (1048056kB)", in the log


def test_a_linux_log_under_uefi_says_what_the_machine_of_that_size_has():
    assert recorded("linux-6.1-uefi-1024M.log") == machines.memory_map("qemu-q35-uefi:1024M")


def test_proc_iomem_has_the_firmwares_map_among_the_devices():
    found = recorded("iomem-q35-1024M.txt")
    # Linux keeps the first page for itself
    assert found.usable() == (Range(0x1000, 0x9FC00), Range(0x100000, 0x3FFDF000))
    reserved = [entry for entry in machines.memory_map("qemu-q35:1024M").entries if entry.type == 2]
    assert [entry for entry in found.entries if entry.type == 2][1:] == reserved  # the nested one included


# ---- notations -----------------------------------------------------------------------------------------------


def test_own_form():
    text = (
        "# a machine\n0 639K usable\n\n0x100000 511M ram   # most of it\n0xfffc0000 262144 reserved\n0x1000 1 9\n"
    )
    assert parse(text) == [
        (0, 0x9FC00, 1),
        (0x100000, 0x20000000, 1),
        (0xFFFC0000, 1 << 32, 2),
        (0x1000, 0x1001, 9),
    ]


def test_own_form_is_written_as_it_is_read():
    for name in machines.names():
        memory = machines.memory_map(name)
        assert e820_text.parse(e820_text.dump(memory).encode(), "again") == memory
    odd = E820Map((E820Entry(Range(0, 4096)), E820Entry(Range(1 << 63, 1 << 64), 77)))
    assert e820_text.parse(e820_text.dump(odd).encode(), "again") == odd


def test_json():
    entries = [
        {"start": 0, "size": "639K", "type": "usable"},
        {"start": "0x100000", "end": "0x200000", "type": 3},
        {"start": "0x200000", "size": 4096, "type": "ACPI NVS"},
    ]
    expected = [(0, 0x9FC00, 1), (0x100000, 0x200000, 3), (0x200000, 0x201000, 4)]
    assert parse(json.dumps(entries)) == expected
    assert parse(json.dumps({"schema": "any", "memory_map": entries})) == expected


def test_xen_before_4_14_prints_ends_that_do_not_count():
    text = """\
(XEN) [0000001b48040516] Xen-e820 RAM map:
(XEN) [0000001b4a3297f3]  0000000000000000 - 000000000009f000 (usable)
(XEN) [0000001b4dd165de]  000000000009f000 - 00000000000a0000 (reserved)
(XEN) [0000001b51899605]  0000000000100000 - 000000007fe6d800 (ACPI data)
(XEN) System RAM: 2046MB
(XEN)  0000000000000000 - 00000000000ff000 (usable)
"""
    assert parse(text) == [(0, 0x9F000, 1), (0x9F000, 0xA0000, 2), (0x100000, 0x7FE6D800, 3)]


def test_only_the_firmwares_map_of_a_xen_log_counts():
    text = """\
(XEN)  [0000000000000000, 00000000000fffff] (unusable)
(XEN) EFI RAM map:\r
(XEN)  [0000000000000000, 000000000009ffff] (usable)\r
(XEN)  [0000000000100000, 00000000001fffff] (ACPI NVS)\r
(XEN)  [0000000000200000, 00000000002fffff] type 7\r
(XEN) Dom0 memory map:
(XEN)  [0000000000000000, 0000000007ffffff] (usable)
[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x0000000007ffffff] usable
"""
    assert parse(text) == [(0, 0xA0000, 1), (0x100000, 0x200000, 4), (0x200000, 0x300000, 7)]


def test_lines_of_a_xen_log_without_their_title():
    cut = """\
(XEN)  [0000000000000000, 000000000009fbff] (usable)
(XEN)  [0000000000100000, 000000003ffdefff] (usable)
(XEN) System RAM: 1023MB (1048056kB)
(XEN)  [0000000000000000, 0000000000000fff] (reserved)
"""
    assert parse(cut) == [(0, 0x9FC00, 1), (0x100000, 0x3FFDF000, 1)]
    with pytest.raises(InputError, match="is no entry of a memory map"):
        parse("(XEN) Dom0 memory map:\n(XEN)  [0000000000000000, 0000000007ffffff] (usable)\n")


def test_linux_logs_of_all_ages():
    new = """\
Nov 26 01:02:23 host kernel: BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable
[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x00000000001fffff] persistent (type 12)
[    0.000000] BIOS-e820: [mem 0x0000000000200000-0x00000000002fffff] type 20
[    0.000000] BIOS-e820: [mem 0x0000000000300000-0x00000000003fffff] soft reserved
[    0.000000] BIOS-e820: [mem 0x0000000000300000-0x00000000003fffff] soft reserved
"""
    kinds = [(0, 0xA0000, 1), (0x100000, 0x200000, 12), (0x200000, 0x300000, 20), (0x300000, 0x400000, 0xEFFFFFFF)]
    assert parse(new) == kinds
    old = """\
 BIOS-e820: 0000000000000000 - 000000000009fc00 (usable)
 BIOS-e820: 0000000000100000 - 0000000000200000 (ACPI data)
"""
    assert parse(old) == [(0, 0x9FC00, 1), (0x100000, 0x200000, 3)]


# ---- refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no usable memory in the map; expected ADDRESS SIZE TYPE on each line, JSON"),
        ("hello world", "map: line 1: is no entry of a memory map; expected ADDRESS .*, found 'hello world'"),
        ("0 1M usable\n0x100000 usable", "line 2: is no entry of a memory map"),
        ("0 1M good", "line 1: is no type of memory; expected usable, reserved.* found 'good'"),
        ("0 1M 0", "line 1: is no type of memory"),
        ("0 1M 4294967296", "line 1: is no type of memory"),
        ("0xffffffffffffffff 2 usable", "line 1: address range leaves the 64-bit address space"),
        ("1 16777216T usable", "leaves the 64-bit address space"),
        ("0 1M reserved", "no usable memory in the map"),
        ("0 1M usable\n0 1M reserved", "no usable memory in the map"),
        ("00000000-00000000 : System RAM\n00000000-00000000 : Reserved", "all addresses are 0.*read it as root"),
        ("{", "is no JSON"),
        ("[" * 100000 + "{", "is no entry of a memory map"),
        ("[{" + '"a":[' * 100000, "is no JSON"),
        ('{"regions": []}', "no memory map in the JSON"),
        ("[]", "no usable memory in the map"),
        ("[{}]", r"memory_map\[0\]: is no entry of a memory map"),
        ('[{"start": -1, "size": 4, "type": 1}]', "leaves the 64-bit address space"),
        ('[{"start": 5, "end": 4, "type": 1}]', "ends before it starts"),
        ('[{"start": 0, "size": true, "type": 1}]', "is no entry of a memory map"),
        ('[{"start": 1e3, "size": 1, "type": 1}]', "is no entry of a memory map"),
        ('[{"start": 0, "size": ' + "9" * 5000 + ', "type": 1}]', "is no JSON"),
        ("".join(f"{n * 8192:#x} 4K usable\n" for n in range(1025)), "more than 1024 entries"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse(text)


def test_an_unknown_machine_is_answered_with_the_known_ones():
    with pytest.raises(InputError, match=r"no such file, and no machine that is known; .*qemu-q35:1024M"):
        machines.memory_map("qemu-q35:3M")


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "noise"
    path.write_bytes(bytes(range(256)) * 100)
    with pytest.raises(InputError, match="is no entry of a memory map"):
        machines.memory_map(str(path))


@settings(deadline=None)
@given(
    st.text(alphabet='0123456789abcdefx-[], ():#\nKMGT {}"usable') | st.binary().map(lambda b: b.decode("latin-1"))
)
def test_any_text_is_a_map_or_refused(text):
    with suppress(MbtoolError):
        parse(text)


# ---- machines that ship --------------------------------------------------------------------------------------


def test_every_machine_that_ships_is_one_that_can_be_recorded_anew():
    assert set(machines.names()) == set(record_machines.MACHINES)
    for name, (_, mib, _) in record_machines.MACHINES.items():
        assert record_machines.path(name).read_text().splitlines()[1].startswith("# qemu-system-x86_64 ")
        ram = sum(span.size for span in machines.memory_map(name).usable())
        assert (mib - 8) << 20 < ram <= mib << 20  # but for the firmware's own


@pytest.mark.boot
def test_a_machine_recorded_anew():
    assert record_machines.record("qemu-q35:1024M") == record_machines.read("qemu-q35:1024M")
