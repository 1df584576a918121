"""Linux kernel files laid out by hand: places as the table in boot.rst lists them, not as mbtool declares them."""

from __future__ import annotations

import zlib

FIELDS: dict[str, tuple[int, int, int]] = {
    "setup_sects": (0x1F1, 1, 0),
    "root_flags": (0x1F2, 2, 0),
    "syssize": (0x1F4, 4, 0),
    "ram_size": (0x1F8, 2, 0),
    "vid_mode": (0x1FA, 2, 0),
    "root_dev": (0x1FC, 2, 0),
    "boot_flag": (0x1FE, 2, 0),
    "jump": (0x200, 2, 0x200),
    "header": (0x202, 4, 0x200),
    "version": (0x206, 2, 0x200),
    "realmode_swtch": (0x208, 4, 0x200),
    "start_sys_seg": (0x20C, 2, 0x200),
    "kernel_version": (0x20E, 2, 0x200),
    "type_of_loader": (0x210, 1, 0x200),
    "loadflags": (0x211, 1, 0x200),
    "setup_move_size": (0x212, 2, 0x200),
    "code32_start": (0x214, 4, 0x200),
    "ramdisk_image": (0x218, 4, 0x200),
    "ramdisk_size": (0x21C, 4, 0x200),
    "bootsect_kludge": (0x220, 4, 0x200),
    "heap_end_ptr": (0x224, 2, 0x201),
    "ext_loader_ver": (0x226, 1, 0x202),
    "ext_loader_type": (0x227, 1, 0x202),
    "cmd_line_ptr": (0x228, 4, 0x202),
    "initrd_addr_max": (0x22C, 4, 0x203),
    "kernel_alignment": (0x230, 4, 0x205),
    "relocatable_kernel": (0x234, 1, 0x205),
    "min_alignment": (0x235, 1, 0x20A),
    "xloadflags": (0x236, 2, 0x20C),
    "cmdline_size": (0x238, 4, 0x206),
    "hardware_subarch": (0x23C, 4, 0x207),
    "hardware_subarch_data": (0x240, 8, 0x207),
    "payload_offset": (0x248, 4, 0x208),
    "payload_length": (0x24C, 4, 0x208),
    "setup_data": (0x250, 8, 0x209),
    "pref_address": (0x258, 8, 0x20A),
    "init_size": (0x260, 4, 0x20A),
    "handover_offset": (0x264, 4, 0x20B),
    "kernel_info_offset": (0x268, 4, 0x20F),
}
"""Name to (offset in the file, size, protocol version since): boot.rst, "The Real-Mode Kernel Header"."""

ENDS = {
    0x200: 0x224,
    0x201: 0x226,
    0x202: 0x22C,
    0x203: 0x230,
    0x204: 0x230,
    0x205: 0x235,
    0x206: 0x23C,
    0x207: 0x248,
    0x208: 0x250,
    0x209: 0x258,
    0x20A: 0x264,
    0x20B: 0x268,
    0x20C: 0x268,
    0x20D: 0x268,
    0x20E: 0x268,
    0x20F: 0x26C,
}
"""Version to the offset behind its last field."""

RELEASE = "6.1.0-test (root@here) #1 SMP Tue Nov 24 00:00:00 UTC 2026"
SETUP_SECTS = 4
VERSION_AT = 0x600


def kernel(
    protocol: int = 0x20F, /, *, payload: bytes = b"", release: str = RELEASE, seal: bool = True, **values: int
) -> bytes:
    """A sound bzImage: 4 setup sectors, ``payload`` 0x40 bytes into the protected-mode part, CRC at the end.

    ``values`` replace header fields, also with nonsense.
    """
    body = bytes(0x40) + payload
    body += bytes(-(len(body) + 4) % 16) + bytes(4)
    data = bytearray((SETUP_SECTS + 1) * 512) + body
    text = release.encode() + b"\0"
    data[VERSION_AT : VERSION_AT + len(text)] = text
    sound = {
        "setup_sects": SETUP_SECTS,
        "root_flags": 1,
        "syssize": len(body) // 16,
        "vid_mode": 0xFFFF,
        "boot_flag": 0xAA55,
        "jump": 0xEB | (ENDS[protocol] - 0x202) << 8,
        "header": int.from_bytes(b"HdrS", "little"),
        "version": protocol,
        "start_sys_seg": 0x1000,
        "kernel_version": VERSION_AT - 0x200 if text != b"\0" else 0,
        "loadflags": 1,
        "code32_start": 0x100000,
        "initrd_addr_max": 0x7FFFFFFF,
        "kernel_alignment": 0x200000,
        "relocatable_kernel": 1,
        "min_alignment": 21,
        "xloadflags": 3,
        "cmdline_size": 2047,
        "payload_offset": 0x40 if payload else 0,
        "payload_length": len(payload),
        "pref_address": 0x1000000,
        "init_size": 0x1000000,
    }
    for name, value in {**sound, **values}.items():
        offset, size, since = FIELDS[name]
        if since <= protocol or name in values:
            data[offset : offset + size] = value.to_bytes(size, "little")
    if seal:
        data[-4:] = (zlib.crc32(data[:-4]) ^ 0xFFFFFFFF).to_bytes(4, "little")
    return bytes(data)
