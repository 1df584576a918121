"""What a Xen image, or the version that was named, says about the Xen to plan for."""

from __future__ import annotations

import pytest

from mbtool.build.xen_image import Hypervisor, hypervisor
from mbtool.errors import InputError, MbtoolError, UnsupportedError
from mbtool.formats.xen_versions import NEWEST
from mbtool.source import BytesSource, Limits, open_file
from tests.oracle.recording import DATA

LIMITS = Limits()


def configured(*lines: str) -> Hypervisor:
    return Hypervisor(NEWEST, config=lines)


def test_settings() -> None:
    """Not set is not the same as not known."""
    told = configured("CONFIG_PV=y", "CONFIG_PV32=y", 'CONFIG_DOM0_MEM="1G,max:2G"')
    assert (told.pv32, told.video, told.dom0_mem) == (True, False, "1G,max:2G")
    assert (configured("CONFIG_VIDEO=y").pv32, configured("CONFIG_VIDEO=y").video) == (False, True)
    unknown = Hypervisor(NEWEST)
    assert (unknown.pv32, unknown.video, unknown.dom0_mem) == (True, True, "")
    assert not configured("CONFIG_PV32_OTHER=y").pv32


def test_without_an_image() -> None:
    assert hypervisor(None, None, LIMITS).assumption == f"Xen {NEWEST}, the newest known"
    assert hypervisor("4.17.3", None, LIMITS).version.release == (4, 17)
    assert "behaves as Xen 4.22" in hypervisor("4.40", None, LIMITS).assumption
    with pytest.raises(UnsupportedError):
        hypervisor("3.0", None, LIMITS)


@pytest.mark.parametrize(
    ("name", "release", "debug"),
    [("xen-4.14.5.gz", (4, 14), False), ("xen-4.22.0.gz", (4, 22), False), ("xen-4.22.0-debug.gz", (4, 22), True)],
)
def test_images(name: str, release: tuple[int, int], debug: bool) -> None:
    with open_file(DATA / "xen" / name) as source:
        found = hypervisor(None, source, LIMITS)
    assert (found.version.release, found.debug) == (release, debug)


def test_both_or_no_xen() -> None:
    with pytest.raises(InputError, match="which one"):
        hypervisor("4.17", BytesSource(b""), LIMITS)
    with pytest.raises(MbtoolError):
        hypervisor(None, BytesSource(b"\x7fELF" + bytes(100), "x"), LIMITS)


@pytest.mark.real
def test_debian(xen_gz, xen_efi) -> None:
    for path in (xen_gz, xen_efi):
        with open_file(path) as source:
            found = hypervisor(None, source, LIMITS)
        assert (found.pv32, found.video, found.dom0_mem) == (False, True, "")
