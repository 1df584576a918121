"""The ISO 9660 view of a disk: what makes its image a bootable CD as well.

::

    sector 16   primary volume descriptor, boot record (El Torito), terminator
           19   boot catalog
           20   path tables, directories
           …    then the disk's own BIOS boot partition and ESP

Files are those of the ESP, at the same place: each byte is stored once. UEFI firmware boots the ESP as a whole
(platform 0xef), a BIOS the stub's CD boot code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mbtool.disk import iso_tree
from mbtool.disk.iso_tree import Directory
from mbtool.errors import InputError
from mbtool.formats import el_torito, iso9660
from mbtool.formats.iso9660 import SECTOR

CATALOG = iso9660.FIRST_DESCRIPTOR + 3
PATH_TABLE_L = CATALOG + 1
BIOS_SECTORS = 4
"""Virtual sectors that a BIOS loads: one of the CD's, the count that every BIOS takes."""
APPLICATION = b"MBTOOL"


@dataclass(frozen=True, slots=True)
class BootImages:
    """Sectors of what boots: ``bios`` the CD boot code, ``uefi`` the ESP; None for a firmware that cannot."""

    bios: int | None
    uefi: int | None


def sectors(paths: Mapping[str, object]) -> int:
    """Sectors that the structures take, up to and with the last directory; depends on the names alone.

    Raises InputError for a name that is too long.
    """
    directories = iso_tree.tree(dict.fromkeys(paths, (0, 0)), PATH_TABLE_L)
    return directories[-1].sector + directories[-1].size // SECTOR


def build(
    extents: Mapping[str, tuple[int, int]], boot: BootImages, *, size: int, label: str, mtime: int
) -> tuple[int, bytes]:
    """The structures of a CD of ``size`` bytes: (offset in bytes, content).

    ``extents``: path to (offset on the disk, size), offsets at multiples of 2048 bytes; ``mtime``: seconds since
    1970, for every date. Raises InputError when a name is too long or nothing boots.
    """
    directories = iso_tree.tree(extents, PATH_TABLE_L)
    table_l, table_m = iso_tree.path_table(directories, "little"), iso_tree.path_table(directories, "big")
    table_sectors = -(-len(table_l) // SECTOR)
    out = [
        _volume(directories[0], len(table_l), table_sectors, size, label, mtime),
        iso9660.BOOT.build(
            iso9660.BootRecord(
                iso9660.BOOT_RECORD,
                iso9660.IDENTIFIER,
                1,
                el_torito.SYSTEM_IDENTIFIER.ljust(32, b"\0"),
                bytes(32),
                CATALOG,
            )
        ),
        iso9660.HEAD.build(iso9660.DescriptorHead(iso9660.TERMINATOR, iso9660.IDENTIFIER, 1)),
        _catalog(boot),
        table_l,
        table_m,
    ]
    content = b"".join(iso_tree.padded(part) for part in out)
    content += b"".join(iso_tree.records(directory, mtime) for directory in directories)
    return iso9660.FIRST_DESCRIPTOR * SECTOR, content


def _catalog(boot: BootImages) -> bytes:
    entries = []
    if boot.bios is not None:
        entries.append((el_torito.X86, el_torito.no_emulation(boot.bios, BIOS_SECTORS)))
    if boot.uefi is not None:
        entries.append((el_torito.UEFI, el_torito.no_emulation(boot.uefi, el_torito.TO_THE_END)))
    if not entries:
        raise InputError("nothing on it boots from a CD", expected="a BIOS loader or EFI/BOOT/BOOTX64.EFI")
    return el_torito.build(entries)


def _volume(root: Directory, table: int, table_sectors: int, size: int, label: str, mtime: int) -> bytes:
    date = iso9660.date_17(mtime)
    return iso9660.VOLUME.build(
        iso9660.VolumeDescriptor(
            volume_descriptor_type=iso9660.PRIMARY,
            standard_identifier=iso9660.IDENTIFIER,
            volume_descriptor_version=1,
            volume_flags=0,
            system_identifier=b" " * 32,
            volume_identifier=iso_tree.d_characters(label, 32).ljust(32),
            unused=bytes(8),
            volume_space_size=size // SECTOR,
            escape_sequences=bytes(32),
            volume_set_size=1,
            volume_sequence_number=1,
            logical_block_size=SECTOR,
            path_table_size=table,
            type_l_path_table=PATH_TABLE_L,
            optional_type_l_path_table=0,
            type_m_path_table=PATH_TABLE_L + table_sectors,
            optional_type_m_path_table=0,
            root_directory_record=iso_tree.record(b"\0", root.sector, root.size, mtime, True, b""),
            volume_set_identifier=b" " * 128,
            publisher_identifier=b" " * 128,
            data_preparer_identifier=b" " * 128,
            application_identifier=APPLICATION.ljust(128),
            copyright_file_identifier=b" " * 37,
            abstract_file_identifier=b" " * 37,
            bibliographic_file_identifier=b" " * 37,
            volume_creation_date_and_time=date,
            volume_modification_date_and_time=date,
            volume_expiration_date_and_time=iso9660.NO_DATE,
            volume_effective_date_and_time=iso9660.NO_DATE,
            file_structure_version=1,
        )
    )
