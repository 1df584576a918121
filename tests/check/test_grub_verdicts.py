"""can-boot beside GRUB itself, which in one boot tries kernel after kernel, good and broken, and says why not.

Nothing is started: a command loads its kernel or complains.
"""

from __future__ import annotations

import gzip
import lzma
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.check.boot_set import BootSet, Firmware
from mbtool.check.capabilities import why_not
from mbtool.check.image import Image
from mbtool.check.loaders import choose, loaders
from mbtool.check.report import check_asked, check_image, check_set
from mbtool.errors import UnknownFormatError
from mbtool.source import BytesSource
from tests import grub
from tests.check.elf_edit import ehdr, phdr
from tests.check.sets import XEN, initrd, vmlinux, vmlinuz
from tests.conftest import ROOT
from tests.formats.linux_images import kernel as bzimage
from tests.formats.test_initrd import zstd
from tests.qemu import run

MODULES = ("normal", "serial", "echo", "test", "multiboot", "multiboot2", "linux", "gzio", "xzio", "lzopio")
SAMPLES = ROOT / "samples"
MB1 = (SAMPLES / "multiboot1" / "multiboot1.elf").read_bytes()
MB2 = (SAMPLES / "multiboot2" / "multiboot2.elf").read_bytes()
MAGIC1, MAGIC2 = bytes.fromhex("02b0ad1b"), bytes.fromhex("d65052e8")


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def header1(flags: int, rest: bytes = b"") -> bytes:
    """A Multiboot 1 header with a right checksum."""
    return struct.pack("<III", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF) + rest


def header2(*tags: bytes) -> bytes:
    """A Multiboot 2 header with a right checksum."""
    body = b"".join(tag + bytes(-len(tag) % 8) for tag in (*tags, struct.pack("<HHI", 0, 0, 8)))
    size = 16 + len(body)
    return struct.pack("<IIII", 0xE85250D6, 0, size, -(0xE85250D6 + size) & 0xFFFFFFFF) + body


def tag(type: int, body: bytes = b"", flags: int = 0) -> bytes:  # noqa: A002
    return struct.pack("<HHI", type, flags, 8 + len(body)) + body


def flat1(header_addr: int = 0x100000, load_addr: int = 0x100000, end: int = 0, bss: int = 0) -> bytes:
    """A flat image that begins with its header."""
    return header1(1 << 16, struct.pack("<IIIII", header_addr, load_addr, end, bss, load_addr + 32)) + bytes(100)


ADDRESS = tag(2, struct.pack("<IIII", 0x100000, 0x100000, 0, 0))
ENTRY = tag(3, struct.pack("<I", 0x100000))


def flat2(*tags: bytes) -> bytes:
    return header2(ADDRESS, ENTRY, *tags) + bytes(100)


def phdrs_at_end(data: bytes) -> bytes:
    """The program headers moved past what GRUB searches."""
    phoff, count = int.from_bytes(data[28:32], "little"), int.from_bytes(data[44:46], "little")
    table = data[phoff : phoff + 32 * count]
    data = data.ljust(0x9000, b"\0")
    return changed(data + table, 28, len(data).to_bytes(4, "little"))


CUT = "premature end of file|attempt to seek outside of the file"
"""One or the other, and nothing in the file says which."""
PAST = 0x100000
AT1, AT2 = MB1.index(MAGIC1), MB2.index(MAGIC2)
MODULE = ehdr(ehdr(vmlinux(), "e_type", 1), "e_phnum", 0).ljust(0x264, b"\0")
XEN_ELF = gzip.decompress((XEN / "xen-4.18.0.gz").read_bytes())

SH_SIZE, NO_TABLE = (
    "invalid number of section header table entries in sh_size: 0",
    "section header table offset in e_shoff",
)
REGION, TOO_HIGH = "ELF section header region is larger than the file size", "program header at a too high offset"

