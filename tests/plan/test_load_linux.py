"""Plans for Linux kernels: by protocol version, place of kernel and initrd, the boot_params page, refusals."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.errors import FormatError, MbtoolError, RefusedError, UnsupportedError
from mbtool.plan import linux_boot
from mbtool.plan.e820 import E820Entry, E820Map
from mbtool.plan.linux_boot import LinuxPlan, LongModeEntry, RealModeEntry
from mbtool.plan.linux_kernel import HEAD_READ, linux_kernel
from mbtool.plan.load import MachinePatch, MachineValue, MapShape, Part, Registers
from mbtool.plan.memory import Range
from mbtool.plan.modules import ModuleFile
from tests.plan.loads import GIB, MIB, QEMU_96M, check, ram, usable

OFFSETS = {
    "setup_sects": (0x1F1, "<B"),
    "syssize": (0x1F4, "<I"),
    "boot_flag": (0x1FE, "<H"),
    "jump": (0x200, "<H"),
    "version": (0x206, "<H"),
    "type_of_loader": (0x210, "<B"),
    "loadflags": (0x211, "<B"),
    "code32_start": (0x214, "<I"),
    "ramdisk_image": (0x218, "<I"),
    "ramdisk_size": (0x21C, "<I"),
    "cmd_line_ptr": (0x228, "<I"),
    "heap_end_ptr": (0x224, "<H"),
    "initrd_addr_max": (0x22C, "<I"),
    "kernel_alignment": (0x230, "<I"),
    "relocatable_kernel": (0x234, "<B"),
    "min_alignment": (0x235, "<B"),
    "xloadflags": (0x236, "<H"),
    "cmdline_size": (0x238, "<I"),
    "pref_address": (0x258, "<Q"),
    "init_size": (0x260, "<I"),
}
"""boot.rst, "The Real-Mode Kernel Header"."""
MODERN = {
    "setup_sects": 39,
    "boot_flag": 0xAA55,
    "jump": 0x6AEB,
    "version": 0x020F,
    "loadflags": 1,
    "code32_start": 0x100000,
    "initrd_addr_max": 0x7FFFFFFF,
    "kernel_alignment": 0x200000,
    "relocatable_kernel": 1,
    "min_alignment": 21,
    "xloadflags": 0x7F,
    "cmdline_size": 2047,
    "pref_address": 0x1000000,
    "init_size": 0x3378000,
}
"""Debian's cloud kernel 6.1.0-56 (hexdump of its header)."""
SIZE = 14186432


def head(**changes: int) -> bytes:
    data = bytearray(range(256)) * 3
    data[0x1F1:0x290] = bytes(0x290 - 0x1F1)
    data[0x202:0x206] = b"HdrS"
    for name, value in (MODERN | changes).items():
        offset, form = OFFSETS[name]
        struct.pack_into(form, data, offset, value)
    return bytes(data[:HEAD_READ])


def planned(
    memory: E820Map | None = None,
    *,
    initrd: int | None = None,
    cmdline: str = "console=ttyS0",
    size: int = SIZE,
    **changes: int,
) -> LinuxPlan:
    module = None if initrd is None else ModuleFile("initrd.img", initrd)
    plan = linux_boot.plan("vmlinuz", head(**changes), size, cmdline, module, memory)
    check(plan.load_plan, memory)
    return plan


def page(plan: LinuxPlan) -> bytes:
    load = plan.load_plan.loads[0]
    assert load.name == "boot_params" and isinstance(load.content, bytes)
    assert (load.address, len(load.content)) == (plan.params_at, 4096)
    return load.content


def field(plan: LinuxPlan, name: str) -> int:
    offset, form = OFFSETS[name]
    value: int = struct.unpack_from(form, page(plan), offset)[0]
    return value


# ---- any PC --------------------------------------------------------------------------------------------------


