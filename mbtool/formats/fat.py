"""FAT file systems: boot sector, directories, files (Microsoft FAT specification 1.03; ECMA-107 for 12 and 16 bit).

Layouts build as well as parse: ``mbtool.disk.esp`` writes FAT32 with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from construct import Bytes, Int8ul, Int16ul, Int32ul, Struct

from mbtool.errors import FormatError
from mbtool.formats.wire import Layout, flag_names
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
MAX_FILES = 65536
MAX_DEPTH = 16


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
    telling={"BPB_BytsPerSec", "BPB_SecPerClus", "BS_VolID"},
    meanings={"BS_VolLab": lambda raw: raw.decode("latin-1").rstrip()},
)
EXTENDED_16 = 36
"""Offset at which FAT12 and FAT16 have what FAT32 keeps from BS_DrvNum on (offset 64)."""


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
    """12, 16 or 32: by the number of clusters, the only criterion."""
    clusters: int
    cluster_size: int
    fat_offset: int
    root_offset: int
    """FAT12 and FAT16: the fixed root directory."""
    data_offset: int
    size: int

    def offset(self, cluster: int) -> int:
        """Byte offset of a cluster's data (the first data cluster is number 2)."""
        return self.data_offset + (cluster - 2) * self.cluster_size


@dataclass(frozen=True, slots=True)
class File:
    """A file or directory found in a volume: its path, size and clusters in order."""

    path: str
    directory: bool
    size: int
    runs: tuple[tuple[int, int], ...]
    """Byte ranges (offset, size) in the volume, merged where clusters follow each other, cut at ``size``."""
    broken: str = ""
    """Why the chain could not be followed to its end."""


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
    bits = 12 if clusters < FAT12_CLUSTERS else 16 if clusters < FAT16_CLUSTERS else 32
    if bits == 32 and boot.BPB_RootEntCnt:
        raise wrong("BPB_RootEntCnt", "0 for FAT32")
    return Volume(
        boot,
        bits,
        clusters,
        cluster_size,
        boot.BPB_RsvdSecCnt * sector,
        root_offset,
        data_offset,
        total * sector,
    )


def next_cluster(source: Source, volume: Volume, cluster: int) -> int | None:
    """The cluster after this one; None at the end of the chain."""
    if volume.bits == 12:
        word = int.from_bytes(source.read(volume.fat_offset + cluster * 3 // 2, 2), "little")
        value, last = (word >> 4 if cluster & 1 else word & 0xFFF), 0xFF8
    elif volume.bits == 16:
        value, last = int.from_bytes(source.read(volume.fat_offset + cluster * 2, 2), "little"), 0xFFF8
    else:
        value = int.from_bytes(source.read(volume.fat_offset + cluster * 4, 4), "little") & 0x0FFFFFFF
        last = 0x0FFFFFF8
    return None if value >= last else value


def files(source: Source, volume: Volume) -> Iterator[File]:
    """Every file and directory below the root, parents first, at most MAX_FILES of them, MAX_DEPTH deep."""
    if volume.bits == 32:
        runs, _ = _follow(source, volume, volume.boot.BPB_RootClus, volume.size)
    else:
        runs = ((volume.root_offset, volume.boot.BPB_RootEntCnt * ENTRY_SIZE),)
    stack = [("", runs, 0)]
    count = 0
    seen = set()
    while stack:
        parent, runs, depth = stack.pop()
        for name, entry in _entries(source, runs):
            count += 1
            if count > MAX_FILES:
                return
            path = f"{parent}/{name}"
            directory = bool(entry.DIR_Attr & DIRECTORY)
            limit = MAX_FILES * ENTRY_SIZE if directory else entry.DIR_FileSize
            found, broken = _follow(source, volume, entry.cluster, limit) if limit else ((), "")
            yield File(path, directory, entry.DIR_FileSize, found, broken)
            if directory and depth < MAX_DEPTH and entry.cluster not in seen:
                seen.add(entry.cluster)
                stack.append((path, found, depth + 1))


def _follow(source: Source, volume: Volume, cluster: int, size: int) -> tuple[tuple[tuple[int, int], ...], str]:
    """The runs of a chain, ``size`` bytes at most, and why it broke off ("" when it did not)."""
    runs: list[tuple[int, int]] = []
    left = size
    here: int | None = cluster
    for _ in range(volume.clusters):
        if here is None or left <= 0:
            break
        if not 2 <= here < volume.clusters + 2:
            return tuple(runs), f"the chain leads to cluster {here}, of {volume.clusters}"
        offset, take = volume.offset(here), min(left, volume.cluster_size)
        if runs and sum(runs[-1]) == offset:
            runs[-1] = (runs[-1][0], runs[-1][1] + take)
        else:
            runs.append((offset, take))
        left -= take
        here = next_cluster(source, volume, here)
    return tuple(runs), ""


def _entries(source: Source, runs: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, DirEntry]]:
    """The entries of a directory with their long names, ``.``, ``..``, deleted ones and labels left out."""
    long_name: dict[int, bytes] = {}
    for offset, size in runs:
        data = source.read(offset, size)
        for at in range(0, len(data) - ENTRY_SIZE + 1, ENTRY_SIZE):
            raw = data[at : at + ENTRY_SIZE]
            if raw[0] == 0:
                return
            if raw[11] & 0x3F == LONG_NAME and raw[0] != 0xE5:
                long_name[raw[0] & 0x3F] = raw[1:11] + raw[14:26] + raw[28:32]
                continue
            name = b"".join(long_name[part] for part in sorted(long_name))
            long_name = {}
            if raw[0] in (0xE5, 0x2E) or raw[11] & VOLUME_ID:
                continue
            text = name.decode("utf-16-le", "replace").split("\0")[0] if name else short_name(raw)
            yield text.replace("/", "_"), DIR_ENTRY.parse(raw)


def short_name(raw: bytes) -> str:
    """The 8.3 name of a directory entry as text, lower case where the entry asks for it (DIR_NTRes)."""
    base, extension = (part.decode("cp437").rstrip() for part in (raw[:8], raw[8:11]))
    base = base.lower() if raw[12] & 0x08 else base
    extension = extension.lower() if raw[12] & 0x10 else extension
    return f"{base}.{extension}" if extension else base
