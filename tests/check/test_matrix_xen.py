"""The matrix on Debian's Xen: the sample kernels with one field changed, and dom0 really run to its end.

A set boots when dom0 has shut down by itself, its report done. Whether the instructions in a file make sense is
nothing that mbtool judges, nor how much memory the host has; no set here is about either. test_boots.py has more
sets, whose kernels have no code.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mbtool.check.boot_set import open_set
from mbtool.check.report import check_set
from mbtool.formats.cpio import Member, build_cpio
from mbtool.model import Severity
from mbtool.plan.xen_options import Mode
from tests.check.elf_edit import ehdr, note, note_descsz, note_owner, phdr, put, without_note
from tests.check.matrix import Result
from tests.conftest import ROOT
from tests.debian import unpacked
from tests.formats.linux_images import kernel as bzimage
from tests.formats.test_initrd import zstd
from tests.oracle.made_kernel import (
    ENTRY,
    FEATURES,
    GUEST_OS,
    HYPERCALL_PAGE,
    INIT_P2M,
    MOD_START_PFN,
    PADDR_OFFSET,
    PHYS32_ENTRY,
    PHYS32_RELOC,
    SUPPORTED_FEATURES,
    VIRT_BASE,
    XEN_VERSION,
)
from tests.qemu import run

pytestmark = [pytest.mark.boot, pytest.mark.real]

SHUT_DOWN = "Hardware Dom0 halted"
OVER = r"Hardware Dom0 (halted|crashed|shutdown)|Manual reset required"
PV = (ROOT / "samples" / "pv-dom0" / "pv-dom0.elf").read_bytes()
PVH = (ROOT / "samples" / "pvh" / "pvh.elf").read_bytes()
MIB = 1 << 20
LOADER, PAST, TOP_2G = 8, 0x100000, 0xFFFF_FFFF_8000_0000
EM_386, EM_X86_64, EM_AARCH64 = 3, 62, 183


@dataclass(frozen=True)
class Row:
    """A set: dom0's kernel, the rule that is broken ("" when nothing is wrong), what Xen is told, an initrd."""

    kernel: bytes
    rule: str = ""
    words: dict[str, Any] = field(default_factory=dict)
    mode: Mode = Mode.PV
    initrd: bytes = b""


def pvh(kernel: bytes, rule: str = "", **more: Any) -> Row:
    return Row(kernel, rule, mode=Mode.PVH, **more)


def memory(amount: str) -> dict[str, str]:
    return {"dom0_mem": amount}


def sized(stream: bytes, size: int = len(PV)) -> bytes:
    """A stream with the size of what it holds behind it, as Linux' build appends it."""
    return stream + size.to_bytes(4, "little")


def in_two(pack: Callable[[bytes], bytes]) -> bytes:
    """The kernel packed as two streams, one behind the other, which most programs unpack as one."""
    return pack(PV[:1000]) + pack(PV[1000:])


def crc32_xz(data: bytes) -> bytes:
    return lzma.compress(data, check=lzma.CHECK_CRC32)


def damaged(stream: bytes) -> bytes:
    """One byte in the middle changed."""
    at = len(stream) // 2
    return stream[:at] + bytes([stream[at] ^ 0x55]) + stream[at + 1 :]


def xz(check: int = lzma.CHECK_CRC32, *filters: dict[str, int]) -> bytes:
    chain = [*filters, {"id": lzma.FILTER_LZMA2}]
    return lzma.compress(PV, check=check, filters=chain)


XZ = sized(xz())
GZIP = gzip.compress(PV, mtime=0)
INITRD = build_cpio([Member("filler", bytes(20 << 20))])

