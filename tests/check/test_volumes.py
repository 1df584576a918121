"""Entries that name other partitions of their disk, beside GRUB, which carries the same commands out.

The disk is made by sfdisk, mkfs.fat, mtools, mke2fs and genisoimage: a FAT partition and one with ext4.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.check.image import Image
from mbtool.check.report import Problem, check_image
from mbtool.check.system import check_disk
from mbtool.source import MIB, open_file
from tests import grub
from tests.check.sets import vmlinuz
from tests.qemu import run

Tool = Callable[[str], str]
FAT, EXT = "1234-ABCD", "0a0b0c0d-1111-2222-3333-444455556666"
DEBIAN = f"""\
if [ x$feature_platform_search_hint = xy ]; then
  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,msdos2 --hint-efi=hd0,msdos2  {EXT}
else
  search --no-floppy --fs-uuid --set=root {EXT}
fi
linux /on-ext root=/dev/sda2
"""
HERE, GONE, AWAY = "", "ENTRY-FILE", "ENTRY-ELSEWHERE"
CASES = {
    "own": (1, "linux /on-fat", HERE),
    "own-gone": (1, "linux /on-ext", GONE),
    "own-root": (1, "linux ($root)/on-fat", HERE),
    "number": (1, "set root='hd0,msdos2'\nlinux /on-ext", HERE),
    "number-gone": (2, "set root='hd0,msdos1'\nlinux /on-ext", GONE),
    "number-only": (1, "set root=(hd0,2)\nlinux /on-ext", HERE),
    "scheme": (1, "set root=hd0,gpt2\nlinux /on-ext", AWAY),
    "device": (2, "linux (hd0,msdos1)/on-fat", HERE),
    "device-gone": (2, "linux (hd0,msdos1)/on-ext", GONE),
    "case-of-fat": (2, "linux (hd0,msdos1)/ON-FAT", HERE),
    "case-of-ext": (1, "linux (hd0,msdos2)/ON-EXT", GONE),
    "no-partition": (1, "set root=hd0,msdos3\nlinux /on-fat", AWAY),
    "no-disk": (1, "linux (hd7,msdos1)/on-fat", AWAY),
    "uuid-of-fat": (2, f"search --no-floppy --fs-uuid --set=root {FAT.lower()}\nlinux /on-fat", HERE),
    "uuid-of-ext": (1, f"search -u --set=root {EXT.upper()}\nlinux /on-ext", HERE),
    "uuid-gone": (2, f"search --fs-uuid --set=root {FAT}\nlinux /on-ext", GONE),
    "uuid-of-none": (1, "set root=hd9\nsearch --fs-uuid --set=root 9999-9999\nlinux /on-fat", AWAY),
    "label-of-fat": (2, "search --label --set=root FIRST\nlinux /on-fat", HERE),
    "label-of-ext": (1, "search --set=root -l Second\nlinux /on-ext", HERE),
    "label-by-case": (1, "set root=hd9\nsearch --set=root --label second\nlinux /on-ext", AWAY),
    "file": (1, "search --set=root -f /on-ext\nlinux /on-ext", HERE),
    "alias": (1, f"search.fs_uuid {EXT} root hd0,msdos2\nlinux /on-ext", HERE),
    "variable": (1, f"search --fs-uuid --set=other {EXT}\nlinux ($other)/on-ext", HERE),
    "variable-gone": (1, f"search --fs-uuid --set=other {EXT}\nlinux ($other)/on-fat", GONE),
    "hint": (1, f"search --fs-uuid --hint hd0,msdos2 --set=root {EXT}\nlinux /on-ext", HERE),
    "debian": (1, DEBIAN, HERE),
    "debian-gone": (1, DEBIAN.replace("/on-ext", "/on-fat"), GONE),
    "loop": (1, "loopback cd (hd0,msdos2)/cd.iso\nlinux (cd)/on-cd", AWAY),
    "loop-root": (2, "loopback cd /cd.iso\nset root=(cd)\nlinux /on-cd", AWAY),
    "loop-gone": (1, "loopback cd /cd.iso\nlinux (cd)/on-cd", GONE),
    "for": (1, "for name in on-fat; do linux /$name; done", AWAY),
    "regexp": (1, "regexp --set=1:name '/(.*)' /on-fat\nlinux /$name", AWAY),
}
"""The partition that the configuration is on, the commands, and the rule that is broken."""
SEEN_ONLY_BY_GRUB = ("loop", "loop-root", "for", "regexp")
"""What is not looked for, and there."""
MODULES = (
    *("normal", "serial", "echo", "test", "part_msdos", "part_gpt", "fat", "ext2", "iso9660"),
    *("loopback", "linux", "regexp", "search"),
)


def menu(number: int) -> str:
    entries = (f"menuentry '{name}' {{\n{text}\n}}\n" for name, (on, text, _) in CASES.items() if on == number)
    return "".join(entries)


@pytest.fixture(scope="module")
def disk(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("disk")
    (work / "kernel").write_bytes(vmlinuz())
    for name in ("fat", "ext", "cd"):
        (work / f"{name}.d").mkdir()
        shutil.copy(work / "kernel", work / f"{name}.d" / f"on-{name}")
    for number, name in enumerate(("fat", "ext"), 1):
        (work / f"{name}.d" / "grub").mkdir()
        (work / f"{name}.d" / "grub" / "grub.cfg").write_text(menu(number))

    def call(name: str, *arguments: str | Path, **more: object) -> None:
        subprocess.run([tool(name), *arguments], check=True, capture_output=True, **more)  # type: ignore[call-overload]

    call("genisoimage", "-quiet", "-r", "-o", work / "ext.d" / "cd.iso", work / "cd.d")
    call("mkfs.fat", "-C", "-i", FAT.replace("-", ""), "-n", "FIRST", work / "fat", "16384")
    call("mcopy", "-s", "-i", work / "fat", *(work / "fat.d").iterdir(), "::/")
    call("mke2fs", "-q", "-t", "ext4", "-U", EXT, "-L", "Second", "-d", work / "ext.d", work / "ext", "16M")
    path = work / "disk.img"
    path.write_bytes(bytes(MIB) + (work / "fat").read_bytes() + (work / "ext").read_bytes())
    call("sfdisk", "-q", path, input=b"label: dos\n2048,32768,c\n34816,32768,83\n")
    return path


@pytest.fixture(scope="module")
def judged(disk: Path) -> dict[str, set[str]]:
    with open_file(disk) as source:
        image = Image(str(disk), source)
        found = list(check_disk(image, check_image(image)))
    wanted = (HERE, GONE, AWAY)
    return {name.rpartition(": ")[2]: {each.id for each in told if each.id in wanted} for name, told in found}


@pytest.fixture(scope="module")
def said(tool: Tool, disk: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What GRUB, started from the disk itself, says to each."""
    work = tmp_path_factory.mktemp("grub")
    script = ["serial --unit=0", "terminal_output serial"]
    for name, (on, text, _) in CASES.items():
        tried = re.sub(
            r"^(.*)\blinux ([^;\n]*)", r"\1if linux \2; then echo '[loaded]'; fi", text, flags=re.MULTILINE
        )
        script += [f"echo '<{name}>'", f"set root=hd0,msdos{on}", tried, "loopback -d cd"]
    (work / "script").write_text("\n".join([*script, "echo '<end>'\n"]))
    image = grub.disk(work, tool, "normal (memdisk)/script", [work / "script"], MODULES)
    code = image.read_bytes()
    assert len(code) == MIB
    with disk.open("r+b") as out:
        out.write(code[:440])
        out.seek(512)
        out.write(code[512:])
    console = run(["-machine", "pc", "-m", "256", "-drive", f"file={disk},format=raw"], until="<end>").console
    return dict(re.findall(r"<([a-z0-9-]+)>(.*?)(?=<)", console, re.DOTALL))


