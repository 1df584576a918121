"""ISO 9660 images: volume descriptors, the boot catalog, files; and the disk that a hybrid image is as well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mbtool.errors import MbtoolError
from mbtool.formats import el_torito, gpt, iso9660, mbr
from mbtool.formats.context import Context
from mbtool.formats.el_torito import BootEntry
from mbtool.formats.file_nodes import FileNodes
from mbtool.formats.findings import Findings
from mbtool.formats.iso9660 import BOOT_RECORD, FIRST_DESCRIPTOR, PRIMARY, SECTOR, SUPPLEMENTARY, TERMINATOR
from mbtool.formats.iso_files import MAX_FILES, IsoFile, IsoFiles
from mbtool.model import Field, Finding, Node, Severity
from mbtool.source import Source

MAX_DESCRIPTORS = 32
JOLIET = (b"%/@", b"%/C", b"%/E")
"""Escape sequences of a supplementary descriptor whose texts are UCS-2."""
SYSTEM = el_torito.SYSTEM_IDENTIFIER.decode()


def reject(source: Source) -> str:
    """Why this is no ISO 9660 volume ("" when it is one)."""
    found = source.read(FIRST_DESCRIPTOR * SECTOR + 1, len(iso9660.IDENTIFIER))
    return "" if found == iso9660.IDENTIFIER else "no CD001 at 0x8001"


def inspect(source: Source, context: Context) -> Node:
    """The image as a node ``iso``: descriptors, boot catalog, the disk that it also is, files."""
    findings = Findings()
    descriptors = list(_descriptors(source, findings))
    catalog, entries = _catalog(source, descriptors, findings)
    disk = _disk(source, context)
    known = {node.offset for node in _disk_files(disk)}
    files = list(_files(source, descriptors, findings))
    nodes = FileNodes(source, context, source.at_hand)
    shown = [_file(file, known, nodes) for file in files]
    boot_images = [] if disk else list(_boot_images(source, entries, files, context))
    primary = next((node for node in descriptors if node["volume_descriptor_type"] == PRIMARY), None)
    size = source.known_size
    if primary is not None and size is not None:
        for finding in _past_end(primary, size):
            findings.add(finding)
    fields = (
        Field("label", primary["volume_identifier"] if primary else "", telling=True),
        Field("boots", tuple(_platform(platform) for platform, _ in _bootable(entries)), telling=True),
        Field("files", len(files), telling=True),
    )
    return Node(
        "iso",
        0,
        source.at_hand if size is None else size,
        fields,
        (*descriptors, *catalog, *boot_images, *([disk] if disk else []), *shown),
        (*findings.all(), *nodes.findings),
    )


def _platform(platform: int) -> str:
    return el_torito.PLATFORMS.get(platform, f"platform {platform:#x}")


def _descriptors(source: Source, findings: Findings) -> Iterator[Node]:
    """The volume descriptors up to the terminator."""
    for number in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + MAX_DESCRIPTORS):
        at = number * SECTOR
        data = source.read(at, SECTOR)
        if len(data) < SECTOR or data[1:6] != iso9660.IDENTIFIER:
            break
        if data[0] == BOOT_RECORD:
            fields = iso9660.BOOT.fields(data)
        elif data[0] in (PRIMARY, SUPPLEMENTARY):
            fields = iso9660.VOLUME.fields(data)
        else:
            fields = iso9660.HEAD.fields(data)
        names = "utf-16-be" if data[88:91] in JOLIET else "ascii"
        yield Node("volume-descriptor", at, SECTOR, tuple(_in_words(field, names) for field in fields))
        if data[0] == TERMINATOR:
            return
    findings.add(Finding("ISO-NO-TERMINATOR", Severity.WARNING, "the volume descriptors have no end"))


def _in_words(field: Field, encoding: str) -> Field:
    """Padded texts and dates of digits as their words; the bytes stay in ``raw``."""
    if field.name.endswith("_date_and_time"):
        return replace(field, value=field.meaning, meaning="")
    if field.name.endswith("_identifier"):
        plain = encoding if field.name != "standard_identifier" else "ascii"
        return replace(field, value=field.raw.decode(plain, "replace").rstrip(" \0"), meaning="")
    return field


def _catalog(
    source: Source, descriptors: Sequence[Node], findings: Findings
) -> tuple[tuple[Node, ...], list[tuple[int, BootEntry]]]:
    """The boot catalog that a boot record names, and its entries."""
    for node in descriptors:
        sector = node.get("boot_catalog")
        if isinstance(sector, int) and node["boot_system_identifier"] == SYSTEM:
            offset = sector * SECTOR
            try:
                nodes, entries = el_torito.parse(source, offset)
            except MbtoolError as error:
                findings.add(Finding.of(error, "ISO-BOOT-CATALOG"))
                continue
            size = len(nodes) * el_torito.ENTRY_SIZE
            placed = tuple(node.at(node.offset - offset) for node in nodes)
            return (Node("boot-catalog", offset, size, (), placed),), entries
    return (), []


def _bootable(entries: Sequence[tuple[int, BootEntry]]) -> Iterator[tuple[int, BootEntry]]:
    return ((platform, entry) for platform, entry in entries if entry.boot_indicator == el_torito.BOOTABLE)


def _boot_images(
    source: Source, entries: Sequence[tuple[int, BootEntry]], files: Sequence[IsoFile], context: Context
) -> Iterator[Node]:
    """What the catalog boots that is no file: it can be seen nowhere else."""
    starts = {run[0] for file in files for run in file.runs}
    for platform, entry in _bootable(entries):
        offset = entry.load_rba * SECTOR
        if offset in starts or platform != el_torito.UEFI:
            continue
        size = entry.sector_count * el_torito.VIRTUAL_SECTOR
        part = source.part(offset, size if entry.sector_count > el_torito.TO_THE_END else None)
        content = context.inside(part, 0)
        field = Field("platform", _platform(platform), telling=True)
        yield Node("boot-image", offset, part.at_hand, (field,), (content,))


def _disk(source: Source, context: Context) -> Node | None:
    """The disk that the image is when written to a stick: a partition table before the descriptors."""
    from mbtool.formats import disk

    if not gpt.sector_size(source) and mbr.reject(source):
        return None
    if disk.reject(source):
        return None
    return disk.inspect(source, context)


def _disk_files(disk: Node | None) -> Iterator[Node]:
    """The files of the disk's volumes, placed in the whole image."""
    for partition in disk.children if disk else ():
        for volume in partition.children:
            for node in volume.children:
                if node.kind == "file":
                    yield node.at(partition.offset + volume.offset + node.offset)


