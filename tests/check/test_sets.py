"""Boot sets: a good one is clean, and each thing that breaks it is named by its rule, with Xen's own words."""

from __future__ import annotations

import gzip
import lzma
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mbtool.check.boot_set import Firmware
from mbtool.check.image import Image
from mbtool.check.loaders import choose, loaders
from mbtool.check.report import Problem, check_asked
from mbtool.formats.cpio import Member, build_cpio
from mbtool.formats.microcode_intel import IntelUpdate, build_intel
from mbtool.plan.xen_options import Mode
from mbtool.source import BytesSource
from tests.check.elf_edit import ehdr, phdr
from tests.check.sets import (
    LOADER,
    PROGRAM,
    RELEASE,
    TOP_2G,
    XEN,
    alone,
    ids,
    initrd,
    packed,
    problems,
    vmlinux,
    vmlinuz,
    with_folders,
)
from tests.conftest import ROOT
from tests.formats.pe_images import CODE, Part
from tests.formats.pe_images import image as pe_image
from tests.formats.test_initrd import zstd
from tests.oracle.made_kernel import HYPERCALL_PAGE, INIT_P2M, VIRT_BASE, XEN_VERSION

MIB = 1 << 20
NOT_CONFIGURED = "compression method gzip not configured"
GOOD: dict[str, Any] = {"xen": XEN / "xen-4.18.0.gz", "kernel": vmlinuz(), "initrd": initrd()}


def one(found: list[Problem], rule: str) -> Problem:
    """The only problem of a rule."""
    (problem,) = [problem for problem in found if problem.id == rule]
    return problem


@pytest.mark.parametrize("mode", [None, Mode.PV, Mode.PVH])
@pytest.mark.parametrize("firmware", [None, Firmware.BIOS])
def test_a_good_set_is_clean(tmp_path: Path, mode: Mode | None, firmware: Firmware | None) -> None:
    words = "dom0=pvh" if mode is Mode.PVH else ""
    found = problems(tmp_path, GOOD, asked_mode=mode, firmware=firmware, dom0_mem="256M", xen_cmdline=words)
    assert found == []


@pytest.mark.parametrize("codec", ["none", "gzip", "xz"])
def test_kernels_without_a_bzimage_around_them(tmp_path: Path, codec: str) -> None:
    plain = vmlinux()
    kernel = {"none": plain, "gzip": gzip.compress(plain), "xz": packed(plain)}[codec]
    assert problems(tmp_path, {**GOOD, "kernel": kernel}) == []


BROKEN: list[tuple[str, bytes, dict[str, Any], str]] = [
    ("XEN-BZIMAGE-VERSION", vmlinuz(version=0x207), {}, "Cannot load bzImage v2.07 at least v2.08 is required"),
    ("XEN-XZ-CHECK", vmlinuz(lzma.compress(vmlinux()) + bytes(4)), {}, "XZ decoder"),
    ("XEN-CODEC", vmlinuz(b"\x04\x22\x4d\x18" + bytes(60)), {}, "ELF: not an ELF binary"),
    ("XEN-NOT-ELF", vmlinuz(packed(b"no kernel" * 100)), {}, "ELF: not an ELF binary"),
    ("STREAM-DAMAGED", vmlinuz(packed(vmlinux())[:-60]), {}, ""),
    ("XEN-PAYLOAD-SIZE", vmlinuz(packed(vmlinux())[:-4] + bytes(4)), {}, ""),
    ("XEN-NOTE-LOADER", vmlinux(notes={6: "plan9", LOADER: "own", 18: 0}), {}, ""),
    ("XEN-NOTE-VERSION", vmlinux(notes={XEN_VERSION: "xen-2.0"}), {}, ""),
    ("XEN-NOTE-ADDRESSES", vmlinux(notes={1: TOP_2G}), {}, "ERROR: ELF start or entries are out of bounds"),
    (
        "XEN-NOTE-ADDRESSES",
        vmlinux(notes={INIT_P2M: TOP_2G + 0x200000}),
        {},
        "ERROR: P->M table base is out of bounds",
    ),
    (
        "XEN-NOTE-HYPERCALL",
        vmlinux(notes={HYPERCALL_PAGE: 0x1000}),
        {},
        "Invalid HYPERCALL_PAGE field in ELF notes.",
    ),
    ("XEN-DOM0-FEATURE", vmlinux(notes={17: 1}), {}, "Kernel does not support Dom0 operation"),
    (
        "DOM0-LAYOUT",
        vmlinux(notes={VIRT_BASE: 0xFFFF800000000000, 1: 0xFFFF800000100000}),
        {},
        "DOM0 image overlaps with Xen private area.",
    ),
    ("DOM0-MEM", vmlinux(), {"dom0_mem": "4M"}, "Domain 0 allocation is too small for kernel image"),
    ("DOM0-MEM", vmlinux(), {"dom0_mem": "max:4M"}, "Domain 0 allocation is too small for kernel image"),
    ("DOM0-MEM-SYNTAX", vmlinux(), {"dom0_mem": "12Q"}, ""),
]


