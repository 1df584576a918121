"""The setup header: a literal header, every protocol version, round trips, hostile bytes."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool.errors import FormatError
from mbtool.formats import linux_boot, linux_boot_names
from mbtool.formats.linux_boot import SETUP_HEADER, SetupHeader
from mbtool.source import BytesSource
from tests.formats.linux_images import ENDS, FIELDS, kernel

# The header of a protocol 2.15 kernel, field by field after boot.rst.
LITERAL = bytes.fromhex(
    "27"  # 0x1f1 setup_sects: 39
    "0100"  # 0x1f2 root_flags: read-only
    "20d80700"  # 0x1f4 syssize: 0x7d820 paragraphs
    "0000"  # 0x1f8 ram_size
    "ffff"  # 0x1fa vid_mode: normal
    "0103"  # 0x1fc root_dev: 3, 1
    "55aa"  # 0x1fe boot_flag
    "eb6a"  # 0x200 jump to 0x26c
    "48647253"  # 0x202 HdrS
    "0f02"  # 0x206 version 2.15
    "00000000"  # 0x208 realmode_swtch
    "0010"  # 0x20c start_sys_seg
    "c042"  # 0x20e kernel_version: string at 0x44c0
    "e4"  # 0x210 type_of_loader: extended, version 4
    "81"  # 0x211 loadflags: LOADED_HIGH, CAN_USE_HEAP
    "0080"  # 0x212 setup_move_size
    "00001000"  # 0x214 code32_start
    "00000037"  # 0x218 ramdisk_image
    "00e1f505"  # 0x21c ramdisk_size: 100000000
    "00000000"  # 0x220 bootsect_kludge
    "e05b"  # 0x224 heap_end_ptr
    "23"  # 0x226 ext_loader_ver
    "05"  # 0x227 ext_loader_type
    "00980900"  # 0x228 cmd_line_ptr
    "ffffff7f"  # 0x22c initrd_addr_max
    "00002000"  # 0x230 kernel_alignment
    "01"  # 0x234 relocatable_kernel
    "15"  # 0x235 min_alignment: 2^21
    "7f00"  # 0x236 xloadflags
    "ff070000"  # 0x238 cmdline_size
    "02000000"  # 0x23c hardware_subarch: Xen
    "8877665544332211"  # 0x240 hardware_subarch_data
    "cc020000"  # 0x248 payload_offset
    "70f07b00"  # 0x24c payload_length
    "0010000001000000"  # 0x250 setup_data
    "0000000100000000"  # 0x258 pref_address
    "0080f903"  # 0x260 init_size
    "b08d7c00"  # 0x264 handover_offset
    "9c577d00"  # 0x268 kernel_info_offset
)
HEAD = bytes(0x1F1) + LITERAL


def test_layout_is_that_of_the_specification():
    assert SETUP_HEADER.size == 0x26C - 0x1F1 == 123
    places = {name: (0x1F1 + offset, size) for name, (offset, size) in SETUP_HEADER.offsets.items()}
    assert places == {name: (offset, size) for name, (offset, size, _) in FIELDS.items()}
    since = {name: major << 8 | minor for name, (major, minor) in linux_boot.SINCE.items()}
    assert since == {name: version for name, (_, _, version) in FIELDS.items()}


def test_literal_header():
    header = linux_boot.parse(HEAD)
    assert header == SetupHeader(
        setup_sects=39,
        root_flags=1,
        syssize=0x7D820,
        vid_mode=0xFFFF,
        root_dev=0x301,
        boot_flag=0xAA55,
        jump=0x6AEB,
        header=0x53726448,
        version=0x20F,
        start_sys_seg=0x1000,
        kernel_version=0x42C0,
        type_of_loader=0xE4,
        loadflags=0x81,
        setup_move_size=0x8000,
        code32_start=0x100000,
        ramdisk_image=0x37000000,
        ramdisk_size=100_000_000,
        heap_end_ptr=0x5BE0,
        ext_loader_ver=0x23,
        ext_loader_type=5,
        cmd_line_ptr=0x99800,
        initrd_addr_max=0x7FFFFFFF,
        kernel_alignment=0x200000,
        relocatable_kernel=1,
        min_alignment=21,
        xloadflags=0x7F,
        cmdline_size=2047,
        hardware_subarch=2,
        hardware_subarch_data=0x1122334455667788,
        payload_offset=0x2CC,
        payload_length=0x7BF070,
        setup_data=0x1_0000_1000,
        pref_address=0x1000000,
        init_size=0x3F98000,
        handover_offset=0x7C8DB0,
        kernel_info_offset=0x7D579C,
    )
    assert linux_boot.build(header) == LITERAL
    assert header.protocol == (2, 15)
    assert header.end == 0x26C
    assert header.setup_size == 40 * 512
    assert header.system_size == 0x7D820 * 16
    assert header.payload == (40 * 512 + 0x2CC, 0x7BF070)
    assert header.loaded_high


def test_literal_header_in_words():
    header = linux_boot.parse(HEAD)
    fields = {field.name: field for field in linux_boot.fields(header, HEAD)}
    assert list(fields) == list(FIELDS)
    for name, (offset, size, _) in FIELDS.items():
        assert (fields[name].offset, fields[name].size) == (offset, size)
        assert fields[name].raw == HEAD[offset : offset + size]
        assert fields[name].value == int.from_bytes(fields[name].raw, "little")
    words = {name: field.meaning for name, field in fields.items() if field.meaning}
    assert words["type_of_loader"] == "loader 0x15, version 564"  # the example of boot.rst: T = 0x15, V = 0x234
    assert words["loadflags"] == "LOADED_HIGH, CAN_USE_HEAP"
    assert words["xloadflags"].split(", ") == [
        "XLF_KERNEL_64",
        "XLF_CAN_BE_LOADED_ABOVE_4G",
        "XLF_EFI_HANDOVER_32",
        "XLF_EFI_HANDOVER_64",
        "XLF_EFI_KEXEC",
        "XLF_5LEVEL",
        "XLF_5LEVEL_ENABLED",
    ]
    assert words["version"] == "boot protocol 2.15"
    assert words["hardware_subarch"] == "Xen"
    assert words["vid_mode"] == "normal"
    assert words["root_dev"] == "major 3, minor 1"
    assert words["kernel_version"] == "string at 0x44c0"
    assert words["header"] == '"HdrS"'


@pytest.mark.parametrize("version", ENDS)
def test_each_version_has_its_fields_and_no_others(version):
    data = kernel(version)
    header = linux_boot.parse(data)
    assert header.protocol == (2, version & 0xFF)
    assert header.end == ENDS[version] == header.version_end
    expected = [name for name, (_, _, since) in FIELDS.items() if since <= version]
    assert [field.name for field in linux_boot.fields(header, data)] == expected
    assert linux_boot.build(header) == data[0x1F1 : header.end]
    assert (header.payload is not None) == (version >= 0x208 and bool(header.payload_offset))


@pytest.mark.parametrize("version", ENDS)
def test_what_a_header_is_longer_by_survives(version):
    """iPXE's header is 2.07 and has its version string behind it, within the jumped distance."""
    data = kernel(version, jump=0xEB | 0x7F << 8)
    header = linux_boot.parse(data)
    assert header.end == 0x281
    assert header.rest == data[ENDS[version] : 0x281]
    assert linux_boot.build(header) == data[0x1F1:0x281]


