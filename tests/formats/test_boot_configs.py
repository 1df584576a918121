"""syslinux.cfg and limine.conf, as their documentation describes them, and as Debian writes the former."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.formats import grub_cfg, limine_conf, syslinux_cfg
from mbtool.formats.limine_conf import Location

SYSLINUX = """\
# a comment
DEFAULT linux
APPEND quiet
label linux
	MENU LABEL ^Linux with a title
	TEXT HELP
	label not-one
	ENDTEXT
	kernel ../vmlinuz
	initrd a.img,b.img
LABEL none
  LINUX vmlinuz
  APPEND -
Label old
  kernel /vmlinuz
  append root=/dev/sda1 initrd=/one.img initrd=/two.img ro
LABEL xen
  COM32 mboot.c32
  APPEND xen.gz dom0_mem=1G --- vmlinuz console=hvc0 ro --- initrd.img
LABEL c32
  COM32 linux.c32
  APPEND /vmlinuz initrd=/i.img a b
LABEL disk
  localboot 0x80
LABEL menu
  KERNEL vesamenu.c32
LABEL twice
  LINUX first
  LINUX second
"""


def test_syslinux_labels() -> None:
    entries = {entry.label: entry for entry in syslinux_cfg.parse(SYSLINUX)}
    assert list(entries) == ["linux", "none", "old", "xen", "c32", "menu", "twice"]
    linux = entries["linux"]
    assert (linux.title, linux.kernel, linux.append) == ("Linux with a title", "../vmlinuz", "quiet")
    assert linux.initrd == ("a.img", "b.img")
    assert linux.is_linux
    assert linux.line == 4
    assert entries["none"].append == ""
    assert entries["old"].initrd == ("/two.img",)
    assert entries["old"].append == "root=/dev/sda1 initrd=/one.img initrd=/two.img ro"
    assert entries["xen"].modules == (
        ("xen.gz", "dom0_mem=1G"),
        ("vmlinuz", "console=hvc0 ro"),
        ("initrd.img", ""),
    )
    assert not entries["xen"].is_linux
    assert (entries["c32"].kernel, entries["c32"].append, entries["c32"].initrd) == (
        "/vmlinuz",
        "initrd=/i.img a b",
        ("/i.img",),
    )
    assert not entries["menu"].is_linux
    assert entries["twice"].kernel == "second"


def test_files_that_are_included() -> None:
    files = {
        "a.cfg": "label one\nlinux k1\ninclude b.cfg\n",
        "b.cfg": "MENU INCLUDE c.cfg tag\n",
        "loop": "include loop\n" * 9,
    }
    files["c.cfg"] = "label two\nlinux k2\n"
    text = "include a.cfg\ninclude gone\ninclude loop\nlabel three\nlinux k3\n"
    assert [entry.kernel for entry in syslinux_cfg.parse(text, files.get)] == ["k1", "k2", "k3"]


@pytest.mark.real
def test_debians_installer(debian: Callable[[str], Path]) -> None:
    """Its paths begin at the root of the TFTP server."""
    top = next(debian("debian-installer-12-netboot-amd64").rglob("text/debian-installer")).parent

    def text(name: str) -> str | None:
        path = top / name
        return path.read_text() if path.is_file() else None

    main = text("debian-installer/amd64/boot-screens/syslinux.cfg")
    assert main is not None
    entries = syslinux_cfg.parse(main, text)
    assert {"install", "expert", "rescue", "auto"} <= {entry.label for entry in entries}
    assert next(entry.title for entry in entries if entry.label == "expert") == "Expert install"
    for entry in entries:
        assert entry.is_linux
        assert (top / entry.kernel).is_file()
        assert all((top / name).is_file() for name in entry.initrd)


LIMINE = """\
timeout: 5
${DISK}=boot()
${CMD}=console=hvc0

# a comment
/+Systems
comment: a directory
    //Linux
    protocol: linux
    path: ${DISK}:/vmlinuz#0123456789abcdef
    cmdline: root=/dev/sda1 ${CMD}
    module_path: ${DISK}:/one.img
    MODULE_PATH: ${DISK}:/two.img
    //Xen
        protocol: multiboot2
        kernel_path: guid(736b5698-5ae1-4dff-be2c-ef8f44a61c52):/xen.gz
        kernel_cmdline: placeholder dom0_mem=1G
        module_path: boot():/vmlinuz
        module_string: placeholder ro
        module_path: boot():/initrd
/Firmware
protocol: efi
image_path: boot(2):/EFI/BOOT/X.EFI
"""


def test_limine_entries() -> None:
    linux, xen, efi = limine_conf.parse(LIMINE)
    assert (linux.title, linux.line, linux.protocol) == ("Systems>Linux", 8, "linux")
    assert limine_conf.location(linux.path or "") == Location("boot", "", "/vmlinuz", "0123456789abcdef")
    assert linux.cmdline == "root=/dev/sda1 console=hvc0"
    assert linux.modules == (("boot():/one.img", ""), ("boot():/two.img", ""))
    there = limine_conf.location(xen.path or "")
    assert there is not None
    assert (there.path, there.volume) == ("/xen.gz", "guid(736b5698-5ae1-4dff-be2c-ef8f44a61c52)")
    assert xen.cmdline == "placeholder dom0_mem=1G"
    assert xen.modules == (("boot():/vmlinuz", "placeholder ro"), ("boot():/initrd", ""))
    assert efi.title == "Firmware"
    assert limine_conf.location(efi.path or "") == Location("boot", "2", "/EFI/BOOT/X.EFI")


@pytest.mark.parametrize(
    "text", ["", "/", "////deep", "path: x", "/a\npath:", "${", "${A}", "${A}=${A}", ":\n" * 9]
)
def test_any_text_is_a_configuration(text: str) -> None:
    assert all(entry.path in (None, "") for entry in limine_conf.parse(text))
    assert syslinux_cfg.parse(text) == ()
    for damaged in (LIMINE[: len(text) * 7], SYSLINUX[: len(text) * 9]):
        limine_conf.parse(damaged)
        syslinux_cfg.parse(damaged)


def test_macros_that_would_fill_memory() -> None:
    text = "${a}=" + "x" * 5000 + "\n/a\npath: p" + "${a}" * 200_000
    (entry,) = limine_conf.parse(text)
    assert len(entry.path or "") <= limine_conf.MAX_LINE * limine_conf.MAX_MACRO
    (found,) = grub_cfg.parse("set x=" + "y" * 60000 + "\nmenuentry a {\nlinux /k" + "$x" * 200_000 + "\n}\n")
    assert len(found.commands[0].words[-1]) <= grub_cfg.MAX_WORD
