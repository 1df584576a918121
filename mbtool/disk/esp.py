"""A FAT32 file system laid out in advance: every file contiguous, every byte known before anything is written.

::

    | reserved | FAT 1 | FAT 2 | root | other directories | file | file | … | free |
      32 to 39 sectors          ^ cluster 2, a multiple of 4096 bytes; then all in the order given

``plan_esp`` is a pure function of names, sizes and a time; the bytes of the files are copied later, straight to
the extents that the plan names. The boot stub reads those same extents.
"""

from __future__ import annotations

import re
import struct
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mbtool.errors import InputError
from mbtool.formats import fat

SECTOR = 512
RESERVED = 32
"""Least sectors before the first FAT: boot sector, FSInfo and their copies at 6 and 7, as usual."""
ALIGN = 8
"""Sectors that the clusters start at a multiple of: blocks of the image file, which can then be shared."""
FATS = 2
ONE_SECTOR_CLUSTERS = 260 << 20
"""Volumes up to this many bytes have clusters of one sector, larger ones of eight (as the specification has it)."""
MIN_CLUSTERS = fat.FAT16_CLUSTERS + 16
"""A little above the limit: the specification warns of drivers that get it wrong by a few."""
MAX_FILE = 0xFFFFFFFF
LABEL = re.compile(r"[A-Z0-9 !#$%&'()@^_`{}~-]{0,11}")
EPOCH_1980, EPOCH_2108 = 315532800, 4354819200
"""Seconds from 1970 to the first moment that FAT has a date for, and to the first that it has none for."""


@dataclass(frozen=True, slots=True)
class EspPlan:
    """A laid-out volume of ``size`` bytes; all offsets are bytes from its start."""

    size: int
    metadata: tuple[tuple[int, bytes], ...]
    """What to write beside the files: (offset, bytes); everything else outside the extents is zero."""
    extents: dict[str, tuple[int, int]]
    """Path of each file to its (offset, size), contiguous."""
    free: int
    """Bytes in unused clusters."""


@dataclass(slots=True)
class _Directory:
    path: str
    names: dict[str, _Directory | int] = field(default_factory=dict)
    """Name to a directory or to a file's size; keys as given, compared without case by ``_find``."""
    cluster: int = 0
    clusters: int = 0

    def find(self, name: str) -> str | None:
        return next((known for known in self.names if known.lower() == name.lower()), None)