CASES: dict[str, tuple[str, bytes, str] | tuple[str, bytes, str, str]] = {
    # name: GRUB's command, the file, what GRUB says ("" when it loads it), and what it says from 2.12 on
    "mb1": ("multiboot", MB1, ""),
    "mb1-gzip": ("multiboot", gzip.compress(MB1), ""),
    "mb1-xz": ("multiboot", lzma.compress(MB1, check=lzma.CHECK_CRC32), ""),
    "mb1-zstd": ("multiboot", zstd(MB1), "no multiboot header found"),
    "mb1-by-mb2": ("multiboot2", MB1, "no multiboot header found"),
    "mb1-checksum": ("multiboot", changed(MB1, AT1 + 8, b"\0"), "no multiboot header found"),
    "mb1-magic": ("multiboot", changed(MB1, AT1, b"\0"), "no multiboot header found"),
    "mb1-flags": ("multiboot", changed(MB1, AT1, header1(0x13)), "unsupported flag"),
    "mb1-phdrs": ("multiboot", phdrs_at_end(MB1), "program header at a too high offset"),
    "mb1-entry": (
        "multiboot",
        changed(MB1, 24, (0x90000000).to_bytes(4, "little")),
        "entry point isn't in a segment",
    ),
    "mb1-class": ("multiboot", changed(MB1, 4, b"\x03"), "invalid arch-dependent ELF magic"),
    "mb1-type": ("multiboot", changed(MB1, 16, b"\x01"), "this ELF file is not of the right type"),
    "mb1-flat": ("multiboot", flat1(), ""),
    "mb1-low": ("multiboot", flat1(0x20000, 0x20000), ""),
    "mb2-low": ("multiboot2", header2(tag(2, struct.pack("<IIII", 0x20000, 0x20000, 0, 0)), ENTRY) + bytes(99), ""),
    "mb1-flat-plain": ("multiboot", header1(3) + bytes(100), "invalid arch-dependent ELF magic"),
    "mb1-misaligned": ("multiboot", b"\0\0" + flat1(0x100002), "no multiboot header found"),
    "mb1-past-limit": ("multiboot", bytes(8192) + flat1(0x102000), "no multiboot header found"),
    "mb1-just-in": ("multiboot", bytes(8192 - 32) + flat1(0x101FE0), ""),
    "mb2": ("multiboot2", MB2, ""),
    "mb2-by-mb1": ("multiboot", MB2, "no multiboot header found"),
    "mb2-checksum": ("multiboot2", changed(MB2, AT2 + 12, b"\x99"), "no multiboot header found"),
    "mb2-flat": ("multiboot2", flat2(), ""),
    "mb2-no-entry": ("multiboot2", header2(ADDRESS) + bytes(100), "load address tag without entry address tag"),
    "mb2-unknown": ("multiboot2", flat2(tag(0x77)), "unsupported tag: 0x77"),
    "mb2-unknown-optional": ("multiboot2", flat2(tag(0x77, flags=1)), ""),
    "mb2-request": ("multiboot2", flat2(tag(1, struct.pack("<I", 99))), "unsupported information tag: 0x63"),
    "mb2-request-optional": ("multiboot2", flat2(tag(1, struct.pack("<I", 99), flags=1)), ""),
    "mb2-misaligned": ("multiboot2", bytes(4) + flat2(), "no multiboot header found"),
    "mb2-past-limit": ("multiboot2", bytes(32768) + flat2(), "no multiboot header found"),
    "xen": ("multiboot2", XEN_ELF, ""),
    "xen-gz": ("multiboot2", gzip.compress(XEN_ELF), ""),
    "mb1-e-version": ("multiboot", ehdr(MB1, "e_version", 0), "invalid arch-dependent ELF magic"),
    "mb1-e-machine": ("multiboot", ehdr(MB1, "e_machine", 62), "invalid arch-dependent ELF magic"),
    "mb1-elf64": ("multiboot", ehdr(MB1, "ei_class", 2), "invalid arch-dependent ELF magic"),
    "mb1-ei-data": ("multiboot", ehdr(MB1, "ei_data", 2), "invalid arch-independent ELF magic"),
    "mb1-dyn": ("multiboot", ehdr(MB1, "e_type", 3), ""),
    "mb1-e-phnum": ("multiboot", ehdr(MB1, "e_phnum", 0), "entry point isn't in a segment"),
    "mb1-e-shoff": ("multiboot", ehdr(MB1, "e_shoff", PAST), "attempt to seek outside of the file", REGION),
    "mb1-e-shnum": ("multiboot", ehdr(MB1, "e_shnum", 0), "", SH_SIZE),
    "mb1-no-sections": ("multiboot", ehdr(ehdr(MB1, "e_shnum", 0), "e_shoff", 0), "", NO_TABLE),
    "mb2-no-sections": ("multiboot2", ehdr(ehdr(MB2, "e_shnum", 0), "e_shoff", 0), "", NO_TABLE),
    "mb1-sections": ("multiboot", ehdr(MB1, "e_shnum", 0xFF00), "premature end of file", "in e_shnum: 65280"),
    "mb1-shstrndx": ("multiboot", ehdr(MB1, "e_shstrndx", 0xFF01), "", "table index in e_shstrndx: 65281"),
    "mb1-shstrndx-0": ("multiboot", ehdr(MB1, "e_shstrndx", 0), ""),
    "mb1-sh-link": ("multiboot", ehdr(MB1, "e_shstrndx", 0xFFFF), "", "table index in sh_link: 0"),
    "mb1-sh-info": ("multiboot", ehdr(MB1, "e_phnum", 0xFFFF), TOO_HIGH, "table entries in sh_info: 0"),
    "mb1-e-phoff": ("multiboot", ehdr(MB1, "e_phoff", len(MB1) + 64), "entry point isn't in a segment", TOO_HIGH),
    "mb1-p-offset": ("multiboot", phdr(MB1, 0, "p_offset", PAST), "attempt to seek outside of the file"),
    "mb1-p-filesz": ("multiboot", phdr(MB1, 0, "p_filesz", 0x10000), "premature end of file"),
    "mb1-p-vaddr": ("multiboot", phdr(MB1, 0, "p_vaddr", 0), "entry point isn't in a segment"),
    "mb1-p-paddr": ("multiboot", phdr(MB1, 0, "p_paddr", 0x200000), ""),
    "mb1-cut": ("multiboot", MB1[:-100], "premature end of file", REGION),
    "mb1-video": ("multiboot", changed(MB1, AT1, header1(7)), "unsupported graphical mode type"),
    "mb1-no-flags": ("multiboot", changed(MB1, AT1, header1(0)), ""),
    "mb2-e-machine": ("multiboot2", ehdr(MB2, "e_machine", 62), "invalid arch-dependent ELF magic"),
    "mb2-e-shoff": ("multiboot2", ehdr(MB2, "e_shoff", PAST), "attempt to seek outside of the file", REGION),
    "mb2-e-entry": ("multiboot2", ehdr(MB2, "e_entry", 0), "entry point isn't in a segment"),
    "mb2-length": ("multiboot2", changed(MB2, AT2 + 8, b"\0"), "no multiboot header found"),
    "mb2-efi32": ("multiboot2", flat2(tag(8, struct.pack("<I", 0x100000))), "unsupported tag: 0x8"),
    "mb2-efi64": ("multiboot2", flat2(tag(9, struct.pack("<I", 0x100000))), ""),
    "mb2-relocatable": (
        "multiboot2",
        flat2(tag(10, struct.pack("<IIII", 0x100000, 0x100010, 0x1000, 0))),
        "invalid min/max address and/or load size",
    ),
    "mb2-console": (
        "multiboot2",
        flat2(tag(4, struct.pack("<I", 1))),
        "OS requires a console but none is available",
    ),
    "linux": ("linux", vmlinuz(), ""),
    "linux-2-02": ("linux", bzimage(0x202, payload=bytes(4096)), "version too old for 32-bit boot"),
    "linux-2-03": ("linux", bzimage(0x203, payload=bytes(4096)), ""),
    "linux-setup-sects": ("linux", vmlinuz(setup_sects=64), CUT),
    "linux-jump": ("linux", vmlinuz(jump=0), ""),
    "linux-mb1": ("linux", MB1, "invalid magic number"),
    "linux-old": ("linux", bzimage(0x201, payload=bytes(4096)), "version too old for 32-bit boot"),
    "linux-low": ("linux", bzimage(payload=bytes(4096), loadflags=0), "zImage doesn't support 32-bit boot"),
    "linux-flag": ("linux", bzimage(payload=bytes(4096), boot_flag=0), "invalid magic number"),
    "linux-cut": ("linux", vmlinuz()[:1000], CUT),
    "linux-initrd": ("linux", initrd(), "invalid magic number"),
    "linux-ppc64": ("linux", ehdr(ehdr(MB1, "e_machine", 21), "ei_class", 2), "invalid magic number"),
    "linux-short": ("linux", MODULE, "premature end of file"),
    "linux-long-enough": ("linux", MODULE + bytes(4), "invalid magic number"),
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str]) -> dict[str, str]:
    """What GRUB said about each case, on the serial port."""
    work = tmp_path_factory.mktemp("grub")
    script = ["serial --unit=0", "terminal_output serial"]
    for name, (command, data, *_) in CASES.items():
        (work / name).write_bytes(data)
        attempt = f"if {command} (hd1)/{name}; then echo '[loaded]'; else echo '[refused]'; fi"
        script += [f"echo '<{name}>'", attempt]
    (work / "script").write_text("\n".join((*script, "echo '<end>'\n")))
    image = grub.disk(work, tool, "normal (memdisk)/script", [work / "script"], MODULES)
    files = grub.archive(work / "files.tar", [work / name for name in CASES])
    drives = [f"file={path},format=raw,if=ide" for path in (image, files)]
    machine = ["-machine", "pc", "-m", "512", "-drive", drives[0], "-drive", drives[1]]
    console = run(machine, until="<end>").console
    return dict(re.findall(r"<([a-z0-9-]+)>(.*?)(?=<)", console, re.DOTALL))


