"""build-dom0 as a whole: what it writes, what it takes as given, what it refuses; the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mbtool.build.dom0 import Request
from mbtool.build.dom0_files import FILES, Built, build_dom0
from mbtool.errors import FormatError, InputError, MbtoolError, RefusedError, UnsupportedError
from mbtool.plan.dom0_pages import DEFAULT_NR_PAGES
from mbtool.plan.pv_dom0 import Plan
from tests.conftest import ROOT
from tests.oracle.made_kernel import INIT_P2M, VIRT_BASE, kernel
from tests.oracle.recording import DATA, ORACLE, load
from tests.oracle.synthetic import CASES_32

LINUX = DATA / "kernels" / "linux-6.1.0-56-amd64.skeleton.xz"
INITRD_SIZE = 1031109
TOP_2G = 0xFFFF_FFFF_8000_0000


def schema(name: str) -> Any:
    return json.loads((ROOT / "mbtool" / "schemas" / f"{name}.schema.json").read_text())


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A kernel of one page."""
    path = tmp_path / "small"
    path.write_bytes(kernel([(0, 4096)], {VIRT_BASE: TOP_2G, INIT_P2M: 1 << 39}, entry=TOP_2G))
    return path


@pytest.fixture
def initrd(tmp_path: Path) -> Path:
    path = tmp_path / "initrd"
    path.write_bytes(b"\x5a" * INITRD_SIZE)
    return path


def built(request: Request, tmp_path: Path) -> Built:
    return build_dom0(request, tmp_path / "out", force=True)


def test_recorded_boot(tmp_path: Path, initrd: Path) -> None:
    """The files, byte for byte, against the recording; masked only where the machine decides."""
    request = Request(
        kernel=LINUX,
        initrd=initrd,
        xen_version="4.17.7",
        xen_cmdline="console=com1 dom0_mem=512M loglvl=all",
        cmdline="console=hvc0 earlyprintk=xen",
        alloc_base=0x30000000,
        initrd_base=0x3F904000,
    )
    built(request, tmp_path)
    out = tmp_path / "out"
    recording = load(ORACLE / "xen4.17.7-linux61-512M")
    assert (out / "layout.txt").read_text().splitlines() == list(recording.arrangement)
    page = (out / "start_info.bin").read_bytes()
    assert page[:40] + page[48:] == recording.start_info[:40] + recording.start_info[48:]  # all but shared_info
    tables = (out / "pagetables.bin").read_bytes()
    assert tables[4096:] == recording.page_tables[4096:]
    assert (out / "p2m.bin").read_bytes()[: len(recording.p2m)] == recording.p2m
    assert (out / "p2m.bin").stat().st_size == 8 * 131072


def test_recorded_32_bit_boot(tmp_path: Path, initrd: Path) -> None:
    (tmp_path / "kernel").write_bytes(CASES_32["pv32-linux"].image)
    request = Request(
        kernel=tmp_path / "kernel",
        initrd=initrd,
        xen_version="4.22",
        dom0_mem="512M",
        cmdline="a  b ",
        alloc_base=0x3E000000,
        initrd_base=0x3F904000,
    )
    result = built(request, tmp_path)
    assert result.planned.assumptions[0] == "Xen is built with CONFIG_PV32"
    out = tmp_path / "out"
    recording = load(ORACLE / "pv32/4.22.0-linux")
    assert (out / "layout.txt").read_text().splitlines() == list(recording.arrangement)
    page = (out / "start_info.bin").read_bytes()
    assert page[:36] + page[40:] == recording.start_info[:36] + recording.start_info[40:]  # all but shared_info
    decided = 4 * (2048 + 252)
    assert (out / "p2m.bin").read_bytes()[:decided] == recording.p2m[:decided]
    assert (out / "p2m.bin").stat().st_size == 4 * 131072
    layout = json.loads((out / "layout.json").read_text())
    jsonschema.validate(layout, schema("layout"))
    assert layout["registers"]["eip"] == "0xc0100000"
    assert "cr3" not in layout["registers"]


def test_documents(tmp_path: Path, initrd: Path) -> None:
    result = built(Request(kernel=LINUX, initrd=initrd, cmdline="x" * 2000), tmp_path)
    out = tmp_path / "out"
    assert sorted(entry.name for entry in out.iterdir()) == sorted(FILES)
    layout = json.loads((out / "layout.json").read_text())
    jsonschema.validate(layout, schema("layout"))
    assert layout["registers"]["rip"] == layout["entry"] == "0xffffffff830791c0"
    assert layout["pfn"] == {
        "initrd": {"first": 32768, "count": 252},
        "decided": {"first": 0, "count": 33020},
        "p2m_frames": {"first": 33020, "count": 259},
    }
    assert [finding["id"] for finding in layout["findings"]] == ["CMDLINE-CUT"]
    assert layout["start_info"]["fields"]["mod_len"]["value"] == INITRD_SIZE
    manifest = json.loads((out / "manifest.json").read_text())
    jsonschema.validate(manifest, schema("manifest"))
    for entry in manifest["outputs"]:
        data = (out / entry["name"]).read_bytes()
        import hashlib

        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["size"], entry["sha256"])
    assert [(entry["role"], entry["name"], entry["size"]) for entry in manifest["inputs"]] == [
        ("kernel", LINUX.name, LINUX.stat().st_size),
        ("initrd", "initrd", INITRD_SIZE),
    ]
    assert {file.name for file in result.files} == set(FILES)