def plan_esp(
    files: Sequence[tuple[str, int]],
    *,
    volume_id: int,
    mtime: int,
    label: str = "ESP",
    hidden_sectors: int = 0,
    min_size: int = 0,
    align: int = SECTOR,
) -> EspPlan:
    """Lay out a FAT32 volume that holds ``files`` (path with ``/``, size in bytes), in that order.

    ``mtime`` is seconds since 1970 (before 1980 is taken as 1980, FAT's first year; kept in UTC),
    ``hidden_sectors`` the volume's first LBA on the disk, ``min_size`` a least size in bytes; files start at
    multiples of ``align`` bytes (512 to 4096) of the volume. Raises InputError for a name that FAT cannot hold, two
    names that differ only in case, or a file of 4 GiB and more.
    """
    root = _tree(files)
    directories = list(_walk(root))
    directory_bytes = [len(_directory_bytes(directory, 0, 0, label, {})) for directory in directories]
    payload = [*directory_bytes, *(size for _, size in files)]
    cluster, clusters, fat_sectors = _geometry(payload, min_size, align)
    reserved = RESERVED + -(RESERVED + FATS * fat_sectors) % ALIGN

    step = max(1, align // cluster)
    next_free, chains = 2, []
    for directory, size in zip(directories, directory_bytes, strict=True):
        directory.cluster, directory.clusters = next_free, max(1, -(-size // cluster))
        chains.append((next_free, directory.clusters))
        next_free += directory.clusters
    data_offset = (reserved + FATS * fat_sectors) * SECTOR
    extents, starts = {}, {}
    for path, size in files:
        next_free += -(next_free - 2) % step
        used = -(-size // cluster)
        chains.append((next_free, used))
        starts[path.lower()] = next_free if used else 0
        extents[path] = (data_offset + (next_free - 2) * cluster, size)
        next_free += used
    total = reserved + FATS * fat_sectors + clusters * (cluster // SECTOR)
    free = clusters - sum(used for _, used in chains)

    table = _fat(chains)
    boot = _boot_sector(cluster // SECTOR, total, reserved, fat_sectors, hidden_sectors, volume_id, label)
    info = fat.FS_INFO.build(fat.FsInfo(0x41615252, bytes(480), 0x61417272, free, next_free, bytes(12), 0xAA550000))
    date, clock = _stamp(mtime)
    metadata = [(0, boot), (SECTOR, info), (6 * SECTOR, boot), (7 * SECTOR, info)]
    metadata += [((reserved + number * fat_sectors) * SECTOR, table) for number in range(FATS)]
    for directory in directories:
        at = data_offset + (directory.cluster - 2) * cluster
        metadata.append((at, _directory_bytes(directory, date, clock, label, starts)))
    return EspPlan(total * SECTOR, tuple(metadata), extents, free * cluster)


def _tree(files: Sequence[tuple[str, int]]) -> _Directory:
    root = _Directory("")
    for path, size in files:
        if not 0 <= size <= MAX_FILE:
            raise InputError("too large for FAT", source=path, expected="less than 4 GiB", found=f"{size} bytes")
        here = root
        *parents, name = path.split("/")
        for part in (*parents, name):
            if not part or len(part) > 255 or re.search(r'[\x00-\x1f"*:<>?\\|]', part) or part[-1] in ". ":
                raise InputError(f"not a name for a FAT file system: {part!r}", source=path)
        for part in parents:
            known = here.find(part)
            below = here.names.setdefault(known or part, _Directory(f"{here.path}/{part}".lstrip("/")))
            if isinstance(below, int):
                raise InputError("is a file and a directory at once", source=path)
            here = below
        if here.find(name) is not None:
            raise InputError("is named twice (FAT does not tell case apart)", source=path)
        here.names[name] = size
    return root


def _walk(directory: _Directory) -> Sequence[_Directory]:
    below = [entry for entry in directory.names.values() if isinstance(entry, _Directory)]
    return [directory, *(found for entry in below for found in _walk(entry))]


def _geometry(payload: Sequence[int], min_size: int, align: int) -> tuple[int, int, int]:
    """Cluster size in bytes, number of clusters, sectors of one FAT: the smallest volume that holds ``payload``.

    InputError when there are more clusters than FAT32 can number.
    """
    size = max(min_size, sum(payload))
    cluster = SECTOR if size <= ONE_SECTOR_CLUSTERS else 8 * SECTOR
    clusters = max(MIN_CLUSTERS, sum(max(1, -(-part // cluster)) + align // SECTOR - 1 for part in payload), 0)

    def sectors(count: int) -> int:
        return -(-(count + 2) * 4 // SECTOR)

    wanted = -(-min_size // SECTOR)
    missing = wanted - (RESERVED + FATS * sectors(clusters) + clusters * (cluster // SECTOR))
    if missing > 0:  # grow the data area; the FATs grow along, so the volume ends a little above min_size
        clusters += -(-missing // (cluster // SECTOR))
    if clusters > fat.MAX_CLUSTERS:
        raise InputError("too large for FAT32", expected="less than 1 TiB in all", found=f"{size} bytes")
    return cluster, clusters, sectors(clusters)


def _fat(chains: Sequence[tuple[int, int]]) -> bytes:
    """The file allocation table up to its last used entry, for chains (first cluster, clusters) in order."""
    table = array("I", [0x0FFFFFF8, 0x0FFFFFFF])
    assert table.itemsize == 4
    for first, length in chains:
        if length:
            table.extend([0] * (first - len(table)))
            table.extend(range(first + 1, first + length))
            table.append(fat.END_OF_CHAIN)
    return table.tobytes() if struct.pack("=I", 1) == struct.pack("<I", 1) else _swapped(table)


def _swapped(table: array[int]) -> bytes:
    table.byteswap()
    return table.tobytes()


def _boot_sector(
    sectors_per_cluster: int, total: int, reserved: int, fat_sectors: int, hidden: int, volume_id: int, label: str
) -> bytes:
    boot = fat.BootSector(
        BS_jmpBoot=b"\xeb\x58\x90",
        BS_OEMName=b"MSWIN4.1",  # the specification: some drivers look for exactly this
        BPB_BytsPerSec=SECTOR,
        BPB_SecPerClus=sectors_per_cluster,
        BPB_RsvdSecCnt=reserved,
        BPB_NumFATs=FATS,
        BPB_RootEntCnt=0,
        BPB_TotSec16=0,
        BPB_Media=0xF8,
        BPB_FATSz16=0,
        BPB_SecPerTrk=63,
        BPB_NumHeads=255,
        BPB_HiddSec=hidden,
        BPB_TotSec32=total,
        BPB_FATSz32=fat_sectors,
        BPB_ExtFlags=0,
        BPB_FSVer=0,
        BPB_RootClus=2,
        BPB_FSInfo=1,
        BPB_BkBootSec=6,
        BPB_Reserved=bytes(12),
        BS_DrvNum=0x80,
        BS_Reserved1=0,
        BS_BootSig=0x29,
        BS_VolID=volume_id,
        BS_VolLab=_label(label),
        BS_FilSysType=b"FAT32   ",
    )
    # Started as a boot sector it only halts: the disk is booted through its MBR or by UEFI.
    return fat.BOOT_SECTOR.build(boot).ljust(510, b"\0")[:90] + b"\xfa\xf4\xeb\xfd".ljust(420, b"\0") + b"\x55\xaa"


def _label(label: str) -> bytes:
    name = label.upper()
    if not LABEL.fullmatch(name):
        raise InputError(
            "not a label for a FAT file system",
            expected="at most 11 letters, digits, blanks and !#$%&'()-@^_`{}~",
            found=repr(label),
        )
    return name.encode("ascii").ljust(11)


def _stamp(mtime: int) -> tuple[int, int]:
    """FAT date and time of a moment (UTC), no earlier than 1980; InputError from 2108 on."""
    if mtime >= EPOCH_2108:
        raise InputError("SOURCE_DATE_EPOCH: FAT has no such date", expected="before 2108", found=str(mtime))
    t = time.gmtime(max(mtime, EPOCH_1980))
    return (t.tm_year - 1980) << 9 | t.tm_mon << 5 | t.tm_mday, t.tm_hour << 11 | t.tm_min << 5 | t.tm_sec // 2


def _directory_bytes(directory: _Directory, date: int, clock: int, label: str, starts: dict[str, int]) -> bytes:
    """The entries of a directory: label or dot entries, then long and short entry of each name."""
    blank = fat.DirEntry(bytes(11), 0, 0, 0, clock, date, date, 0, clock, date, 0, 0)
    out = []
    if directory.path:
        # The parent of a first-level directory is written as cluster 0, whatever the root's cluster is.
        parent = starts.get(_parent(directory.path) + "/", 0)
        out.append(_pointing(replace(blank, DIR_Name=b".".ljust(11), DIR_Attr=fat.DIRECTORY), directory.cluster))
        out.append(_pointing(replace(blank, DIR_Name=b"..".ljust(11), DIR_Attr=fat.DIRECTORY), parent))
        starts[directory.path.lower() + "/"] = directory.cluster
    else:
        out.append(fat.DIR_ENTRY.build(replace(blank, DIR_Name=_label(label), DIR_Attr=fat.VOLUME_ID)))
    taken: set[bytes] = set()
    for name, entry in directory.names.items():
        short, exact = _short(name, taken)
        taken.add(short)
        if not exact:
            out += _long_entries(name, short)
        path = f"{directory.path}/{name}".lstrip("/")
        if isinstance(entry, _Directory):
            out.append(_pointing(replace(blank, DIR_Name=short, DIR_Attr=fat.DIRECTORY), entry.cluster))
        else:
            file = replace(blank, DIR_Name=short, DIR_Attr=fat.ARCHIVE, DIR_FileSize=entry)
            out.append(_pointing(file, starts.get(path.lower(), 0)))
    return b"".join(out)


def _parent(path: str) -> str:
    return path.rpartition("/")[0].lower()


def _pointing(entry: fat.DirEntry, cluster: int) -> bytes:
    return fat.DIR_ENTRY.build(replace(entry, DIR_FstClusHI=cluster >> 16, DIR_FstClusLO=cluster & 0xFFFF))


_SHORT = re.compile(r"[A-Z0-9!#$%&'()@^_`{}~-]{1,8}(\.[A-Z0-9!#$%&'()@^_`{}~-]{1,3})?")


def _short(name: str, taken: set[bytes]) -> tuple[bytes, bool]:
    """The 8.3 name, 11 bytes, and whether it says all: else a long entry is needed (numeric-tail generation)."""
    if _SHORT.fullmatch(name):
        base, _, extension = name.partition(".")
        raw = base.encode().ljust(8) + extension.encode().ljust(3)
        if raw not in taken:
            return raw, True
    stem, _, extension = name.upper().lstrip(".").rpartition(".")
    stem, extension = (stem, extension) if stem else (extension, "")
    stem = re.sub(r"[^A-Z0-9!#$%&'()@^_`{}~-]", "_", stem.replace(" ", "").replace(".", ""))
    extension = re.sub(r"[^A-Z0-9!#$%&'()@^_`{}~-]", "_", extension)[:3]
    for number in range(1, 1000000):
        tail = f"~{number}"
        raw = (stem[: 8 - len(tail)] + tail).encode().ljust(8) + extension.encode().ljust(3)
        if raw not in taken:
            return raw, False
    raise InputError("too many names alike in one directory", source=name)


def _long_entries(name: str, short: bytes) -> list[bytes]:
    """The long entries of a name, last part first, tied to the short name by its checksum."""
    checksum = fat.short_checksum(short)
    units = name.encode("utf-16-le")
    parts = -(-len(units) // 26)
    if len(units) % 26:
        units += b"\0\0"
    units = units.ljust(parts * 26, b"\xff")
    out = []
    for part in range(parts, 0, -1):
        order = part | (fat.LAST_LONG_ENTRY if part == parts else 0)
        piece = units[(part - 1) * 26 : part * 26]
        out.append(
            bytes((order,)) + piece[:10] + bytes((fat.LONG_NAME, 0, checksum)) + piece[10:22] + b"\0\0" + piece[22:]
        )
    return out