@pytest.mark.parametrize(("rule", "kernel", "words", "console"), BROKEN, ids=[row[0] for row in BROKEN])
def test_each_break_has_its_rule(
    tmp_path: Path, rule: str, kernel: bytes, words: dict[str, Any], console: str
) -> None:
    found = problems(tmp_path, {**GOOD, "kernel": kernel}, **{"dom0_mem": "256M", **words})
    problem = one(found, rule)
    assert problem.severity == ("warning" if rule == "DOM0-MEM-SYNTAX" else "error")
    assert problem.console == console or not console
    assert problem.words.boot
    assert problem.remedy


def test_what_xen_says_nothing_about_has_no_console(tmp_path: Path) -> None:
    base = (1 << 64) - 4 * MIB
    kernel = vmlinux(notes={VIRT_BASE: base, 1: base, 18: None}, segments=[(0, 4 * MIB - 4096)], entry=base)
    problem = one(problems(tmp_path, {**GOOD, "kernel": kernel}, dom0_mem="256M"), "DOM0-LAYOUT")
    assert problem.evidence.message.startswith("the initial mapping does not fit below the end of the addresses")
    assert problem.console == ""


def test_the_builder_has_the_last_word(tmp_path: Path, samples: Path) -> None:
    """No sections of no size: Xen does not mind, so neither does the set; the file alone is damaged."""
    kernel = ehdr((samples / "pv-dom0" / "pv-dom0.elf").read_bytes(), "e_shentsize", 0)
    assert {(problem.id, problem.severity) for problem in alone(kernel)} == {("ELF-SHDRS-CUT", "error")}
    found = problems(tmp_path, {**GOOD, "kernel": kernel})
    assert {(problem.id, problem.severity) for problem in found} == {("ELF-SHDRS-CUT", "warning")}


def test_no_notes(tmp_path: Path, samples: Path) -> None:
    kernel = samples / "multiboot1" / "multiboot1.elf"
    assert "XEN-NOTES-MISSING" in ids(problems(tmp_path, {**GOOD, "kernel": kernel}))


def test_pvh_takes_a_note(tmp_path: Path, samples: Path) -> None:
    files = {**GOOD, "kernel": samples / "pv-dom0" / "pv-dom0.elf"}
    assert problems(tmp_path, files, dom0_mem="64M", asked_mode=Mode.PV) == []
    assert ids(problems(tmp_path, files, asked_mode=Mode.PVH)) == {"XEN-PVH-ENTRY"}


def test_pvh_and_its_memory(tmp_path: Path) -> None:
    """The kernel is linked at 1 MiB and 4 MiB large: 3 MiB end inside it."""
    small = one(problems(tmp_path, GOOD, asked_mode=Mode.PVH, dom0_mem="3M"), "DOM0-MEM")
    least = int(re.findall(r"dom0_mem=(\d+)M", small.remedy)[0])
    assert problems(tmp_path, GOOD, asked_mode=Mode.PVH, dom0_mem=f"{least}M") == []
    assert ids(problems(tmp_path, GOOD, asked_mode=Mode.PVH, dom0_mem=f"{least - 1}M")) == {"DOM0-MEM"}
    assert problems(tmp_path, GOOD, asked_mode=Mode.PVH, dom0_mem="64M") == []


