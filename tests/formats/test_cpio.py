"""cpio archives: the header's bytes, walks, builds, and agreement with cpio(1)."""

from __future__ import annotations

import os
import stat
import subprocess
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbtool.errors import FormatError, LimitError
from mbtool.formats import cpio_walk
from mbtool.formats.cpio import (
    CRC,
    HEADER_SIZE,
    NEWC,
    PATH_MAX,
    Header,
    Member,
    build_cpio,
    build_header,
    build_member,
    parse_header,
)
from mbtool.formats.cpio_walk import Archive, Entry
from mbtool.source import BytesSource

# One file "init" with "#!/bin/sh\n", then the trailer, laid out by hand from buffer-format.rst.
LITERAL = (
    b"070701"  # c_magic
    b"00000001"  # c_ino
    b"000081ED"  # c_mode: regular file, rwxr-xr-x
    b"00000002"  # c_uid
    b"00000003"  # c_gid
    b"00000001"  # c_nlink
    b"65A0BC00"  # c_mtime
    b"0000000A"  # c_filesize
    b"00000008"  # c_maj
    b"00000004"  # c_min
    b"00000005"  # c_rmaj
    b"00000006"  # c_rmin
    b"00000005"  # c_namesize
    b"00000000"  # c_chksum
    b"init\0"
    b"\0"  # 115 bytes: the body starts at 116
    b"#!/bin/sh\n"
    b"\0\0"  # 126 bytes: the next member starts at 128
    b"070701" + b"00000000" * 4 + b"00000001" + b"00000000" * 6 + b"0000000B" + b"00000000"
    b"TRAILER!!!\0"
    b"\0\0\0"  # 110 + 11 bytes, padded to 124
)
HEADER = Header(NEWC, 1, 0o100755, 2, 3, 1, 0x65A0BC00, 10, 8, 4, 5, 6, 5, 0)


def walk(data: bytes) -> tuple[list[Entry], Archive]:
    archive = Archive(BytesSource(data))
    return list(archive), archive


def ids(archive: Archive) -> list[str]:
    return [finding.id for finding in archive.findings.all()]


def rebuilt(data: bytes) -> bytes:
    """The archive made anew from what a walk of it gives, without the zeros behind it."""
    members = []
    for entry in walk(data)[0]:
        members.append(build_member(entry.header, entry.name_field, data[entry.data_offset : entry.data_end]))
    magic = data[:6]
    return b"".join(members) + build_member(Header(magic, 0, 0, 0, 0, 1, *[0] * 8), b"TRAILER!!!\0", b"")


class TestLiteral:
    def test_layout(self) -> None:
        assert len(LITERAL) == 128 + 124
        assert len(fields(Header)) == 14
        assert len(build_header(HEADER)) == HEADER_SIZE == 6 + 13 * 8

    def test_header(self) -> None:
        assert parse_header(LITERAL) == HEADER
        assert build_header(HEADER) == LITERAL[:110]

    def test_walk(self) -> None:
        (entry,), archive = walk(LITERAL)
        assert (entry.name, entry.name_field, entry.raw_header) == (b"init", b"init\0", LITERAL[:110])
        assert (entry.offset, entry.data_offset, entry.data_end, entry.end) == (0, 116, 126, 128)
        assert (archive.end, archive.trailer, ids(archive)) == (252, True, [])

    def test_rebuild(self) -> None:
        assert rebuilt(LITERAL) == LITERAL

    def test_lower_case_digits(self) -> None:
        assert parse_header(LITERAL[:110].lower()) == HEADER

    def test_checksum(self) -> None:
        body = b"#!/bin/sh\n"
        data = build_cpio([Member("init", body)], crc=True)
        assert data[102:110] == b"%08X" % (0x23 + 0x21 + 0x2F + 0x62 + 0x69 + 0x6E + 0x2F + 0x73 + 0x68 + 0x0A)
        assert ids(walk(data)[1]) == []
        wrong = data.replace(body, b"#?/bin/sh\n")
        (finding,) = walk(wrong)[1].findings.all()
        assert (finding.id, finding.offset, finding.expected, finding.found) == (
            "CPIO-CHECKSUM",
            0,
            "0x000002c0",
            "0x000002de",
        )