@pytest.mark.parametrize("name", CASES)
def test_where_an_entry_finds_its_files(judged: dict[str, set[str]], name: str) -> None:
    wanted = CASES[name][2]
    assert judged[name] == ({wanted} if wanted else set())


@pytest.mark.boot
@pytest.mark.parametrize("name", CASES)
def test_grub_finds_the_same(said: dict[str, str], name: str) -> None:
    wanted = CASES[name][2]
    assert ("[loaded]" in said[name]) == (wanted == HERE or name in SEEN_ONLY_BY_GRUB), said[name]
    assert bool(re.search("file `.*' not found", said[name])) == (wanted == GONE), said[name]


STUB = f"search.fs_uuid {EXT} root\nset prefix=($root)'/grub'\nconfigfile $prefix/grub.cfg\n"
"""What grub-install writes to the ESP."""


def with_stub(tool: Tool, work: Path, disk: Path, text: str) -> tuple[str, list[tuple[str, list[Problem]]]]:
    """The name of a disk with this configuration on its ESP, and what is said of it."""
    (work / "grub.cfg").write_text(text)
    image = str(shutil.copy(disk, work / "disk.img"))
    at = f"{image}@@{MIB}"
    subprocess.run([tool("mmd"), "-i", at, "::/EFI", "::/EFI/debian"], check=True)
    subprocess.run([tool("mdel"), "-i", at, "::/grub/grub.cfg"], check=True)
    subprocess.run([tool("mcopy"), "-i", at, work / "grub.cfg", "::/EFI/debian/"], check=True)
    with open_file(Path(image)) as source:
        opened = Image(image, source)
        return image, list(check_disk(opened, check_image(opened)))