def test_on_any_pc_the_kernel_lies_where_it_prefers_and_the_initrd_above_it():
    plan = planned(initrd=1035)
    carried = plan.load_plan
    assert carried.protocol == "linux"
    kernel, initrd = carried.loads[2:]
    assert (kernel.address, kernel.content) == (0x1000000, Part("vmlinuz", 20480, SIZE - 20480))
    assert kernel.range.end == 0x1000000 + 0x3378000  # all of it must be there
    assert (initrd.address, initrd.content) == (0x4400000, Part("initrd.img", 0, 1035))
    assert carried.registers == Registers(0x1000000, esi=0x30000, esp=0x30000)
    assert (carried.map_shape, carried.map_address) == (MapShape.LINUX, 0x302D0)
    assert set(carried.patches) == {
        MachinePatch(0x301E8, MachineValue.MAP_ENTRIES),  # e820_entries; the three bytes behind it are 0
        MachinePatch(0x301E0, MachineValue.MEM_UPPER),  # alt_mem_k
    }
    assert plan.long_mode_entry == LongModeEntry(0x1000200, 0x30000)
    assert plan.real_mode_entry == RealModeEntry(0x3020, 0, 0x3000, 0xE000)


def test_boot_params_page():
    plan = planned(initrd=1035, cmdline="quiet console=ttyS0")
    content = page(plan)
    expected = bytearray(4096)
    expected[:0x12] = bytes([0, 24, 0, 0, 0, 0, 3, 80, 0, 0, 0, 0, 0, 0, 25, 1, 16, 0])  # screen_info: 80 x 25 text
    expected[0x1F1:0x26C] = head(
        type_of_loader=0xFF,
        loadflags=0xA1,  # QUIET_FLAG, CAN_USE_HEAP
        heap_end_ptr=0xDE00,  # for the 16-bit entry: boot.rst's 0xe000, less 0x200
        code32_start=0x1000000,
        ramdisk_image=0x4400000,
        ramdisk_size=1035,
        cmd_line_ptr=0x3E000,
    )[0x1F1:0x26C]
    assert content == bytes(expected)
    load = plan.load_plan.loads[1]
    assert (load.address, load.content) == (0x3E000, b"quiet console=ttyS0\0")


def test_without_an_initrd_its_fields_are_zero():
    for plan in (planned(), planned(initrd=0)):
        assert (plan.initrd, len(plan.load_plan.loads)) == (None, 3)
        assert (field(plan, "ramdisk_image"), field(plan, "ramdisk_size")) == (0, 0)


def test_only_the_header_is_copied_as_far_as_its_jump_says():
    junk = bytearray(head(jump=0x38EB, version=0x0209))  # 2.09: up to 0x258 at most; this one ends at 0x23a
    junk[0x23A:] = b"\xaa" * (len(junk) - 0x23A)
    plan = linux_boot.plan("vmlinuz", bytes(junk), SIZE, "", None, None)
    content = page(plan)
    assert content[0x1F1:0x202] == bytes(junk[0x1F1:0x202])
    assert content[0x22C:0x23A] == bytes(junk[0x22C:0x23A])
    assert not any(content[0x23A:])


# ---- by version ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "address", "needed"),
    [
        ({}, 0x1000000, 0x3378000),
        ({"init_size": 0}, 0x1000000, SIZE - 20480),
        ({"setup_sects": 0}, 0x1000000, 0x3378000),
        ({"pref_address": 0x400000}, 0x400000, 0x3378000),
        ({"pref_address": 0}, 0x100000, 0x3378000),
        # not relocatable: it is loaded at 1 MiB and moves itself
        ({"relocatable_kernel": 0}, 0x100000, 0xF00000 + 0x3378000),
        ({"relocatable_kernel": 0, "pref_address": 0x100000, "init_size": 0x6ACF8}, 0x100000, SIZE - 20480),
        # before 2.10 nothing is known of what it needs
        ({"version": 0x0209}, 0x100000, 3 * (SIZE - 20480)),
        ({"version": 0x0202}, 0x100000, 3 * (SIZE - 20480)),
    ],
)
def test_where_kernels_go(changes, address, needed):
    plan = planned(**changes)
    assert plan.memory == Range.at(address, needed)
    offset = 5 * 512 if changes.get("setup_sects") == 0 else 20480
    assert plan.load_plan.loads[2].content == Part("vmlinuz", offset, SIZE - offset)
    assert field(plan, "code32_start") == address == plan.load_plan.registers.eip


