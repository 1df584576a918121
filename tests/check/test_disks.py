"""Boot entries of disk images: what mtools and sgdisk put there is judged as the same files in a directory are."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.check.image import Image
from mbtool.check.report import Problem, check_image
from mbtool.check.system import check_disk, check_system
from mbtool.check.trees import FolderTree, volumes
from mbtool.source import MIB, Limits, open_file
from tests.check import sets
from tests.check.sets import RELEASE, XEN, ids, initrd, vmlinuz
from tests.cli.run import mbtool
from tests.conftest import ROOT

Tool = Callable[[str], str]
ENTRY = f"""\
title Debian
linux /vmlinuz-{RELEASE}
initrd /initrd.img-{RELEASE}
options root=/dev/sda2 ro
"""
GRUB = f"""\
menuentry 'Xen' {{
	multiboot2 /xen.gz dom0_mem=256M
	module2 /vmlinuz-{RELEASE} root=/dev/sda2
	module2 /initrd.img-{RELEASE}
}}
"""


@pytest.fixture
def esp(tmp_path: Path) -> Path:
    """What an ESP that holds the kernels, too, has in it."""
    top = tmp_path / "esp"
    for name in ("EFI/BOOT", "loader/entries", "grub"):
        (top / name).mkdir(parents=True)
    (top / "loader" / "entries" / "debian.conf").write_text(ENTRY)
    (top / "grub" / "grub.cfg").write_text(GRUB)
    (top / f"vmlinuz-{RELEASE}").write_bytes(sets.vmlinuz())
    (top / f"initrd.img-{RELEASE}").write_bytes(initrd())
    shutil.copy(XEN / "xen-4.18.0.gz", top / "xen.gz")
    return top


def fat(tool: Tool, top: Path, bits: int) -> Path:
    """The directory as a FAT volume."""
    path = top.with_name(f"fat{bits}.img")
    size = {12: "3900", 16: "16384", 32: "40960"}[bits]
    sectors = ["-s", "1"] if bits == 32 else []
    subprocess.run([tool("mkfs.fat"), "-C", "-F", str(bits), *sectors, path, size], check=True, capture_output=True)
    subprocess.run([tool("mcopy"), "-s", "-i", path, *top.iterdir(), "::/"], check=True, capture_output=True)
    return path


def disk(tool: Tool, volume: Path) -> Path:
    """The volume as the ESP of a GPT disk."""
    path = volume.with_suffix(".disk")
    with path.open("wb") as out:
        out.truncate(volume.stat().st_size + 2 * MIB)
        out.seek(MIB)
        out.write(volume.read_bytes())
    end = 2048 + volume.stat().st_size // 512 - 1
    subprocess.run([tool("sgdisk"), f"-n1:2048:{end}", "-t1:ef00", path], check=True, capture_output=True)
    return path


def test_a_root_on_ext4(tool: Tool, tmp_path: Path) -> None:
    """As most systems have it: an ESP that leads on, and everything else on the root's own file system."""
    root = tmp_path / "root"
    (root / "boot" / "grub").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "boot" / "grub" / "grub.cfg").write_text(
        f"menuentry A {{\n linux /boot/vmlinuz-{RELEASE} root=/dev/sda2\n initrd /boot/initrd.img-{RELEASE}\n}}\n"
    )
    (root / "boot" / f"vmlinuz-{RELEASE}").write_bytes(vmlinuz())
    (root / "boot" / f"initrd.img-{RELEASE}").write_bytes(initrd())
    for broken in (False, True):
        volume = tmp_path / f"ext4-{broken}"
        subprocess.run([tool("mke2fs"), "-q", "-t", "ext4", "-d", root, volume, "40M"], check=True)
        for path, name in (volume, str(volume)), (disk(tool, volume), f"{volume.with_suffix('.disk')}:1"):
            found = dict(told(path))
            entry = f"{name}:/boot/grub/grub.cfg: A"
            assert {subject: ids(problems) for subject, problems in found.items()} == {
                entry: {"ENTRY-FILE"} if broken else set(),
                name: set(),
            }
        (root / "boot" / f"initrd.img-{RELEASE}").unlink(missing_ok=True)


def test_a_partition_that_is_not_looked_into(tool: Tool, tmp_path: Path) -> None:
    volume = tmp_path / "xfs"
    volume.write_bytes(b"XFSB" + bytes(MIB))
    ((name, (problem,)),) = told(disk(tool, volume))
    assert name == str(volume.with_suffix(".disk"))
    assert (problem.id, problem.evidence.found, problem.evidence.offset) == ("VOLUME-UNREAD", "XFS", MIB)


def told(path: Path) -> list[tuple[str, list[Problem]]]:
    with open_file(path) as source:
        image = Image(str(path), source)
        return list(check_disk(image, check_image(image)))


