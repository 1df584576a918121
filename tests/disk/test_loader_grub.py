"""Disks that start by the host's GRUB: its own tools read the menu and the kernels, and it boots them."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import threading
import zlib
from pathlib import Path

import pytest

from mbtool.disk import grub, grub_bios, grub_cfg
from mbtool.disk.grub_cfg import MenuEntry
from mbtool.disk.protocols import Protocol
from mbtool.errors import InputError
from mbtool.source import MIB
from tests.cli.run import mbtool
from tests.conftest import missing

TIMEOUT = "150"
CMDLINE = 'one "two  words" x=$y console=ttyS0,115200'


@pytest.fixture(scope="module", autouse=True)
def _grub(tool) -> None:
    tool("grub-mkimage")
    for target in ("i386-pc", "x86_64-efi"):
        if not Path(f"/usr/lib/grub/{target}").is_dir():
            missing(f"GRUB's modules for {target}")


def build(output: Path, *options: str | Path) -> Path:
    done = mbtool("build-disk", *options, "--loader", "grub", "--verify-reproducible", "-o", output)
    assert done.returncode == 0, done.stderr
    return output


def on_esp(image: Path, path: str, out: Path) -> Path:
    subprocess.run(["mcopy", "-o", "-i", f"{image}@@{MIB}", f"::/{path}", out], check=True)
    return out


@pytest.fixture(scope="module")
def image(samples, tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("grub")
    (folder / "module").write_bytes(b"the module's bytes")
    (folder / "image.toml").write_text(f"""
[boot]
title = "Multiboot 2, it's the default"
kernel = "{samples}/multiboot2/multiboot2.elf"
cmdline = '{CMDLINE}'
modules = [{{ file = "module", cmdline = 'its "own words"' }}]
timeout = 1

[[entry]]
title = "Multiboot 1"
kernel = "{samples}/multiboot1/multiboot1.elf"
initrd = "module"

[disk]
format = "iso"
""")
    return build(folder / "image.iso", folder / "image.toml")


# ---- the menu


def test_grub_reads_the_menu(image, tool, tmp_path):
    tool("mcopy")
    menu = on_esp(image, "boot/grub/grub.cfg", tmp_path / "grub.cfg")
    subprocess.run([tool("grub-script-check"), menu], check=True)
    text = menu.read_text()
    assert re.findall(r"^menuentry (.*) \{$", text, re.MULTILINE) == [
        r"'Multiboot 2, it'\''s the default'",
        "'Multiboot 1'",
    ]
    assert "serial --unit=0 --speed=115200\n" in text
    assert "multiboot2 /boot/multiboot2.elf one 'two  words' 'x=$y' console=ttyS0,115200\n" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a  b ", ["a", "b"]),
        ('a="b c" d', ["a=b c", "d"]),
        ("console=com1 com1=115200,8n1", ["console=com1", "com1=115200,8n1"]),
    ],
)
def test_command_lines_become_words(text, expected):
    assert grub_cfg.words(text) == expected


@pytest.mark.parametrize("text", ['one " open', "it's", "back\\slash", "two\nlines"])
def test_what_grub_would_change_is_refused(text):
    with pytest.raises(InputError, match="GRUB cannot hand"):
        grub_cfg.words(text)


@pytest.mark.parametrize(
    ("text", "serial"),
    [
        ("console=tty0 console=ttyS1,9600n8", "serial --unit=1 --speed=9600"),
        ("console=ttyS0", "serial --unit=0 --speed=115200"),
        ("com1=38400 console=vga,com1", "serial --unit=0 --speed=38400"),
        ("com2=57600 console=com2", "serial --unit=1 --speed=57600"),
        ("com1=115200 console=vga", None),
        ("console=hvc0", None),
    ],
)
def test_the_menu_is_on_the_kernels_serial_console(text, serial):
    menu = grub_cfg.build([MenuEntry("t", Protocol.MULTIBOOT2, ("k", text))], 0).decode()
    assert re.findall("^serial.*", menu, re.MULTILINE) == ([serial] if serial else [])
    assert ("terminal_output console serial" in menu) == bool(serial)


# ---- where GRUB lies


def test_mbr_and_core_image_point_at_each_other(image, tool):
    """The fields that GRUB's boot.S and diskboot.S read (offsets: grub-core/include/grub/i386/pc/boot.h)."""
    table = subprocess.check_output([tool("sgdisk"), "-i", "1", image], text=True)
    (start,) = map(int, re.findall(r"First sector: (\d+)", table))
    data = image.read_bytes()[: 2 * MIB]
    boot_img = Path("/usr/lib/grub/i386-pc/boot.img").read_bytes()
    assert data[:0x5C] == boot_img[:0x5C]
    assert data[0x66:0x68] == b"\x90\x90"
    assert data[0x68:440] == boot_img[0x68:440]
    assert struct.unpack_from("<Q", data, 0x5C) == (start,)
    core = data[start * 512 :]
    assert core[:400] == Path("/usr/lib/grub/i386-pc/diskboot.img").read_bytes()[:400]
    lba, sectors, segment = struct.unpack_from("<QHH", core, 0x1F4)
    assert (lba, segment) == (start + 1, 0x820)
    assert not any(core[(1 + sectors) * 512 : (1 + sectors) * 512 + 16])