def test_a_stub_on_the_esp(tool: Tool, tmp_path: Path, disk: Path) -> None:
    """Each entry is told of once, as one of the volume where its configuration is."""
    image, found = with_stub(tool, tmp_path, disk, STUB)
    second = [name for name, (on, _, _) in CASES.items() if on == 2]
    assert [name for name, _ in found] == [*(f"{image}:2:/grub/grub.cfg: {name}" for name in second), f"{image}:2"]


@pytest.mark.parametrize(
    ("old", "new", "severity"), [(EXT, "9999-9999", "warning"), ("/grub.cfg", "/menu.cfg", "error")]
)
def test_a_stub_that_leads_nowhere(
    tool: Tool, tmp_path: Path, disk: Path, old: str, new: str, severity: str
) -> None:
    image, found = with_stub(tool, tmp_path, disk, STUB.replace(old, new))
    (told,) = dict(found)[f"{image}:1"]
    assert (told.id, told.severity, told.evidence.file) == (
        "ENTRY-NO-MENU",
        severity,
        f"{image}:1:/EFI/debian/grub.cfg",
    )


@pytest.mark.parametrize("text", ["load_env\nblscfg\nsource $prefix/custom.cfg", "load_env", STUB + "blscfg"])
def test_a_menu_that_is_made_elsewhere(tool: Tool, tmp_path: Path, disk: Path, text: str) -> None:
    """As Fedora's, which has no entries of its own, nor all the files that it asks for."""
    _, found = with_stub(tool, tmp_path, disk, text.replace(EXT, "9999-9999"))
    assert "ENTRY-NO-MENU" not in {each.id for _, told in found for each in told}


def test_a_stub_that_leads_to_what_is_not_read(tool: Tool, tmp_path: Path, disk: Path) -> None:
    """A /boot on btrfs has a UUID, too."""
    data = bytearray(disk.read_bytes())
    data[17 * MIB :] = bytes(0x10040) + b"_BHRfS_M" + bytes(16 * MIB - 0x10048)
    (tmp_path / "btrfs.img").write_bytes(data)
    _, found = with_stub(tool, tmp_path, tmp_path / "btrfs.img", STUB)
    assert {each.id for _, told in found for each in told} == {"VOLUME-UNREAD"}