ROWS: dict[str, Row] = {
    "pv": Row(PV),
    # The ELF header
    "pv-ei_mag": Row(ehdr(PV, "ei_mag", 0x46404C7F), "XEN-CODEC"),
    "pv-ei_class": Row(ehdr(PV, "ei_class", 1), "DOM0-REFUSED"),
    "pv-e_type": Row(ehdr(PV, "e_type", 1)),  # a relocatable file: Xen does not look
    "pv-e_machine": Row(ehdr(PV, "e_machine", EM_386), "XEN-KERNEL-CLASS"),
    "pv-e_entry": Row(ehdr(PV, "e_entry", 0)),  # the ENTRY note decides
    "pv-e_phoff": Row(ehdr(PV, "e_phoff", PAST), "DOM0-REFUSED"),
    "pv-e_phentsize": Row(ehdr(PV, "e_phentsize", 0)),
    "pv-e_phnum": Row(ehdr(PV, "e_phnum", 0), "XEN-NOTE-ADDRESSES"),
    "pv-e_shoff": Row(ehdr(PV, "e_shoff", PAST), "DOM0-REFUSED"),
    "pv-e_shentsize": Row(ehdr(PV, "e_shentsize", 0)),
    "pv-cut": Row(PV[:-100], "DOM0-REFUSED"),
    # The segments
    "pv-p_type": Row(phdr(PV, 0, "p_type", 0), "XEN-NOTE-ADDRESSES"),
    "pv-p_offset": Row(phdr(PV, 0, "p_offset", PAST), "ELF-SEGMENT-CUT"),
    "pv-p_vaddr": Row(phdr(PV, 0, "p_vaddr", 0)),  # physical addresses and VIRT_BASE decide
    "pv-p_paddr": Row(phdr(PV, 0, "p_paddr", 0x200000), "XEN-NOTE-ADDRESSES"),
    "pv-p_paddr-shifted": Row(phdr(PV, 0, "p_paddr", 0x100010), "ELF-SEGMENT-SHIFTED"),
    "pv-p_offset-shifted": Row(phdr(PV, 0, "p_offset", 1), "ELF-SEGMENT-SHIFTED"),
    "pv-p_vaddr-shifted": Row(phdr(PV, 0, "p_vaddr", TOP_2G + 0x100010)),
    "pv-p_filesz": Row(phdr(PV, 0, "p_filesz", 0x10000), "ELF-SEGMENT-SIZE"),
    "pv-p_memsz": Row(phdr(PV, 0, "p_memsz", 0x7F000000), "DOM0-MEM"),
    "pv-no-code": Row(phdr(PV, 0, "p_filesz", 0), "XEN-ENTRY-ZEROS"),
    "pv-little-code": Row(phdr(PV, 0, "p_filesz", 64), "XEN-ENTRY-ZEROS"),
    "pv-p_flags": Row(phdr(PV, 0, "p_flags", 0), "XEN-NOTE-ADDRESSES"),  # no segment to run code from
    "pv-note-segment": Row(phdr(PV, 1, "p_type", 0)),  # the section is found
    "pv-note-offset": Row(phdr(PV, 1, "p_offset", PAST)),
    # The notes
    "pv-owner": Row(note_owner(PV, b"Xem\0"), "XEN-NOTE-LOADER"),
    "pv-version": Row(note(PV, XEN_VERSION, b"xen-2.0"), "XEN-NOTE-VERSION"),
    "pv-loader": Row(note(PV, LOADER, b"special"), "XEN-NOTE-LOADER"),
    "pv-os": Row(note(PV, GUEST_OS, b"linux")),
    "pv-descsz": Row(note_descsz(PV, XEN_VERSION, 0x7FFFFFFF), "XEN-NOTE-LOADER"),
    "pv-entry": Row(note(PV, ENTRY, TOP_2G + 0x200000), "XEN-NOTE-ADDRESSES"),
    "pv-hypercall-page": Row(note(PV, HYPERCALL_PAGE, 0x1000), "XEN-NOTE-HYPERCALL"),
    "pv-hypercall-over-entry": Row(note(PV, HYPERCALL_PAGE, TOP_2G + 0x100000), "XEN-ENTRY-HYPERCALL"),
    "pv-virt-base": Row(note(PV, VIRT_BASE, TOP_2G + 1), "XEN-NOTE-ADDRESSES"),
    "pv-paddr-offset": Row(note(PV, PADDR_OFFSET, 0x100000), "XEN-NOTE-ADDRESSES"),
    "pv-p2m-over-kernel": Row(note(PV, INIT_P2M, TOP_2G), "DOM0-LAYOUT"),
    "pv-p2m-past-the-top": Row(note(PV, INIT_P2M, 0xFFFF_FFFF_FFFF_F000), "DOM0-LAYOUT"),
    "pv-p2m-in-xen": Row(note(PV, INIT_P2M, 0xFFFF_8300_0000_0000), "DOM0-LAYOUT"),
    "pv-feature-unknown": Row(note(PV, FEATURES, b"!wriable_page_tables"), "XEN-FEATURE-UNKNOWN"),
    "pv-feature-required": Row(note(PV, FEATURES, b"!writable_page_tables")),
    "pv-supervisor": Row(note(PV, FEATURES, b"!supervisor_mode_kernel"), "XEN-SUPERVISOR"),
    "pv-no-dom0": Row(note(PV, SUPPORTED_FEATURES, 1), "XEN-DOM0-FEATURE"),
    "pv-mod-start": Row(note(PV, MOD_START_PFN, 0)),
    # The bzImage around it, and what is packed in it
    "bzimage": Row(bzimage(payload=XZ)),
    "bzimage-zstd": Row(bzimage(payload=sized(zstd(PV)))),
    "bzimage-gzip": Row(bzimage(payload=GZIP)),
    "bzimage-bzip2": Row(bzimage(payload=sized(bz2.compress(PV)))),
    "bzimage-lzma": Row(bzimage(payload=sized(lzma.compress(PV, lzma.FORMAT_ALONE)))),
    "bzimage-elf": Row(bzimage(payload=PV)),
    "bzimage-x86-filter": Row(bzimage(payload=sized(xz(lzma.CHECK_CRC32, {"id": lzma.FILTER_X86})))),
    "bzimage-delta-filter": Row(
        bzimage(payload=sized(xz(lzma.CHECK_CRC32, {"id": lzma.FILTER_DELTA, "dist": 4}))), "XEN-XZ-CHECK"
    ),
    "bzimage-crc64": Row(bzimage(payload=sized(xz(lzma.CHECK_CRC64))), "XEN-XZ-CHECK"),
    "bzimage-no-check": Row(bzimage(payload=sized(xz(lzma.CHECK_NONE)))),
    "bzimage-codec": Row(bzimage(payload=b"\xff" + XZ[1:]), "XEN-CODEC"),
    "bzimage-damaged": Row(bzimage(payload=sized(damaged(xz()))), "STREAM-DAMAGED"),
    "bzimage-gzip-damaged": Row(bzimage(payload=damaged(GZIP)), "STREAM-DAMAGED"),
    "bzimage-payload-length": Row(bzimage(payload=XZ, payload_length=len(XZ) - 100), "STREAM-DAMAGED"),
    "bzimage-payload-offset": Row(bzimage(payload=XZ, payload_offset=0x80), "LINUX-PAYLOAD"),
    "bzimage-size-word": Row(bzimage(payload=sized(xz(), len(PV) - 1)), "XEN-PAYLOAD-SIZE"),
    "bzimage-size-larger": Row(bzimage(payload=sized(xz(), len(PV) + 1))),
    "bzimage-size-far-larger": Row(bzimage(payload=sized(xz(), len(PV) + MIB))),
    "bzimage-zstd-size-larger": Row(bzimage(payload=sized(zstd(PV), len(PV) + 1))),
    "bzimage-bzip2-size": Row(bzimage(payload=sized(bz2.compress(PV), len(PV) - 1)), "XEN-PAYLOAD-SIZE"),
    "bzimage-bzip2-size-larger": Row(bzimage(payload=sized(bz2.compress(PV), len(PV) + 1))),
    "bzimage-lzma-size-larger": Row(bzimage(payload=sized(lzma.compress(PV, lzma.FORMAT_ALONE), len(PV) + 1))),
    "bzimage-gzip-size-larger": Row(
        bzimage(payload=GZIP[:-4] + (len(PV) + 1).to_bytes(4, "little")), "STREAM-DAMAGED"
    ),
    "bzimage-gzip-method": Row(bzimage(payload=put(GZIP, 2, b"\7")), "XEN-CODEC"),
    "bzimage-gzip-twice": Row(bzimage(payload=in_two(gzip.compress)), "XEN-STREAMS"),
    "bzimage-bzip2-twice": Row(bzimage(payload=sized(in_two(bz2.compress))), "XEN-STREAMS"),
    "bzimage-xz-twice": Row(bzimage(payload=sized(in_two(crc32_xz))), "XEN-STREAMS"),
    "bzimage-zstd-twice": Row(bzimage(payload=sized(in_two(zstd))), "XEN-STREAMS"),
    "bzimage-setup-sects": Row(bzimage(payload=XZ, setup_sects=0), "XEN-CODEC"),  # not taken for 4
    "bzimage-syssize": Row(bzimage(payload=XZ, syssize=0x10000)),  # nor at this
    "bzimage-filter-damaged": Row(bzimage(payload=sized(put(xz(), 14, b"\x22"))), "STREAM-DAMAGED"),
    "bzimage-boot-flag": Row(bzimage(payload=XZ, boot_flag=0)),  # Xen does not look
    # Then the file's last four bytes are the size: a CRC there would be more memory than the host has.
    "bzimage-header": Row(bzimage(payload=XZ, header=0x12345678, seal=False), "XEN-CODEC"),
    "nothing-large": Row(b"nothing" * 100, "XEN-CODEC"),  # its last four bytes: 1.7 GB
    "nothing-small": Row(b"nothing" * 100 + bytes(4), "XEN-CODEC"),
    # Memory
    "pv-6M": Row(PV, words=memory("6M")),
    "pv-4M": Row(PV, "DOM0-MEM", memory("4M")),
    "pv-max-6M": Row(PV, words=memory("64M,max:6M")),
    "pv-max-4M": Row(PV, "DOM0-MEM", memory("max:4M")),
    # Options
    **{
        f"pv-{word}": Row(PV, rule, {"xen_cmdline": f"dom0=pv {word}"})
        for word, rule in (
            ("gnttab_max_frames=0", "XEN-OPTION-FATAL"),
            ("gnttab_max_frames=1", ""),
            ("sched_credit2_max_cpus_runqueue=0", "XEN-OPTION-FATAL"),
            ("sched_credit2_max_cpus_runqueue=1", ""),
            ("acpi=off", "XEN-OPTION-FATAL"),
            ("noapic", "XEN-OPTION-FATAL"),
            ("noapic=off", ""),
            ("nolapic", "XEN-OPTION-FATAL"),
            ("availmem=32M", "XEN-OPTION-FATAL"),
            ("availmem=128M", ""),
            ("iommu=force,no", "XEN-OPTION-FATAL"),
            ("iommu=off iommu=required=1", "XEN-OPTION-FATAL"),
            ("iommu=force,no,no-force", ""),
        )
    },
    "pv-initrd": Row(PV, words=memory("26M"), initrd=INITRD),
    "pv-initrd-big": Row(PV, "DOM0-MEM", memory("22M"), initrd=INITRD),
    # PVH
    "pvh": pvh(PVH),
    "pvh-ei_class": pvh(ehdr(PVH, "ei_class", 2), "XEN-PVH-ENTRY"),
    "pvh-e_machine": pvh(ehdr(PVH, "e_machine", EM_AARCH64)),  # Xen does not look
    "pvh-e_phnum": pvh(ehdr(PVH, "e_phnum", 0), "XEN-NOTE-ADDRESSES"),
    "pvh-p_offset": pvh(phdr(PVH, 0, "p_offset", PAST), "ELF-SEGMENT-CUT"),
    "pvh-p_paddr": pvh(phdr(PVH, 0, "p_paddr", 0x200000), "XEN-NOTE-ADDRESSES"),
    "pvh-p_paddr-shifted": pvh(phdr(PVH, 0, "p_paddr", 0x100001), "ELF-SEGMENT-SHIFTED"),
    "pvh-p_memsz": pvh(phdr(PVH, 0, "p_memsz", 0x7F000000), "DOM0-MEM"),
    "pvh-owner": pvh(note_owner(PVH, b"Xem\0"), "XEN-PVH-ENTRY"),
    "pvh-no-entry": pvh(without_note(PVH, PHYS32_ENTRY), "XEN-PVH-ENTRY"),
    "pvh-entry": pvh(note(PVH, PHYS32_ENTRY, 0x10000000), "XEN-NOTE-ADDRESSES"),
    "pvh-version": pvh(note(PVH, XEN_VERSION, b"xen-2.0")),  # nobody looks
    "pvh-no-reloc": pvh(without_note(PVH, PHYS32_RELOC)),
    "pvh-no-hap": pvh(PVH, "PVH-WITHOUT-HAP", words={"xen_cmdline": "dom0=pvh hap=no"}),
    "pvh-shadow": pvh(PVH, words={"xen_cmdline": "dom0=pvh,shadow"}),
    "pvh-no-iommu-at-all": pvh(PVH, words={"xen_cmdline": "dom0=pvh dom0-iommu=none iommu=off"}),
    "pvh-no-iommu": pvh(PVH, "XEN-OPTION-FATAL", words={"xen_cmdline": "dom0=pvh dom0-iommu=none"}),
    "pvh-initrd-big": pvh(PVH, "DOM0-MEM", words=memory("20M"), initrd=INITRD),
}


