"""Plans beside recordings of real boots: four Xen versions, and both branches of every layout rule."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from functools import cache

import pytest

from mbtool.errors import RefusedError
from mbtool.formats import xen_dom_parms, xen_versions
from mbtool.formats.dom_parms import DomParms
from mbtool.plan import pv_dom0
from mbtool.source import BytesSource
from tests.oracle import synthetic
from tests.oracle.compare import differences, plan_for
from tests.oracle.recording import DATA, ORACLE, Recording, load

LINUX = "linux-6.1.0-56-amd64"
GRUB = "grub-2.06-x86_64-xen"
LINUX_ARGS = "console=hvc0 earlyprintk=xen"

GOLDEN = [
    pytest.param("xen4.15.7-linux61-512M", LINUX, 131072, 1031109, LINUX_ARGS, id="4.15.7"),
    pytest.param("xen4.17.7-linux61-512M", LINUX, 131072, 1031109, LINUX_ARGS, id="4.17.7"),
    pytest.param("xen4.18.0-linux61-512M", LINUX, 131072, 1031109, LINUX_ARGS, id="4.18.0"),
    pytest.param("xen4.22.0-linux61-512M", LINUX, 131072, 1031109, LINUX_ARGS, id="4.22.0"),
    pytest.param("xen4.17.7-grub-64M", GRUB, 16384, None, "", id="grub"),
    pytest.param("xen4.17.7-grub-initrd-100M", GRUB, 25600, 1031109, "two  blanks, a comma  ", id="grub-initrd"),
]


@cache
def skeleton(name: str) -> bytes:
    packed = (DATA / "kernels" / f"{name}.skeleton.xz").read_bytes()
    return lzma.LZMADecompressor().decompress(packed)


def parms(name: str, version: str) -> DomParms:
    return xen_dom_parms.derive(BytesSource(skeleton(name)), version=xen_versions.parse(version))


@pytest.mark.parametrize(("name", "kernel", "nr_pages", "initrd_len", "cmdline"), GOLDEN)
def test_recording_is_reproduced(
    name: str, kernel: str, nr_pages: int, initrd_len: int | None, cmdline: str
) -> None:
    version = name.removeprefix("xen").split("-")[0]
    plan = plan_for(
        load(ORACLE / name),
        parms(kernel, version),
        xen_versions.parse(version),
        initrd_len=initrd_len,
        nr_pages=nr_pages,
        cmdline=cmdline.encode(),
    )
    assert differences(plan, load(ORACLE / name)) == []


def test_every_recording_names_the_command_that_made_it() -> None:
    """In the file itself, and for those of PV dom0s as a line to paste."""
    told = (ORACLE / "README.md").read_text()
    for path in ORACLE.rglob("*.json"):
        name = path.relative_to(ORACLE).with_suffix("").as_posix()
        if name.startswith("pvh/"):
            about = json.loads(path.read_text())["about"]
            assert about["command"].startswith(("qemu-system-x86_64 ", "mbtool build-disk ")), name
        else:
            assert f"--out {name}\n" in told, name


MADE = [
    pytest.param("xen4.14.6-two-l2", "two-l2", 131328, "", id="4.14.6"),
    pytest.param("pv32/4.17.7-two-l2", "pv32-two-l2", 25000, "", id="4.17.7-pv32-two-l2"),
    pytest.param("pv32/4.22.0-linux", "pv32-linux", 131072, "a  b ", id="4.22.0-pv32-linux"),
    pytest.param("debug/4.17.7-symbols", "symbols", 131328, "", id="4.17.7-debug"),
    pytest.param("debug/4.22.0-p2m-same-l3", "p2m-same-l3", 131328, "", id="4.22.0-debug"),
]


@pytest.mark.parametrize(("name", "kernel", "nr_pages", "cmdline"), MADE)
def test_recording_of_a_kernel_made_to_order(name: str, kernel: str, nr_pages: int, cmdline: str) -> None:
    """Builds of Xen that Debian does not have: an old one, with 32-bit PV kernels, for debugging."""
    recording = load(ORACLE / name)
    version = xen_versions.parse(str(recording.about["xen"]))
    image = {**synthetic.CASES, **synthetic.CASES_32}[kernel].image
    plan = plan_for(
        recording,
        xen_dom_parms.derive(BytesSource(image), version=version),
        version,
        initrd_len=recording.about["initrd_size"],
        nr_pages=nr_pages,
        cmdline=cmdline.encode(),
    )
    assert differences(plan, recording) == []


@pytest.mark.parametrize("name", synthetic.REFUSED)
def test_refusals_in_the_words_of_xen(name: str) -> None:
    """The live tests boot these and read the words from Xen's console. Debian's Xen has no CONFIG_PV32."""
    image, message = synthetic.REFUSED[name]
    with pytest.raises(RefusedError) as caught:
        made = xen_dom_parms.derive(BytesSource(image), pv32=False)
        pv_dom0.plan(made, initrd_len=None, nr_pages=131072, cmdline=b"", version=xen_versions.parse("4.17"))
    assert caught.value.problem.startswith(message)


def _spoiled(recording: Recording, part: str) -> Recording:
    """The recording with one bit of one part flipped, outside all masks."""
    match part:
        case "console":
            lines = [line.replace("->ffffffff84c", "->ffffffff85c") for line in recording.console]
            return replace(recording, console=tuple(lines))
        case "registers":
            return replace(recording, registers={**recording.registers, "rsp": 0})
        case "start_info":
            page = bytearray(recording.start_info)
            page[1300] ^= 1
            return replace(recording, start_info=bytes(page))
        case "accessed":
            tables = bytearray(recording.page_tables)
            tables[4096 * 5] ^= 0x20
            return replace(recording, page_tables=bytes(tables))
        case "p2m-slot-flags":
            tables = bytearray(recording.page_tables)
            tables[8] ^= 0x40
            return replace(recording, page_tables=bytes(tables))
        case _:
            p2m = bytearray(recording.p2m)
            p2m[8 * 8000] ^= 1
            return replace(recording, p2m=bytes(p2m))


@pytest.mark.parametrize("part", ["console", "registers", "start_info", "accessed", "p2m-slot-flags", "p2m"])
def test_comparison_sees_a_single_bit(part: str) -> None:
    recording = load(ORACLE / "xen4.17.7-linux61-512M")
    plan = plan_for(
        recording,
        parms(LINUX, "4.17"),
        xen_versions.parse("4.17.7"),
        initrd_len=1031109,
        nr_pages=131072,
        cmdline=LINUX_ARGS.encode(),
    )
    assert differences(plan, recording) == []
    assert len(differences(plan, _spoiled(recording, part))) == 1