def test_an_entry_point_inside_of_the_kernel_moves_with_it():
    assert planned(code32_start=0x100200).load_plan.registers.eip == 0x1000200


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({}, 2047),
        ({"cmdline_size": 255}, 255),
        ({"version": 0x0206}, 2047),
        ({"version": 0x0205}, 255),
    ],
)
def test_command_line_limit(changes, limit):
    assert planned(cmdline="x" * limit, **changes).load_plan.loads[1].content == b"x" * limit + b"\0"
    with pytest.raises(RefusedError, match=f"the command line is 1 bytes too long.*at most {limit} bytes"):
        planned(cmdline="x" * (limit + 1), **changes)
    with pytest.raises(RefusedError, match="the command line is 1 bytes too long"):
        planned(cmdline="x" * (limit - 1) + "é", **changes)  # bytes, not characters


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"version": 0x0201}, RefusedError, "too old for the 32-bit entry.*found boot protocol 2.01"),
        ({"loadflags": 0}, RefusedError, "too old for the 32-bit entry.*found a zImage"),
        ({"code32_start": 0}, UnsupportedError, "no 32-bit entry point, only a 16-bit one"),
        ({"code32_start": 0x100000 + SIZE - 20480}, UnsupportedError, "no 32-bit entry point"),
        ({"boot_flag": 0}, FormatError, "no Linux kernel"),
        ({"size": 20480}, FormatError, "ends before its protected-mode part"),
        ({"pref_address": 1 << 32}, RefusedError, "no free memory where the kernel goes"),
        ({"pref_address": (1 << 64) - 1}, RefusedError, "no free memory where the kernel goes"),
        ({"init_size": 0xFFFFFFFF}, RefusedError, "no free memory where the kernel goes"),
    ],
)
def test_refusals(changes, error, message):
    with pytest.raises(error, match=message):
        planned(**changes)


def test_a_file_without_hdrs_or_cut_short():
    with pytest.raises(FormatError, match="no Linux kernel"):
        linux_boot.plan("k", b"", 0, "")
    for end in range(HEAD_READ):
        with pytest.raises(MbtoolError):
            linux_boot.plan("k", head()[: min(end, 0x26B)], end, "")


# ---- a known machine -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory", "changes", "initrd", "start"),
    [
        (ram((MIB, 512 * MIB)), {}, 5000, 512 * MIB - 0x2000),
        (ram((MIB, 512 * MIB + 0xFFF)), {}, 4096, 512 * MIB - 0x1000),
        (ram((MIB, 4 * GIB)), {}, 4096, 2 * GIB - 4096),  # initrd_addr_max
        (ram((MIB, 4 * GIB)), {"initrd_addr_max": 0x37FE0000 + 131071}, 131072, 0x37FE0000),  # boot.rst's example
        (ram((MIB, 4 * GIB)), {"initrd_addr_max": 0x37FE0000 + 131070}, 131072, 0x37FDF000),
        (ram((MIB, 4 * GIB)), {"version": 0x0202}, 131072, 0x37FE0000),  # no initrd_addr_max: 0x37ffffff
        (ram((MIB, 128 * MIB), (256 * MIB, 256 * MIB + 4096)), {}, 4097, 128 * MIB - 0x2000),
    ],
)
def test_initrd_goes_as_high_as_it_may(memory, changes, initrd, start):
    plan = planned(memory, initrd=initrd, **changes)
    assert plan.initrd == Range.at(start, initrd)
    assert (field(plan, "ramdisk_image"), field(plan, "ramdisk_size")) == (start, initrd)


