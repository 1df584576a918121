"""``mbtool plan`` as its user runs it: what is printed, written and refused."""

from __future__ import annotations

import json
import struct
import subprocess
import xml.etree.ElementTree as ET
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.cli.run import mbtool
from tests.formats.linux_images import kernel

SCHEMA = json.loads((files("mbtool") / "schemas" / "plan.schema.json").read_text())
MIB = 1 << 20


KERNEL = kernel(
    payload=bytes(MIB),
    loadflags=1,
    code32_start=MIB,
    initrd_addr_max=0x7FFFFFFF,
    kernel_alignment=2 * MIB,
    relocatable_kernel=1,
    min_alignment=21,
    xloadflags=3,
    cmdline_size=2047,
    pref_address=16 * MIB,
    init_size=3 * MIB,
)
"""Of protocol 2.15: a little over 1 MiB behind 5 sectors of real-mode code; wants 3 MiB at 16 MiB."""
SIZE = len(KERNEL) - 5 * 512


@pytest.fixture
def vmlinuz(tmp_path: Path) -> Path:
    path = tmp_path / "vmlinuz"
    path.write_bytes(KERNEL)
    return path


def planned(*arguments: str | Path) -> Any:
    done = mbtool("plan", *arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    jsonschema.validate(found, SCHEMA)
    for space in found["spaces"]:
        solid = sorted(
            (int(item["start"], 16), int(item["end"], 16)) for item in space["regions"] if item["use"] != "spare"
        )
        assert all(before[1] <= after[0] for before, after in pairwise(solid))
    return found


def regions(found: Any, space: int = 0) -> list[tuple[str, int, int]]:
    return [(item["name"], int(item["start"], 16), item["size"]) for item in found["spaces"][space]["regions"]]


def test_the_schema_is_sound_and_printed():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(mbtool("schema", "plan").stdout) == SCHEMA


def test_help_names_the_ways_to_start_a_kernel():
    shown = mbtool("plan", "--help").stdout
    assert all(f"\n  {name} " in shown for name in ("dom0", "linux", "multiboot"))
    for name in ("dom0", "linux", "multiboot"):
        assert "Examples:" in mbtool("plan", name, "-h").stdout
    assert mbtool("plan", "nonsense").returncode == 2


# ---- Linux ---------------------------------------------------------------------------------------------------


def test_linux(vmlinuz: Path, samples: Path, tmp_path: Path) -> None:
    initrd = samples / "initrd/initrd.img"
    page = tmp_path / "page.bin"
    found = planned(
        *("linux", "--kernel", vmlinuz, "--initrd", initrd, "--cmdline", "quiet x"),
        *("--e820", "qemu-q35:1024M", "--boot-params", page),
    )
    size = initrd.stat().st_size
    end_of_ram = 0x3FFDF000
    at = (end_of_ram - size) & -4096
    assert regions(found) == [
        ("boot_params", 0x30000, 4096),
        ("command line", 0x3E000, 8),
        ("vmlinuz", 16 * MIB, SIZE),
        ("vmlinuz: needed to unpack", 16 * MIB + SIZE, 3 * MIB - SIZE),
        ("initrd.img", at, size),
    ]
    by_name = {entry["name"]: entry["registers"] for entry in found["entries"]}
    assert by_name["32-bit"]["eip"] == "0x1000000"
    assert by_name["32-bit"]["esi"] == by_name["64-bit"]["rsi"] == "0x30000"
    assert by_name["64-bit"]["rip"] == "0x1000200"
    assert (by_name["16-bit"]["cs"], by_name["16-bit"]["ds"]) == ("0x3020", "0x3000")
    written = page.read_bytes()
    assert len(written) == 4096
    assert struct.unpack_from("<II", written, 0x218) == (at, size)
    assert struct.unpack_from("<I", written, 0x228) == (0x3E000,)
    assert written[0x1E8] == 9
    assert found["structure"]["kind"] == "boot-params"
    # the map can be given again
    again = tmp_path / "plan.json"
    again.write_text(json.dumps(found))
    assert (
        planned("linux", "--kernel", vmlinuz, "--initrd", initrd, "--cmdline", "quiet x", "--e820", again) == found
    )


def test_linux_as_text(vmlinuz: Path) -> None:
    done = mbtool("plan", "linux", "--kernel", vmlinuz, "--cmdline", "x")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "vmlinuz, Linux boot protocol 2.15"
    assert any(f"  0x1000000 {16 * MIB + SIZE:#x}  " in line and line.endswith("  vmlinuz") for line in lines)
    assert "  64-bit  rip 0x1000200  rsi 0x30000" in lines
    assert any("code32_start" in line and "0x1000000" in line for line in lines)
    assert lines[-1].startswith("assumed: any PC")


def test_an_initrd_that_is_too_big(vmlinuz: Path, tmp_path: Path) -> None:
    big, machine = tmp_path / "big", tmp_path / "map"
    with big.open("wb") as file:
        file.truncate(30 * MIB + 1)
    machine.write_text("0 639K usable\n1048576 48M usable\n")
    # 49 MiB in all; the kernel and what it needs ends at 19 MiB
    done = mbtool("plan", "linux", "--kernel", vmlinuz, "--initrd", big, "--e820", machine)
    assert (done.returncode, done.stdout) == (2, "")
    assert "the initrd is too big by 1 bytes; expected at most 31457280 bytes" in done.stderr


# ---- Multiboot and PVH ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel_path", "kind", "entry", "magic"),
    [
        ("multiboot1/multiboot1.elf", "multiboot1", None, "0x2badb002"),
        ("multiboot2/multiboot2.elf", "multiboot2", None, "0x36d76289"),
        ("pvh/pvh.elf", "pvh", None, "0x0"),
    ],
)
def test_multiboot(samples: Path, tmp_path: Path, kernel_path: str, kind: str, entry: None, magic: str) -> None:
    image = samples / kernel_path
    info = tmp_path / "info.bin"
    found = planned(
        *("multiboot", "--kernel", image, "--module", f"{samples}/initrd/initrd.img:one two"),
        *("--cmdline", "three", "--e820", "qemu-pc:512M", "--info", info),
    )
    assert found["kind"] == kind
    (state,) = found["entries"]
    assert state["registers"]["eax"] == magic
    placed = {name: (start, size) for name, start, size in regions(found)}
    size = (samples / "initrd/initrd.img").stat().st_size
    assert placed["initrd.img"][1] == size
    assert placed["initrd.img"][0] % 4096 == 0
    ebx = int(state["registers"]["ebx"], 16)
    written = info.read_bytes()
    assert ebx in (start for start, _ in placed.values())
    if kind == "multiboot1":
        assert struct.unpack_from("<II", written, 4) == (639, (0x1FFE0000 - MIB) // 1024)
        assert b"multiboot1.elf three\0" in written and b"initrd.img one two\0" in written
    elif kind == "multiboot2":
        assert struct.unpack_from("<I", written) == (len(written),)
        assert b"three\0" in written and b"\0one two\0" in written
    else:
        assert struct.unpack_from("<II", written) == (0x336EC578, 1)
        assert b"three\0" in written and b"one two\0" in written


def test_the_protocol_can_be_chosen(xen_gz_skeleton: Path) -> None:
    for protocol, kind in (("1", "multiboot1"), ("2", "multiboot2"), ("auto", "multiboot2")):
        assert planned("multiboot", "--kernel", xen_gz_skeleton, "--protocol", protocol)["kind"] == kind
    done = mbtool("plan", "multiboot", "--kernel", xen_gz_skeleton, "--protocol", "pvh")
    assert done.returncode == 2


@pytest.fixture
def xen_gz_skeleton(samples: Path, tmp_path: Path) -> Path:
    """A kernel with headers of both protocols: the Multiboot 1 sample's words in the Multiboot 2 sample."""
    image = bytearray((samples / "multiboot2/multiboot2.elf").read_bytes())
    flags = 1 << 16 | 3
    header = struct.pack("<3I", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF)
    at = len(image) + (-len(image)) % 4
    addresses = struct.pack("<5I", MIB + at, MIB, 0, 0, MIB + 0x100)
    path = tmp_path / "both.elf"
    path.write_bytes(bytes(image).ljust(at, b"\0") + header + addresses)
    return path


def test_a_linux_kernel_is_sent_to_the_other_verb(vmlinuz: Path) -> None:
    done = mbtool("plan", "multiboot", "--kernel", vmlinuz)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is a Linux kernel (use mbtool plan linux)" in done.stderr


def test_an_incomplete_kernel_is_an_error_of_its_plan(vmlinuz: Path) -> None:
    """Loaders load what is there; the kernel then fails."""
    vmlinuz.write_bytes(KERNEL[:-100000])
    done = mbtool("plan", "linux", "--kernel", vmlinuz, "--json")
    assert (done.returncode, done.stderr) == (1, "")
    assert "LINUX-TRUNCATED" in [finding["id"] for finding in json.loads(done.stdout)["findings"]]


# ---- dom0 ----------------------------------------------------------------------------------------------------


def test_dom0_says_what_build_dom0_writes(samples: Path, tmp_path: Path) -> None:
    options: list[str | Path] = ["--kernel", samples / "pv-dom0/pv-dom0-mapped.elf"]
    options += ["--initrd", samples / "initrd/initrd.img", "--dom0-mem", "64M", "--cmdline", "console=hvc0"]
    assert mbtool("build-dom0", *options, "-o", tmp_path / "dom0").returncode == 0
    layout = json.loads((tmp_path / "dom0/layout.json").read_text())
    found = planned("dom0", *options, "--e820", "qemu-q35:1024M")
    assert found["kind"] == "dom0-pv"
    assert "".join(f"{line}\n" for line in found["lines"]) == (tmp_path / "dom0/layout.txt").read_text()
    names = {"kernel": "kernel", "initrd": "initrd", "P2M": "p2m", "boot stack": "boot_stack"}
    virtual = {item["name"]: item for item in found["spaces"][0]["regions"]}
    for name, other in names.items():
        assert {key: virtual[name][key] for key in ("start", "end", "size")} == layout["virtual"][other]
    machine = {item["name"]: item for item in found["spaces"][1]["regions"]}
    assert machine["page tables"]["start"] == layout["machine"]["page_tables"]["start"]
    assert machine["initrd"]["start"] == layout["machine"]["initrd"]["start"]
    assert found["entries"] == [{"name": "64-bit", "registers": layout["registers"]}]
    assert found["structure"] == layout["start_info"]
    assert found["assumptions"] == layout["assumptions"]
    text = mbtool("plan", "dom0", *options).stdout
    assert text.startswith((tmp_path / "dom0/layout.txt").read_text())


def test_a_pvh_dom0_says_what_build_dom0_writes(samples: Path, tmp_path: Path) -> None:
    options: list[str | Path] = ["--mode", "pvh", "--kernel", samples / "pvh/pvh.elf", "--vcpus", "2"]
    options += ["--initrd", samples / "initrd/initrd.img", "--dom0-mem", "64M", "--e820", "qemu-q35:512M"]
    assert mbtool("build-dom0", *options, "-o", tmp_path / "dom0").returncode == 0
    layout = json.loads((tmp_path / "dom0/layout.json").read_text())
    found = planned("dom0", *options)
    assert found["kind"] == "dom0-pvh"
    assert (tmp_path / "dom0/layout.txt").read_text().startswith("".join(f"{line}\n" for line in found["lines"]))
    regions = {item["name"].replace(" ", "_"): item for item in found["spaces"][0]["regions"]}
    for name, span in layout["physical"].items():
        if span is not None:
            assert {key: regions[name][key] for key in ("start", "end", "size")} == span
    assert found["entries"] == [{"name": "32-bit", "registers": layout["registers"]}]
    assert found["structure"] == layout["start_info"]
    assert found["assumptions"] == layout["assumptions"]
    assert "dom0's physical memory" in mbtool("plan", "dom0", *options).stdout


def test_places_that_the_machine_does_not_have_are_told(samples: Path) -> None:
    options = ("--kernel", samples / "pv-dom0/pv-dom0.elf", "--initrd", samples / "initrd/initrd.img")
    found = planned("dom0", *options, "--e820", "qemu-pc:512M")
    assert [finding["id"] for finding in found["findings"]] == ["MACHINE-PLACE"] * 2
    placed = ("--alloc-base", "0x10000000", "--initrd-base", "0x1f000000")
    assert planned("dom0", *options, *placed, "--e820", "qemu-pc:512M")["findings"] == []


def test_build_dom0_says_so_too(samples: Path, tmp_path: Path) -> None:
    options = ("--kernel", samples / "pv-dom0/pv-dom0.elf", "--dom0-mem", "64M", "--e820", "qemu-pc:512M")
    done = mbtool("build-dom0", *options, "-o", tmp_path / "dom0")
    (told,) = (line for line in done.stdout.splitlines() if line.startswith("warning: "))
    assert told.startswith("warning: dom0's memory cannot be there")
    assert told in mbtool("plan", "dom0", *options).stdout.splitlines()
    layout = json.loads((tmp_path / "dom0/layout.json").read_text())
    assert layout["findings"] == planned("dom0", *options)["findings"] != []


@pytest.mark.parametrize(
    "arguments", [("linux",), ("multiboot",), ("dom0",), ("dom0", "--predict-frames"), ("dom0", "--mode", "pvh")]
)
def test_the_machine_comes_through_a_pipe(samples: Path, vmlinuz: Path, arguments: tuple[str, ...]) -> None:
    """It can be read but once."""
    kernels = {"linux": vmlinuz, "multiboot": samples / "multiboot2/multiboot2.elf"}
    kernel = kernels.get(arguments[0], samples / ("pvh/pvh.elf" if "pvh" in arguments else "pv-dom0/pv-dom0.elf"))
    size = ("--dom0-mem", "64M") if arguments[0] == "dom0" else ()
    text = b"0 0x9fc00 usable\n0x100000 0x3ff00000 usable\n"
    done = mbtool("plan", *arguments, "--kernel", kernel, *size, "--e820", "-", "--json", stdin=text)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["memory_map"][-1]["end"] == "0x40000000"


@pytest.mark.parametrize("verb", [("plan", "dom0"), ("build-dom0", "-o", "out")])
@pytest.mark.parametrize(
    ("mode", "option"),
    [
        ("pvh", ("--alloc-base", "0x30000000")),
        ("pvh", ("--initrd-base", "0x30000000")),
        ("pvh", ("--predict-frames",)),
        ("pv", ("--initrd-cmdline", "words")),
    ],
)
def test_options_for_the_other_kind_of_dom0(
    samples: Path, tmp_path: Path, verb: tuple[str, ...], mode: str, option: tuple[str, ...]
) -> None:
    kernel = samples / ("pvh/pvh.elf" if mode == "pvh" else "pv-dom0/pv-dom0.elf")
    done = mbtool(*verb, "--mode", mode, "--kernel", kernel, *option, "--e820", "qemu-q35:512M", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"mbtool: {option[0]} is of no use: ")
    assert list(tmp_path.iterdir()) == []


def test_what_xen_refuses(samples: Path) -> None:
    done = mbtool("plan", "dom0", "--kernel", samples / "pv-dom0/pv-dom0.elf", "--nr-pages", "100")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Domain 0 allocation is too small for kernel image" in done.stderr


# ---- files ---------------------------------------------------------------------------------------------------


def test_pictures_are_whole_and_overwrite_nothing(vmlinuz: Path, tmp_path: Path) -> None:
    picture = tmp_path / "map.svg"
    arguments = ("plan", "linux", "--kernel", vmlinuz, "--svg", picture)
    assert mbtool(*arguments).returncode == 0
    first = picture.read_bytes()
    assert ET.fromstring(first).tag == "{http://www.w3.org/2000/svg}svg"
    refused = mbtool(*arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "is there already (replace it with --force)" in refused.stderr
    assert mbtool(*arguments, "--force").returncode == 0
    assert picture.read_bytes() == first


def test_two_outputs_are_both_written_or_none(vmlinuz: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "page", tmp_path / "map.svg"
    arguments = ("plan", "linux", "--kernel", vmlinuz, "--boot-params", page, "--svg")
    assert "two outputs have the same name" in mbtool(*arguments, page).stderr
    picture.touch()
    assert mbtool(*arguments, picture).returncode == 2
    assert not page.exists()
    assert mbtool(*arguments, picture, "--force").returncode == 0
    assert page.stat().st_size == 4096


def test_the_picture_in_the_readme_is_what_is_drawn(samples: Path, tmp_path: Path) -> None:
    files: list[str | Path] = ["--kernel", samples / "pv-dom0/pv-dom0-mapped.elf"]
    files += ["--initrd", samples / "initrd/initrd.img"]
    drawn = tmp_path / "dom0.svg"
    made = mbtool("plan", "dom0", *files, "--dom0-mem", "64M", "--xen-version", "4.17", "--svg", drawn)
    assert made.returncode == 0
    assert drawn.read_bytes() == (samples.parent / "docs/dom0.svg").read_bytes()


def test_pictures_are_drawn_by_a_renderer(vmlinuz: Path, tmp_path: Path, tool: Any) -> None:
    picture = tmp_path / "map.svg"
    assert (
        mbtool("plan", "linux", "--kernel", vmlinuz, "--e820", "qemu-q35:8192M", "--svg", picture).returncode == 0
    )
    subprocess.run([tool("rsvg-convert"), "-w", "800", picture, "-o", tmp_path / "map.png"], check=True)
    assert (tmp_path / "map.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("kind", ["dom0", "linux", "multiboot"])
def test_no_kernel(tmp_path: Path, kind: str) -> None:
    for content in (b"", b"text", bytes(100000), b"\x7fELF"):
        (tmp_path / "k").write_bytes(content)
        done = mbtool("plan", kind, "--kernel", tmp_path / "k")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("mbtool: ") and done.stderr.count("\n") == 1
    done = mbtool("plan", kind, "--kernel", tmp_path / "missing")
    assert done.returncode == 2 and "cannot open" in done.stderr


def test_a_map_from_a_pipe(vmlinuz: Path) -> None:
    log = b"[    0.0] BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable\n"
    log += b"[    0.0] BIOS-e820: [mem 0x0000000000100000-0x0000000007ffffff] usable\n"
    done = mbtool("plan", "linux", "--kernel", vmlinuz, "--e820", "-", stdin=log)
    assert done.returncode == 0
    assert "usable" in done.stdout and "assumed" not in done.stdout


def test_a_map_that_is_none(vmlinuz: Path) -> None:
    done = mbtool("plan", "linux", "--kernel", vmlinuz, "--e820", vmlinuz)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is no entry of a memory map" in done.stderr
