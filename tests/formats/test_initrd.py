"""Initrds: segments raw and compressed, padding, junk between them, and what they hold."""

from __future__ import annotations

import gzip
import lzma
import random
import stat
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbtool import identify
from mbtool.formats import initrd
from mbtool.formats.cpio import Member, build_cpio
from mbtool.formats.microcode_amd import AmdContainer, AmdPatch, EquivEntry, build_amd
from mbtool.formats.microcode_intel import IntelUpdate, build_intel
from mbtool.model import Node
from mbtool.source import BytesSource, Limits, open_file

DIR = stat.S_IFDIR | 0o755
INTEL = build_intel(IntelUpdate(rev=1, date=0x07062024, sig=0x906EA, pf=2, data=bytes(2000)))
AMD = build_amd([AmdContainer((EquivEntry(0x800F82, 0x8082),), (AmdPatch(0x06202018, 9, 0x8082),))])
EARLY = build_cpio(
    [
        Member("kernel", mode=DIR),
        Member("kernel/x86", mode=DIR),
        Member("kernel/x86/microcode", mode=DIR),
        Member("kernel/x86/microcode/GenuineIntel.bin", INTEL),
        Member("kernel/x86/microcode/AuthenticAMD.bin", AMD),
    ]
)
MAIN = build_cpio(
    [
        Member(".", mode=DIR),
        Member("init", b"#!/bin/sh -e\nexec true\n", stat.S_IFREG | 0o755, mtime=86400),
        Member("lib/modules/6.1.0-9-amd64/kernel/fs/ext4.ko", b"ext4", mtime=2 * 86400),
        Member("lib/modules/6.1.0-9-amd64/kernel/fs/xfs.ko.xz", b"xfs"),
        Member("lib/modules/6.1.0-9-amd64/modules.dep", b"dep"),
        Member("usr/lib/modules/5.10.0/a.ko.zst", b"a"),
        Member("conf/initramfs.conf", b"MODULES=most\n"),
        Member("one", ino=99, nlink=2),
        Member("two", b"2", ino=99, nlink=2),
        Member("dev/console", mode=stat.S_IFCHR | 0o600, rdev=(5, 1)),
        Member("bin", b"usr/bin", stat.S_IFLNK | 0o777),
    ]
)


def zstd(data: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd as library
    else:
        from backports import zstd as library
    return bytes(library.compress(data))


def lz4(data: bytes) -> bytes:
    """As mkinitramfs writes it, and Linux asks for."""
    import lz4.block

    block = lz4.block.compress(data, store_size=False)
    return struct.pack("<II", 0x184C2102, len(block)) + bytes(block)


def bzip2(data: bytes) -> bytes:
    import bz2

    return bz2.compress(data)


CODECS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bzip2,
    "lz4": lz4,
    "zstd": zstd,
}


def look(data: bytes, *, full: bool = False, limits: Limits | None = None) -> Node:
    return identify.inspect(BytesSource(data), limits, full=full)


def aligned(data: bytes, to: int = 4) -> bytes:
    return data + bytes(-len(data) % to)


def ids(node: Node) -> list[str]:
    """Ids of the findings, but those on microcode."""
    return [f.id for part in node.walk() for f in part.findings if part.kind != "microcode-update"]


def shape(node: Node) -> object:
    """Kinds of the segments, the content of a compressed one in a tuple with it."""
    kinds = ("cpio", "initrd", "data", *CODECS)
    inner = [shape(child) for child in node.children if child.kind in kinds]
    return (node.kind, *inner) if inner else node.kind