class TestDamage:
    """Each damage is one finding at its place; the members before it are all there."""

    FIRST = LITERAL[:128]
    END = LITERAL[128:]

    def test_no_trailer(self) -> None:
        entries, archive = walk(self.FIRST)
        (finding,) = archive.findings.all()
        assert (len(entries), finding.id, finding.offset) == (1, "CPIO-NO-TRAILER", 128)

    def test_no_trailer_and_zeros(self) -> None:
        entries, archive = walk(self.FIRST + bytes(384))
        assert (len(entries), ids(archive), archive.end) == (1, ["CPIO-NO-TRAILER"], 128)

    def test_zeros_between_members(self) -> None:
        entries, archive = walk(self.FIRST + bytes(4096) + LITERAL)
        assert ([entry.offset for entry in entries], ids(archive)) == ([0, 128 + 4096], [])

    def test_misaligned_member(self) -> None:
        entries, archive = walk(self.FIRST + bytes(2) + LITERAL)
        assert (len(entries), ids(archive)[0], archive.findings.all()[0].offset) == (2, "CPIO-MISALIGNED", 130)

    def test_bad_magic(self) -> None:
        entries, archive = walk(self.FIRST + b"070707" + LITERAL[6:])
        assert (len(entries), ids(archive), archive.end) == (1, ["CPIO-NO-TRAILER"], 128)

    @pytest.mark.parametrize("digit", [b"G", b" ", b"\0", b"+", b"\xff"])
    def test_bad_digit(self, digit: bytes) -> None:
        entries, archive = walk(self.FIRST + LITERAL[:50] + digit + LITERAL[51:])
        (finding,) = archive.findings.all()
        assert (len(entries), finding.id, finding.offset, archive.end) == (1, "CPIO-BAD-NUMBER", 128, 128)

    def test_name_without_nul(self) -> None:
        entries, archive = walk(LITERAL.replace(b"init\0", b"initX"))
        assert (entries[0].name, ids(archive)) == (b"initX", ["CPIO-NAME-UNTERMINATED"])

    def test_name_padded_with_nuls(self) -> None:
        """iucode_tool aligns the body by NULs behind the name; Linux takes the name up to the first."""
        data = build_member(HEADER, b"init" + bytes(20), b"#!/bin/sh\n") + self.END
        entries, archive = walk(data)
        assert (entries[0].name, entries[0].data_offset, ids(archive)) == (b"init", 136, [])
        assert rebuilt(data) == data

    @pytest.mark.parametrize(
        ("name", "finding"),
        [
            (b"/init", "CPIO-NAME-ABSOLUTE"),
            (b"../init", "CPIO-NAME-UPWARD"),
            (b"a/../init", "CPIO-NAME-UPWARD"),
            (b"..", "CPIO-NAME-UPWARD"),
            (b"a..b", None),
            (b"...", None),
            (b"./init", None),
        ],
    )
    def test_names(self, name: bytes, finding: str | None) -> None:
        assert ids(walk(build_cpio([Member(name)]))[1]) == ([finding] if finding else [])

    def test_padding_not_zero(self) -> None:
        name = LITERAL[:115] + b"x" + LITERAL[116:]
        body = LITERAL[:126] + b"yz" + LITERAL[128:]
        assert [(f.id, f.offset, f.found) for f in walk(name)[1].findings.all()] == [("CPIO-PADDING", 115, "78")]
        assert [(f.id, f.offset, f.found) for f in walk(body)[1].findings.all()] == [("CPIO-PADDING", 126, "797a")]

    @pytest.mark.parametrize(("size", "skipped"), [(0, True), (1, False), (PATH_MAX, False), (PATH_MAX + 1, True)])
    def test_name_size(self, size: int, skipped: bool) -> None:
        field = b"n" * (size - 1) + b"\0" if size else b""
        entries, archive = walk(build_member(HEADER, field, b"") + self.END)
        assert (len(entries), ids(archive)) == (1, ["CPIO-SKIPPED"] if skipped else [])

    @pytest.mark.parametrize(
        ("kind", "size", "skipped"),
        [
            (stat.S_IFLNK, PATH_MAX, False),
            (stat.S_IFLNK, PATH_MAX + 1, True),
            (stat.S_IFDIR, 0, False),
            (stat.S_IFDIR, 1, True),
            (stat.S_IFREG, PATH_MAX + 1, False),
        ],
    )
    def test_body_size(self, kind: int, size: int, skipped: bool) -> None:
        archive = walk(build_cpio([Member("x", bytes(size), kind | 0o755)]))[1]
        assert ids(archive) == (["CPIO-SKIPPED"] if skipped else [])

    @pytest.mark.parametrize("size", range(len(LITERAL)))
    def test_truncated(self, size: int) -> None:
        entries, archive = walk(LITERAL[:size])
        assert archive.end <= size
        assert len(entries) == (size >= 115)
        if size in (0, *range(126, 129)):
            assert ids(archive) == ["CPIO-NO-TRAILER"]
        elif size >= 128 + 121:
            assert ids(archive) == []  # the last padding does not matter
        elif size < 6 or 128 < size < 134:
            assert ids(archive) == ["CPIO-NO-TRAILER"]  # not even a magic is left
        else:
            assert ids(archive) == ["CPIO-TRUNCATED"]

    @pytest.mark.parametrize("number", range(13))
    @pytest.mark.parametrize("value", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF, len(LITERAL)])
    def test_lying_numbers(self, number: int, value: int) -> None:
        at = 6 + 8 * number
        data = LITERAL[:at] + b"%08X" % value + LITERAL[at + 8 :]
        entries, archive = walk(data)
        assert archive.end <= len(data)
        assert len(entries) <= 2

    def test_endless_findings_are_counted(self) -> None:
        archive = walk(build_cpio(Member(f"/{n}") for n in range(100)))[1]
        assert ids(archive) == ["CPIO-NAME-ABSOLUTE"] * 9
        assert archive.findings.all()[-1].message == "92 more like this"

    def test_too_many_members(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cpio_walk, "MAX_MEMBERS", 3)
        assert len(walk(build_cpio(Member(f"{n}") for n in range(3)))[0]) == 3
        with pytest.raises(LimitError):
            walk(build_cpio(Member(f"{n}") for n in range(4)))