@pytest.mark.parametrize("end", range(0x208, 0x26D))
def test_a_header_shorter_than_its_version_has_only_what_is_in_it(end):
    data = kernel(0x20F, jump=0xEB | (end - 0x202) << 8)
    header = linux_boot.parse(data)
    assert header.end == end
    names = [field.name for field in linux_boot.fields(header, data)]
    assert names == [name for name, (offset, size, _) in FIELDS.items() if offset + size <= end]
    assert linux_boot.build(header) == data[0x1F1:end]


@pytest.mark.parametrize("jump", [0x6AE9, 0x80EB, 0xFFEB, 0x0000, 0x05EB])
def test_without_a_forward_short_jump_the_version_tells_the_length(jump):
    header = linux_boot.parse(kernel(0x20C, jump=jump))
    assert not header.measured
    assert header.end == 0x268


def test_without_hdrs_only_the_old_boot_sector_is_there():
    header = linux_boot.parse(kernel(header=0))
    assert header.protocol == (0, 0)
    assert header.end == 0x200
    assert not header.loaded_high
    assert header.payload is None
    assert [field.name for field in linux_boot.fields(header, kernel(header=0))] == [
        "setup_sects",
        "root_flags",
        "syssize",
        "ram_size",
        "vid_mode",
        "root_dev",
        "boot_flag",
    ]


def test_no_setup_sectors_are_four():
    assert linux_boot.parse(kernel(setup_sects=0)).setup_size == 5 * 512
    assert linux_boot.parse(kernel(setup_sects=255)).setup_size == 256 * 512