def test_no_memory_is_enough_for_a_kernel_in_a_hole(tmp_path: Path) -> None:
    """Machines have no RAM at 0xFEE00000, however much: no amount is named."""
    hole = vmlinux(segments=[(0xFEE00000, 4 << 20)], notes={18: 0xFEE00000})
    small = one(problems(tmp_path, {**GOOD, "kernel": hole}, asked_mode=Mode.PVH, dom0_mem="64M"), "DOM0-MEM")
    assert "dom0_mem=" not in small.remedy


def test_codecs_by_version(tmp_path: Path) -> None:
    """zstd came with Xen 4.15 (Xen: CHANGELOG.md)."""
    data = vmlinux()
    files = {**GOOD, "kernel": vmlinuz(zstd(data) + len(data).to_bytes(4, "little"))}
    assert problems(tmp_path, files) == []
    old = one(problems(tmp_path, {**files, "xen": XEN / "xen-4.14.5.gz"}), "XEN-CODEC")
    assert old.evidence.found == "zstd"
    assert "4.15" in old.remedy


def test_the_least_memory_that_would_do_does(tmp_path: Path) -> None:
    small = one(problems(tmp_path, GOOD, dom0_mem="2M"), "DOM0-MEM")
    least = small.evidence.expected.split()[2]
    assert problems(tmp_path, GOOD, dom0_mem=f"{least}M") == []
    assert "DOM0-MEM" in ids(problems(tmp_path, GOOD, dom0_mem=f"{int(least) - 1}M"))


def test_memory_that_only_the_host_knows_is_no_error(tmp_path: Path) -> None:
    huge = vmlinux(segments=[(0x100000, 600 << 20)])
    (problem,) = problems(tmp_path, {**GOOD, "kernel": huge}, dom0_mem="50%")
    assert (problem.id, problem.severity) == ("DOM0-MEM", "info")


def test_what_was_given_as_xen_is_something_else(tmp_path: Path) -> None:
    assert "XEN-IMAGE" in ids(problems(tmp_path, {**GOOD, "xen": vmlinuz()}))


def test_a_file_of_no_known_format(tmp_path: Path) -> None:
    """Each part of a set has its own way to fail; GRUB's words for a kernel: test_grub_verdicts.py."""
    for part, rule in (("initrd", "INITRD-FORMAT"), ("xen", "XEN-IMAGE")):
        found = problems(tmp_path, {**GOOD, part: b"nothing at all"})
        for each in (one(found, "UNREADABLE"), one(found, rule)):
            assert each.evidence.file.endswith(part)
    for data, console in ((b"", "premature end of file"), (b"no kernel" * 100, "invalid magic number")):
        assert one(problems(tmp_path, {"kernel": data}), "KERNEL-IMAGE").console == console


def test_xen_efi_on_a_bios(tmp_path: Path) -> None:
    files = {**GOOD, "xen": gzip.decompress((XEN / "xen-4.14.5.efi.gz").read_bytes())}
    problem = one(problems(tmp_path, files, firmware=Firmware.BIOS), "XEN-EFI-ON-BIOS")
    assert problem.console == "error: invalid arch-dependent ELF magic."
    assert "XEN-EFI-ON-BIOS" not in ids(problems(tmp_path, files, firmware=Firmware.UEFI))


def test_xen_gz_on_uefi(tmp_path: Path) -> None:
    """Its Multiboot 2 header asks for the boot services; without that tag Xen could only give up."""
    assert problems(tmp_path, GOOD, firmware=Firmware.UEFI) == []
    data = gzip.decompress((XEN / "xen-4.18.0.gz").read_bytes())
    tag = bytes.fromhex("0700010008000000")
    assert data.count(tag) == 1
    without = data.replace(tag, bytes.fromhex("0600010008000000"))
    problem = one(problems(tmp_path, {**GOOD, "xen": without}, firmware=Firmware.UEFI), "XEN-NO-EFI-ENTRY")
    assert "tags 7" in problem.evidence.message


MICROCODE = build_cpio(
    [
        Member(
            "kernel/x86/microcode/GenuineIntel.bin",
            build_intel(IntelUpdate(rev=1, date=0x07062024, sig=0x906EA, pf=2, data=bytes(2000))),
        )
    ]
)


