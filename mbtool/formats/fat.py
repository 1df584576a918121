"""FAT file systems: boot sector, directories, files (Microsoft FAT specification 1.03; ECMA-107 for 12 and 16 bit).

Layouts build as well as parse: ``mbtool.disk.esp`` writes FAT32 with them. ``fat_files`` reads files.
"""

from __future__ import annotations

from dataclasses import dataclass

from mbtool.errors import FormatError
from mbtool.formats.wire import Layout, flag_names
from mbtool.formats.wire_plain import Bytes, Int8ul, Int16ul, Int32ul, Struct
from mbtool.source import Source

FAT12_CLUSTERS = 4085
FAT16_CLUSTERS = 65525
"""A volume with fewer clusters than this is FAT16 (or FAT12), whatever it calls itself (section "FAT type")."""
END_OF_CHAIN = 0x0FFFFFFF
FREE_CLUSTER = 0

READ_ONLY, HIDDEN, SYSTEM, VOLUME_ID, DIRECTORY, ARCHIVE = 1, 2, 4, 8, 16, 32
LONG_NAME = READ_ONLY | HIDDEN | SYSTEM | VOLUME_ID
LAST_LONG_ENTRY = 0x40
ENTRY_SIZE = 32
MAX_CLUSTERS = 0x0FFFFFF5
"""Data clusters that 28-bit numbers can name."""


@dataclass(frozen=True, slots=True)
class BootSector:
    """BIOS parameter block of FAT32, field names as in the specification; counts in sectors unless said."""

    BS_jmpBoot: bytes
    BS_OEMName: bytes
    BPB_BytsPerSec: int
    BPB_SecPerClus: int
    BPB_RsvdSecCnt: int
    BPB_NumFATs: int
    BPB_RootEntCnt: int
    BPB_TotSec16: int
    BPB_Media: int
    BPB_FATSz16: int
    BPB_SecPerTrk: int
    BPB_NumHeads: int
    BPB_HiddSec: int
    BPB_TotSec32: int
    BPB_FATSz32: int
    BPB_ExtFlags: int
    BPB_FSVer: int
    BPB_RootClus: int
    BPB_FSInfo: int
    BPB_BkBootSec: int
    BPB_Reserved: bytes
    BS_DrvNum: int
    BS_Reserved1: int
    BS_BootSig: int
    BS_VolID: int
    BS_VolLab: bytes
    BS_FilSysType: bytes


BOOT_SECTOR = Layout(
    BootSector,
    Struct(
        "BS_jmpBoot" / Bytes(3),
        "BS_OEMName" / Bytes(8),
        "BPB_BytsPerSec" / Int16ul,
        "BPB_SecPerClus" / Int8ul,
        "BPB_RsvdSecCnt" / Int16ul,
        "BPB_NumFATs" / Int8ul,
        "BPB_RootEntCnt" / Int16ul,
        "BPB_TotSec16" / Int16ul,
        "BPB_Media" / Int8ul,
        "BPB_FATSz16" / Int16ul,
        "BPB_SecPerTrk" / Int16ul,
        "BPB_NumHeads" / Int16ul,
        "BPB_HiddSec" / Int32ul,
        "BPB_TotSec32" / Int32ul,
        "BPB_FATSz32" / Int32ul,
        "BPB_ExtFlags" / Int16ul,
        "BPB_FSVer" / Int16ul,
        "BPB_RootClus" / Int32ul,
        "BPB_FSInfo" / Int16ul,
        "BPB_BkBootSec" / Int16ul,
        "BPB_Reserved" / Bytes(12),
        "BS_DrvNum" / Int8ul,
        "BS_Reserved1" / Int8ul,
        "BS_BootSig" / Int8ul,
        "BS_VolID" / Int32ul,
        "BS_VolLab" / Bytes(11),
        "BS_FilSysType" / Bytes(8),
    ),
    hex={"BPB_Media", "BPB_ExtFlags", "BPB_FSVer", "BS_DrvNum", "BS_BootSig", "BS_VolID"},
    telling={"BS_VolID"},
    meanings={
        "BS_VolID": lambda value: f"{value >> 16:04X}-{value & 0xFFFF:04X}",
        "BS_VolLab": lambda raw: raw.decode("latin-1").rstrip(),
    },
)
EXTENDED_16, EXTENDED_32 = 36, 64
"""Where the fields from BS_DrvNum on are: FAT12 and FAT16 have none of FAT32's own before them."""


