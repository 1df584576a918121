"""A FAT volume as a tree: what its boot sector says, its files, what of its tables does not fit together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mbtool.formats import fat
from mbtool.formats.context import Context
from mbtool.formats.fat import BOOT_SECTOR, EXTENDED_16, EXTENDED_32, FS_INFO, Volume
from mbtool.formats.fat_files import MAX_FILES, PAGE, File, Files, Table
from mbtool.formats.file_nodes import FileNodes
from mbtool.formats.findings import Findings
from mbtool.model import Field, Finding, Node, Severity
from mbtool.source import MIB, Source

CHECKED = 4 * MIB
"""Bytes of a table that are counted and compared; all of it when everything is asked for."""
UNKNOWN_COUNT = 0xFFFFFFFF
LEAD_SIGNATURE, STRUCTURE_SIGNATURE, TRAIL_SIGNATURE = 0x41615252, 0x61417272, 0xAA550000


def inspect(source: Source, context: Context) -> Node:
    """The volume as a node ``fat`` with a ``file`` for each file."""
    return read(source, context)[0]


def read(source: Source, context: Context) -> tuple[Node, tuple[File, ...]]:
    """The volume's node, and its files and directories. Raises FormatError for what ``fat.reject`` rejects."""
    volume = fat.open_volume(source)
    table = Table(source, volume)
    walk = Files(source, table)
    found = tuple(walk)
    files = [file for file in found if not file.directory]

    findings = Findings()
    for finding in (*_geometry(source, volume), *_copies(source, volume, context), *_cross_links(found, volume)):
        findings.add(finding)
    for file in found:
        if file.directory and file.broken:
            findings.add(_chain(f"directory {file.path}", file.broken))
    if walk.broken:
        findings.add(_chain("the root directory", walk.broken))
    if walk.cut:
        findings.add(Finding("LIMIT", Severity.WARNING, f"more than {MAX_FILES} files: the rest are not shown"))

    nodes = FileNodes(source, context, volume.size)
    children = tuple(
        nodes.node(file.path, file.size, file.runs, (), (_chain("the file", file.broken),) if file.broken else ())
        for file in files
    )
    boot = tuple(_boot_fields(source, volume))
    label = next(field.raw for field in boot if field.name == "BS_VolLab")
    fields = (
        *boot,
        Field("bits", volume.bits, telling=True),
        Field("cluster_size", volume.cluster_size, telling=True),
        Field("clusters", volume.clusters),
        Field("label", walk.label or _text(label), telling=True),
        Field("files", len(files), telling=True),
        Field("directories", len(found) - len(files)),
        *_free(source, volume, table, found, context, findings),
    )
    size = source.known_size
    shown = volume.size if size is None else min(volume.size, size)
    return Node("fat", 0, shown, fields, children, (*findings.all(), *nodes.findings)), found


def _text(raw: bytes) -> str:
    return raw.decode("cp437").rstrip(" \0")


def _boot_fields(source: Source, volume: Volume) -> Iterator[Field]:
    """The boot sector's fields, from the place where this width of FAT has them."""
    at = EXTENDED_32 if volume.bits == 32 else EXTENDED_16
    sector = source.read(0, 512)
    moved = sector[:EXTENDED_32] + sector[at:]
    for field in BOOT_SECTOR.fields(moved):
        assert field.offset is not None
        if field.offset >= EXTENDED_32:
            offset = field.offset - EXTENDED_32 + at
            yield Field(field.name, field.value, offset, field.size, field.meaning, field.raw, field.telling)
        elif field.offset < at:
            yield field


def _chain(what: str, broken: str) -> Finding:
    return Finding("FAT-CHAIN", Severity.ERROR, f"the cluster chain of {what} {broken}")


def _geometry(source: Source, volume: Volume) -> Iterator[Finding]:
    if (size := source.known_size) is not None and volume.size > size:
        yield Finding(
            "FAT-PAST-END",
            Severity.ERROR,
            "the volume is larger than what holds it",
            "BPB_TotSec32",
            expected=f"at most {size} bytes",
            found=str(volume.size),
        )
    if volume.bits == 32 and volume.clusters < fat.FAT16_CLUSTERS:
        yield Finding(
            "FAT-FEW-CLUSTERS",
            Severity.WARNING,
            "too few clusters for FAT32: UEFI firmware (EDK2) refuses the volume",
            expected=f"at least {fat.FAT16_CLUSTERS}",
            found=str(volume.clusters),
            remedy="make smaller clusters or a FAT16 volume",
        )
    if volume.bits == 32 and volume.boot.BPB_ExtFlags & 0x80:
        yield Finding(
            "FAT-MIRRORING-OFF",
            Severity.WARNING,
            "only one table is in use: UEFI firmware (EDK2) refuses the volume",
            "BPB_ExtFlags",
            BOOT_SECTOR.offsets["BPB_ExtFlags"][0],
        )
    if volume.entries < volume.clusters + 2:
        yield Finding(
            "FAT-SHORT",
            Severity.WARNING,
            "the table has no room for all clusters",
            expected=f"{volume.clusters + 2} entries",
            found=str(volume.entries),
        )


