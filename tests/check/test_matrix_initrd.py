"""Initrds packed in one way or another, and with one init or another: the verdict, and whether Linux runs it."""

from __future__ import annotations

import gzip
import lzma
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mbtool.check.boot_set import open_set
from mbtool.check.image import Image
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