@pytest.mark.parametrize(
    ("version", "loadflags", "syssize", "size"),
    [
        (0x20F, 1, 0xFFFFFFFF, 0xFFFFFFFF * 16),
        (0x204, 1, 0x12345, 0x123450),
        (0x203, 1, 0x12345, None),  # a bzImage's size does not fit into 16 bits
        (0x203, 0, 0xABCD1234, 0x12340),  # the upper half was the swap device
    ],
)
def test_syssize_before_2_04_is_half_as_wide(version, loadflags, syssize, size):
    data = kernel(version, loadflags=loadflags, syssize=syssize)
    header = linux_boot.parse(data)
    assert header.system_size == size
    (field,) = (field for field in linux_boot.fields(header, data) if field.name == "syssize")
    assert field.size == (4 if version >= 0x204 else 2)
    assert field.value == (syssize if version >= 0x204 else syssize & 0xFFFF)
    assert linux_boot.build(header) == data[0x1F1 : header.end]


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        ((0x00, 0, 0), "LILO, version 0"),
        ((0x72, 0, 0), "GRUB, version 2"),
        ((0x91, 0, 0), "Xen, version 1"),
        ((0xB0, 0, 0), "QEMU, version 0"),
        ((0xE1, 2, 0), "OVMF, version 1"),
        ((0xE4, 5, 0x23), "loader 0x15, version 564"),
        ((0x6F, 0, 1), "loader 0x6, version 31"),
        ((0xFF, 0, 0), "undefined"),
        ((0xF1, 0, 0), "special"),
    ],
)
def test_boot_loaders(loader, words):
    assert linux_boot_names.loader(*loader) == words


def test_ram_size_flags():
    assert linux_boot_names.ram_size(0) == ""
    assert linux_boot_names.ram_size(0xC010) == "image at 16 KiB, RAMDISK_LOAD_FLAG, RAMDISK_PROMPT_FLAG"
    assert linux_boot_names.ram_size(0x0800) == "bits 0x800"


@pytest.mark.parametrize(
    ("type_", "words"),
    [
        (0, "SETUP_NONE"),
        (9, "SETUP_RNG_SEED"),
        (0x80000000, "SETUP_INDIRECT"),
        (0x80000001, "SETUP_INDIRECT | SETUP_E820_EXT"),
        (77, "type 77"),
    ],
)
def test_setup_data_types(type_, words):
    assert linux_boot_names.setup_type_name(type_) == words


def values() -> st.SearchStrategy[dict[str, int]]:
    return st.fixed_dictionaries(
        {name: st.integers(0, (1 << 8 * size) - 1) for name, (_, size) in SETUP_HEADER.offsets.items()}
    )


@given(values(), st.sampled_from(list(ENDS)), st.integers(0, 0x7F))
def test_parse_undoes_build(values, version, distance):
    header = SetupHeader(**values | {"header": linux_boot.MAGIC, "version": version, "jump": distance << 8 | 0xEB})
    room = max(0, header.end - header.version_end)
    header = replace(header, rest=bytes(range(room)))
    built = linux_boot.build(header)
    assert len(built) == header.end - 0x1F1
    again = linux_boot.parse(bytes(0x1F1) + built)
    assert linux_boot.build(again) == built
    assert all(getattr(again, name) == getattr(header, name) for name in FIELDS if header.has(name))
    assert again.rest == header.rest


@given(st.binary(min_size=0x202, max_size=0x300))
def test_any_bytes_parse_and_build_back(data):
    try:
        header = linux_boot.parse(data)
    except FormatError as error:
        assert "cut short" in error.problem
        return
    assert linux_boot.build(header) == data[0x1F1 : header.end]
    assert all(field.raw in data or not field.raw for field in linux_boot.fields(header, data))


@pytest.mark.parametrize("size", [*range(0x202), *range(0x206, 0x26C)])
def test_a_cut_header_is_one_clear_error(size):
    with pytest.raises(FormatError, match="cut short") as caught:
        linux_boot.read(BytesSource(HEAD[:size], "vmlinuz"))
    assert caught.value.source == "vmlinuz"


def test_a_value_that_does_not_fit_names_its_field():
    with pytest.raises(FormatError, match=r"SetupHeader.*payload_length"):
        linux_boot.build(SetupHeader(payload_length=1 << 32))


def test_places_in_struct_terms():
    """The same landmarks read with struct alone."""
    data = kernel(payload=b"x" * 100)
    header = linux_boot.parse(data)
    assert struct.unpack_from("<H", data, 0x1FE)[0] == header.boot_flag == 0xAA55
    assert data[0x202:0x206] == b"HdrS"
    assert struct.unpack_from("<H", data, 0x206)[0] == header.version
    assert struct.unpack_from("<II", data, 0x248) == (header.payload_offset, header.payload_length)
    assert struct.unpack_from("<QII", data, 0x258) == (
        header.pref_address,
        header.init_size,
        header.handover_offset,
    )