@pytest.mark.parametrize(
    ("rule", "data", "words"),
    [
        ("INITRD-MODULES", initrd("5.10.0-9-amd64"), {}),
        ("INITRD-FORMAT", vmlinuz(), {}),
        ("INITRD-MICROCODE", initrd(), {"xen_cmdline": "ucode=scan"}),
        ("INITRD-MICROCODE", gzip.compress(MICROCODE), {"xen_cmdline": "ucode=scan"}),
        ("INITRD-REQUIRE", initrd(), {"require": ("xen-netfront",)}),
        ("INITRD-JUNK", initrd() + b"junk" * 8, {}),
        ("CPIO-TRUNCATED", build_cpio([Member("init", bytes(999), stat.S_IFREG | 0o755)])[:400], {}),
    ],
)
def test_initrds(tmp_path: Path, rule: str, data: bytes, words: dict[str, Any]) -> None:
    assert rule in ids(problems(tmp_path, {**GOOD, "initrd": data}, **words))


def test_initrds_that_are_as_asked_for(tmp_path: Path) -> None:
    files = {**GOOD, "initrd": initrd(microcode=MICROCODE)}
    require = ("xen-blkfront", "xen_blkfront", "ext4")
    assert problems(tmp_path, files, xen_cmdline="ucode=scan", require=require) == []


def test_modules_that_are_part_of_the_kernel(tmp_path: Path) -> None:
    """modprobe takes them by name, as it does other names of modules that are there: both have lists."""
    lists = f"usr/lib/modules/{RELEASE}"
    files = [
        Member("init", PROGRAM, stat.S_IFREG | 0o755),
        Member(f"{lists}/modules.builtin", b"kernel/drivers/virtio/virtio_pci.ko\n"),
        Member(
            f"{lists}/modules.alias", b"# made\nalias fs-ext4 ext4\nalias crc32c crc32c_intel\nalias pci:* ext4\n"
        ),
        Member(f"{lists}/kernel/fs/ext4/ext4.ko.zst", b"x"),
    ]
    require = ("virtio-pci", "virtio_pci", "ext4", "fs-ext4", "crc32c", "nvme")
    found = problems(tmp_path, {"kernel": vmlinuz(), "initrd": build_cpio(with_folders(*files))}, require=require)
    assert [(problem.id, problem.evidence.expected) for problem in found] == [
        ("INITRD-REQUIRE", "crc32c"),
        ("INITRD-REQUIRE", "nvme"),
    ]


def test_modules_for_two_kernels(tmp_path: Path) -> None:
    """The other kernel's are of no use to this one; a kernel's name is said once, in however many archives."""
    other = "5.10.0-9-amd64"
    extra = [Member(f"lib/modules/{other}/kernel/drivers/{name}.ko.gz", b"x") for name in ("nvme", "ahci")]
    both = build_cpio(with_folders(*extra)) + initrd()
    found = problems(tmp_path, {"kernel": vmlinuz(), "initrd": both}, require=("ext4", "nvme"))
    assert [(problem.id, problem.evidence.expected) for problem in found] == [("INITRD-REQUIRE", "nvme")]
    twice = build_cpio(with_folders(*extra[:1])) + initrd(other)
    problem = one(problems(tmp_path, {"kernel": vmlinuz(), "initrd": twice}), "INITRD-MODULES")
    assert problem.evidence.found == other


def test_the_initrd_of_a_unified_kernel_image(tmp_path: Path) -> None:
    """It is judged with the kernel beside it, whether the image is given as a kernel or alone."""

    def uki(release: str) -> bytes:
        linux, cpio = Part(b".linux", vmlinuz()), Part(b".initrd", initrd(release))
        return pe_image([Part(b".text", b"\xc3", CODE), linux, cpio], image_base=0x100000)

    kept = ("INITRD-MODULES", "INITRD-REQUIRE")
    for release, rules in ((RELEASE, ["INITRD-REQUIRE"]), ("5.10.0-9-amd64", ["INITRD-REQUIRE", "INITRD-MODULES"])):
        data = uki(release)
        image = Image("uki.efi", BytesSource(data))
        asked = check_asked(image, {"require": ("ext4", "nvme")})
        given = problems(tmp_path, {"kernel": data}, require=("ext4", "nvme"))
        for found in (asked, given):
            assert [problem.id for problem in found if problem.id in kept] == rules
        unasked = [problem.id for problem in check_asked(image, {}) if problem.id in kept]
        assert unasked == [rule for rule in rules if rule != "INITRD-REQUIRE"]
    problem = one(asked, "INITRD-MODULES")
    assert (problem.evidence.file, problem.evidence.node) == ("uki.efi", "pe/pe-section/gzip/cpio/kernel-modules")
    assert ids(problems(tmp_path, {"kernel": data, "initrd": initrd()}, require=("ext4",))) & set(kept) == set()