def test_reproducible(tmp_path: Path, small: Path) -> None:
    """The same inputs, from and to other places: the same bytes."""
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "small").write_bytes(small.read_bytes())
    build_dom0(Request(kernel=small), tmp_path / "one")
    build_dom0(Request(kernel=other / "small"), other / "two")
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (other / "two" / name).read_bytes()


def test_defaults_are_stated(tmp_path: Path, small: Path) -> None:
    result = built(Request(kernel=small), tmp_path)
    words = " ".join(result.planned.assumptions)
    assert result.planned.plan.nr_pages == DEFAULT_NR_PAGES == 131072
    assert all(part in words for part in ("Xen 4.22", "131072 pages", "0x30000000", "shared_info"))
    said = Request(kernel=small, xen_version="4.18", dom0_mem="1G", alloc_base=0x10000000)
    (left,) = built(said, tmp_path).planned.assumptions
    assert left.startswith("shared_info")
    assert "behaves as Xen 4.22" in built(replace(said, xen_version="4.30"), tmp_path).planned.assumptions[0]


def test_foretold_frames(tmp_path: Path, small: Path, initrd: Path) -> None:
    """A block of 4 MiB, so not for sure; what is given stands."""
    request = Request(kernel=small, initrd=initrd, xen_version="4.17", dom0_mem="64M", e820="qemu-q35:1024M")
    planned = built(replace(request, predict_frames=True), tmp_path).planned
    assert isinstance(planned.plan, Plan)
    assert planned.plan.initrd is not None
    assert planned.plan.initrd.start == 0x3F904000  # as in every recording of such a machine
    assert "foretold" in planned.assumptions[0]
    assert "few recorded boots" in planned.assumptions[0]
    jsonschema.validate(json.loads((tmp_path / "out" / "manifest.json").read_text()), schema("manifest"))
    given = built(replace(request, predict_frames=True, alloc_base=0x10000000), tmp_path).planned
    assert isinstance(given.plan, Plan)
    assert given.plan.alloc.start == 0x10000000