class TestOneArchive:
    def test_fields(self) -> None:
        node = look(MAIN)
        expected = {
            "format": "newc",
            "entries": 11,
            "content_size": 23 + 4 + 3 + 3 + 1 + 13 + 1 + 7,
            "uncompressed_size": len(MAIN),
            "init": "/init",
            "generator": "initramfs-tools",
            "files": 8,
            "directories": 1,
            "symbolic_links": 1,
            "character_devices": 1,
            "hard_links": 1,
            "oldest": "1970-01-01 00:00:00",
            "newest": "1970-01-03 00:00:00",
        }
        assert (node.kind, node.offset, node.size) == ("cpio", 0, len(MAIN))
        assert {name: node[name] for name in expected} == expected
        assert ids(node) == []

    def test_modules(self) -> None:
        first, second = (child for child in look(MAIN).children if child.kind == "kernel-modules")
        assert (first["version"], first["modules"], first["modules_size"]) == ("6.1.0-9-amd64", 2, 7)
        assert (second["version"], second["modules"], second["path"]) == ("5.10.0", 1, "usr/lib/modules/5.10.0")
        assert MAIN[first.offset + 110 :].startswith(b"lib/modules/6.1.0-9-amd64/kernel/fs/ext4.ko")
        assert first.offset + first.size == second.offset

    @pytest.mark.parametrize(
        ("members", "path", "words"),
        [
            ([Member("init", b"#! /bin/sh\n")], "/init", "script for /bin/sh; run as /init"),
            ([Member("./init", b"\x7fELF\x02\x01")], "/init", "ELF, 64-bit; run as /init"),
            ([Member("/init", b"\x7fELF\x01\x01")], "/init", "ELF, 32-bit; run as /init"),
            ([Member("init", b"sbin/x", stat.S_IFLNK | 0o777)], "/init", "link to sbin/x; run as /init"),
            ([Member("init", b"MZ")], "/init", "neither script nor ELF; run as /init"),
            ([Member("init")], "/init", "empty; run as /init"),
            ([Member("init", b"#!a"), Member("init", b"#!b")], "/init", "script for b; run as /init"),
            ([Member("sbin/init", b"#!a")], "/sbin/init", "script for a; run only with rdinit=/sbin/init"),
            ([Member("linuxrc", b"#!a"), Member("sbin/init", b"#!b")], "/sbin/init", "script for b; run only with"),
            ([Member("linuxrc", b"#!a")], "/linuxrc", "script for a; run only from an initrd of the old kind"),
            ([Member(".init", b"#!a"), Member("etc/init", b"#!a")], None, "no /init, /sbin/init or /linuxrc"),
        ],
    )
    def test_init(self, members: list[Member], path: str | None, words: str) -> None:
        (field,) = (field for field in look(build_cpio(members)).fields if field.name == "init")
        assert field.value == path
        assert field.meaning.startswith(words)

    def test_crc_format(self) -> None:
        (field,) = (f for f in look(build_cpio([Member("init", b"#!a")], crc=True)).fields if f.name == "format")
        assert (field.value, field.raw) == ("crc", b"070702")

    def test_entries_when_full(self) -> None:
        assert look(MAIN).find("cpio-entry") is None
        entries = [child for child in look(MAIN, full=True).children if child.kind == "cpio-entry"]
        assert [entry["name"] for entry in entries][:3] == [
            ".",
            "init",
            "lib/modules/6.1.0-9-amd64/kernel/fs/ext4.ko",
        ]
        init, link = entries[1], entries[-1]
        assert (init["c_mode"], init["c_filesize"], init["c_mtime"]) == (0o100755, 23, 86400)
        assert MAIN[init.offset : init.offset + 6] == b"070701"
        assert sum(entry.size for entry in entries) == link.offset + link.size
        for entry in entries:
            for field in entry.fields:
                assert field.offset is not None
                place = entry.offset + field.offset
                assert MAIN[place : place + len(field.raw)] == field.raw
        assert link["target"] == "usr/bin"

    def test_too_many_entries_when_full(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mbtool.formats.initrd_contents.MAX_SHOWN", 5)
        node = look(MAIN, full=True)
        assert sum(child.kind == "cpio-entry" for child in node.children) == 5
        assert ids(node) == ["CPIO-MANY-ENTRIES"]

    def test_old_portable_format(self) -> None:
        assert "070707" in initrd.reject(BytesSource(b"070707" + bytes(104)))

    @pytest.mark.parametrize("data", [b"", b"070701", b"07070", bytes(4096), MAIN[:109], b"070703" + MAIN[6:]])
    def test_reject(self, data: bytes) -> None:
        assert initrd.reject(BytesSource(data))


class TestSegments:
    @pytest.mark.parametrize("codec", CODECS)
    def test_one_compressed(self, codec: str) -> None:
        node = look(CODECS[codec](MAIN))
        assert shape(node) == (codec, "cpio")
        assert ids(node) == []

    @pytest.mark.parametrize("codec", CODECS)
    def test_early_then_compressed(self, codec: str) -> None:
        packed = CODECS[codec](MAIN)
        node = look(EARLY + packed)
        assert shape(node) == ("initrd", "cpio", (codec, "cpio"))
        early, main = node.children
        assert (early.offset, early.size, main.offset, main.size) == (0, len(EARLY), len(EARLY), len(packed))
        assert (node["segments"], node["entries"], node["init"]) == (("cpio", codec), 16, "/init")
        assert node["uncompressed_size"] == len(EARLY) + len(MAIN)
        assert ids(node) == []

    @pytest.mark.parametrize("codec", CODECS)
    def test_compressed_then_raw_then_compressed(self, codec: str) -> None:
        """The kernel takes a raw archive at a multiple of 4 only, a compressed one anywhere."""
        packed = CODECS[codec](EARLY)
        node = look(aligned(packed) + MAIN + packed)
        assert shape(node) == ("initrd", (codec, "cpio"), "cpio", (codec, "cpio"))
        assert [child.size for child in node.children] == [len(packed), len(MAIN), len(packed)]
        assert node.children[0]["compressed_size"] == len(packed)
        assert set(ids(node)) == {"MICROCODE-NOT-EARLY"}

    @pytest.mark.parametrize("second", [codec for codec in CODECS if codec != "lzma"])
    def test_two_compressed(self, second: str) -> None:
        first = "xz" if second == "gzip" else "gzip"
        packed = CODECS[first](EARLY), CODECS[second](MAIN)
        assert shape(look(b"".join(packed))) == ("initrd", (first, "cpio"), (second, "cpio"))
        node = look(packed[0] + bytes(37) + packed[1] + bytes(512))
        assert shape(node) == ("initrd", (first, "cpio"), (second, "cpio"))
        assert node.children[1].offset == len(packed[0]) + 37

    def test_two_in_one_stream(self) -> None:
        node = look(gzip.compress(EARLY + MAIN))
        assert shape(node) == ("gzip", ("initrd", "cpio", "cpio"))
        node = look(gzip.compress(EARLY) + gzip.compress(MAIN))
        assert shape(node) == ("gzip", ("initrd", "cpio", "cpio"))

    def test_two_raw(self) -> None:
        node = look(EARLY + bytes(512) + MAIN)
        assert shape(node) == ("initrd", "cpio", "cpio")
        assert [(child.offset, child.size) for child in node.children] == [
            (0, len(EARLY) + 512),
            (len(EARLY) + 512, len(MAIN)),
        ]

    def test_zeros_first(self) -> None:
        node = look(bytes(1024) + MAIN)
        assert (shape(node), node.children[0].offset) == (("initrd", "cpio"), 1024)

    @pytest.mark.parametrize("zeros", range(1, 8))
    def test_alignment(self, zeros: int) -> None:
        packed = aligned(CODECS["xz"](EARLY))
        node = look(packed + bytes(zeros) + MAIN)
        assert ("INITRD-MISALIGNED" in ids(node)) == (zeros % 4 != 0)

    def test_zeros_behind_a_stream(self) -> None:
        assert shape(look(gzip.compress(MAIN) + bytes(509))) == ("gzip", "cpio")

    def test_stream_within_a_stream(self) -> None:
        node = look(gzip.compress(EARLY + lzma.compress(MAIN)))
        assert shape(node) == ("gzip", ("initrd", "cpio", ("xz", "cpio")))
        assert "INITRD-NESTED" in ids(node)

    def test_on_a_packed_disk(self, tool, tmp_path: Path) -> None:
        """There it is a file as any other, and its first archive an early one."""
        disk, file = tmp_path / "disk.img", tmp_path / "initrd.img"
        disk.write_bytes(bytes(1 << 20))
        file.write_bytes(EARLY + gzip.compress(MAIN))
        subprocess.run([tool("mkfs.vfat"), disk], check=True, capture_output=True)
        subprocess.run([tool("mcopy"), "-i", disk, file, "::"], check=True)
        plain, packed = (look(data, full=True) for data in (disk.read_bytes(), gzip.compress(disk.read_bytes())))
        initrds = [node.find("initrd") for node in (plain, packed)]
        assert initrds[0] is not None and initrds[0] == initrds[1]
        assert ids(initrds[0]) == []

    def test_other_content_keeps_its_kind(self) -> None:
        """Something behind a stream that is no archive is not an initrd."""
        assert look(gzip.compress(b"text") + MAIN).kind == "gzip"

    def test_many_segments(self) -> None:
        empty = build_cpio([], block=4)
        assert len(look(empty * 64).children) == 64
        node = look(empty * 100)
        assert (len(node.children), node.children[-1].kind) == (65, "data")
        assert node.children[-1].size == 36 * len(empty)

    def test_no_init(self) -> None:
        assert ids(look(build_cpio([Member("a")]) + build_cpio([Member("b")]))) == ["INITRD-NO-INIT"]

    def test_only_microcode(self) -> None:
        assert ids(look(EARLY + EARLY)) == ["INITRD-ONLY-MICROCODE"]


class TestDamage:
    def test_junk_behind(self) -> None:
        node = look(MAIN + b"junk" * 100)
        assert shape(node) == ("initrd", "cpio", "data")
        junk = node.children[1]
        assert (junk.offset, junk.size, ids(junk)) == (len(MAIN), 400, ["INITRD-JUNK"])

    def test_junk_between(self) -> None:
        node = look(EARLY + b"junk" + MAIN)
        assert shape(node) == ("initrd", "cpio", "data", "cpio")
        assert [child.offset for child in node.children] == [0, len(EARLY), len(EARLY) + 4]

    def test_junk_behind_a_stream(self) -> None:
        packed = gzip.compress(MAIN)
        node = look(packed + b"junkjunk")
        assert (shape(node), node.children[1].offset) == (("initrd", ("gzip", "cpio"), "data"), len(packed))

    @pytest.mark.parametrize("distance", [0, 4, 1 << 20, (1 << 20) - 4, (1 << 20) - 108, (1 << 20) - 112])
    def test_archive_far_behind_junk(self, distance: int) -> None:
        junk = b"\xff" * (distance + 4)
        node = look(MAIN + junk + MAIN)
        assert [child.size for child in node.children] == [len(MAIN), len(junk), len(MAIN)]

    def test_magic_destroyed(self) -> None:
        at = MAIN.index(b"070701", 200)
        node = look(MAIN[:at] + b"xxxxxx" + MAIN[at + 6 :])
        assert shape(node) == ("initrd", "cpio", "data", "cpio")
        assert ids(node) == ["CPIO-NO-TRAILER", "INITRD-JUNK"]
        assert sum(child["entries"] for child in node.children if child.kind == "cpio") == 10  # type: ignore[misc]

    def test_digits_destroyed(self) -> None:
        at = MAIN.index(b"070701", 200)
        node = look(MAIN[: at + 6] + b"zzzz" + MAIN[at + 10 :])
        assert (ids(node)[0], node["init"]) == ("CPIO-BAD-NUMBER", "/init")

    def test_no_trailer_before_a_stream(self) -> None:
        """Linux goes on from any member to the next segment; only the hard links may get mixed up."""
        archive = EARLY[: EARLY.rindex(b"070701")]
        node = look(archive + gzip.compress(MAIN))
        assert shape(node) == ("initrd", "cpio", ("gzip", "cpio"))
        assert ids(node) == ["CPIO-NO-TRAILER"]

    def test_damaged_stream(self) -> None:
        packed = bytearray(gzip.compress(MAIN + random.Random(1).randbytes(1 << 20)))
        packed[-8] ^= 0xFF  # gzip's CRC
        node = look(EARLY + bytes(packed))
        assert shape(node)[:2] == ("initrd", "cpio")  # type: ignore[index]
        assert "STREAM-DAMAGED" in ids(node)
        assert node["init"] == "/init"

    @pytest.mark.parametrize("size", [*range(110, len(MAIN), 13), *range(1000, 1130)])
    def test_truncated(self, size: int) -> None:
        node = look(MAIN[:size])
        assert node.kind in ("cpio", "initrd")
        assert ids(node) or size > MAIN.rindex(b"TRAILER!!!") + 10
        for part in node.children:
            assert part.offset + part.size <= size or part.kind != "cpio"
        look(gzip.compress(MAIN)[: size // 4 + 20])

    @given(st.integers(0, len(EARLY) + 200), st.binary(min_size=1, max_size=40), st.booleans())
    @settings(max_examples=150, deadline=None)
    def test_overwritten(self, at: int, junk: bytes, packed: bool) -> None:
        data = EARLY + (gzip.compress(MAIN, mtime=0) if packed else MAIN)
        data = data[:at] + junk + data[at + len(junk) :]
        if initrd.reject(BytesSource(data)):
            return
        node = look(data, full=True)
        assert node.size == len(data)

    def test_bomb(self) -> None:
        big = build_cpio([Member("init", bytes(1 << 20))]) * 8
        node = look(EARLY + gzip.compress(big), limits=Limits(max_output=2 << 20))
        assert shape(node)[:2] == ("initrd", "cpio")  # type: ignore[index]
        assert "LIMIT" in ids(node)

    def test_endless_members(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mbtool.formats.cpio_walk.MAX_MEMBERS", 100)
        node = look(build_cpio(Member(f"{n}") for n in range(200)))
        assert (node["entries"], ids(node)) == (100, ["LIMIT"])

    def test_many_module_trees(self) -> None:
        node = look(build_cpio(Member(f"lib/modules/{n}/a.ko") for n in range(200)))
        assert sum(child.kind == "kernel-modules" for child in node.children) == 64


class TestMicrocode:
    def test_vendors(self) -> None:
        intel, amd = look(EARLY).children
        assert (intel.kind, intel["vendor"], intel["updates"], intel["newest"]) == (
            "microcode",
            "Intel",
            1,
            "2024-07-06",
        )
        assert (amd["vendor"], amd["updates"], amd["newest"]) == ("AMD", 1, "2018-06-20")
        assert (EARLY[intel.offset : intel.offset + intel.size], EARLY[amd.offset : amd.offset + amd.size]) == (
            INTEL,
            AMD,
        )

    def test_init_is_not_missed(self) -> None:
        assert "init" not in [field.name for field in look(EARLY).fields]

    @pytest.mark.parametrize(
        ("data", "finding"),
        [(AMD, "MICROCODE-VENDOR"), (b"text", "MICROCODE-UNREADABLE"), (b"", "MICROCODE-UNREADABLE")],
    )
    def test_wrong_content(self, data: bytes, finding: str) -> None:
        assert ids(look(build_cpio([Member("kernel/x86/microcode/GenuineIntel.bin", data)]))) == [finding]

    def test_not_early(self) -> None:
        assert set(ids(look(MAIN + EARLY))) == set()  # raw archives are searched one after the other
        assert set(ids(look(gzip.compress(EARLY)))) == {"MICROCODE-NOT-EARLY"}
        assert set(ids(look(lzma.compress(MAIN) + bytes(4) + gzip.compress(EARLY)))) == {"MICROCODE-NOT-EARLY"}

    def test_lying_size(self) -> None:
        data = build_cpio([Member("kernel/x86/microcode/GenuineIntel.bin", INTEL)])
        for size in (0, 1, 47, len(INTEL) - 1, len(INTEL) + 500, 1 << 27, 0xFFFFFFFF):
            changed = data[:54] + b"%08X" % size + data[62:]
            for form in (changed, gzip.compress(changed)):
                assert look(form).find("cpio") is not None


class TestAgainstOthers:
    def test_memory_stays_constant(self) -> None:
        """Bodies of a stream are let go of as the walk goes on."""
        block = random.Random(2).randbytes(4 << 20)
        data = zstd(build_cpio([Member("a", block * 6), Member("b", block * 6), Member("init", b"#!/bin/sh\n")]))
        tracemalloc.start()
        try:
            node = look(data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert (node.children[0]["entries"], node.children[0]["init"]) == (3, "/init")
        assert peak < 24 << 20

    @pytest.mark.parametrize("codec", ["gzip", "xz", "zstd", "bzip2", "lz4"])
    def test_lsinitramfs_agrees(self, tool, tmp_path: Path, codec: str) -> None:
        path = tmp_path / "initrd.img"
        path.write_bytes(EARLY + CODECS[codec](MAIN))
        listing = subprocess.run([tool("lsinitramfs"), path], capture_output=True, text=True, check=True).stdout
        node = look(path.read_bytes(), full=True)
        assert [part["name"] for part in node.walk() if part.kind == "cpio-entry"] == listing.splitlines()

    @pytest.mark.real
    def test_debian_installer(self, tool, debian: Callable[[str], Path]) -> None:
        images = debian("debian-installer-12-netboot-amd64") / "usr/lib/debian-installer/images/12/amd64"
        path = images / "text/debian-installer/amd64/initrd.gz"
        command = f"gzip -dc '{path}' | '{tool('cpio')}' -t --quiet"
        names = subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout.splitlines()
        with open_file(path) as source:
            node = identify.inspect(source, full=True)
        assert shape(node) == ("gzip", "cpio")
        (archive,) = node.children
        assert [part["name"] for part in archive.children if part.kind == "cpio-entry"] == names
        assert (archive["generator"], archive["init"]) == ("debian-installer", "/init")
        modules = archive.find("kernel-modules")
        assert modules is not None
        assert modules["modules"] == sum(name.startswith("lib/modules/") and name.endswith(".ko") for name in names)
        assert ids(node) == []

    @pytest.mark.real
    def test_iucode_tool_early_initrd(self, debian: Callable[[str], Path], tmp_path: Path) -> None:
        bundle, early = tmp_path / "ucode.bin", tmp_path / "early.cpio"
        bundle.write_bytes(build_intel(IntelUpdate(rev=1, date=0x07062024, sig=0x906EA, pf=2, data=bytes(976))))
        program = debian("iucode-tool") / "usr/sbin/iucode_tool"
        subprocess.run([str(program), "-q", f"--write-earlyfw={early}", str(bundle)], check=True)
        node = look(early.read_bytes())
        microcode = node.find("microcode")
        assert microcode is not None
        assert (node.kind, microcode["updates"], microcode["newest"], ids(node)) == ("cpio", 1, "2024-07-06", [])
        assert struct.unpack_from("<I", early.read_bytes(), microcode.offset) == (1,)