@dataclass(frozen=True, slots=True)
class FsInfo:
    """FSInfo sector: hints on free clusters."""

    FSI_LeadSig: int
    FSI_Reserved1: bytes
    FSI_StrucSig: int
    FSI_Free_Count: int
    FSI_Nxt_Free: int
    FSI_Reserved2: bytes
    FSI_TrailSig: int


FS_INFO = Layout(
    FsInfo,
    Struct(
        "FSI_LeadSig" / Int32ul,
        "FSI_Reserved1" / Bytes(480),
        "FSI_StrucSig" / Int32ul,
        "FSI_Free_Count" / Int32ul,
        "FSI_Nxt_Free" / Int32ul,
        "FSI_Reserved2" / Bytes(12),
        "FSI_TrailSig" / Int32ul,
    ),
    hex={"FSI_LeadSig", "FSI_StrucSig", "FSI_TrailSig"},
)


@dataclass(frozen=True, slots=True)
class DirEntry:
    """A short directory entry; the file's first cluster is split in two halves."""

    DIR_Name: bytes
    DIR_Attr: int
    DIR_NTRes: int
    DIR_CrtTimeTenth: int
    DIR_CrtTime: int
    DIR_CrtDate: int
    DIR_LstAccDate: int
    DIR_FstClusHI: int
    DIR_WrtTime: int
    DIR_WrtDate: int
    DIR_FstClusLO: int
    DIR_FileSize: int

    @property
    def cluster(self) -> int:
        return self.DIR_FstClusHI << 16 | self.DIR_FstClusLO


DIR_ENTRY = Layout(
    DirEntry,
    Struct(
        "DIR_Name" / Bytes(11),
        "DIR_Attr" / Int8ul,
        "DIR_NTRes" / Int8ul,
        "DIR_CrtTimeTenth" / Int8ul,
        "DIR_CrtTime" / Int16ul,
        "DIR_CrtDate" / Int16ul,
        "DIR_LstAccDate" / Int16ul,
        "DIR_FstClusHI" / Int16ul,
        "DIR_WrtTime" / Int16ul,
        "DIR_WrtDate" / Int16ul,
        "DIR_FstClusLO" / Int16ul,
        "DIR_FileSize" / Int32ul,
    ),
    hex={"DIR_Attr"},
    meanings={
        "DIR_Attr": flag_names(
            {0: "read-only", 1: "hidden", 2: "system", 3: "volume label", 4: "directory", 5: "archive"}
        )
    },
)