@pytest.mark.parametrize(
    ("given", "pages"),
    [
        ({"dom0_mem": "1G"}, 262144),
        ({"dom0_mem": "1G,max:300M"}, 76800),
        ({"xen_cmdline": "dom0_mem=256M"}, 65536),
        ({"xen_cmdline": "dom0_mem=256M,max:300M", "dom0_mem": "400M"}, 76800),
        ({"dom0_mem": "max:100M"}, 25600),
        ({"dom0_mem": "min:600M"}, 153600),
        ({"dom0_mem": "0"}, DEFAULT_NR_PAGES),
        ({"dom0_mem": "50%", "nr_pages": 30000}, 30000),
        ({"dom0_mem": "min:256M,max:50000K", "host_mem": 1 << 30}, 12500),
        ({"dom0_mem": "max:1G", "host_mem": 64 << 30}, 262144),
        ({"dom0_mem": "-63G", "host_mem": 64 << 30, "nr_pages": 30000}, 30000),
    ],
)
def test_nr_pages(tmp_path: Path, small: Path, given: dict[str, Any], pages: int) -> None:
    assert built(Request(kernel=small, **given), tmp_path).planned.plan.nr_pages == pages


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"dom0_mem": "50%"}, InputError, "depends on the host's memory"),
        ({"dom0_mem": "-1G"}, InputError, "--nr-pages"),
        ({"dom0_mem": "1G,min:10%"}, InputError, "depends on the host's memory"),
        ({"dom0_mem": "lots"}, InputError, 'parameter "dom0_mem" has invalid value "lots"'),
        ({"xen_cmdline": "dom0_mem=lots", "nr_pages": 100000}, InputError, "invalid value"),
        ({"host_mem": 1 << 20}, InputError, "none left for dom0"),
        ({"predict_frames": True}, InputError, "--e820"),
        ({"predict_frames": True, "e820": "/nonexistent"}, InputError, "no machine that is known"),
        ({"xen_cmdline": "dom0=pvh"}, RefusedError, "ELF start or entries are out of bounds"),
        ({"xen_version": "3.4"}, UnsupportedError, "older than"),
        ({"xen_version": "new"}, InputError, "is no Xen version"),
        ({"dom0_mem": "4M"}, RefusedError, "Domain 0 allocation is too small for kernel image"),
        ({"nr_pages": 1 << 40}, InputError, "this many pages"),
        ({"initrd": Path("/nonexistent")}, InputError, "cannot open"),
        ({"initrd": Path("/")}, InputError, "is a directory"),
        ({"xen": Path(__file__)}, MbtoolError, ""),
        ({"cmdline": "a\0b"}, InputError, "NUL"),
        ({"alloc_base": 0x1001}, InputError, "alloc base"),
    ],
)
def test_refusals_write_nothing(
    tmp_path: Path, small: Path, given: dict[str, Any], error: type[Exception], words: str
) -> None:
    before = sorted(tmp_path.iterdir())
    initrd = tmp_path.parent / f"{tmp_path.name}-initrd"
    initrd.write_bytes(bytes(100))
    with pytest.raises(error) as caught:
        build_dom0(Request(kernel=small, **{"initrd": initrd, **given}), tmp_path / "out")
    assert words in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_truncated_elf(tmp_path: Path) -> None:
    import lzma

    data = lzma.LZMADecompressor().decompress(LINUX.read_bytes())
    (tmp_path / "cut").write_bytes(data[: 60 << 20])
    with pytest.raises(MbtoolError):
        built(Request(kernel=tmp_path / "cut"), tmp_path)
    headless = data[:40] + bytes(8) + data[48:60] + bytes(4) + data[64 : 60 << 20]  # no section headers
    (tmp_path / "cut").write_bytes(headless)
    with pytest.raises(FormatError, match="ends before its last segment does"):
        built(Request(kernel=tmp_path / "cut"), tmp_path)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mbtool", "build-dom0", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_command(tmp_path: Path, small: Path) -> None:
    out = tmp_path / "out"
    done = run(
        "--kernel", small, "-o", out, "--dom0-mem", "64M", "--alloc-base", "0x8000000", "--xen-version", "4.16"
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:2] == [" Dom0 kernel: 64-bit, lsb, paddr 0 -> 0x1000", "PHYSICAL MEMORY ARRANGEMENT:"]
    assert lines[2].startswith(" Dom0 alloc.:   0000000008000000->0000000008400000 (")
    assert (out / "layout.txt").read_text().splitlines() == lines[:11]
    again = run("--kernel", small, "-o", out)
    assert again.returncode == 2
    assert again.stderr == f"mbtool: {out}: is there and not empty (replace it with --force)\n"
    assert run("--kernel", small, "-o", out, "--force").returncode == 0


def test_json_is_the_manifest(tmp_path: Path, small: Path) -> None:
    out = tmp_path / "out"
    done = run("--kernel", small, "--cmdline", "x" * 2000, "--json", "-o", out)
    assert (done.returncode, done.stderr) == (0, "")  # a command line cut short is a warning
    document = json.loads(done.stdout)
    jsonschema.validate(document, schema("manifest"))
    assert document == json.loads((out / "manifest.json").read_text())
    layout = json.loads((out / "layout.json").read_text())
    assert [finding["id"] for finding in document["findings"]] == ["CMDLINE-CUT"]
    assert (document["findings"], document["assumptions"]) == (layout["findings"], layout["assumptions"])


@pytest.mark.parametrize(
    "arguments", [["--alloc-base", "here"], ["--nr-pages", "0"], ["--nr-pages", "many"], ["--host-mem", "50%"]]
)
def test_bad_arguments(tmp_path: Path, small: Path, arguments: list[str]) -> None:
    done = run("--kernel", small, "-o", tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.real
def test_debian_kernel_and_xen(tmp_path: Path, vmlinuz: Path, xen_gz: Path, xen_efi: Path, initrd: Path) -> None:
    """The version is read from either Xen image; the plan is what the skeleton of an older kernel promises."""
    results = [built(Request(kernel=vmlinuz, initrd=initrd, xen=xen), tmp_path) for xen in (xen_gz, xen_efi)]
    for result in results:
        plan = result.planned.plan
        assert isinstance(plan, Plan)
        assert plan.version.release == (4, 17)
        assert not plan.machine.debug
        assert plan.start_info.magic.startswith(b"xen-3.0-x86_64p\0")
        assert plan.start_info.mfn_list == 0x8000000000
    assert results[0].files[:-1] == results[1].files[:-1]


@pytest.mark.real
def test_other_debian_kernels(tmp_path: Path, vmlinuz_cloud: Path, vmlinuz_rt: Path) -> None:
    for kernel_file in (vmlinuz_cloud, vmlinuz_rt):
        plan = built(Request(kernel=kernel_file), tmp_path).planned.plan
        assert isinstance(plan, Plan)
        assert plan.space.order >= 14