def test_initrd_too_big_says_by_how_much():
    memory = ram((MIB, 128 * MIB))
    end = 0x4400000  # kernel and all it needs, rounded up to 1 MiB
    fits = 128 * MIB - end
    assert planned(memory, initrd=fits).initrd == Range.at(end, fits)
    with pytest.raises(RefusedError, match=f"the initrd is too big by 1 bytes; expected at most {fits} bytes"):
        planned(memory, initrd=fits + 1)
    with pytest.raises(
        RefusedError, match=f"the initrd is too big by 4096 bytes; expected at most {96 * MIB - end}"
    ):
        planned(memory, initrd=96 * MIB - end + 4096, initrd_addr_max=96 * MIB - 1, xloadflags=0x7D)
    with pytest.raises(RefusedError, match="the initrd is too big by"):
        planned(memory, initrd=4096, initrd_addr_max=MIB, xloadflags=0x7D)


def test_a_kernel_that_can_be_anywhere_takes_an_initrd_above_its_limit_and_above_4_gib():
    memory = ram((MIB, 128 * MIB), (4 * GIB, 8 * GIB))
    plan = planned(memory, initrd=60 * MIB, initrd_addr_max=96 * MIB - 1)
    assert plan.initrd == Range.at(128 * MIB - 60 * MIB, 60 * MIB)
    plan = planned(memory, initrd=3 * GIB)
    assert plan.initrd == Range.at(5 * GIB, 3 * GIB)
    assert struct.unpack_from("<II", page(plan), 0xC0) == (1, 0)  # ext_ramdisk_image, ext_ramdisk_size
    assert (field(plan, "ramdisk_image"), field(plan, "ramdisk_size")) == (GIB, 3 * GIB)
    with pytest.raises(RefusedError, match="the initrd is too big by"):
        planned(memory, initrd=3 * GIB, xloadflags=0x7D)


@pytest.mark.parametrize(
    ("memory", "changes", "address", "told"),
    [
        (ram((MIB, 512 * MIB)), {}, 16 * MIB, 0x200000),
        (ram((MIB, 12 * MIB), (20 * MIB + 1, 512 * MIB)), {}, 22 * MIB, 0x200000),
        # never below pref_address: it would move itself up again
        (ram((MIB, 15 * MIB), (17 * MIB, 512 * MIB)), {"init_size": 8 * MIB}, 18 * MIB, 0x200000),
        # a lesser alignment where nothing else will do, and then the kernel is told
        (ram((17 * MIB, 17 * MIB + 0x3378000)), {"min_alignment": 12}, 17 * MIB, 0x100000),
        (ram((17 * MIB + 4096, 17 * MIB + 4096 + 0x3378000)), {"min_alignment": 12}, 17 * MIB + 4096, 0x1000),
    ],
)
def test_a_relocatable_kernel_evades(memory, changes, address, told):
    plan = planned(memory, **changes)
    assert plan.memory.start == address
    assert field(plan, "kernel_alignment") == told


@pytest.mark.parametrize(
    ("memory", "changes", "message"),
    [
        (ram((17 * MIB + 4096, 17 * MIB + 4096 + 0x3378000)), {}, "the kernel is too big by"),
        (ram((17 * MIB, 512 * MIB)), {"relocatable_kernel": 0}, "no free memory where the kernel goes"),
        (ram((MIB, 16 * MIB + 0x3378000 - 1)), {}, "the kernel is too big by 1 bytes"),
        (usable((MIB, 512 * MIB)), {}, "boot_params is too big by 4096 bytes"),
    ],
)
def test_a_machine_without_a_place(memory, changes, message):
    planned(ram((MIB, 16 * MIB + 0x3378000)))
    with pytest.raises(RefusedError, match=message):
        planned(memory, **changes)


