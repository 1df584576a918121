"""Initrds packed in one way or another, and with one init or another: the verdict, and whether Linux runs it."""

from __future__ import annotations

import gzip
import lzma
import re
import stat
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.check.boot_set import open_set
from mbtool.check.image import Image
from mbtool.check.initrd_init import _tree
from mbtool.check.report import check_asked, check_set
from mbtool.formats.cpio import Member, build_cpio
from mbtool.formats.cpio_walk import Archive
from mbtool.source import BytesSource
from tests.check.sets import RELEASE, ids, problems, vmlinuz
from tests.conftest import ROOT
from tests.formats.test_initrd import zstd
from tests.qemu import run

RUNS = "init: mbtool sample initrd is running"
PROGRAM, SCRIPT, LINK, FILE = (
    stat.S_IFREG | 0o755,
    stat.S_IFREG | 0o755,
    stat.S_IFLNK | 0o777,
    stat.S_IFREG | 0o644,
)
FOLDER = Member("bin", b"", stat.S_IFDIR | 0o755)


def _init() -> bytes:
    """The init of the sample initrd, a static program."""
    data = (ROOT / "samples" / "initrd" / "initrd.img").read_bytes()
    source = BytesSource(gzip.decompress(data[data.index(b"\x1f\x8b") :]))
    (entry,) = [entry for entry in Archive(source) if entry.name.endswith(b"init")]
    return source.read(entry.data_offset, entry.header.c_filesize)


INIT = _init()
GOOD = build_cpio([Member("init", INIT, PROGRAM)])
EARLY = build_cpio([Member("early", b"x")], block=4)


def with_init(data: bytes, mode: int = PROGRAM, *more: Member) -> bytes:
    return gzip.compress(build_cpio([*more, Member("init", data, mode)]))


def flagged(flags: int, extra: bytes) -> bytes:
    """GOOD by gzip, with more in its header."""
    data = gzip.compress(GOOD)
    return data[:3] + bytes([flags]) + data[4:10] + extra + data[10:]