@pytest.mark.parametrize(
    ("config", "cmdline", "severity"),
    [
        (b"CONFIG_BLK_DEV_RAM=y\n", "root=/dev/ram0 ro", None),
        (b"CONFIG_BLK_DEV_RAM=y\n", "root=/dev/vda1", "error"),
        (b"CONFIG_BLK_DEV_RAM=m\n", "root=/dev/ram0", "error"),
        (None, "root=/dev/ram0", "warning"),
        (None, None, "error"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_file_system_as_an_initrd(
    tmp_path: Path,
    tool: Callable[[str], str],
    pack: Any,
    config: bytes | None,
    cmdline: str | None,
    severity: str | None,
) -> None:
    """A Linux 6.1 with RAM disks, booted by hand: "VFS: Mounted root (ext2 filesystem)", and its init runs."""
    image = tmp_path / "image"
    subprocess.run([tool("mke2fs"), "-q", "-F", str(image), "1M"], check=True)
    if config is not None:
        (tmp_path / f"config-{RELEASE}").write_bytes(config)
    found = problems(tmp_path, {"kernel": vmlinuz(), "initrd": pack(image.read_bytes())}, cmdline=cmdline)
    assert [problem.severity for problem in found if problem.id == "INITRD-FORMAT"] == [severity] * bool(severity)


def test_a_kernel_without_xen(tmp_path: Path) -> None:
    files = {"kernel": vmlinuz(), "initrd": initrd()}
    assert problems(tmp_path, files, cmdline="x" * 2047) == []
    assert ids(problems(tmp_path, files, cmdline="x" * 2048)) == {"LINUX-CMDLINE-LONG"}
    assert ids(problems(tmp_path, {**files, "kernel": vmlinuz(initrd_addr_max=0x2000000, xloadflags=1)})) == {
        "LINUX-INITRD-BIG"
    }
    assert ids(problems(tmp_path, files, firmware=Firmware.UEFI)) == {"LINUX-NO-EFI-STUB"}


def test_names_that_lie(tmp_path: Path) -> None:
    kernel, image = tmp_path / "vmlinuz-6.2.0", tmp_path / "initrd.img-6.3.0"
    kernel.write_bytes(vmlinuz())
    image.write_bytes(initrd("6.3.0"))
    found = problems(tmp_path, {"kernel": kernel, "initrd": image})
    assert ids(found) == {"LINUX-NAME", "INITRD-NAME", "INITRD-MODULES"}
    assert one(found, "LINUX-NAME").evidence.found == "6.1.0-test"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, set()),
        (b"", set()),
        (b"CONFIG_XEN_PV=y\nCONFIG_XEN_DOM0=y\n", set()),
        (b"CONFIG_XEN_PV=y\n# CONFIG_XEN_DOM0 is not set\n", {"LINUX-NO-DOM0"}),
        (b"CONFIG_64BIT=y\n", {"LINUX-NO-DOM0"}),
    ],
)
def test_the_configuration_beside_a_kernel(tmp_path: Path, config: bytes | None, expected: set[str]) -> None:
    if config is not None:
        (tmp_path / f"config-{RELEASE}").write_bytes(config)
    words = {"dom0_mem": "256M"}
    assert ids(problems(tmp_path, GOOD, **words)) == expected
    assert ids(problems(tmp_path, {"kernel": GOOD["kernel"]})) == set()  # not under Xen