@pytest.mark.boot
@pytest.mark.parametrize("name", CASES)
def test_grub_says_the_same(said: dict[str, str], tool: Callable[[str], str], name: str) -> None:
    version = grub.version(tool)
    command, data, *messages = CASES[name]
    message = messages[0 if version < "2.12" else -1]
    assert ("[loaded]" in said[name]) == (not message), said[name]
    assert any(text in said[name] for text in message.split("|")), said[name]
    image = Image(name, BytesSource(data, name))
    (row,) = choose(loaders(), f"grub-{version}:{command}:bios")
    try:
        reason = why_not(image, row)
    except UnknownFormatError:
        reason = "no image of any kind"
    assert bool(reason) == bool(message), reason
    found = check_set(BootSet(kernel=image, loaders=(row,)))
    assert any(problem.severity == "error" for problem in found) == bool(message), found
    predicted = next((problem.console for problem in found if problem.id == "LOADER-REFUSES"), "")
    assert bool(predicted) == (message not in ("", CUT))
    assert predicted in said[name]
    for nothing in (each for each in check_set(BootSet(kernel=image)) if each.id == "KERNEL-IMAGE"):
        assert message
        assert command != "linux" or nothing.console in said[name]


@pytest.mark.parametrize("name", ["linux-initrd", "linux-ppc64", "linux-short", "linux-long-enough"])
@pytest.mark.parametrize("firmware", [None, *Firmware])
def test_no_kernel_at_all(name: str, firmware: Firmware | None) -> None:
    """What GRUB, above, and everybody else refuses, given as a kernel without a word about who loads it."""
    image = Image(name, BytesSource(CASES[name][1], name))
    (told,) = [each for each in check_set(BootSet(kernel=image, firmware=firmware)) if each.id == "KERNEL-IMAGE"]
    assert (told.severity, told.console) == ("error", CASES[name][2])
    assert "KERNEL-IMAGE" not in {each.id for each in check_asked(image, {"firmware": firmware})}


