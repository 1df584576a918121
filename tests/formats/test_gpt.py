"""GPT and MBR: what sgdisk writes is read, what is built passes sgdisk's check."""

from __future__ import annotations

import subprocess
import uuid

import pytest

from mbtool.errors import FormatError
from mbtool.formats import gpt, mbr
from mbtool.source import MIB, BytesSource, open_file

DISK = uuid.UUID("11223344-5566-4788-99aa-bbccddeeff00")


def test_layouts_have_the_sizes_of_the_specification():
    assert gpt.HEADER.size == gpt.HEADER_SIZE
    assert gpt.ENTRY.size == gpt.ENTRY_SIZE
    assert gpt.HEADER.offsets["disk_guid"] == (56, 16)
    assert gpt.ENTRY.offsets["partition_name"] == (56, 72)
    assert mbr.PARTITION.size == 16


def build(entries: list[gpt.GptEntry], sectors: int = 8 * MIB // 512) -> bytes:
    table = gpt.build_table(entries, DISK, sectors)
    disk = bytearray(sectors * 512)
    disk[:512] = mbr.build(mbr.protective(sectors))
    disk[512 : 512 + len(table.primary)] = table.primary
    disk[table.backup_lba * 512 :] = table.backup
    return bytes(disk)


def test_sgdisk_accepts_what_is_built(tool, tmp_path):
    entries = [
        gpt.entry(gpt.BIOS_BOOT, uuid.UUID(int=1), 34, 2014, "stub"),
        gpt.entry(gpt.ESP, uuid.UUID(int=2), 2048, 4096, "EFI system"),
    ]
    path = tmp_path / "disk"
    path.write_bytes(build(entries))
    done = subprocess.run([tool("sgdisk"), "-v", path], capture_output=True, text=True)
    assert "No problems found" in done.stdout, done.stdout
    shown = subprocess.run([tool("sgdisk"), "-i", "2", path], capture_output=True, text=True).stdout
    assert "C12A7328-F81F-11D2-BA4B-00A0C93EC93B" in shown
    assert "First sector: 2048" in shown
    assert "Last sector: 6143" in shown
    assert "'EFI system'" in shown


def test_what_sgdisk_wrote_is_read(tool, tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(bytes(8 * MIB))
    subprocess.run(
        [tool("sgdisk"), "-n", "1:2048:4095", "-t", "1:ef00", "-c", "1:boot", path], check=True, capture_output=True
    )
    with open_file(path) as source:
        assert mbr.reject(source) == ""
        assert gpt.sector_size(source) == 512
        node = gpt.node(source, 1, 512)
        assert node.findings == ()
        header = gpt.HEADER.read(source, 512)
        ((_, entry),) = gpt.entries_of(source, header, 512)
        assert (entry.starting_lba, entry.ending_lba, entry.sectors, entry.name) == (2048, 4095, 2048, "boot")
        assert gpt.node(source, header.alternate_lba, 512).findings == ()


def test_broken_checksums_are_found():
    disk = bytearray(build([gpt.entry(gpt.ESP, uuid.UUID(int=2), 2048, 4096, "x")]))
    disk[1024 + 40] ^= 1
    disk[512 + 60] ^= 1
    ids = {finding.id for finding in gpt.node(BytesSource(bytes(disk)), 1, 512).findings}
    assert ids == {"GPT-HEADER-CRC", "GPT-ENTRIES-CRC"}


def test_overlapping_partitions_are_refused():
    first = gpt.entry(gpt.ESP, uuid.UUID(int=1), 2048, 100, "a")
    with pytest.raises(FormatError, match="overlaps"):
        build([first, gpt.entry(gpt.ESP, uuid.UUID(int=2), 2147, 100, "b")])
    build([first, gpt.entry(gpt.ESP, uuid.UUID(int=2), 2148, 100, "b")])


def test_mbr_round_trip():
    record = mbr.Mbr(b"\x90" * 440, 0xDEADBEEF, 0, (mbr.MbrPartition(0x80, b"123", 0x0C, b"456", 63, 1000),))
    data = mbr.build(record)
    assert len(data) == 512
    assert data[510:] == b"\x55\xaa"
    assert mbr.build(mbr.parse(data)) == data
    assert mbr.parse(data).partitions[0] == record.partitions[0]


def test_ordinary_boot_sectors_are_no_partition_tables():
    assert "no 55 aa" in mbr.reject(BytesSource(bytes(512)))
    assert "boot indicator" in mbr.reject(BytesSource(bytes([0x33] * 510) + b"\x55\xaa"))
    assert "no partition" in mbr.reject(BytesSource(bytes(510) + b"\x55\xaa"))