class TestBuild:
    def test_is_deterministic_and_padded(self) -> None:
        members = [Member("d", mode=stat.S_IFDIR | 0o755), Member("d/f", b"x", mtime=7)]
        data = build_cpio(members)
        assert data == build_cpio(members)
        assert len(data) % 512 == 0
        entries, _ = walk(data)
        assert [entry.header.c_ino for entry in entries] == [1, 2]
        assert [entry.header.c_nlink for entry in entries] == [2, 1]
        assert [entry.header.c_mtime for entry in entries] == [0, 7]

    @pytest.mark.parametrize("name", ["", "a\0b", "TRAILER!!!", "x" * PATH_MAX])
    def test_refuses_names(self, name: str) -> None:
        with pytest.raises(FormatError):
            build_cpio([Member(name)])

    def test_refuses_large_numbers(self) -> None:
        with pytest.raises(FormatError):
            build_cpio([Member("x", mtime=1 << 32)])
        with pytest.raises(FormatError):
            build_header(replace(HEADER, c_uid=-1))

    @given(
        st.lists(
            st.builds(
                Member,
                name=st.binary(min_size=1, max_size=40).filter(
                    lambda name: b"\0" not in name and name != b"TRAILER!!!"
                ),
                data=st.binary(max_size=70),
                mode=st.sampled_from([stat.S_IFREG | 0o644, stat.S_IFREG | 0o755]),
                mtime=st.integers(0, 0xFFFFFFFF),
                uid=st.integers(0, 0xFFFFFFFF),
                gid=st.integers(0, 0xFFFFFFFF),
                rdev=st.tuples(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF)),
            ),
            max_size=6,
        ),
        st.booleans(),
    )
    def test_round_trip(self, members: list[Member], crc: bool) -> None:
        data = build_cpio(members, crc=crc, block=4)
        entries, archive = walk(data)
        assert [(entry.name, data[entry.data_offset : entry.data_end]) for entry in entries] == [
            (member.name, member.data) for member in members
        ]
        assert [(e.header.c_mtime, e.header.c_uid, e.header.c_gid) for e in entries] == [
            (member.mtime, member.uid, member.gid) for member in members
        ]
        assert (archive.end, archive.trailer) == (len(data), True)
        assert rebuilt(data) == data

    @given(st.binary(max_size=300), st.integers(0, len(LITERAL)))
    @settings(max_examples=200)
    def test_hostile(self, junk: bytes, at: int) -> None:
        data = LITERAL[:at] + junk + LITERAL[at:]
        _, archive = walk(data)
        assert archive.end <= len(data)


