"""The matrix on QEMU's own loaders (-kernel): the sample kernels with one field changed, run to their end.

The verdict is that of check with --loader, over the three ways in which QEMU starts a kernel, and what it says that
the machine prints is to be printed. A set boots when the kernel has reported all and switched the machine off.
Instructions that make no sense and machines without enough memory are left out, as is a file without the Linux
signature: QEMU starts it like a kernel of 1993.
"""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mbtool.check.boot_set import open_set
from mbtool.check.loaders import choose, loaders
from mbtool.check.report import check_set
from mbtool.formats.cpio import Member, build_cpio
from tests.check.elf_edit import ehdr, note, note_descsz, note_owner, phdr, put, without_note
from tests.check.matrix import Result
from tests.check.test_grub_verdicts import AT1, MB1, changed, header1
from tests.conftest import ROOT
from tests.formats.linux_images import ENDS
from tests.formats.linux_images import kernel as bzimage
from tests.oracle.made_kernel import PHYS32_ENTRY, XEN_VERSION
from tests.qemu import ALWAYS, QEMU

pytestmark = pytest.mark.boot

PVH = (ROOT / "samples" / "pvh" / "pvh.elf").read_bytes()
PAST = 0x100000
ELF_KERNEL = "Error while loading elf kernel"
NO_NOTE = "Error loading uncompressed kernel without PVH ELF Note"
NO_KERNEL = "qemu: invalid kernel header"


def linux(protocol: int = 0x20F, **values: Any) -> bytes:
    """A bzImage whose setup code writes "linux: end" to COM1 and resets the machine (16-bit entry)."""
    writes = b"".join(b"\xb0" + bytes([byte]) + b"\xee" for byte in b"linux: end\n")  # mov al, byte; out dx, al
    code = b"\xba\xf8\x03" + writes + b"\xb0\xfe\xe6\x64\xf4\xeb\xfd"  # mov dx, 0x3f8; …; reset; hlt for ever
    return put(bzimage(protocol, payload=gzip.compress(bytes(4096), mtime=0), **values), ENDS[protocol], code)


@dataclass(frozen=True)
class Row:
    """A kernel, what QEMU complains of ("" when it boots), an initrd."""

    kernel: bytes
    says: str = ""
    initrd: bytes = b""


LOADERS = tuple(row for mode in ("linux", "multiboot", "pvh") for row in choose(loaders(), f"qemu:{mode}"))
INITRD = build_cpio([Member("filler", bytes(20 << 20))])
LINUX = linux()