@pytest.mark.parametrize(
    ("kernel", "config", "found"),
    [
        (f"lib/modules/{RELEASE}/vmlinuz", f"lib/modules/{RELEASE}/config", True),
        ("boot/vmlinuz", f"usr/lib/modules/{RELEASE}/config", True),
        ("boot/vmlinuz", f"lib/modules/{RELEASE}/config", True),
        ("boot/vmlinuz", "boot/config", False),
        ("boot/vmlinuz", "lib/modules/6.3.0/config", False),
    ],
)
def test_the_configuration_beside_the_modules(tmp_path: Path, kernel: str, config: str, found: bool) -> None:
    """Debian 14's linux-binary and linux-base, and Fedora's kernel-core, have both in /usr/lib/modules/RELEASE."""
    for name, data in ((kernel, GOOD["kernel"]), (config, b"# CONFIG_XEN_DOM0 is not set\n")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    files = {**GOOD, "kernel": tmp_path / kernel}
    assert ids(problems(tmp_path, files, dom0_mem="256M")) == ({"LINUX-NO-DOM0"} if found else set())


def test_a_release_that_is_no_file_name(tmp_path: Path) -> None:
    """The version string is the file's own: it leads nowhere."""
    kernel = GOOD["kernel"].replace(RELEASE.encode(), b"6.1/" + RELEASE.encode()[4:])
    assert kernel != GOOD["kernel"]
    assert "LINUX-NO-DOM0" not in ids(problems(tmp_path, {"kernel": kernel, "xen": GOOD["xen"]}))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (b"CONFIG_BLK_DEV_INITRD=y\nCONFIG_RD_GZIP=y\n", {}),
        (b"CONFIG_BLK_DEV_INITRD=y\n# CONFIG_RD_GZIP is not set\n", {"CONFIG_RD_GZIP=y": NOT_CONFIGURED}),
        (b"CONFIG_BLK_DEV_INITRD=y\nCONFIG_RD_ZSTD=y\n", {"CONFIG_RD_GZIP=y": NOT_CONFIGURED}),
        (b"# CONFIG_BLK_DEV_INITRD is not set\n", {"CONFIG_BLK_DEV_INITRD=y": ""}),
        (b"CONFIG_64BIT=y\n", {}),
    ],
)
def test_a_kernel_without_the_unpacker(tmp_path: Path, config: bytes, expected: dict[str, str]) -> None:
    (tmp_path / f"config-{RELEASE}").write_bytes(config)
    found = problems(tmp_path, {"kernel": vmlinuz(), "initrd": initrd()})
    assert {problem.evidence.expected: problem.console for problem in found} == expected
    assert ids(found) == ({"INITRD-NOT-CONFIGURED"} if expected else set())


@pytest.mark.parametrize(("set_", "expected"), [(b"y", set()), (b"m", {"LINUX-NO-DOM0"})])
@pytest.mark.parametrize("wrap", [lambda elf: vmlinuz(packed(elf)), bytes], ids=["packed", "plain"])
def test_the_configuration_inside_a_kernel(tmp_path: Path, wrap: Any, set_: bytes, expected: set[str]) -> None:
    """As CONFIG_IKCONFIG puts it there (Linux, kernel/configs.c)."""
    banner = f"Linux version {RELEASE} (me@here) (gcc 12) #1 SMP Debian\n\0".encode()
    config = b"IKCFG_ST" + gzip.compress(b"CONFIG_XEN=y\nCONFIG_XEN_DOM0=" + set_ + b"\n", mtime=0) + b"IKCFG_ED"
    elf, at = vmlinux(), 0x2000
    assert not any(elf[at : at + 4096])
    elf = elf[:at] + banner + config + elf[at + len(banner + config) :]
    assert ids(problems(tmp_path, {**GOOD, "kernel": wrap(elf)}, dom0_mem="256M")) == expected


@pytest.mark.real
def test_debians_cloud_kernel_is_no_dom0(xen_gz: Path, vmlinuz: Path, vmlinuz_cloud: Path, tmp_path: Path) -> None:
    """Booted as PV it says ``ACPI: Interpreter disabled.``, and nothing on hvc0 (tests/prove/test_verdict.py)."""
    files = {"xen": xen_gz, "kernel": vmlinuz_cloud}
    assert ids(problems(tmp_path, files, dom0_mem="512M")) == {"LINUX-NO-DOM0"}
    assert ids(problems(tmp_path, {**files, "kernel": vmlinuz}, dom0_mem="512M")) == set()


@pytest.mark.parametrize("mode", [Mode.PV, Mode.PVH])
def test_an_entry_point_without_code(tmp_path: Path, mode: Mode) -> None:
    """The samples, whose segments begin with code and end in zeros (readelf -l)."""
    name = "pv-dom0/pv-dom0.elf" if mode is Mode.PV else "pvh/pvh.elf"
    data = (ROOT / "samples" / name).read_bytes()
    for size, told in ((None, False), (0, True)):
        kernel = data if size is None else phdr(data, 0, "p_filesz", size)
        found = ids(problems(tmp_path, {"kernel": kernel}, asked_mode=mode, dom0_mem="64M"))
        assert ("XEN-ENTRY-ZEROS" in found) == told


