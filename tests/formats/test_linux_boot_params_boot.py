"""The page that a real boot hands over, as Linux itself shows it in /sys and tells of it on its console."""

from __future__ import annotations

import base64
import re
import stat

import pytest

from mbtool.formats import linux_boot_params, linux_boot_params_node
from mbtool.formats.cpio import Member, build_cpio
from mbtool.formats.linux_setup_data_types import E820_TYPES
from tests import qemu

pytestmark = [pytest.mark.boot, pytest.mark.real]

DIR = stat.S_IFDIR | 0o755
RUN = stat.S_IFREG | 0o755
# Nothing that the kernel prints may land inside of the line: dmesg -n 1.
INIT = b"""#!/bin/sh
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox dmesg -n 1
/bin/busybox echo PAGE: $(/bin/busybox base64 -w 0 /sys/kernel/boot_params/data) :END
/bin/busybox poweroff -f
"""
COMMAND_LINE = "console=ttyS0 panic=-1"


def test_a_real_page(debian, vmlinuz, tmp_path):
    busybox = (debian("busybox-static") / "bin/busybox").read_bytes()
    initrd = tmp_path / "initrd"
    initrd.write_bytes(
        build_cpio(
            [
                Member("sys", mode=DIR),
                Member("bin", mode=DIR),
                Member("bin/busybox", busybox, RUN),
                Member("bin/sh", b"busybox", stat.S_IFLNK | 0o777),
                Member("init", INIT, RUN),
            ]
        )
    )
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(0x1B8) + b"\x78\x56\x34\x12" + bytes(66) + b"\x55\xaa" + bytes(4 << 20))
    console = qemu.run(
        [
            *("-machine", "pc", "-m", "320", "-kernel", str(vmlinuz), "-initrd", str(initrd)),
            *("-append", COMMAND_LINE, "-drive", f"file={disk},format=raw,if=ide"),
        ],
        until=r":END",
    ).console
    found = re.search(r"PAGE: (\S+) :END", console)
    assert found is not None
    page = base64.b64decode(found[1])
    assert len(page) == 4096
    params = linux_boot_params.parse(page)
    assert linux_boot_params.build(params) == page

    told = re.findall(r"BIOS-e820: \[mem (0x\w+)-(0x\w+)\] (.*)", console)
    names = {"ACPI data": "ACPI data", "ACPI NVS": "ACPI NVS", "reserved": "reserved", "usable": "usable"}
    assert [(entry.addr, entry.addr + entry.size - 1, E820_TYPES[entry.type]) for entry in params.memory_map] == [
        (int(first, 16), int(last, 16), names[kind.strip()]) for first, last, kind in told
    ]
    assert params.hdr.protocol == (2, 15)
    assert params.hdr.loader == "QEMU, version 0"
    assert params.ramdisk[1] == initrd.stat().st_size
    ramdisk = re.search(r"RAMDISK: \[mem (0x\w+)-(0x\w+)\]", console)
    assert ramdisk is not None
    start, size = params.ramdisk
    assert (start, (start + size + 4095) & ~4095) == (int(ramdisk[1], 16), int(ramdisk[2], 16) + 1)
    assert (params.screen_info.orig_video_cols, params.screen_info.orig_video_lines) == (80, 25)
    assert params.disks[0].device == 0x80
    assert params.edd_mbr_sig_buffer[0] == 0x12345678
    sectors = disk.stat().st_size // 512
    assert (params.disks[0].number_of_sectors, params.disks[0].bytes_per_sector) == (sectors, 512)
    node = linux_boot_params_node.node(page)
    assert not node.findings
    (shown,) = (child for child in node.children if child.kind == "edd-info")
    assert str(shown["path"]).startswith("PCI 00:01.1 channel")
    assert str(shown["path"]).endswith("ATA device 0")