def primary(source: Source) -> Node | None:
    """The primary volume descriptor."""
    return next(
        (node for node in _descriptors(source, Findings()) if node["volume_descriptor_type"] == PRIMARY), None
    )


def known_by(descriptor: Node) -> tuple[str, str]:
    """UUID, as GRUB and blkid make one of the date of the last change (2026-11-27-02-30-00-00), and label.

    Source: GRUB, grub-core/fs/iso9660.c, grub_iso9660_uuid.
    """
    date = next(field.raw for field in descriptor.fields if field.name == "volume_modification_date_and_time")
    digits = date[:16].decode("ascii", "replace")
    parts = (digits[:4], *(digits[at : at + 2] for at in range(4, 16, 2)))
    return "-".join(parts), str(descriptor["volume_identifier"])


def _files(source: Source, descriptors: Sequence[Node], findings: Findings) -> Iterator[IsoFile]:
    """The files, by the names that the primary descriptor and Rock Ridge give them."""
    for node in descriptors:
        if node["volume_descriptor_type"] == PRIMARY:
            root = node["root_directory_record"]
            assert isinstance(root, bytes)
            walk = IsoFiles(source, root)
            yield from walk
            for problem in walk.broken:
                findings.add(Finding("ISO-DIRECTORY", Severity.ERROR, f"directory {problem}"))
            if walk.cut:
                findings.add(Finding("LIMIT", Severity.WARNING, f"more than {MAX_FILES} files: no more are shown"))
            return


def _file(file: IsoFile, known: set[int], nodes: FileNodes) -> Node:
    """The file's node; what it holds is shown once only, on the disk, when it lies there as well."""
    if file.runs and file.runs[0][0] in known:
        fields = (
            Field("path", file.path, telling=True),
            Field("contiguous", True),
            Field("content", None, meaning="the same bytes as on the ESP", telling=True),
        )
        return Node("file", file.runs[0][0], file.size, fields)
    return nodes.node(file.path, file.size, file.runs)


def _past_end(primary: Node, size: int) -> Iterator[Finding]:
    blocks = primary["volume_space_size"]
    if isinstance(blocks, int) and blocks * SECTOR > size:
        yield Finding(
            "ISO-PAST-END",
            Severity.ERROR,
            "the image is shorter than its volume",
            "volume_space_size",
            expected=f"{blocks * SECTOR} bytes",
            found=str(size),
        )