def test_a_cd_image_is_told_where_it_is():
    """The boot information table: PVD, LBA, length, sum of the words from 64 on."""
    made = grub.images().bios
    assert made is not None
    loader = grub_bios.embed(made, 400)
    lba = -(-(400 * 512 + len(loader.data)) // 2048)
    words = loader.cd[64:].ljust(-(-(len(loader.cd) - 64) // 4) * 4, b"\0")
    total = sum(struct.unpack(f"<{len(words) // 4}I", words)) & 0xFFFFFFFF
    assert struct.unpack_from("<4I", loader.cd, 8) == (16, lba, len(made.cd_img), total)


def test_images_of_another_kind_are_refused():
    made = grub.images().bios
    assert made is not None
    for boot, core in ((made.boot_img[:100], made.core_img), (made.boot_img, made.core_img[:-600])):
        with pytest.raises(InputError):
            grub_bios.embed(grub.GrubBios(boot, core, made.cd_img), 34)


def test_grub_file_knows_what_is_in_the_image(image, tool, tmp_path):
    tool("mcopy")
    for name, kind in (("multiboot1.elf", "--is-x86-multiboot"), ("multiboot2.elf", "--is-x86-multiboot2")):
        kernel = on_esp(image, f"boot/{name}", tmp_path / name)
        subprocess.run([tool("grub-file"), kind, kernel], check=True)
    program = on_esp(image, "EFI/BOOT/BOOTX64.EFI", tmp_path / "grub.efi")
    subprocess.run([tool("grub-file"), "--is-x86_64-efi", program], check=True)


# ---- what cannot be done is said


def test_without_grub_one_line_and_no_file(samples, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    kernel = samples / "multiboot2/multiboot2.elf"
    done = mbtool("build-disk", "--kernel", kernel, "--loader", "grub", "-o", tmp_path / "d")
    assert done.returncode == 2
    assert "grub-mkimage not installed" in done.stderr
    assert "grub-pc-bin" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_modules_for_one_firmware_are_enough(tmp_path, monkeypatch):
    (tmp_path / "x86_64-efi").symlink_to("/usr/lib/grub/x86_64-efi")
    monkeypatch.setattr(grub, "DIRECTORIES", (tmp_path,))
    made = grub.images()
    assert made.bios is None
    assert made.uefi is not None
    assert made.uefi[:2] == b"MZ"
    (tmp_path / "x86_64-efi").unlink()
    with pytest.raises(InputError, match="GRUB's modules"):
        grub.images()


def test_a_grub_without_uga(tmp_path, monkeypatch):
    """2.14 has no efi_uga.mod; nothing else of the core image asks for it."""
    folder = tmp_path / "x86_64-efi"
    folder.mkdir()
    for path in Path("/usr/lib/grub/x86_64-efi").iterdir():
        if path.name != "efi_uga.mod":
            (folder / path.name).symlink_to(path)
    monkeypatch.setattr(grub, "DIRECTORIES", (tmp_path,))
    assert grub.images().uefi is not None


def test_a_failing_grub_mkimage_is_quoted(tmp_path, monkeypatch):
    fake = tmp_path / "grub-mkimage"
    fake.write_text("#!/bin/sh\necho 'grub-mkimage: error: no space' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="no space"):
        grub.images()


def test_a_menu_needs_grub_and_kernels_that_it_starts(samples, tmp_path):
    kernel = samples / "multiboot2/multiboot2.elf"
    manifest = tmp_path / "image.toml"
    manifest.write_text(f'[boot]\nkernel = "{kernel}"\n[[entry]]\nkernel = "{kernel}"\n')
    done = mbtool("build-disk", manifest, "-o", tmp_path / "d")
    assert done.returncode == 2
    assert "--loader grub" in done.stderr
    done = mbtool("build-disk", "--kernel", samples / "pvh/pvh.elf", "--loader", "grub", "-o", tmp_path / "d")
    assert done.returncode == 2
    assert f"{samples}/pvh/pvh.elf: GRUB does not start PVH kernels" in done.stderr


def test_the_description_beside_the_image_builds_it_again(samples, tmp_path):
    for name in ("multiboot1", "multiboot2"):
        shutil.copy(samples / name / f"{name}.elf", tmp_path)
    (tmp_path / "m.toml").write_text(
        '[boot]\nkernel = "multiboot2.elf"\nloader = "grub"\ntitle = "one"\n'
        '[[entry]]\ntitle = "two"\nkernel = "multiboot1.elf"\ncmdline = "a b"\n'
        'modules = [{ file = "multiboot2.elf", cmdline = "as data" }]\n'
    )
    first = build(tmp_path / "d1", tmp_path / "m.toml")
    done = mbtool("build-disk", tmp_path / "d1.toml", "-o", tmp_path / "d2")
    assert done.returncode == 0, done.stderr
    assert first.read_bytes() == (tmp_path / "d2").read_bytes()


# ---- boots


@pytest.mark.boot
@pytest.mark.parametrize(
    ("firmware", "bus"), [("bios", "ahci"), ("bios", "cdrom"), ("uefi", "usb"), ("uefi", "cdrom")]
)
def test_grub_starts_the_default_entry(image, firmware, bus, tool):
    tool("qemu-system-x86_64")
    done = mbtool(
        *("prove", "--accel", "tcg", "--firmware", firmware, "--bus", bus, "--timeout", TIMEOUT, image),
        *("--expect", "Multiboot 2, it's the default"),
        *("--expect", f"^mb2: .*string={re.escape(CMDLINE)}$", "--expect", '^mb2: .*string=its "own words"$'),
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.boot
def test_another_entry_is_chosen_on_the_serial_console(image, tool):
    """The second line of the menu, by a key: it hands its module to the other kernel."""
    manifest = image.parent / "slow.toml"
    manifest.write_text((image.parent / "image.toml").read_text().replace("timeout = 1", "timeout = 60"))
    slow = build(image.parent / "slow.img", manifest, "--format", "raw")
    drive = f"if=none,id=boot,format=raw,snapshot=on,file={slow}"
    command = [tool("qemu-system-x86_64"), "-accel", "tcg", "-m", "256", "-display", "none", "-nic", "none"]
    command += ["-serial", "stdio", "-no-reboot", "-drive", drive, "-device", "ide-hd,drive=boot,bootindex=0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as machine:
        assert machine.stdin is not None
        assert machine.stdout is not None
        watchdog = threading.Timer(float(TIMEOUT), machine.kill)
        watchdog.start()
        console = b""
        while (
            b"mb1: end" not in console
            and b"mb2: end" not in console
            and (piece := os.read(machine.stdout.fileno(), 1 << 16))
        ):
            if b"GNU GRUB" in console + piece and b"GNU GRUB" not in console:
                machine.stdin.write(b"\x1b[B\r")  # down, enter
                machine.stdin.flush()
            console += piece
        machine.kill()
        watchdog.cancel()
    text = console.decode("utf-8", "replace").replace("\r", "")
    assert "mb1: eax=0x2badb002\n" in text
    crc = zlib.crc32(b"the module's bytes")
    assert f"mb1: mods[0].crc32={crc:#010x}\n" in text


@pytest.fixture(scope="module")
def real_image(xen_gz, vmlinuz_cloud, samples, tmp_path_factory):
    """``real_image(what)``: a disk that starts Xen or Linux."""

    def make(what: str) -> Path:
        folder: Path = tmp_path_factory.mktemp(what)
        xen = f'xen = "{xen_gz}"\nxen-cmdline = "console=com1 com1=115200 dom0_mem=512M"\n'
        (folder / "image.toml").write_text(
            f'[boot]\nkernel = "{vmlinuz_cloud}"\ninitrd = "{samples}/initrd/initrd.img"\ntimeout = 1\n'
            'cmdline = "console=ttyS0"\n' + (xen if what == "xen" else "")
        )
        return build(folder / "disk.img", folder / "image.toml")

    return make


@pytest.mark.boot
@pytest.mark.real
@pytest.mark.parametrize("what", ["xen", "linux"])
def test_grub_starts_real_kernels_on_both_firmwares(real_image, what, tool, tmp_path):
    tool("qemu-system-x86_64")
    image = real_image(what)
    kernel = next(
        name
        for name in subprocess.check_output(["mdir", "-b", "-i", f"{image}@@{MIB}", "::/boot"], text=True).split()
        if ("vmlinuz" in name) == (what == "linux") and "initrd" not in name and "grub" not in name
    )
    kind = {"xen": "--is-x86-multiboot2", "linux": "--is-x86-linux"}[what]
    extracted = on_esp(image, kernel.removeprefix("::/"), tmp_path / "kernel")
    subprocess.run([tool("grub-file"), kind, extracted], check=True)
    expected = {"xen": r"\(XEN\)  ENTRY ADDRESS: ", "linux": "Run /init as init process"}[what]
    done = mbtool(
        *("prove", "--accel", "tcg", "--firmware", "both", "--timeout", TIMEOUT, "--expect", expected, image)
    )
    assert done.returncode == 0, done.stdout + done.stderr