def xen(folder: Path) -> Path:
    """Debian's Xen, unpacked: QEMU unpacks nothing."""
    (packed,) = unpacked("xen-hypervisor-4.17-amd64").glob("boot/xen-*.gz")
    path = folder / "xen"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    return path


def judge(row: Row, hypervisor: Path, folder: Path) -> Result:
    """Check the set, then boot it."""
    kernel, initrd = folder / "kernel", folder / "initrd" if row.initrd else None
    kernel.write_bytes(row.kernel)
    if initrd:
        initrd.write_bytes(row.initrd)
    words = {**memory("64M"), "xen_cmdline": f"dom0={row.mode}", **row.words}
    with open_set(xen=hypervisor, kernel=kernel, initrd=initrd, asked_mode=row.mode, **words) as boot:
        errors = [problem for problem in check_set(boot) if problem.severity is Severity.ERROR]
    predicted = next((problem.console for problem in errors if problem.id == row.rule and problem.console), "")
    options = f"console=com1 com1=115200 noreboot dom0_mem={words['dom0_mem']} {words['xen_cmdline']}"
    modules = ",".join(str(path) for path in (kernel, initrd) if path)
    machine = ["-machine", "q35", "-m", "256", "-kernel", str(hypervisor), "-append", options, "-initrd", modules]
    if row.mode is Mode.PVH:
        machine += ["-cpu", "qemu64,+svm,+npt", "-device", "amd-iommu"]
    console = run(machine, until=OVER).console
    return Result(not errors, frozenset(each.id for each in errors), predicted, SHUT_DOWN in console, console)


def results(folder: Path) -> Iterator[tuple[str, Result]]:
    """All of them in turn."""
    hypervisor = xen(folder)
    for name, row in ROWS.items():
        yield f"xen {name}", judge(row, hypervisor, folder)


@pytest.fixture(scope="module")
def hypervisor(tmp_path_factory: pytest.TempPathFactory, xen_gz: Path) -> Path:
    assert xen_gz.is_file()
    return xen(tmp_path_factory.mktemp("xen"))


@pytest.mark.parametrize("name", ROWS)
def test_verdict_and_boot_agree(tmp_path: Path, hypervisor: Path, name: str) -> None:
    row = ROWS[name]
    result = judge(row, hypervisor, tmp_path)
    assert result.rules == frozenset() if not row.rule else row.rule in result.rules
    assert result.sound == result.booted
    assert result.predicted in result.console
