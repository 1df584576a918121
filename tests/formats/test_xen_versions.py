"""Versions in text, and the table of what they do differently."""

from __future__ import annotations

import pytest

from mbtool.errors import InputError, UnsupportedError
from mbtool.formats import xen_versions
from mbtool.formats.xen_versions import NEWEST, OLDEST, TABLE, parse


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("4.14", (4, 14)),
        ("4.17.7", (4, 17)),
        ("4.22.0", (4, 22)),
        ("4.17.7-rc1", (4, 17)),
        ("4.18-unstable", (4, 18)),
    ],
)
def test_parse(text: str, release: tuple[int, int]) -> None:
    version = parse(text)
    assert version.release == release
    assert str(version) == text
    assert version.known


@pytest.mark.parametrize("text", ["", "4", "xen-4.17", "four.two", "4.", "4.1234", ".17"])
def test_no_version(text: str) -> None:
    with pytest.raises(InputError, match="is no Xen version"):
        parse(text)


def test_too_old() -> None:
    with pytest.raises(UnsupportedError, match=r"4\.13.*older.*4\.14"):
        parse("4.13.4")


@pytest.mark.parametrize("text", ["4.23-unstable", "4.99", "5.0"])
def test_newer_ones_behave_as_the_newest(text: str) -> None:
    version = parse(text)
    assert not version.known
    assert (version.codecs, version.pm_bits, version.cmdline_limit) == (
        NEWEST.codecs,
        NEWEST.pm_bits,
        NEWEST.cmdline_limit,
    )


def test_table_has_every_release_once_in_order() -> None:
    assert [row.release for row in TABLE] == [(4, minor) for minor in range(14, 23)]
    assert (OLDEST.name, NEWEST.name) == ("4.14", "4.22")


def test_differences() -> None:
    """Each column's turning point, as the release tags have it."""

    def since(column: str) -> str:
        values = [getattr(row, column) for row in TABLE]
        turns = [TABLE[i].name for i in range(1, len(TABLE)) if values[i] != values[i - 1]]
        assert len(turns) == 1, column
        return turns[0]

    assert {
        column: since(column)
        for column in ("codecs", "acpi_as_given", "every_line", "notes_know_pvh", "pae_for_64bit", "efi_keeps_name",
                       "exact_paging", "phys32_reloc", "pv32_missed", "pvh_offset_alone",
                       "pvh_says_dom0", "pm_bits", "cmdline_limit", "cmdline_always",
                       "unconstructed")
    } == {
        "codecs": "4.15",
        "acpi_as_given": "4.15",
        "every_line": "4.16",
        "notes_know_pvh": "4.16",
        "pv32_missed": "4.16",
        "exact_paging": "4.17",
        "pvh_offset_alone": "4.18",
        "pae_for_64bit": "4.18",
        "efi_keeps_name": "4.19",
        "phys32_reloc": "4.19",
        "pm_bits": "4.21",
        "cmdline_limit": "4.21",
        "cmdline_always": "4.21",
        "unconstructed": "4.21",
        "pvh_says_dom0": "4.22",
    }  # fmt: skip
    assert xen_versions.CODECS_4_14 | {"zstd"} == xen_versions.CODECS_4_15
