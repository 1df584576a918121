"""Microcode updates of Intel and AMD: laid out by hand, built, broken, and read by iucode_tool."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbtool import identify
from mbtool.errors import FormatError
from mbtool.formats import microcode_shared
from mbtool.formats.microcode_amd import (
    ENTRY,
    PATCH,
    AmdContainer,
    AmdPatch,
    EquivEntry,
    build_amd,
    parse_amd,
)
from mbtool.formats.microcode_intel import (
    HEADER,
    HEADER_SIZE,
    TABLE,
    ExtendedSignature,
    ExtendedTable,
    IntelUpdate,
    build_intel,
    parse_intel,
)
from mbtool.formats.microcode_shared import cpu_name, dword_sum, iso_date
from mbtool.model import Node
from mbtool.source import BytesSource

# One update with one more signature, its three checksums worked out by hand: all words of header and data, and
# all words of the table, add up to 0 modulo 2**32.
INTEL = struct.pack(
    "<12I4I8I",
    1,  # hdrver
    0x10,  # rev
    0x07062024,  # date
    0x000906EA,  # sig
    0xF8F0D84D,  # cksum
    1,  # ldrver
    0x22,  # pf
    16,  # datasize
    96,  # totalsize
    *(0, 0, 0),  # metasize, min_req_ver, reserved
    *(0, 0, 0, 1),  # data
    1,  # count of signatures
    0x070620A6,  # cksum of the table
    *(0, 0, 0),  # reserved
    0x000906EB,  # sig
    0x02,  # pf
    0xF8F0D86C,  # cksum: that of the header, had it this sig and pf
)
UPDATE = IntelUpdate(
    rev=0x10,
    date=0x07062024,
    sig=0x906EA,
    pf=0x22,
    data=bytes(12) + b"\1\0\0\0",
    table=ExtendedTable((ExtendedSignature(0x906EB, 2),)),
)

AMD = (
    struct.pack("<3I", 0x00414D44, 0, 48)  # magic, equivalence table, its bytes
    + struct.pack("<3I2H", 0x00800F12, 0, 0, 0x8012, 0)  # installed_cpu, errata, equiv_cpu
    + struct.pack("<3I2H", 0x00800F82, 0, 0, 0x8082, 0)
    + bytes(16)
    + struct.pack("<2I", 1, 68)  # an update, its bytes
    + struct.pack("<2I", 0x06202018, 0x0800820B)  # data_code, patch_id
    + struct.pack("<HBB", 0x8004, 0, 0)  # mc_patch_data_id, _len, init_flag
    + struct.pack("<3I", 0xCAFE, 0, 0)  # checksum, nb_dev_id, sb_dev_id
    + struct.pack("<H3B3s", 0x8082, 1, 2, 3, b"\xaa\xaa\xaa")  # processor_rev_id, nb, sb, api revisions, reserved
    + struct.pack("<8I", *range(8))  # match_reg
    + b"ucod"
)
CONTAINER = AmdContainer(
    (EquivEntry(0x800F12, 0x8012), EquivEntry(0x800F82, 0x8082), EquivEntry(0, 0)),
    (
        AmdPatch(
            data_code=0x06202018,
            patch_id=0x0800820B,
            processor_rev_id=0x8082,
            body=b"ucod",
            mc_patch_data_id=0x8004,
            mc_patch_data_checksum=0xCAFE,
            nb_rev_id=1,
            sb_rev_id=2,
            bios_api_rev=3,
            reserved1=b"\xaa\xaa\xaa",
            match_reg=tuple(range(8)),
        ),
    ),
)


def look(data: bytes) -> Node:
    return identify.inspect(BytesSource(data))


def ids(node: Node) -> list[str]:
    return [finding.id for part in node.walk() for finding in part.findings]


class TestShared:
    def test_date(self) -> None:
        assert iso_date(0x07062024) == "2024-07-06"

    @pytest.mark.parametrize(
        ("signature", "words"),
        [
            (0x000906EA, "family 0x6 model 0x9e stepping 10"),  # Coffee Lake
            (0x00000F4A, "family 0xf model 0x4 stepping 10"),  # Prescott
            (0x00800F82, "family 0x17 model 0x8 stepping 2"),  # Pinnacle Ridge
            (0x00000633, "family 0x6 model 0x3 stepping 3"),
            (0x000000543, "family 0x5 model 0x4 stepping 3"),
        ],
    )
    def test_cpu_name(self, signature: int, words: str) -> None:
        assert cpu_name(signature) == words

    @given(st.binary(max_size=300))
    def test_dword_sum(self, data: bytes) -> None:
        words = (int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data) & ~3, 4))
        assert dword_sum(data) == sum(words) % 2**32


class TestIntel:
    def test_layout(self) -> None:
        assert HEADER.size == HEADER_SIZE == 48
        assert (HEADER.offsets["cksum"], HEADER.offsets["totalsize"]) == ((16, 4), (32, 4))
        assert TABLE.size == 20

    def test_literal(self) -> None:
        assert parse_intel(INTEL) == UPDATE
        assert build_intel(UPDATE) == INTEL

    def test_node(self) -> None:
        node = look(INTEL * 2)
        assert (node.kind, node["vendor"], node["updates"], node["newest"]) == (
            "microcode",
            "Intel",
            2,
            "2024-07-06",
        )
        assert [(child.kind, child.offset, child.size) for child in node.children] == [
            ("microcode-update", 0, 96),
            ("microcode-update", 96, 96),
        ]
        (first, _) = node.children
        assert (first["rev"], first["sig"], first["pf"], first["date"]) == (0x10, 0x906EA, 0x22, "2024-07-06")
        assert first["also_for"] == (0x906EB,)
        assert ids(node) == ["MICROCODE-SIZE"] * 2  # 96 bytes: Xen wants a multiple of 1024

    def test_without_sizes(self) -> None:
        update = IntelUpdate(rev=1, date=0x06101998, sig=0x1632, pf=0, data=bytes(2000), sized=False)
        data = build_intel(update)
        assert (len(data), data[28:36]) == (2048, bytes(8))
        assert parse_intel(data) == update
        assert ids(look(data)) == []
        with pytest.raises(FormatError):
            build_intel(IntelUpdate(rev=1, date=0, sig=0, pf=0, data=bytes(1996), sized=False))

    @pytest.mark.parametrize("at", [*range(48, 64), *range(64, 96), 4, 12, 40])
    def test_changed_byte(self, at: int) -> None:
        data = INTEL[:at] + bytes([INTEL[at] ^ 0x10]) + INTEL[at + 1 :]
        with pytest.raises(FormatError):
            parse_intel(data)
        assert "MICROCODE-CHECKSUM" in ids(look(data))

    @pytest.mark.parametrize("size", range(96))
    def test_truncated(self, size: int) -> None:
        node = look(INTEL + INTEL[:size])
        assert node["updates"] == 1 + (size >= 48)
        assert ("MICROCODE-UNREADABLE" in ids(node)) == (size > 0)
        with pytest.raises(FormatError):
            parse_intel(INTEL[:size])

    @pytest.mark.parametrize("field", range(12))
    @pytest.mark.parametrize("value", [0, 1, 47, 48, 95, 97, 0x7FFFFFFF, 0xFFFFFFFF])
    def test_lying_fields(self, field: int, value: int) -> None:
        data = INTEL + INTEL[: field * 4] + struct.pack("<I", value) + INTEL[field * 4 + 4 :]
        node = look(data)
        assert node.children[0]["rev"] == 0x10
        assert all(child.offset + child.size <= len(data) for child in node.children)

    @pytest.mark.parametrize("count", [0, 2, 0x15555555, 0xFFFFFFFF])
    def test_lying_count(self, count: int) -> None:
        data = INTEL[:64] + struct.pack("<I", count) + INTEL[68:]
        assert "MICROCODE-CHECKSUM" in ids(look(data))

    @pytest.mark.parametrize(("size", "fits"), [(976, True), (972, False), (980, False), (2000, True)])
    def test_xen_wants_whole_kilobytes(self, size: int, fits: bool) -> None:
        data = build_intel(IntelUpdate(rev=1, date=0x01012020, sig=0x906EA, pf=1, data=bytes(size)))
        assert ids(look(data)) == ([] if fits else ["MICROCODE-SIZE"])

    @given(
        st.builds(
            IntelUpdate,
            rev=st.integers(0, 0xFFFFFFFF),
            date=st.integers(0, 0xFFFFFFFF),
            sig=st.integers(0, 0xFFFFFFFF),
            pf=st.integers(0, 0xFFFFFFFF),
            data=st.integers(1, 20).flatmap(lambda words: st.binary(min_size=4 * words, max_size=4 * words)),
            metasize=st.integers(0, 0xFFFFFFFF),
            min_req_ver=st.integers(0, 0xFFFFFFFF),
            reserved=st.integers(0, 0xFFFFFFFF),
            table=st.none()
            | st.builds(
                ExtendedTable,
                st.lists(
                    st.builds(ExtendedSignature, st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF)), max_size=3
                ).map(tuple),
                st.tuples(*[st.integers(0, 0xFFFFFFFF)] * 3),
            ),
        )
    )
    def test_round_trip(self, update: IntelUpdate) -> None:
        data = build_intel(update)
        assert parse_intel(data) == update
        assert dword_sum(data[: HEADER_SIZE + len(update.data)]) == 0
        assert dword_sum(data[HEADER_SIZE + len(update.data) :]) == 0

    @pytest.mark.real
    def test_against_iucode_tool(self, debian: Callable[[str], Path], tmp_path: Path) -> None:
        updates = [
            IntelUpdate(
                rev=0x20, date=0x02012019, sig=0x000306C3, pf=0x32, data=bytes(range(256)) * 8 + bytes(976)
            ),
            IntelUpdate(
                rev=0x80000001,
                date=0x12312018,
                sig=0x000906EA,
                pf=0x22,
                data=bytes(2000 - 44),
                table=ExtendedTable((ExtendedSignature(0x906EB, 2), ExtendedSignature(0x906EC, 4))),
            ),
        ]
        path = tmp_path / "ucode.bin"
        path.write_bytes(b"".join(map(build_intel, updates)))
        assert ids(look(path.read_bytes())) == []
        program = debian("iucode-tool") / "usr/sbin/iucode_tool"
        command = [str(program), "--strict-checks", "-tb", "-L", str(path)]
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert [line[line.index("sig") :] for line in listing.splitlines() if "sig 0x" in line] == [
            "sig 0x000306c3, pf_mask 0x32, 2019-02-01, rev 0x0020, size 3072",
            "sig 0x000906ea, pf_mask 0x22, 2018-12-31, rev 0x80000001, size 2048",
            "sig 0x000906eb, pf_mask 0x02, 2018-12-31, rev 0x80000001",
            "sig 0x000906ec, pf_mask 0x04, 2018-12-31, rev 0x80000001",
        ]


class TestAmd:
    def test_layout(self) -> None:
        assert (PATCH.size, ENTRY.size) == (64, 16)
        assert PATCH.offsets["processor_rev_id"] == (24, 2)

    def test_literal(self) -> None:
        assert parse_amd(AMD) == (CONTAINER,)
        assert build_amd([CONTAINER]) == AMD
        assert parse_amd(AMD * 2) == (CONTAINER, CONTAINER)

    def test_node(self) -> None:
        node = look(AMD * 2)
        assert (node["vendor"], node["updates"], node["newest"], ids(node)) == ("AMD", 2, "2018-06-20", [])
        first, second = node.children
        assert (first.offset, first.size, second.offset) == (60, 76, 60 + 136)
        assert (first["patch_id"], first["date"], first["cpus"]) == (0x0800820B, "2018-06-20", (0x800F82,))

    def test_unnamed_processor(self) -> None:
        assert ids(look(AMD.replace(b"\x82\x80\0\0", b"\x83\x80\0\0", 1))) == ["MICROCODE-NO-CPU"]

    def test_chipset(self) -> None:
        at = 60 + 8 + PATCH.offsets["nb_dev_id"][0]
        assert ids(look(AMD[:at] + b"\1" + AMD[at + 1 :])) == ["MICROCODE-CHIPSET"]

    @pytest.mark.parametrize("size", range(4, len(AMD)))
    def test_truncated(self, size: int) -> None:
        node = look(AMD[:size])
        assert ids(node) == ([] if size == 60 else ["MICROCODE-UNREADABLE"])
        assert look(AMD + AMD[:size])["updates"] == 1

    @pytest.mark.parametrize("at", [4, 8, 60, 64])
    @pytest.mark.parametrize("value", [0, 1, 15, 17, 63, 69, 0x7FFFFFFF, 0xFFFFFFFF])
    def test_lying_fields(self, at: int, value: int) -> None:
        data = AMD[:at] + struct.pack("<I", value) + AMD[at + 4 :]
        if data == AMD:
            return
        node = look(AMD + data)
        assert node.children[0]["patch_id"] == 0x0800820B
        assert all(child.offset + child.size <= 2 * len(AMD) for child in node.children)

    @given(
        st.lists(
            st.builds(
                AmdContainer,
                st.lists(
                    st.builds(
                        EquivEntry, st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFF), reserved=st.integers(0, 9)
                    )
                ).map(tuple),
                st.lists(
                    st.builds(
                        AmdPatch,
                        st.integers(0, 0xFFFFFFFF),
                        st.integers(0, 0xFFFFFFFF),
                        st.integers(0, 0xFFFF),
                        st.binary(max_size=90),
                        nb_dev_id=st.integers(0, 0xFFFFFFFF),
                        reserved1=st.binary(min_size=3, max_size=3),
                    ),
                    max_size=3,
                ).map(tuple),
            ),
            max_size=3,
        )
    )
    def test_round_trip(self, containers: list[AmdContainer]) -> None:
        data = build_amd(containers)
        assert parse_amd(data) == tuple(containers)
        if containers:
            assert look(data)["updates"] == sum(len(container.patches) for container in containers)


@pytest.mark.parametrize("update", [INTEL, AMD])
def test_many_updates_are_bounded(update: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microcode_shared, "MAX_UPDATES", 3)
    assert "MICROCODE-MANY" not in ids(look(update * 3))
    node = look(update * 5)
    assert node["updates"] == 3
    assert [finding.id for finding in node.findings] == ["MICROCODE-MANY"]


class TestUnknown:
    @pytest.mark.parametrize("data", [b"", b"DMA", INTEL[:47], b"\2" + INTEL[1:], bytes(48)])
    def test_reject(self, data: bytes) -> None:
        from mbtool.formats import microcode

        assert microcode.reject(BytesSource(data))