@dataclass(frozen=True, slots=True)
class Volume:
    """Where things are in a FAT volume, in bytes from its start, as the boot sector says."""

    boot: BootSector
    bits: int
    """Of an entry of the table: 12, 16 or 32."""
    clusters: int
    cluster_size: int
    fat_offset: int
    """The table in use; FAT32 may have mirroring off (BPB_ExtFlags)."""
    fat_size: int
    """Bytes of one table."""
    root_offset: int
    """FAT12 and FAT16: the fixed root directory."""
    data_offset: int
    size: int

    def offset(self, cluster: int) -> int:
        """Byte offset of a cluster's data (the first data cluster is number 2)."""
        return self.data_offset + (cluster - 2) * self.cluster_size

    @property
    def entries(self) -> int:
        """Clusters numbered below this have an entry in the table."""
        return min(self.clusters + 2, self.fat_size * 8 // self.bits)


def reject(source: Source) -> str:
    """Why this is no FAT volume ("" when it is one)."""
    sector = source.read(0, 512)
    if len(sector) < 512 or sector[510:] != b"\x55\xaa":
        return "no 55 aa at 0x1fe"
    if sector[0] not in (0xEB, 0xE9):
        return "does not begin with a jump"
    try:
        open_volume(source)
    except FormatError as error:
        return error.problem
    return ""


def open_volume(source: Source) -> Volume:
    """Read and check the boot sector; FormatError says which field makes no sense."""
    boot = BOOT_SECTOR.read(source, 0)

    def wrong(field: str, expected: str) -> FormatError:
        return FormatError(
            f"FAT boot sector: {field} makes no sense",
            source=source.name,
            offset=BOOT_SECTOR.offsets[field][0],
            field=field,
            expected=expected,
            found=str(getattr(boot, field)),
        )

    if boot.BPB_BytsPerSec not in (512, 1024, 2048, 4096):
        raise wrong("BPB_BytsPerSec", "512, 1024, 2048 or 4096")
    if boot.BPB_SecPerClus not in (1, 2, 4, 8, 16, 32, 64, 128):
        raise wrong("BPB_SecPerClus", "a power of two")
    if boot.BPB_NumFATs not in (1, 2):
        raise wrong("BPB_NumFATs", "1 or 2")
    if boot.BPB_RsvdSecCnt == 0:
        raise wrong("BPB_RsvdSecCnt", "at least 1")
    sector = boot.BPB_BytsPerSec
    fat_size = boot.BPB_FATSz16 or boot.BPB_FATSz32
    total = boot.BPB_TotSec16 or boot.BPB_TotSec32
    root_offset = (boot.BPB_RsvdSecCnt + boot.BPB_NumFATs * fat_size) * sector
    root_size = -(-boot.BPB_RootEntCnt * ENTRY_SIZE // sector) * sector
    data_offset = root_offset + root_size
    cluster_size = boot.BPB_SecPerClus * sector
    clusters = (total * sector - data_offset) // cluster_size
    if fat_size == 0:
        raise wrong("BPB_FATSz32", "at least 1")
    if clusters <= 0:
        raise wrong("BPB_TotSec32", "more sectors than the file system's own structures take")
    # By the specification the number of clusters alone decides between 16 and 32 bit. Volumes with too few exist
    # all the same, and drivers go by where the table's size is stored (Linux fs/fat/inode.c; EDK2 FatPkg).
    bits = 32 if boot.BPB_FATSz16 == 0 else 12 if clusters < FAT12_CLUSTERS else 16
    if clusters > MAX_CLUSTERS or (bits == 16 and clusters >= FAT16_CLUSTERS):
        raise wrong("BPB_TotSec32", f"fewer clusters for {bits} bits than {clusters}")
    if bits == 32 and boot.BPB_RootEntCnt:
        raise wrong("BPB_RootEntCnt", "0 for FAT32")
    active = boot.BPB_ExtFlags & 15 if bits == 32 and boot.BPB_ExtFlags & 0x80 else 0
    if active >= boot.BPB_NumFATs:
        raise wrong("BPB_ExtFlags", f"one of {boot.BPB_NumFATs} tables in use")
    return Volume(
        boot,
        bits,
        clusters,
        cluster_size,
        (boot.BPB_RsvdSecCnt + active * fat_size) * sector,
        fat_size * sector,
        root_offset,
        data_offset,
        total * sector,
    )


def serial(source: Source, volume: Volume) -> str:
    """What tools call the UUID of a volume: ``1234-ABCD``."""
    at = EXTENDED_32 if volume.bits == 32 else EXTENDED_16
    sector = source.read(0, 512)
    number = BOOT_SECTOR.parse((sector[:EXTENDED_32] + sector[at:])[: BOOT_SECTOR.size]).BS_VolID
    return f"{number >> 16:04X}-{number & 0xFFFF:04X}"


def short_checksum(name: bytes) -> int:
    """What long entries carry to name the short entry (11 bytes) that they belong to."""
    checksum = 0
    for byte in name:
        checksum = ((checksum & 1) << 7) + (checksum >> 1) + byte & 0xFF
    return checksum