def verdicts(found: list[tuple[str, list[Problem]]]) -> list[tuple[str, set[str]]]:
    """Titles and rules, without the places that differ."""
    return [(name.rpartition(": ")[2] if ": " in name else "", ids(problems)) for name, problems in found]


BREAKS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda top: None,
    "initrd gone": lambda top: (top / f"initrd.img-{RELEASE}").unlink(),
    "xen gone": lambda top: (top / "xen.gz").unlink(),
    "initrd of another kernel": lambda top: (top / f"initrd.img-{RELEASE}").write_bytes(initrd("5.0.0")),
    "too little memory": lambda top: (top / "grub" / "grub.cfg").write_text(GRUB.replace("256M", "2M")),
    "a kernel too many": lambda top: shutil.copy(top / f"vmlinuz-{RELEASE}", top / "vmlinuz-9.9.9"),
}
WANTED = {
    "nothing": [("Xen", set()), ("Debian", set()), ("", set())],
    "initrd gone": [("Xen", {"ENTRY-FILE"}), ("Debian", {"ENTRY-FILE"}), ("", set())],
    "xen gone": [("Xen", {"ENTRY-FILE"}), ("Debian", set()), ("", set())],
    "initrd of another kernel": [("Xen", {"INITRD-MODULES"}), ("Debian", {"INITRD-MODULES"}), ("", set())],
    "too little memory": [("Xen", {"DOM0-MEM"}), ("Debian", set()), ("", set())],
    "a kernel too many": [("Xen", set()), ("Debian", set()), ("", {"ENTRY-NONE-FOR-KERNEL"})],
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_disk_is_judged_as_the_directory_is(tool: Tool, esp: Path, name: str) -> None:
    BREAKS[name](esp)
    assert verdicts(list(check_system(esp, Limits()))) == WANTED[name]
    for image in (volume := fat(tool, esp, 16), disk(tool, volume)):
        assert verdicts(told(image)) == WANTED[name]


@pytest.mark.parametrize("kind", ["qcow2", "vmdk", "vpc"])
def test_disks_of_hypervisors(tool: Tool, esp: Path, kind: str) -> None:
    BREAKS["initrd gone"](esp)
    raw = disk(tool, fat(tool, esp, 16))
    image = raw.with_suffix(f".{kind}")
    subprocess.run([tool("qemu-img"), "convert", "-f", "raw", "-O", kind, raw, image], check=True)
    assert verdicts(told(image)) == WANTED["initrd gone"]
    done = mbtool("check", image)
    assert done.returncode == 1
    assert f"{image}:1:/grub/grub.cfg: Xen: " in done.stdout


def test_a_disk_that_cannot_be_read(tool: Tool, esp: Path) -> None:
    raw = disk(tool, fat(tool, esp, 16))
    image = raw.with_suffix(".vmdk")
    options = ["-O", "vmdk", "-o", "subformat=streamOptimized"]
    subprocess.run([tool("qemu-img"), "convert", "-f", "raw", *options, raw, image], check=True)
    assert told(image) == []
    done = mbtool("check", image)
    assert done.returncode == 0
    assert "its grains are compressed" in done.stdout


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_every_width_of_fat(tool: Tool, esp: Path, bits: int) -> None:
    with open_file(fat(tool, esp, bits)) as source:
        (volume,) = volumes(source)
        tree = volume.tree
        for path in (path for path in esp.rglob("*") if path.is_file()):
            file = tree.find(str(path.relative_to(esp)).upper())
            assert file is not None
            assert file.text(MIB * 16) == path.read_bytes()
        for folder in ("", "EFI", "loader/entries", "/grub/"):
            assert tree.names(folder) == sorted(entry.name for entry in (esp / folder.strip("/")).iterdir())
        assert tree.names("gone") == []
        assert tree.find("grub") is None


@pytest.mark.parametrize("name", BREAKS)
def test_a_cd_is_judged_as_the_directory_is(tool: Tool, esp: Path, name: str) -> None:
    BREAKS[name](esp)
    image = esp.with_name("cd.iso")
    subprocess.run([tool("genisoimage"), "-R", "-o", image, esp], check=True, capture_output=True)
    assert verdicts(told(image)) == WANTED[name]


def test_disks_that_mbtool_builds(tool: Tool, esp: Path, tmp_path: Path) -> None:
    """The configuration of Xen's EFI loader, and GRUB's."""
    tool("grub-mkimage")
    samples = ROOT / "samples"
    done = mbtool(
        *("build-disk", "--loader", "grub", "--kernel", samples / "multiboot1" / "multiboot1.elf"),
        *("--cmdline", "hello", "-o", tmp_path / "grub.img"),
    )
    assert done.returncode == 0, done.stderr
    done = mbtool("check", tmp_path / "grub.img")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "boot/grub/grub.cfg: " in done.stdout
    assert "[ENTRY" not in done.stdout


def test_links_stay_inside_of_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "boot").mkdir(parents=True)
    (root / "boot" / "real").write_bytes(b"x")
    (root / "boot" / "absolute").symlink_to("/boot/real")
    (root / "relative").symlink_to("boot/absolute")
    (root / "up").symlink_to("../../../../boot/real")
    (root / "loop").symlink_to("loop")
    (root / "out").symlink_to("/etc/passwd")
    tree = FolderTree(root)
    keys = {tree.find(name).key for name in ("boot/real", "boot/absolute", "relative", "up")}  # type: ignore[union-attr]
    assert keys == {str((root / "boot" / "real").resolve())}
    assert tree.find("loop") is None
    assert tree.find("out") is None
    assert tree.find("boot") is None