def test_a_payload_that_nothing_unpacks(tmp_path: Path) -> None:
    """Linux 6.1.192 of Debian, so damaged, said in QEMU: Input is not in the XZ format, -- System halted."""
    payload = packed(vmlinux())
    (problem,) = alone(vmlinuz(b"\xff" + payload[1:]))
    assert (problem.id, problem.severity, problem.console) == ("LINUX-PAYLOAD-FORMAT", "error", "-- System halted")
    assert problem.evidence.found == "ff 37 7a 58 5a 00"
    assert alone(vmlinuz(payload)) == []


def test_init_size(tmp_path: Path) -> None:
    """Debian's Linux boots in QEMU with 0.6 of its unpacked size; not with its packed one, or one not in pages."""
    data = vmlinux() + bytes(12000)
    (problem,) = alone(vmlinuz(packed(data), init_size=8192))
    assert (problem.id, problem.severity, problem.evidence.offset) == ("LINUX-INIT-SIZE", "warning", 0x260)
    assert problem.evidence.expected == f"at least {len(data)}"
    for size in (0, 8193, 16 << 20 | 16):
        (problem,) = alone(vmlinuz(packed(data), init_size=size))
        assert (problem.id, problem.severity) == ("LINUX-INIT-SIZE", "error")
    assert alone(vmlinuz(packed(data), init_size=16384)) == []


def test_an_efi_program_on_a_bios(tmp_path: Path) -> None:
    """A unified kernel image, or a bzImage without its signature: GRUB calls it no kernel."""
    program = gzip.decompress((XEN / "xen-4.14.5.efi.gz").read_bytes())
    found = ids(problems(tmp_path, {"kernel": program}, firmware=Firmware.BIOS))
    assert "KERNEL-EFI-ON-BIOS" in found
    assert "KERNEL-EFI-ON-BIOS" not in ids(problems(tmp_path, {"kernel": program}, firmware=Firmware.UEFI))
    assert "KERNEL-EFI-ON-BIOS" not in ids(problems(tmp_path, {"kernel": vmlinuz()}, firmware=Firmware.BIOS))


@pytest.mark.parametrize(
    ("at", "value", "field", "severity"),
    [(4, 0xAA64, "Machine", "error"), (4, 0x14C, "Machine", "error"), (24 + 68, 11, "Subsystem", "error")],
)
def test_a_program_that_firmware_refuses(tmp_path: Path, at: int, value: int, field: str, severity: str) -> None:
    data = bytearray(gzip.decompress((XEN / "xen-4.14.5.efi.gz").read_bytes()))
    at += int.from_bytes(data[0x3C:0x40], "little")
    data[at : at + 2] = value.to_bytes(2, "little")
    files = {**GOOD, "xen": bytes(data)}
    problem = one(problems(tmp_path, files, firmware=Firmware.UEFI), "EFI-PROGRAM-REFUSED")
    assert (problem.severity, problem.evidence.field, problem.evidence.offset) == (severity, field, at)
    assert "EFI-PROGRAM-REFUSED" not in ids(problems(tmp_path, files, firmware=Firmware.BIOS))


@pytest.mark.parametrize(
    ("at", "size", "value", "field"),
    [
        (24 + 108, 4, 0, "NumberOfRvaAndSizes"),
        (24 + 108, 4, 5, "NumberOfRvaAndSizes"),
        (24 + 60, 4, 0, "SizeOfHeaders"),
        (24 + 60, 4, 0x300000, "SizeOfHeaders"),
        (22, 2, 0x227, "Characteristics"),
        (24 + 112 + 5 * 8, 8, 0, "BaseRelocationTable"),
        (24 + 32, 4, 0x1000, "SectionAlignment"),
        (6, 2, 0, "NumberOfSections"),
    ],
)
def test_headers_that_firmware_refuses(tmp_path: Path, at: int, size: int, value: int, field: str) -> None:
    """Debian's xen.efi, changed so, was not started by OVMF, or died as soon as it moved itself."""
    data = bytearray(gzip.decompress((XEN / "xen-4.14.5.efi.gz").read_bytes()))
    at += int.from_bytes(data[0x3C:0x40], "little")
    data[at : at + size] = value.to_bytes(size, "little")
    files = {**GOOD, "xen": bytes(data)}
    found = [each for each in problems(tmp_path, files, firmware=Firmware.UEFI) if each.id == "EFI-PROGRAM-REFUSED"]
    assert field in {each.evidence.field for each in found}
    assert "EFI-PROGRAM-REFUSED" not in ids(problems(tmp_path, files, firmware=Firmware.BIOS))


