"""ISOs: xorriso, libarchive, isoinfo, sgdisk, fsck.fat and mtools agree with them, as CDs and as disks."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from mbtool import identify
from mbtool.errors import MbtoolError
from mbtool.model import Node
from mbtool.source import MIB, BytesSource, open_file
from tests.cli.run import mbtool

SECTOR = 2048
ESP = MIB
NAMES = [
    "notes.txt",
    "a name with spaces.conf",
    "UPPER.CFG",
    "no-extension",
    "two.dots.txt",
    "deep/er/still/file",
    "same-in-iso!9660.a",
    "same-in-iso+9660.a",
    "x" * 120,
    *(f"many/file number {number:03d}.text" for number in range(80)),
]


def output(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {name: f"content of {name}\n".encode() * (1 + len(name) * 30) for name in NAMES}


@pytest.fixture(scope="module")
def iso(samples, files, tmp_path_factory) -> Path:
    """An ISO of a sample kernel, a UEFI program (in name) and files with all kinds of names."""
    folder = tmp_path_factory.mktemp("iso")
    manifest = (
        f'[boot]\nkernel = "{samples}/multiboot1/multiboot1.elf"\n[disk]\nlabel = "My label"\nformat = "iso"\n'
    )
    manifest += "source-date-epoch = 1700000000\n"
    for number, (name, data) in enumerate({**files, "EFI/BOOT/BOOTX64.EFI": b"MZ"}.items()):
        (folder / f"{number}").write_bytes(data)
        manifest += f'[[file]]\npath = "{name}"\nsource = "{number}"\n'
    (folder / "image.toml").write_text(manifest)
    image = Path(folder / "image.iso")
    done = mbtool("build-disk", folder / "image.toml", "--verify-reproducible", "-o", image)
    assert done.returncode == 0, done.stderr
    return image


def test_libarchive_reads_every_file_back(iso, files, tool):
    names = output(tool("bsdtar"), "-tf", iso).splitlines()
    found = {name for name in names if name in files}
    assert found == set(files)
    for name in ("deep/er/still/file", "a name with spaces.conf", "x" * 120, "many/file number 079.text"):
        assert output(tool("bsdtar"), "-xOf", iso, name).encode() == files[name]
    assert "Nov 14  2023" in output(tool("bsdtar"), "-tvf", iso)


def test_xorriso_sees_what_boots_and_checks_every_file(iso, files, tool, tmp_path):
    text = output(tool("xorriso"), "-indev", iso, "-report_el_torito", "plain", "-report_system_area", "plain")
    assert re.search(r"El Torito boot img : +1 +BIOS +y +none +0x0000 +0x00 +4 ", text)
    assert re.search(
        rf"El Torito boot img : +2 +UEFI +y +none +0x0000 +0x00 +1 +{ESP // SECTOR}$", text, re.MULTILINE
    )
    assert re.search(rf"GPT start and size : +2 +{ESP // 512} ", text)
    assert "protective-msdos-label" in text
    out = tmp_path / "out"
    output(tool("xorriso"), "-osirrox", "on", "-indev", iso, "-extract", "/", out)
    for name, data in files.items():
        assert (out / name).read_bytes() == data, name


def test_isoinfo_reads_plain_iso_9660_names(iso, files, tool):
    names = output(tool("isoinfo"), "-f", "-i", iso).splitlines()
    assert len(names) == len(set(names))
    leaves = [name.rpartition("/")[2] for name in names]
    assert all(re.fullmatch(r"[A-Z0-9_]{1,31}|[A-Z0-9_]{0,30}\.[A-Z0-9_]{0,8};1", leaf) for leaf in leaves)
    assert len(names) > len(files)
    assert "/NOTES.TXT;1" in names
    assert "Volume id: MY_LABEL" in output(tool("isoinfo"), "-d", "-i", iso)


def test_it_is_a_disk_as_well(iso, files, tool, tmp_path):
    assert "No problems found" in output(tool("sgdisk"), "-v", iso)
    esp = tmp_path / "esp"
    esp.write_bytes(iso.read_bytes()[ESP:])
    output(tool("fsck.fat"), "-n", esp)
    for name in ("notes.txt", "deep/er/still/file"):
        assert output(tool("mtype"), "-i", f"{iso}@@{ESP}", f"::/{name}").encode() == files[name]


def test_libmagic_knows_it(iso, tool):
    assert "ISO 9660 CD-ROM filesystem data (DOS/MBR boot sector) 'MY_LABEL' (bootable)" in output(
        tool("file"), iso
    )


def test_inspect_reads_what_xorriso_writes(files, tool, tmp_path):
    for name, data in files.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    made = tmp_path / "made.iso"
    output(tool("xorriso"), "-as", "mkisofs", "-R", "-J", "-V", "OTHER", "-o", made, tmp_path / "tree")
    with open_file(made) as source:
        node = identify.inspect(source)
        assert node["label"] == "OTHER"
        assert node["boots"] == ()
        found = {str(part["path"])[1:]: source.read(part.offset, part.size) for part in _files(node)}
    assert found == files


def test_each_byte_is_stored_once(iso, files):
    data = iso.read_bytes()
    assert data.count(files["x" * 120]) == 1


def test_inspect_shows_it_as_cd_and_as_disk(iso, files):
    with open_file(iso) as source:
        node = identify.inspect(source)
    assert node.kind == "iso"
    assert node["label"] == "MY_LABEL"
    assert node["boots"] == ("x86 BIOS", "UEFI")
    assert not [finding for part in node.walk() for finding in part.findings]
    paths = {part["path"] for part in node.children if part.kind == "file"}
    assert paths >= {f"/{name}" for name in files}
    disk = node.find("disk")
    assert disk is not None
    assert disk["bios"] == "mbtool's stub"
    stub = disk.find("load-list")
    assert stub is not None
    assert all(item["matches"] for item in stub.children if item.kind == "load-item")


@pytest.mark.real
@pytest.mark.parametrize(
    ("package", "path"),
    [("ipxe", "usr/lib/ipxe/ipxe.iso"), ("memtest86+", "usr/lib/memtest86+/memtest86+x64.iso")],
)
def test_other_isos_read_as_xorriso_reads_them(package, path, debian, tool):
    image = debian(package) / path
    with open_file(image) as source:
        node = identify.inspect(source)
    listed = output(tool("xorriso"), "-indev", image, "-find", "/", "-type", "f", "-exec", "report_lba")
    rows = re.findall(r"^File data lba: +\d+ , +(\d+) , +\d+ , +(\d+) , '(.*)'$", listed, re.MULTILINE)
    known = {part["path"]: part for part in _files(node)}
    assert rows
    for lba, size, name in rows:
        assert (known[name].offset, known[name].size) == (int(lba) * SECTOR, int(size))
    assert node["boots"] == ("x86 BIOS", "UEFI")


def _files(node: Node) -> list[Node]:
    return [part for part in node.children if part.kind == "file"]


def test_damaged_isos_end_in_findings_or_one_error(iso):
    import random

    data = iso.read_bytes()[: 2 * MIB]
    rng = random.Random(3)
    for _ in range(100):
        broken = bytearray(data)
        for _ in range(rng.choice((1, 2, 8))):
            at = rng.choice((rng.randrange(0x8000, 0xA800), rng.randrange(0xA800, 0xA800 + 6 * SECTOR)))
            broken[at] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
        try:
            node = identify.inspect(BytesSource(bytes(broken)))
        except MbtoolError:
            continue
        assert sum(1 for _ in node.walk()) < 5000


def test_a_directory_that_holds_itself_is_told(iso):
    data = bytearray(iso.read_bytes()[: 2 * MIB])
    root = int.from_bytes(data[0x8000 + 158 : 0x8000 + 162], "little")
    at = root * SECTOR + data[root * SECTOR]
    at += data[at]  # the first entry behind "." and ".."
    data[at + 2 : at + 6] = root.to_bytes(4, "little")
    data[at + 25] = 2
    node = identify.inspect(BytesSource(bytes(data)))
    assert any(finding.id == "ISO-DIRECTORY" for finding in node.findings)


def test_names_that_do_not_fit_and_nothing_to_boot_are_refused(samples, tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    manifest = tmp_path / "image.toml"
    name = "y" * 200
    text = f'[boot]\nkernel = "{samples}/multiboot1/multiboot1.elf"\n[[file]]\npath = "{name}"\nsource = "f"\n'
    manifest.write_text(text)
    done = mbtool("build-disk", manifest, "--format", "iso", "-o", tmp_path / "d.iso")
    assert done.returncode == 2
    assert "name too long for a CD" in done.stderr
    assert not (tmp_path / "d.iso").exists()


@pytest.mark.boot
@pytest.mark.parametrize("bus", ["cdrom", "ahci", "usb"])
def test_a_bios_boots_it_as_cd_disk_and_stick(iso, bus, tool):
    tool("qemu-system-x86_64")
    done = mbtool("prove", "--accel", "tcg", "--bus", bus, "--expect", "mb1: eax=0x2badb002", iso)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.boot
@pytest.mark.real
def test_a_bios_loads_from_within_a_cds_sectors(vmlinuz_cloud, samples, debian, tool, tmp_path):
    """What is inside a unified image lies at 512-byte boundaries, and a CD is read in 2048 bytes."""
    tool("qemu-system-x86_64")
    stub = debian("systemd-boot-efi") / "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
    image = tmp_path / "linux.iso"
    done = mbtool(
        *("build-disk", "--format", "iso", "--kernel", vmlinuz_cloud, "--cmdline", "console=ttyS0", "-o", image),
        *("--initrd", samples / "initrd/initrd.img", "--efi-stub", stub),
    )
    assert done.returncode == 0, done.stderr
    with open_file(image) as source:
        disk = identify.inspect(source).find("load-list")
    assert disk is not None
    lbas = [int(str(item["lba"])) for item in disk.children if item.kind == "load-item"]
    assert any(lba % 4 for lba in lbas)
    done = mbtool("prove", "--accel", "tcg", "--expect", "Run /init as init process", image)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def xen_iso(xen_gz, vmlinuz_cloud, samples, tmp_path_factory) -> Path:
    image = Path(tmp_path_factory.mktemp("xen") / "xen.iso")
    done = mbtool(
        *("build-disk", "--format", "iso", "--xen", xen_gz, "--kernel", vmlinuz_cloud, "-o", image),
        *("--initrd", samples / "initrd/initrd.img", "--xen-cmdline", "console=com1 com1=115200 dom0_mem=512M"),
    )
    assert done.returncode == 0, done.stderr
    return image


@pytest.mark.boot
@pytest.mark.real
@pytest.mark.parametrize(("firmware", "bus"), [("bios", "cdrom"), ("uefi", "cdrom"), ("uefi", "usb")])
def test_xen_builds_its_dom0_from_it(xen_iso, firmware, bus, tool):
    tool("qemu-system-x86_64")
    done = mbtool(
        *("prove", "--accel", "tcg", "--firmware", firmware, "--bus", bus, "--timeout", "110"),
        *("--expect", r"\(XEN\)  ENTRY ADDRESS: ", xen_iso),
    )
    assert done.returncode == 0, done.stdout + done.stderr