def test_a_header_that_ends_behind_the_limit() -> None:
    """GRUB finds its magic fields, takes what follows its buffer for the rest, and hangs."""
    data = bytes(8192 - 12) + flat1(0x101FF4)
    (row,) = choose(loaders(), "grub:multiboot:bios")
    assert "8192" in why_not(Image("late", BytesSource(data)), row)


@pytest.mark.parametrize(("end", "told"), [(0xE0000000, False), (0xF0000000, True)])
def test_a_kernel_larger_than_any_memory(end: int, told: bool) -> None:
    """GRUB 2.06 takes bss_end_addr 0xf0000000 on a machine of 512 MiB, and hangs."""
    data = flat1(bss=end)
    (row,) = choose(loaders(), "grub:multiboot:bios")
    assert ("devices" in why_not(Image("huge", BytesSource(data)), row)) == told
    found = {problem.id for problem in check_image(Image("huge", BytesSource(data, "huge")))}
    assert ("MULTIBOOT-PAST-MEMORY" in found) == told


@pytest.mark.parametrize("name", [name for name, row in CASES.items() if not row[2]])
def test_what_grub_loads_is_no_error(name: str) -> None:
    found = check_image(Image(name, BytesSource(CASES[name][1], name)))
    assert [problem.id for problem in found if problem.severity == "error"] == []


@pytest.mark.parametrize(("name", "told"), [("mb1", False), ("mb1-no-sections", True), ("mb2-no-sections", True)])
def test_newer_grub_wants_sections(name: str, told: bool) -> None:
    """The cases above, which GRUB 2.06 loads and 2.14 does not."""
    found = check_image(Image(name, BytesSource(CASES[name][1], name)))
    assert [problem.id for problem in found] == ["MULTIBOOT-NO-SECTIONS"] * told


@pytest.mark.boot
def test_zstd_is_not_counted(tmp_path: Path, tool: Callable[[str], str]) -> None:
    """Older GRUBs unpack none; 2.14's zstdio.c allocates its buffer too short: it aborts, or finds no more."""
    filters = ("zstdio",) if (grub.FOLDER / "zstdio.mod").is_file() else ()
    (tmp_path / "xen").write_bytes(zstd(XEN_ELF))
    (tmp_path / "mb1").write_bytes(MB1)
    tries = ("if multiboot2 (hd1)/xen; then echo '[xen]'; fi", "if multiboot (hd1)/mb1; then echo '[mb1]'; fi")
    script = ["serial --unit=0", "terminal_output serial", *tries, "echo '<end>'\n"]
    (tmp_path / "script").write_text("\n".join(script))
    modules = (*MODULES, *filters)
    image = grub.disk(tmp_path, tool, "normal (memdisk)/script", [tmp_path / "script"], modules)
    files = grub.archive(tmp_path / "files.tar", [tmp_path / "xen", tmp_path / "mb1"])
    drives = [f"file={path},format=raw,if=ide" for path in (image, files)]
    machine = ["-machine", "pc", "-m", "512", "-drive", drives[0], "-drive", drives[1]]
    console = run(machine, until="<end>|Aborted").console
    assert "[xen]" not in console
    assert "[mb1]" in console or (filters and ("magic is broken" in console or "file `/mb1' not found" in console))