def test_an_initrd_without_init(tmp_path: Path) -> None:
    """One archive that is only files: Linux finds no /init, and mounts root= itself."""
    data = gzip.compress(build_cpio(with_folders(Member("etc/x", b"x", stat.S_IFREG | 0o644))))
    assert ids(problems(tmp_path, {**GOOD, "initrd": data})) == {"INITRD-NO-INIT"}
    assert alone(data) == []


@pytest.mark.parametrize(
    ("words", "severity"),
    [
        (None, "warning"),
        ("root=/dev/vda1 ro", "warning"),
        ("root=PARTUUID=1 ro", "warning"),
        ("nfsroot=10.0.0.1:/", "warning"),
        ("console=ttyS0", "error"),
        ("root=UUID=1 ro", "error"),
    ],
)
@pytest.mark.parametrize("archives", [1, 2])
def test_no_init_and_no_root(tmp_path: Path, words: str | None, severity: str, archives: int) -> None:
    """init/do_mounts.c: without /init Linux mounts root= itself, and panics where it cannot."""
    data = gzip.compress(build_cpio([Member("etc/x", b"x", stat.S_IFREG | 0o644)])) * archives
    found = one(problems(tmp_path, {"kernel": vmlinuz(), "initrd": data}, cmdline=words), "INITRD-NO-INIT")
    assert found.severity == severity


def test_what_stands_in_front_of_a_header(samples: Path, tmp_path: Path) -> None:
    """The places are those that readelf -S shows."""
    data = (samples / "multiboot1" / "multiboot1.elf").read_bytes()
    at = data.index((0x1BADB002).to_bytes(4, "little"))
    moved = data[:at] + bytes(12) + data[at + 12 :]
    moved += bytes(9000 - len(moved)) + data[at : at + 12]
    problem = one(alone(moved), "MULTIBOOT-NOT-FOUND")
    told = problem.evidence.message.partition("in front of it: ")[2]
    readelf = subprocess.run(["readelf", "-SW", samples / "multiboot1" / "multiboot1.elf"], capture_output=True)
    text = next(line for line in readelf.stdout.decode().splitlines() if " .text " in line)
    assert told.startswith(f".text ({int(text.split()[text.split().index('PROGBITS') + 3], 16)} bytes)")


def test_findings_about_a_field_are_placed_at_it() -> None:
    """SizeOfImage stands 56 bytes into the optional header (Microsoft, PE Format)."""
    data = bytearray(gzip.decompress((XEN / "xen-4.14.5.efi.gz").read_bytes()))
    at = int.from_bytes(data[0x3C:0x40], "little") + 24 + 56
    data[at : at + 4] = (0x1000).to_bytes(4, "little")
    assert one(alone(bytes(data)), "PE-IMAGE-SIZE").evidence.offset == at


@pytest.mark.parametrize(
    ("loader", "console"),
    [
        ("", "BdsDxe: failed to "),
        ("grub:chainloader:uefi", "error: cannot load image."),
        ("systemd-boot:linux", ""),
    ],
)
def test_who_says_that_a_program_is_no_application(tmp_path: Path, loader: str, console: str) -> None:
    """Who starts it prints that (OVMF: seen in a boot; GRUB: by source)."""
    data = bytearray(gzip.decompress((XEN / "xen-4.14.5.efi.gz").read_bytes()))
    at = int.from_bytes(data[0x3C:0x40], "little") + 24 + 68
    data[at : at + 2] = b"\3\0"
    asked = {"loaders": tuple(choose(loaders(), loader))} if loader else {}
    found = problems(tmp_path, {**GOOD, "xen": bytes(data)}, firmware=Firmware.UEFI, **asked)
    assert one(found, "EFI-PROGRAM-REFUSED").console == console