def test_the_memory_map_is_in_the_page():
    content = page(planned(QEMU_96M))
    assert struct.unpack_from("<I", content, 0x1E0) == (0x17B80,)
    assert content[0x1E8] == len(QEMU_96M.entries)
    stored = [struct.unpack_from("<QQI", content, 0x2D0 + 20 * number) for number in range(content[0x1E8])]
    assert stored == [(entry.range.start, entry.range.size, entry.type) for entry in QEMU_96M.entries]


def test_no_more_than_128_entries_of_the_map():
    many = tuple(E820Entry(Range.at(8 * GIB + number * 8192, 4096)) for number in range(200))
    plan = planned(E820Map((*QEMU_96M.entries, *many)))
    content = page(plan)
    assert content[0x1E8] == 128
    assert not any(content[0xCD0:])
    (finding,) = plan.findings
    assert (finding.id, finding.found) == ("E820-CUT", str(len(QEMU_96M.entries) + 200))
    fits = 128 - len(QEMU_96M.entries)
    assert planned(E820Map((*QEMU_96M.entries, *many[:fits]))).findings == ()


# ---- real images ---------------------------------------------------------------------------------------------


def real(path: Path, initrd: int = 4096, memory: E820Map | None = None) -> LinuxPlan:
    with path.open("rb") as file:
        plan = linux_boot.plan("k", file.read(HEAD_READ), path.stat().st_size, "", ModuleFile("i", initrd), memory)
    check(plan.load_plan, memory)
    return plan


@pytest.mark.real
def test_debian_kernels(vmlinuz: Path, vmlinuz_cloud: Path, vmlinuz_rt: Path) -> None:
    for path in (vmlinuz, vmlinuz_cloud, vmlinuz_rt):
        plan = real(path)
        assert plan.memory.start == 16 * MIB
        assert plan.long_mode_entry == LongModeEntry(16 * MIB + 0x200, 0x30000)
        assert plan.kernel.alignments == (2 * MIB,)


@pytest.mark.real
def test_memtest_and_ipxe(debian: Callable[[str], Path]) -> None:
    for name in ("memtest86+x64.bin", "memtest86+ia32.bin"):
        plan = real(debian("memtest86+") / "boot" / name)
        assert plan.load_plan.registers.eip == MIB
        assert (plan.long_mode_entry is None) == ("ia32" in name)
    with pytest.raises(UnsupportedError, match="only a 16-bit one"):
        real(debian("ipxe") / "boot/ipxe.lkrn")


# ---- hostile -------------------------------------------------------------------------------------------------


@given(
    st.dictionaries(
        st.sampled_from(sorted(OFFSETS)), st.sampled_from([0, 1, 12, 31, 0x7F, 0x80, 0xFF]), max_size=4
    ),
    st.dictionaries(
        st.sampled_from(["code32_start", "initrd_addr_max", "kernel_alignment", "pref_address", "init_size"]),
        st.sampled_from([0, 1, 3, 0x1000, MIB, 2**31, 2**32 - 1]),
        max_size=4,
    ),
    st.integers(0, 2**33),
    st.sampled_from([None, QEMU_96M, ram((MIB, 4 * GIB), (4 * GIB, 64 * GIB))]),
)
def test_hostile_headers_give_a_sound_plan_or_an_error(small, large, initrd, memory):
    changes = small | large
    with suppress(MbtoolError):
        planned(memory, initrd=initrd, size=SIZE, cmdline="", **changes)


@given(st.binary(min_size=0x202, max_size=0x290), st.integers(0, 1 << 24))
def test_noise_behind_the_magic(noise, size):
    data = bytearray(noise)
    data[0x1FE:0x200] = b"\x55\xaa"
    with suppress(MbtoolError):
        linux_kernel("k", bytes(data[:0x202]) + b"HdrS" + bytes(data[0x206:]), size)