def dynamic(loader: bytes, *, machine: int = 62) -> bytes:
    """A program whose loader is named; where that is INIT, INIT runs, and nothing of the program."""
    interp, at = loader + b"\0", 64 + 2 * 56
    header = struct.pack("<16xHHIQQQIHHHHHH", 2, machine, 1, 0x10000000, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    segments = ((3, 4, at, at, len(interp)), (1, 5, 0, 0, at + len(interp)))
    table = [
        struct.pack("<IIQQQQQQ", kind, flags, offset, 0x10000000 + address, 0, size, size, 4096)
        for kind, flags, offset, address, size in segments
    ]
    return b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + header[16:] + b"".join(table) + interp


def scripts(count: int) -> bytes:
    """/init, INIT at the end of so many scripts."""
    more = [Member(f"s{number}", f"#!/s{number + 1}\n".encode(), SCRIPT) for number in range(1, count)]
    return with_init(b"#!/s1\n", SCRIPT, *more, Member(f"s{count}", INIT, PROGRAM))


LOADER = Member("ld", INIT, PROGRAM)
ROWS: dict[str, tuple[bytes, str]] = {
    "plain": (GOOD, ""),
    "gzip": (gzip.compress(GOOD), ""),
    "gzip-name": (flagged(8, b"a name\0"), ""),
    "gzip-comment": (flagged(16, b"a comment\0"), "INITRD-CODEC"),
    "gzip-in-two": (gzip.compress(GOOD[:300]) + gzip.compress(GOOD[300:]), "INITRD-CODEC"),
    "gzip-for-each": (gzip.compress(EARLY) + gzip.compress(GOOD), ""),
    "xz": (lzma.compress(GOOD, check=lzma.CHECK_CRC32), ""),
    "xz-crc64": (lzma.compress(GOOD), "INITRD-CODEC"),
    "zstd": (zstd(GOOD), ""),
    "padded": (EARLY + bytes(8) + gzip.compress(GOOD), ""),
    "unpadded": (EARLY + bytes(2) + gzip.compress(GOOD), "INITRD-CODEC"),
    "mode": (with_init(INIT, FILE), "INITRD-INIT"),
    "folder": (with_init(b"", stat.S_IFDIR | 0o755), "INITRD-INIT"),
    "empty": (with_init(b""), "INITRD-INIT"),
    "text": (with_init(b"echo no program\n"), "INITRD-INIT"),
    "machine": (with_init(INIT[:18] + b"\xb7" + INIT[19:]), "INITRD-INIT"),
    "link": (with_init(b"bin/init", LINK, FOLDER, Member("bin/init", INIT, PROGRAM)), ""),
    "link-to-a-link": (
        with_init(b"/sbin/init", LINK, FOLDER, Member("sbin", b"bin", LINK), Member("bin/init", INIT, PROGRAM)),
        "",
    ),
    "dangling": (with_init(b"bin/init", LINK), "INITRD-INIT"),
    "script": (with_init(b"#!/bin/init -x\n", SCRIPT, FOLDER, Member("bin/init", INIT, PROGRAM)), ""),
    "no-interpreter": (with_init(b"#!/bin/sh\n"), "INITRD-INIT"),
    "script-for-a-file-without-a-directory": (
        with_init(b"#!/bin/init\n", SCRIPT, Member("bin/init", INIT, PROGRAM)),
        "INITRD-INIT",
    ),
    "second": (gzip.compress(GOOD) + with_init(b"", FILE), "INITRD-INIT"),
    "dynamic": (with_init(dynamic(b"/ld"), PROGRAM, LOADER), ""),
    "dynamic-without-its-loader": (with_init(dynamic(b"/lib64/ld-linux-x86-64.so.2")), "INITRD-INIT"),
    "dynamic-loader-that-does-not-run": (
        with_init(dynamic(b"/ld"), PROGRAM, Member("ld", INIT, FILE)),
        "INITRD-INIT",
    ),
    "dynamic-loader-for-another-machine": (
        with_init(dynamic(b"/ld"), PROGRAM, Member("ld", INIT[:18] + b"\xb7" + INIT[19:], PROGRAM)),
        "INITRD-INIT",
    ),
    "script-for-a-dynamic-program": (
        with_init(b"#!/sh\n", SCRIPT, Member("sh", dynamic(b"/ld"), PROGRAM), LOADER),
        "",
    ),
    "script-for-a-dynamic-program-without-its-loader": (
        with_init(b"#!/sh\n", SCRIPT, Member("sh", dynamic(b"/ld"), PROGRAM)),
        "INITRD-INIT",
    ),
    "five-scripts": (scripts(5), ""),
    "six-scripts": (scripts(6), "INITRD-INIT"),
    "merged-usr": (
        with_init(
            b"#!/bin/init\n",
            SCRIPT,
            *(Member(name, b"", stat.S_IFDIR | 0o755) for name in ("usr", "usr/bin")),
            Member("bin", b"usr/bin", LINK),
            Member("bin/init", INIT, PROGRAM),
        ),
        "",
    ),
    "link-of-a-file-without-a-directory": (
        gzip.compress(
            build_cpio(
                [Member("bin/init", b"", PROGRAM, ino=7, nlink=2), Member("init", INIT, PROGRAM, ino=7, nlink=2)]
            )
        ),
        "INITRD-INIT",
    ),
    "script-before-its-interpreter": (
        with_init(b"#! /bin/init\n") + gzip.compress(build_cpio([FOLDER, Member("bin/init", INIT, PROGRAM)])),
        "",
    ),
}


@pytest.mark.boot
@pytest.mark.real
@pytest.mark.parametrize("name", ROWS)
def test_verdict_and_boot_agree(tmp_path: Path, vmlinuz_cloud: Path, name: str) -> None:
    data, rule = ROWS[name]
    initrd = tmp_path / "initrd"
    initrd.write_bytes(data)
    with open_set(kernel=vmlinuz_cloud, initrd=initrd) as boot:
        errors = [problem for problem in check_set(boot) if problem.severity == "error"]
    assert {problem.id for problem in errors} == ({rule} if rule else set())
    words = "console=ttyS0 earlyprintk=ttyS0 panic=-1"
    files = ["-kernel", str(vmlinuz_cloud), "-initrd", str(initrd)]
    console = run(["-m", "256", *files, "-append", words]).console
    assert (RUNS in console) == (not rule), console[-2000:]
    assert all(problem.console in console for problem in errors)


@pytest.mark.parametrize(
    ("program", "options", "sound"),
    [
        ("lz4", ("-l",), True),
        ("lz4", (), False),
        ("zstd", ("--long=27",), True),
        ("zstd", ("--long=28",), False),
        ("xz", ("--check=crc32", "--x86", "--lzma2"), True),
        ("xz", ("--check=crc32", "--delta=dist=4", "--lzma2"), False),
    ],
)
def test_packers(
    tmp_path: Path, tool: Callable[[str], str], program: str, options: tuple[str, ...], sound: bool
) -> None:
    """Sound where Debian's Linux unpacked it, in boots by hand."""
    packed = subprocess.run([tool(program), *options, "-c"], input=GOOD, capture_output=True, check=True).stdout
    found = ids(problems(tmp_path, {"kernel": vmlinuz(), "initrd": packed}))
    assert found == (set() if sound else {"INITRD-CODEC"})


def test_lzop_in_two(tmp_path: Path, tool: Callable[[str], str]) -> None:
    """Debian's Linux 6.1, booted by hand: "junk at the end of compressed archive", and no init."""
    halves = (GOOD[:300], GOOD[300:])
    packed = b"".join(
        subprocess.run([tool("lzop"), "-c"], input=half, capture_output=True, check=True).stdout for half in halves
    )
    assert ids(problems(tmp_path, {"kernel": vmlinuz(), "initrd": packed})) == {"INITRD-CODEC"}


@pytest.mark.parametrize("name", ROWS)
def test_an_initrd_alone_is_judged_alike(name: str) -> None:
    data, rule = ROWS[name]
    errors = [each.id for each in check_asked(Image("initrd", BytesSource(data)), {}) if each.severity == "error"]
    assert errors == ([rule] if rule else [])


RDINIT = {
    "rdinit=/bin/init": "",
    "rdinit=/nope": "error",
    "rdinit=": "error",
    "rdinit=/nope rdinit=/bin/init": "",
    "rdinit=/data": "error",
    "rdinit=/nope root=/dev/vda1": "warning",
    "console=tty0 -- rdinit=/nope": "",
}


@pytest.mark.parametrize("words", RDINIT)
def test_rdinit(tmp_path: Path, words: str) -> None:
    """The archives are one file system, in which the program may lie behind a link of another archive."""
    early = build_cpio([Member("bin", b"usr/bin", LINK), Member("data", b"x", FILE)])
    folders = [Member(name, b"", stat.S_IFDIR | 0o755) for name in ("usr", "usr/bin")]
    late = build_cpio([*folders, Member("usr/bin/init", INIT, PROGRAM), Member("init", INIT, PROGRAM)])
    data = early + gzip.compress(late)
    found = problems(tmp_path, {"kernel": vmlinuz(), "initrd": data}, cmdline=words)
    severities = [problem.severity for problem in found if problem.id == "INITRD-RDINIT"]
    assert severities == ([RDINIT[words]] if RDINIT[words] else [])


@pytest.mark.boot
@pytest.mark.real
def test_rdinit_boots(tmp_path: Path, vmlinuz_cloud: Path) -> None:
    initrd = tmp_path / "initrd"
    initrd.write_bytes(gzip.compress(GOOD))
    words = "console=ttyS0 panic=-1 rdinit=/nope"
    with open_set(kernel=vmlinuz_cloud, initrd=initrd, cmdline=words) as boot:
        (problem,) = [problem for problem in check_set(boot) if problem.severity == "error"]
    console = run(["-m", "256", "-kernel", str(vmlinuz_cloud), "-initrd", str(initrd), "-append", words]).console
    assert problem.id == "INITRD-RDINIT"
    assert problem.console in console
    assert RUNS not in console


BUILT_IN = {
    # the kernel's configuration, the command line that a loader gives, and what is an error
    "nothing": ("", "quiet", {"INITRD-NO-INIT"}),
    "root": ('CONFIG_CMDLINE_BOOL=y\nCONFIG_CMDLINE="root=/dev/vda1"\n', "quiet", set()),
    "quotes": ('CONFIG_CMDLINE_BOOL=y\nCONFIG_CMDLINE="a=\\"b c\\" root=/dev/vda1"\n', "quiet", set()),
    "off": ('# CONFIG_CMDLINE_BOOL is not set\nCONFIG_CMDLINE="root=/dev/vda1"\n', "quiet", {"INITRD-NO-INIT"}),
    "override": (
        'CONFIG_CMDLINE_BOOL=y\nCONFIG_CMDLINE="quiet"\nCONFIG_CMDLINE_OVERRIDE=y\n',
        "root=/dev/vda1",
        {"INITRD-NO-INIT"},
    ),
    "initramfs": ('CONFIG_INITRAMFS_SOURCE="/usr/src/initramfs"\n', "rdinit=/nope", set()),
    "no-initramfs": ('CONFIG_INITRAMFS_SOURCE=""\n', "rdinit=/nope", {"INITRD-RDINIT"}),
    "rdinit": ('CONFIG_CMDLINE_BOOL=y\nCONFIG_CMDLINE="rdinit=/nope"\n', "rdinit=/file", set()),
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_the_kernel_brings_along(tmp_path: Path, name: str) -> None:
    """arch/x86/kernel/setup.c puts the kernel's own command line in front of the loader's, or in its place."""
    config, words, expected = BUILT_IN[name]
    (tmp_path / f"config-{RELEASE}").write_text(config)
    data = gzip.compress(build_cpio([Member("file", INIT, PROGRAM)]))
    found = problems(tmp_path, {"kernel": vmlinuz(), "initrd": data}, cmdline=words)
    assert {problem.id for problem in found if problem.severity == "error"} == expected


def folders(*names: str) -> list[Member]:
    return [Member(name, b"", stat.S_IFDIR | 0o755) for name in names]


TREE = (
    # two archives, and paths that are asked for afterwards
    [
        *folders("a", "usr", "usr/bin", "full", "empty", "./dots", "/slash"),
        Member("a/file"),
        Member("no/file"),
        Member("file/file"),
        Member("bin", b"usr/bin", LINK),
        Member("bin/over-a-link"),
        Member("dangling", b"nowhere", LINK),
        Member("dangling/file"),
        Member("loop", b"loop", LINK),
        Member("loop/file"),
        Member("dev/given"),
        Member("root/given"),
        Member("proc/not-given"),
        Member("./dots/file"),
        Member("slash/./file"),
        Member("a/../upward"),
        Member("full/file"),
        Member("full", b"a", LINK),
        Member("full/another"),
        Member("empty", b"a", LINK),
        Member("empty/in-a"),
        Member("gone/first", b"", FILE, ino=900, nlink=2),
        Member("a/second", b"x", FILE, ino=900, nlink=2),
        Member("a/one", b"", FILE, ino=901, nlink=2),
        Member("gone/two", b"x", FILE, ino=901, nlink=2),
        Member("late", b"a", LINK),
        Member("late", b"", stat.S_IFDIR | 0o755),
        Member("late/in-late"),
        Member("deep", b"/bin/../../usr", LINK),
        Member("deep/bin/deep"),
    ],
    [Member("a/later"), Member("bin/later"), Member("no-more/later")],
)


@pytest.mark.boot
@pytest.mark.real
def test_the_tree_is_that_of_linux(tmp_path: Path, vmlinuz_cloud: Path, debian: Callable[[str], Path]) -> None:
    first, second = TREE
    busybox = (debian("busybox-static") / "bin" / "busybox").read_bytes()
    asked = sorted({str(each.name) for each in (*first, *second)} | {"a/in-a", "usr/bin/over-a-link", "a/in-late"})
    script = "#!/busybox sh\n" + "".join(f"[ -e {name} ] && echo there {name}.\n" for name in asked)
    end = [Member("busybox", busybox, PROGRAM), Member("init", f"{script}/busybox poweroff -f\n".encode(), PROGRAM)]
    initrd = tmp_path / "initrd"
    initrd.write_bytes(gzip.compress(build_cpio(first)) + gzip.compress(build_cpio([*second, *end])))
    words = "console=ttyS0 panic=-1 quiet"
    console = run(["-m", "256", "-kernel", str(vmlinuz_cloud), "-initrd", str(initrd), "-append", words]).console
    tree = _tree(Image("initrd", BytesSource(initrd.read_bytes())))
    assert [name for name in asked if tree.find(name.encode())] == re.findall(
        r"there (\S+)\.$", console, re.MULTILINE
    )
    with open_set(kernel=vmlinuz_cloud, initrd=initrd) as boot:
        (problem,) = [each for each in check_set(boot) if each.id == "INITRD-NO-DIRECTORY"]
    lost = ["no/file", "file/file", "dangling/file", "loop/file", "proc/not-given"]
    assert f"drops 9 members whose directory does not come before them: {', '.join(lost)} and 4 more" in (
        problem.evidence.message
    )


def test_early_archives_need_no_directories(tmp_path: Path) -> None:
    """Arch's intel-ucode.img has none; Linux and Xen look into the archive itself."""
    early = build_cpio(
        [Member("kernel/x86/microcode/GenuineIntel.bin", b"x"), Member("kernel/firmware/acpi/x.aml")]
    )
    found = problems(tmp_path, {"kernel": vmlinuz(), "initrd": early + gzip.compress(GOOD)})
    assert "INITRD-NO-DIRECTORY" not in {problem.id for problem in found}


def test_an_archive_that_is_to_stand_behind_another() -> None:
    behind, whole = build_cpio([Member("etc/x")]), build_cpio([Member("etc/x"), Member("init", INIT, PROGRAM)])
    for data, rules in ((behind, set()), (whole, {"INITRD-NO-DIRECTORY"})):
        assert ids(check_asked(Image("initrd", BytesSource(data)), {})) == rules


@pytest.mark.parametrize(
    ("config", "machine", "sound"),
    [
        ("CONFIG_X86_64=y\nCONFIG_IA32_EMULATION=y\n", 3, True),
        ("CONFIG_X86_64=y\n# CONFIG_IA32_EMULATION is not set\n", 3, False),
        ("CONFIG_X86_64=y\n# CONFIG_IA32_EMULATION is not set\n", 62, True),
        ("", 3, True),
    ],
)
def test_programs_of_32_bits(tmp_path: Path, config: str, machine: int, sound: bool) -> None:
    """fs/compat_binfmt_elf.c is only there with CONFIG_IA32_EMULATION."""
    (tmp_path / f"config-{RELEASE}").write_text(config)
    init = INIT[:18] + bytes([machine]) + INIT[19:]
    found = problems(tmp_path, {"kernel": vmlinuz(), "initrd": with_init(init)})
    assert [problem.id for problem in found if problem.severity == "error"] == ([] if sound else ["INITRD-INIT"])