def _copies(source: Source, volume: Volume, context: Context) -> Iterator[Finding]:
    """The second table and the boot sector's copy, compared with the first."""
    boot = volume.boot
    size = volume.fat_size if context.full else min(volume.fat_size, CHECKED)
    mirrored = volume.bits != 32 or not boot.BPB_ExtFlags & 0x80
    if boot.BPB_NumFATs == 2 and mirrored:
        for at in range(0, size, MIB):
            step = min(MIB, size - at)
            first = source.read(volume.fat_offset + at, step)
            second = source.read(volume.fat_offset + volume.fat_size + at, step)
            if first != second:
                differ = next(
                    (n for n, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), 0
                )
                yield Finding(
                    "FAT-COPIES",
                    Severity.WARNING,
                    "the two tables differ",
                    offset=volume.fat_offset + at + differ,
                    remedy="let fsck.fat repair it",
                )
                break
    if volume.bits == 32 and 0 < boot.BPB_BkBootSec < boot.BPB_RsvdSecCnt:
        copy = boot.BPB_BkBootSec * boot.BPB_BytsPerSec
        if source.read(0, BOOT_SECTOR.size) != source.read(copy, BOOT_SECTOR.size):
            yield Finding("FAT-BACKUP-BOOT", Severity.INFO, "the copy of the boot sector differs", offset=copy)


def _cross_links(files: Sequence[File], volume: Volume) -> Iterator[Finding]:
    """Files that share clusters."""
    runs = sorted((run[0], sum(run), file.path) for file in files for run in file.runs)
    end, owner = 0, ""
    for start, stop, path in runs:
        if start < end:
            yield Finding(
                "FAT-CROSS-LINK", Severity.ERROR, f"{owner} and {path} share clusters", offset=start, found=path
            )
        stop += -(stop - volume.data_offset) % volume.cluster_size
        if stop > end:
            end, owner = stop, path


def _free(
    source: Source, volume: Volume, table: Table, found: Sequence[File], context: Context, findings: Findings
) -> Iterator[Field]:
    """Free bytes: counted in a table of ordinary size, else as FSInfo says."""
    hint = None
    if volume.bits == 32 and 0 < volume.boot.BPB_FSInfo < volume.boot.BPB_RsvdSecCnt:
        at = volume.boot.BPB_FSInfo * volume.boot.BPB_BytsPerSec
        data = source.read(at, FS_INFO.size)
        if len(data) == FS_INFO.size:
            info = FS_INFO.parse(data)
            signatures = (info.FSI_LeadSig, info.FSI_StrucSig, info.FSI_TrailSig)
            if signatures != (LEAD_SIGNATURE, STRUCTURE_SIGNATURE, TRAIL_SIGNATURE):
                findings.add(Finding("FAT-FSINFO", Severity.WARNING, "no FSInfo sector here", offset=at))
            elif info.FSI_Free_Count != UNKNOWN_COUNT:
                hint = info.FSI_Free_Count
    if volume.entries * volume.bits // 8 > CHECKED and not context.full:
        if hint is not None:
            yield Field("free", hint * volume.cluster_size, meaning="bytes, as FSInfo says", telling=True)
        return
    pages = [table.page(number) for number in range(-(-volume.entries // PAGE))]
    free = sum(page.count(0) for page in pages) - (pages[0][:2].count(0) if pages else 0)
    yield Field("free", free * volume.cluster_size, meaning="bytes", telling=True)
    if hint is not None and hint != free:
        findings.add(
            Finding(
                "FAT-FREE-COUNT",
                Severity.INFO,
                "FSInfo's count of free clusters is wrong (it is a hint, drivers may rely on it)",
                expected=str(free),
                found=str(hint),
            )
        )
    bad = table.last - 1
    used = sum(len(page) - page.count(bad) for page in pages) - 2 - free
    lost = used - table.followed
    if lost > 0 and not any(file.broken for file in found):
        findings.add(Finding("FAT-LOST", Severity.INFO, f"{lost} clusters are in use, but belong to no file"))