def test_a_root_told_by_option(esp: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    shutil.move(esp, root / "boot")
    done = mbtool("check", "--root", root, "--firmware", "bios")
    assert done.returncode == 0, done.stdout
    assert "grub.cfg: Xen: nothing found" in done.stdout
    assert mbtool("check", "--root", tmp_path / "gone").returncode == 2


OTHER_SYSTEM = """\
menuentry 'Here' {
	search --no-floppy --fs-uuid --set=root 1111
	linux /vmlinuz-%s
	initrd /initrd.img-%s
}
menuentry 'Another (on /dev/sdb1)' {
	search --no-floppy --fs-uuid --set=root 2222
	linux /boot/vmlinuz-5.0.0
}
"""


def test_entries_for_another_system_are_no_false_alarm(esp: Path) -> None:
    (esp / "grub" / "grub.cfg").write_text(OTHER_SYSTEM % (RELEASE, RELEASE))
    found = dict(check_system(esp, Limits()))
    other = next(problems for name, problems in found.items() if "sdb1" in name)
    assert [problem.id for problem in other] == ["ENTRY-ELSEWHERE"]
    assert all(ids(problems) == set() for problems in found.values())


def test_room_for_the_next_kernel(tool: Tool, esp: Path) -> None:
    """mdir counts what is free; the kernels and initrds here take a known part of it."""
    image = fat(tool, esp, 16)
    assert all("SPACE-LEFT" not in ids(problems) for _, problems in told(image))
    with open_file(image) as source:
        (volume,) = volumes(source)
        tree = volume.tree
        free = tree.free("")
    said = subprocess.run([tool("mdir"), "-i", image, "::/"], check=True, capture_output=True, text=True).stdout
    assert free == int("".join(said.splitlines()[-2].split("bytes free")[0].split()).replace(",", ""))
    needed = (esp / f"vmlinuz-{RELEASE}").stat().st_size + (esp / f"initrd.img-{RELEASE}").stat().st_size
    for left, wanted in ((needed + 8192, False), (needed - 1, True)):
        full = image.with_name("full.img")
        shutil.copy(image, full)
        (esp.parent / "filler").write_bytes(bytes(free - left))
        subprocess.run([tool("mcopy"), "-i", full, esp.parent / "filler", "::/"], check=True, capture_output=True)
        assert any("SPACE-LEFT" in ids(problems) for _, problems in told(full)) == wanted


def test_room_in_a_directory(esp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "SPACE-LEFT" not in ids(dict(check_system(esp, Limits()))[str(esp)])
    monkeypatch.setattr(FolderTree, "free", lambda tree, folder: 1000)
    assert "SPACE-LEFT" in ids(dict(check_system(esp, Limits()))[str(esp)])


@pytest.mark.real
def test_debians_cds_and_disks(debian: Callable[[str], Path], xen_gz: Path, vmlinuz: Path, tmp_path: Path) -> None:
    """Entries are found, and nothing is said of them that is not true of their files."""
    ipxe = told(next(debian("ipxe").rglob("ipxe.iso")))
    assert next((name.rpartition(": ")[2], ids(problems)) for name, problems in ipxe) == ("ipxe.lkrn", set())
    (tmp_path / "initrd").write_bytes(initrd(vmlinuz.name.removeprefix("vmlinuz-")))
    done = mbtool(
        *("build-disk", "--xen", xen_gz, "--kernel", vmlinuz, "--initrd", tmp_path / "initrd"),
        *("--xen-cmdline", "dom0_mem=512M", "--cmdline", "console=hvc0", "-o", tmp_path / "disk.img"),
    )
    assert done.returncode == 0, done.stderr
    entries = dict(told(tmp_path / "disk.img"))
    (config,) = (name for name in entries if name.endswith("BOOTX64.cfg"))
    assert ids(entries[config]) == {"PE-NX-WRITABLE-CODE"}  # as Debian's xen.efi is
