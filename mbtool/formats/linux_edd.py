"""BIOS disks as Linux's real-mode code writes them down: ``struct edd_info``, 82 bytes each.

Source: Linux, include/uapi/linux/edd.h; the parameters are those of INT 13h, AH=48h (T13 D1572, "BIOS Enhanced Disk
Drive Services - 3").
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import unpack_from

from mbtool.formats.wire import Layout, flag_names
from mbtool.formats.wire_plain import Bytes, Int8ul, Int16ul, Int32ul, Int64ul, Struct
from mbtool.model import Field

EDDMAXNR = 6
EDD_MBR_SIG_MAX = 16
INTERFACE_SUPPORT = {
    0: "EDD_EXT_FIXED_DISK_ACCESS",
    1: "EDD_EXT_DEVICE_LOCKING_AND_EJECTING",
    2: "EDD_EXT_ENHANCED_DISK_DRIVE_SUPPORT",
    3: "EDD_EXT_64BIT_EXTENSIONS",
}
INFO_FLAGS = {
    0: "EDD_INFO_DMA_BOUNDARY_ERROR_TRANSPARENT",
    1: "EDD_INFO_GEOMETRY_VALID",
    2: "EDD_INFO_REMOVABLE",
    3: "EDD_INFO_WRITE_VERIFY",
    4: "EDD_INFO_MEDIA_CHANGE_NOTIFICATION",
    5: "EDD_INFO_LOCKABLE",
    6: "EDD_INFO_NO_MEDIA_PRESENT",
    7: "EDD_INFO_USE_INT13_FN50",
}
KEY = 0xBEDD
"""In ``key`` when the fields behind it (the disk's path) are there."""


@dataclass(frozen=True, slots=True)
class EddInfo:
    """A BIOS disk: ``device`` 0x80 and up; from ``length`` on the 74 bytes of ``struct edd_device_params``.

    ``number_of_sectors`` counts units of ``bytes_per_sector``. The two paths keep their bytes: what they mean
    depends on host_bus_type and interface_type.
    """

    device: int = 0
    version: int = 0
    interface_support: int = 0
    legacy_max_cylinder: int = 0
    legacy_max_head: int = 0
    legacy_sectors_per_track: int = 0
    length: int = 0
    info_flags: int = 0
    num_default_cylinders: int = 0
    num_default_heads: int = 0
    sectors_per_track: int = 0
    number_of_sectors: int = 0
    bytes_per_sector: int = 0
    dpte_ptr: int = 0
    key: int = 0
    device_path_info_length: int = 0
    reserved2: int = 0
    reserved3: int = 0
    host_bus_type: bytes = bytes(4)
    interface_type: bytes = bytes(8)
    interface_path: bytes = bytes(8)
    device_path: bytes = bytes(16)
    reserved4: int = 0
    checksum: int = 0


EDD_INFO = Layout(
    EddInfo,
    Struct(
        "device" / Int8ul,
        "version" / Int8ul,
        "interface_support" / Int16ul,
        "legacy_max_cylinder" / Int16ul,
        "legacy_max_head" / Int8ul,
        "legacy_sectors_per_track" / Int8ul,
        "length" / Int16ul,
        "info_flags" / Int16ul,
        "num_default_cylinders" / Int32ul,
        "num_default_heads" / Int32ul,
        "sectors_per_track" / Int32ul,
        "number_of_sectors" / Int64ul,
        "bytes_per_sector" / Int16ul,
        "dpte_ptr" / Int32ul,
        "key" / Int16ul,
        "device_path_info_length" / Int8ul,
        "reserved2" / Int8ul,
        "reserved3" / Int16ul,
        "host_bus_type" / Bytes(4),
        "interface_type" / Bytes(8),
        "interface_path" / Bytes(8),
        "device_path" / Bytes(16),
        "reserved4" / Int8ul,
        "checksum" / Int8ul,
    ),
    hex={"device", "version", "interface_support", "info_flags", "dpte_ptr", "key", "checksum"},
    telling={"device", "number_of_sectors", "bytes_per_sector"},
    meanings={
        "interface_support": flag_names(INTERFACE_SUPPORT),
        "info_flags": flag_names(INFO_FLAGS),
        "host_bus_type": lambda name: _text(name),
        "interface_type": lambda name: _text(name),
        "key": lambda key: "" if key == KEY else "no path follows",
    },
)


def _text(name: bytes) -> str:
    return name.rstrip(b" \0").decode("ascii", "backslashreplace")


def path(edd: EddInfo) -> Field | None:
    """Where the disk is attached, in words; None when the BIOS does not tell."""
    if edd.key != KEY:
        return None
    bus, interface = _text(edd.host_bus_type), _text(edd.interface_type)
    return Field("path", f"{bus} {_bus(bus, edd.interface_path)}, {interface} {_disk(interface, edd.device_path)}")


def _bus(kind: str, path: bytes) -> str:
    if kind == "ISA":
        return f"{unpack_from('<H', path)[0]:#x}"
    if kind in ("PCI", "PCIX"):
        bus, slot, function, channel = path[:4]
        return f"{bus:02x}:{slot:02x}.{function:x} channel {channel}"
    return path.hex()


def _disk(kind: str, path: bytes) -> str:
    first, second = unpack_from("<QQ", path)
    if kind in ("ATA", "SATA"):
        return f"device {path[0]}"
    if kind == "ATAPI":
        return f"device {path[0]} lun {path[1]}"
    if kind == "SCSI":
        device, lun = unpack_from("<HQ", path)
        return f"id {device} lun {lun}"
    if kind == "FIBRE":
        return f"wwid {first:#x} lun {second}"
    if kind == "RAID":
        return f"array {unpack_from('<I', path)[0]}"
    if kind in ("USB", "1394", "I2O"):
        return f"{first:#x}"
    return path.hex()