ROWS: dict[str, Row] = {
    "mb1": Row(MB1),
    "mb1-ei_mag": Row(ehdr(MB1, "ei_mag", 0x46404C7F), ELF_KERNEL),
    "mb1-ei_class": Row(ehdr(MB1, "ei_class", 2), ELF_KERNEL),
    "mb1-ei_data": Row(ehdr(MB1, "ei_data", 2), ELF_KERNEL),
    "mb1-e_type": Row(ehdr(MB1, "e_type", 1)),
    "mb1-e_machine-x86-64": Row(ehdr(MB1, "e_machine", 62), "Cannot load x86-64 image, give a 32bit one."),
    "mb1-e_machine-arm": Row(ehdr(MB1, "e_machine", 183), ELF_KERNEL),
    "mb1-e_phoff": Row(ehdr(MB1, "e_phoff", PAST), ELF_KERNEL),
    "mb1-e_phentsize": Row(ehdr(MB1, "e_phentsize", 0)),
    "mb1-e_phnum": Row(ehdr(MB1, "e_phnum", 0), ELF_KERNEL),
    "mb1-e_shoff": Row(ehdr(MB1, "e_shoff", PAST)),
    "mb1-p_type": Row(phdr(MB1, 0, "p_type", 0), "Error while fetching elf kernel from rom"),
    "mb1-p_offset": Row(phdr(MB1, 0, "p_offset", PAST), ELF_KERNEL),
    "mb1-p_vaddr": Row(phdr(MB1, 0, "p_vaddr", 0)),  # the entry point is physical then
    "mb1-p_filesz": Row(phdr(MB1, 0, "p_filesz", 0x10000), ELF_KERNEL),
    "mb1-magic": Row(changed(MB1, AT1, b"\0"), NO_NOTE),
    "mb1-checksum": Row(changed(MB1, AT1 + 8, b"\0"), NO_NOTE),
    "mb1-flags": Row(changed(MB1, AT1, header1(0x13))),  # GRUB refuses them
    "mb1-misaligned": Row(MB1[:AT1] + bytes(2) + MB1[AT1:], NO_NOTE),
    "mb1-past-limit": Row(MB1[:AT1] + bytes(8192) + MB1[AT1:], NO_NOTE),
    "mb1-at-the-limit": Row(MB1[:AT1] + bytes(8192 - 48 - AT1) + MB1[AT1:], NO_NOTE),  # GRUB looks further
    "mb1-video": Row(changed(MB1, AT1, header1(7))),
    "mb1-e_flags": Row(ehdr(MB1, "e_flags", 4)),
    "mb1-gzip": Row(gzip.compress(MB1), NO_KERNEL),
    "mb1-cut": Row(MB1[:0x300], ELF_KERNEL),
    "pvh": Row(PVH),
    "pvh-ei_class": Row(ehdr(PVH, "ei_class", 2), "elfboot unsupported flags"),
    "pvh-e_entry": Row(ehdr(PVH, "e_entry", 0)),  # the note decides
    "pvh-e_machine": Row(ehdr(PVH, "e_machine", 183), ELF_KERNEL),
    "pvh-e_flags": Row(ehdr(PVH, "e_flags", 0x10000), "elfboot unsupported flags = 10000"),
    "pvh-e_flags-other": Row(ehdr(PVH, "e_flags", 2)),
    "pvh-e_phoff": Row(ehdr(PVH, "e_phoff", PAST), ELF_KERNEL),
    "pvh-e_phentsize": Row(ehdr(PVH, "e_phentsize", 0)),
    "pvh-e_phnum": Row(ehdr(PVH, "e_phnum", 0), ELF_KERNEL),
    "pvh-p_offset": Row(phdr(PVH, 0, "p_offset", PAST), ELF_KERNEL),
    "pvh-p_vaddr": Row(phdr(PVH, 0, "p_vaddr", 0)),
    "pvh-p_filesz": Row(phdr(PVH, 0, "p_filesz", 0x10000), ELF_KERNEL),
    "pvh-note-segment": Row(phdr(PVH, 1, "p_type", 0), NO_NOTE),  # Xen finds the section
    "pvh-owner": Row(note_owner(PVH, b"Xem\0")),  # Xen refuses it
    "pvh-no-entry": Row(without_note(PVH, PHYS32_ENTRY), NO_NOTE),
    "pvh-entry-0": Row(note(PVH, PHYS32_ENTRY, 0), NO_NOTE),
    "pvh-descsz": Row(note_descsz(PVH, XEN_VERSION, 0x7FFFFFFF), NO_NOTE),
    "pvh-version": Row(note(PVH, XEN_VERSION, b"xen-2.0")),
    "linux": Row(LINUX),
    "linux-2.03": Row(linux(0x203)),
    "linux-2.08": Row(linux(0x208)),
    "linux-boot-flag": Row(linux(boot_flag=0)),
    "linux-setup-sects-0": Row(linux(setup_sects=0)),
    "linux-setup-sects-64": Row(linux(setup_sects=64), NO_KERNEL),
    "linux-cut": Row(LINUX[:0x800], NO_KERNEL),
    "linux-gzip": Row(gzip.compress(LINUX), NO_KERNEL),
    "linux-1.255": Row(linux(version=0x1FF)),  # loaded low, it runs
    "linux-initrd": Row(LINUX, initrd=INITRD),
    "linux-initrd-big": Row(linux(initrd_addr_max=0x1000000, xloadflags=1), "qemu: initrd is too large", INITRD),
    "linux-too-old": Row(linux(version=0x1FF), "linux kernel too old to load a ram disk", INITRD),
}


def judge(row: Row, folder: Path) -> Result:
    """Check the set, then boot it."""
    kernel, initrd = folder / "kernel", folder / "initrd" if row.initrd else None
    kernel.write_bytes(row.kernel)
    if initrd:
        initrd.write_bytes(row.initrd)
    with open_set(kernel=kernel, initrd=initrd, loaders=LOADERS) as boot:
        errors = [problem for problem in check_set(boot) if problem.severity == "error"]
    command = [QEMU, *ALWAYS, "-m", "96", "-kernel", str(kernel), *(["-initrd", str(initrd)] if initrd else [])]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120)
    predicted = next((problem.console for problem in errors if problem.console), "")
    rules = frozenset(problem.id for problem in errors)
    return Result(not errors, rules, predicted, ": end" in done.stdout, done.stdout + done.stderr)


def results(folder: Path) -> Iterator[tuple[str, Result]]:
    """All of them in turn."""
    for name, row in ROWS.items():
        yield f"qemu {name}", judge(row, folder)


@pytest.mark.parametrize("name", ROWS)
def test_verdict_and_boot_agree(tmp_path: Path, tool: Callable[[str], str], name: str) -> None:
    assert tool(QEMU)
    result = judge(ROWS[name], tmp_path)
    assert result.booted == (not ROWS[name].says), result.console[-2000:]
    assert result.sound == result.booted
    assert bool(result.predicted) == bool(ROWS[name].says)
    assert result.predicted in result.console
    assert ROWS[name].says in result.console