class TestAgainstCpio:
    """GNU cpio as the second opinion, both ways."""

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        root = tmp_path / "tree"
        (root / "bin").mkdir(parents=True)
        (root / "empty").touch()
        (root / "bin" / "busybox").write_bytes(os.urandom(70_000))
        (root / "bin" / "sh").symlink_to("busybox")
        (root / "bin" / "ls").hardlink_to(root / "bin" / "busybox")
        (root / "init").write_bytes(b"#!/bin/sh\n")
        for size in range(9):
            (root / f"size{size}").write_bytes(b"x" * size)
        return root

    def run(self, folder: Path, *command: str, data: bytes = b"") -> bytes:
        return subprocess.run(command, cwd=folder, input=data, capture_output=True, check=True).stdout

    @pytest.mark.parametrize(("form", "magic"), [("newc", NEWC), ("crc", CRC)])
    def test_reads_what_cpio_writes(self, tool, tree: Path, form: str, magic: bytes) -> None:
        names = self.run(tree, "find", ".", "-mindepth", "1", "-printf", "%P\\n")
        data = self.run(tree, tool("cpio"), "-o", "-H", form, "--quiet", data=names)
        entries, archive = walk(data)
        assert (archive.trailer, ids(archive)) == (True, [])
        assert b"\n".join(entry.name for entry in entries) + b"\n" == names
        assert {entry.header.c_magic for entry in entries} == {magic}
        for entry in entries:
            path = tree / os.fsdecode(entry.name)
            about = path.lstat()
            header = entry.header
            assert (header.c_mode, header.c_mtime, header.c_nlink) == (
                about.st_mode,
                int(about.st_mtime),
                about.st_nlink,
            )
            body = data[entry.data_offset : entry.data_end]
            if path.is_symlink():
                assert body == b"busybox"
            elif path.is_file() and about.st_nlink == 1:
                assert body == path.read_bytes()
        assert rebuilt(data) + bytes(-len(rebuilt(data)) % 512) == data

    @pytest.mark.parametrize("crc", [False, True])
    def test_cpio_reads_what_is_built(self, tool, tmp_path: Path, crc: bool) -> None:
        members = [
            Member("etc", mode=stat.S_IFDIR | 0o755),
            Member("etc/passwd", b"root\n", mtime=86400),
            Member("sh", b"etc/passwd", mode=stat.S_IFLNK | 0o777),
            Member("one", ino=77, nlink=2),
            Member("two", b"linked", ino=77, nlink=2),
        ]
        data = build_cpio(members, crc=crc)
        listing = self.run(tmp_path, tool("cpio"), "-t", "--quiet", data=data)
        assert listing.decode().split() == [member.name for member in members]
        self.run(tmp_path, tool("cpio"), "-idm", "--quiet", data=data)
        assert (tmp_path / "etc" / "passwd").read_bytes() == b"root\n"
        assert (tmp_path / "etc" / "passwd").stat().st_mtime == 86400
        assert (tmp_path / "sh").readlink() == Path("etc/passwd")
        assert (tmp_path / "one").read_bytes() == b"linked"
        assert (tmp_path / "one").samefile(tmp_path / "two")
