"""Where configurations are looked for: beside boot as well as in it, as on an ESP or a CD; each is read once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.check.system import check_system
from mbtool.source import Limits
from tests.check.sets import RELEASE, ids, initrd, vmlinuz

FILES = f"initrd /live/initrd.img-{RELEASE}\n"
SYSLINUX = f"label <it>\nlinux /live/vmlinuz-{RELEASE}\n{FILES}append ro\n"
BLS = f"title <it>\nlinux /live/vmlinuz-{RELEASE}\n{FILES}options ro\n"
LIMINE = f"/<it>\nprotocol: linux\npath: boot():/live/vmlinuz-{RELEASE}\n"
LIMINE += f"module_path: boot():/live/initrd.img-{RELEASE}\n"
GRUB = f"menuentry '<grub>' {{\nlinux /live/vmlinuz-{RELEASE} ro\ninitrd /live/initrd.img-{RELEASE}\n}}\n"


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    (tmp_path / "boot" / "grub").mkdir(parents=True)
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / f"vmlinuz-{RELEASE}").write_bytes(vmlinuz())
    (tmp_path / "live" / f"initrd.img-{RELEASE}").write_bytes(initrd())
    return tmp_path


def told(folder: Path, *, root: bool = False) -> dict[str, list[str]]:
    """Rules by the title of the entry, which is there once."""
    found = [(name, problems) for name, problems in check_system(folder, Limits(), root=root) if "<" in name]
    titles = [name.rpartition(": ")[2] for name, _ in found]
    assert len(titles) == len(set(titles))
    return {title: [each.id for each in problems] for title, (_, problems) in zip(titles, found, strict=True)}


@pytest.mark.parametrize("root", [False, True])
@pytest.mark.parametrize("folder", ["", "boot/"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("syslinux.cfg", SYSLINUX),
        ("isolinux.cfg", SYSLINUX),
        ("isolinux/isolinux.cfg", SYSLINUX),
        ("isolinux/syslinux.cfg", SYSLINUX),
        ("syslinux/syslinux.cfg", SYSLINUX),
        ("syslinux/extlinux.conf", SYSLINUX),
        ("EFI/BOOT/syslinux.cfg", SYSLINUX),
        ("loader/entries/it.conf", BLS),
        ("limine.conf", LIMINE),
        ("limine/limine.conf", LIMINE),
        ("EFI/limine/limine.conf", LIMINE),
    ],
)
def test_beside_boot_and_in_it(disc: Path, folder: str, name: str, text: str, root: bool) -> None:
    path = disc / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    assert told(disc, root=root) == {"<it>": []}
    path.write_text(text.replace("vmlinuz", "vmlinux"))
    assert told(disc, root=root) == {"<it>": ["ENTRY-FILE"]}
    (disc / "boot" / "grub" / "grub.cfg").write_text(GRUB)
    assert told(disc, root=root) == {"<grub>": [], "<it>": ["ENTRY-FILE"]}


def test_links_lead_to_one_entry(disc: Path) -> None:
    """Fedora's boot has a link to itself in it."""
    (disc / "boot" / "boot").symlink_to(".")
    (disc / "syslinux").symlink_to("boot/syslinux")
    (disc / "boot" / "syslinux").mkdir()
    (disc / "boot" / "syslinux" / "syslinux.cfg").write_text(SYSLINUX)
    (disc / "boot" / "syslinux" / "extlinux.conf").symlink_to("syslinux.cfg")
    assert told(disc) == {"<it>": []}


def test_nothing_beside_what_was_asked_for(disc: Path) -> None:
    (disc / "syslinux.cfg").write_text(SYSLINUX)
    (disc / "boot" / "grub" / "grub.cfg").write_text(GRUB)
    assert told(disc / "boot") == {"<grub>": []}


@pytest.mark.parametrize(
    ("config", "there", "lost"),
    [
        # where it lies; where its files can be; and where the loader does not get at them
        ("", ["live"], ["boot/live", "boot/efi/live"]),
        ("boot/", ["live", "boot/live"], ["boot/efi/live", "efi/live"]),
        ("boot/efi/", ["boot/efi/live"], ["live", "boot/live"]),
        ("efi/", ["efi/live"], ["live", "boot/live", "boot/efi/live"]),
    ],
)
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("syslinux/syslinux.cfg", SYSLINUX),
        ("syslinux/syslinux.cfg", SYSLINUX.replace(" /live", " ../live")),
        ("loader/entries/it.conf", BLS),
        ("limine/limine.conf", LIMINE),
    ],
)
def test_a_path_begins_where_the_volume_does(
    disc: Path, config: str, there: list[str], lost: list[str], name: str, text: str
) -> None:
    """Only GRUB goes from one volume to another."""
    path = disc / config / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    if " ../" in text:  # wherever that is, it is beside the configuration
        there, lost = [f"{config}live"], [*there, *lost]
        lost.remove(*there)
    for place in (*there, *lost):
        (disc / place).parent.mkdir(parents=True, exist_ok=True)
        (disc / "live").rename(disc / "moved")
        (disc / "moved").rename(disc / place)
        assert set(told(disc)["<it>"]) == (set() if place in there else {"ENTRY-FILE"}), place
        (disc / place).rename(disc / "live")


@pytest.mark.real
def test_a_tftp_root(debian: Callable[[str], Path]) -> None:
    """Debian's installer over the network: names in pxelinux.cfg begin in the directory above it."""
    root = debian("debian-installer-12-netboot-amd64")
    found = list(check_system(root / "usr/lib/debian-installer/images/12/amd64/text", Limits()))
    titles = [name.rpartition(": ")[2] for name, _ in found]
    assert titles[:4] == ["Install", "Expert install", "Rescue mode", "Automated install"]
    assert set().union(*(ids(problems) for _, problems in found)) == set()
