"""build-dom0 for a PVH dom0: its blobs beside a recorded boot, its documents, assumptions and refusals."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mbtool.build.dom0 import Request
from mbtool.build.dom0_files import PVH_FILES, build_dom0
from mbtool.errors import InputError, MbtoolError, RefusedError
from mbtool.plan.xen_options import Mode
from tests.build.test_build_dom0 import INITRD_SIZE, LINUX, schema
from tests.cli.run import mbtool
from tests.conftest import ROOT
from tests.oracle import made_kernel, synthetic
from tests.oracle.record_pvh import load
from tests.oracle.test_golden_pvh import PVH

PROBE = ROOT / "samples/pvh/pvh.elf"


@pytest.fixture
def initrd(tmp_path: Path) -> Path:
    path = tmp_path / "initrd"
    path.write_bytes(b"\x5a" * INITRD_SIZE)
    return path


def layout(out: Path) -> Any:
    document = json.loads((out / "layout.json").read_text())
    jsonschema.validate(document, schema("layout"))
    return document


def log_of(name: str, folder: Path) -> Path:
    """A recording's machine as the boot log that ``--e820`` reads."""
    path = folder / "xen.log"
    path.write_text("".join(f"(XEN) {line}\n" for line in load(PVH / f"{name}.json").console))
    return path


@pytest.mark.parametrize("release", ["4.17.7", "4.18.0", "4.20.0", "4.22.0"])
def test_recorded_boot(tmp_path: Path, initrd: Path, release: str) -> None:
    """Every byte that Xen put into dom0's memory is in a blob, at its address."""
    name = f"{release}-linux61-512M"
    recording = load(PVH / f"{name}.json")
    request = Request(
        kernel=LINUX,
        initrd=initrd,
        initrd_cmdline=recording.blobs["initrd_cmdline"][1].decode(),
        mode=Mode.PVH,
        xen_version=release,
        dom0_mem="512M",
        cmdline="console=hvc0",
        e820=str(log_of(name, tmp_path)),
    )
    build_dom0(request, tmp_path / "out")
    loads = {entry["file"]: int(entry["start"], 16) for entry in layout(tmp_path / "out")["load"]}
    memory = {start: (tmp_path / "out" / file).read_bytes() for file, start in loads.items()}

    def at(address: int, size: int) -> bytes:
        data: bytes
        start, data = next((s, d) for s, d in memory.items() if s <= address < s + len(d))
        return data[address - start : address - start + size]

    for what, (address, data) in recording.blobs.items():
        mine = at(address, len(data))
        if what == "xsdt" and release in ("4.17.7", "4.18.0"):  # its header comes from a wrong place
            mine, data = mine[4:9] + mine[36:], data[4:9] + data[36:]
        assert mine == data, what
    module = int.from_bytes(recording.blobs["modlist"][1][:8], "little")
    assert at(module, INITRD_SIZE) == initrd.read_bytes()
    assert at(recording.registers["rbx"], 4) == (0x336EC578).to_bytes(4, "little")


def test_documents(tmp_path: Path, initrd: Path) -> None:
    out = tmp_path / "out"
    built = build_dom0(Request(kernel=PROBE, initrd=initrd, xen_cmdline="dom0=pvh,verbose"), out)
    assert sorted(path.name for path in out.iterdir()) == sorted(PVH_FILES)
    document = layout(out)
    assert document["mode"] == "pvh"
    assert document["physical"]["initrd"]["size"] == INITRD_SIZE
    assert document["registers"]["ebx"] == document["physical"]["start_info"]["start"]
    assert document["start_info"]["fields"]["nr_modules"]["value"] == 1
    manifest = json.loads((out / "manifest.json").read_text())
    jsonschema.validate(manifest, schema("manifest"))
    assert manifest["options"]["mode"] == "pvh"
    for entry in manifest["outputs"]:
        data = (out / entry["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["size"], entry["sha256"])
    assert (out / "layout.txt").read_text().splitlines() == list(built.lines)


def test_same_inputs_same_bytes(tmp_path: Path, initrd: Path) -> None:
    for name in ("one", "two"):
        build_dom0(Request(kernel=PROBE, initrd=initrd, mode=Mode.PVH), tmp_path / name)
    for file in PVH_FILES:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_other_mode_replaces_the_directory(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(synthetic.pvh_kernel(0x100_0000, 0x1000, entry=0x100_0000))
    build_dom0(Request(kernel=kernel, mode=Mode.PVH), tmp_path / "out")
    build_dom0(Request(kernel=LINUX), tmp_path / "out", force=True)
    build_dom0(Request(kernel=kernel, mode=Mode.PVH), tmp_path / "out", force=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(PVH_FILES)


def test_what_is_taken_for_granted_is_said(tmp_path: Path) -> None:
    nothing = build_dom0(Request(kernel=PROBE, mode=Mode.PVH), tmp_path / "a").planned.assumptions
    assert len(nothing) == 4
    assert any("QEMU q35 with 1024 MiB" in words for words in nothing)
    told = Request(
        kernel=PROBE,
        mode=Mode.PVH,
        xen_version="4.22",
        dom0_mem="512M",
        e820=str(log_of("4.22.0-linux61-512M", tmp_path)),
    )
    assert build_dom0(told, tmp_path / "b").planned.assumptions == ()


def test_machine_grows_with_dom0(tmp_path: Path) -> None:
    build_dom0(Request(kernel=PROBE, mode=Mode.PVH, dom0_mem="100G"), tmp_path / "out")
    document = layout(tmp_path / "out")
    ram = sum(entry["size"] for entry in document["memory_map"] if entry["type"] == 1)
    assert 0 < (100 << 30) - ram <= 4096
    # metadata below the hole at 2 GiB, where 32-bit code can reach it
    assert int(document["physical"]["madt"]["end"], 16) <= 0x8000_0000


@pytest.mark.parametrize(("words", "vcpus"), [("", 3), ("dom0_max_vcpus=2", 2), ("dom0_max_vcpus=500", 128)])
def test_vcpus(tmp_path: Path, words: str, vcpus: int) -> None:
    build_dom0(Request(kernel=PROBE, mode=Mode.PVH, vcpus=3, xen_cmdline=words), tmp_path / "out")
    document = layout(tmp_path / "out")
    assert document["vcpus"] == vcpus
    assert document["physical"]["madt"]["size"] == 44 + 12 + 5 * 10 + 16 * vcpus


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"xen_cmdline": "dom0=pv"}, InputError, "dom0=pv, and a PVH dom0"),
        ({"alloc_base": 0x3000_0000}, InputError, "--alloc-base"),
        ({"host_mem": 1 << 42}, InputError, "this much memory is known"),
        ({"dom0_mem": "50%"}, InputError, "depends on the host"),
        ({"e820": "qemu-q35:512M", "nr_pages": 1 << 18}, InputError, "less memory"),
        ({"e820": "no such thing"}, InputError, "no machine that is known"),
        ({"dom0_mem": "1500K"}, MbtoolError, "Unable to find a memory region"),
    ],
)
def test_refusals(
    tmp_path: Path, initrd: Path, values: dict[str, Any], error: type[MbtoolError], words: str
) -> None:
    with pytest.raises(error, match=words):
        build_dom0(Request(**{"kernel": PROBE, "initrd": initrd, "mode": Mode.PVH, **values}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("values", "pages"),
    [
        ({"dom0_mem": "50%", "e820": "qemu-q35:1024M"}, 128475),
        ({"dom0_mem": "100T", "e820": "qemu-q35:4096M"}, 1029549),
        ({"e820": "qemu-q35:1024M"}, 240412),
        ({"dom0_mem": "-1G", "host_mem": 4 << 30}, 786000),
        ({"dom0_mem": "512M", "host_mem": 4 << 30}, 131072),
    ],
)
def test_what_a_host_gives(tmp_path: Path, values: dict[str, Any], pages: int) -> None:
    """Recorded with Debian's Xen 4.17.7, the fourth but for the size of its machine: tests/plan/test_host.py."""
    build_dom0(Request(kernel=PROBE, mode=Mode.PVH, xen_version="4.17.7", **values), tmp_path / "out")
    document = layout(tmp_path / "out")
    assert abs(document["nr_pages"] - pages) <= (20000 if "-1G" in values.values() else 3)
    usable = sum(entry["size"] for entry in document["memory_map"] if entry["type"] in (1, 3))
    assert -(-usable // 4096) == document["nr_pages"]
    assert ("the host deciding" in str(document["assumptions"])) is (pages != 131072)


def test_kernel_without_pvh_entry(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(made_kernel.kernel([(0x100000, 0x1000)], {}, entry=0x100000))
    with pytest.raises(RefusedError, match="Unable to find XEN_ELFNOTE_PHYS32_ENTRY address") as caught:
        build_dom0(Request(kernel=kernel, mode=Mode.PVH), tmp_path / "out")
    assert "--mode pv" in caught.value.remedy


def test_command_line(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = mbtool("build-dom0", "--mode", "pvh", "--kernel", PROBE, "--vcpus", "2", "-o", out)
    assert done.returncode == 0, done.stderr
    assert "*** Building a PVH Dom0 ***" in done.stdout
    assert "assumed: the machine is a QEMU q35" in done.stdout
    assert "hvm_start_info.bin, acpi.bin" in done.stdout
    done = mbtool("build-dom0", "--mode", "pvm", "--kernel", PROBE, "-o", out)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_only_a_known_machine_is_said_to_lack_an_xsdt(tmp_path: Path) -> None:
    for name, told, found in (("a", None, []), ("b", str(log_of("4.17.7-linux61-512M", tmp_path)), ["PVH-XSDT"])):
        request = Request(kernel=PROBE, mode=Mode.PVH, xen_version="4.17.7", dom0_mem="512M", e820=told)
        build_dom0(request, tmp_path / name)
        assert [finding["id"] for finding in layout(tmp_path / name)["findings"]] == found


def test_what_will_not_start_is_written_and_ends_in_1(tmp_path: Path, initrd: Path) -> None:
    """A recorded boot: Xen moved this kernel to the very end of memory, and put its tables over it."""
    name, out = "4.22.0-moved-top-512M", tmp_path / "out"
    kernel = tmp_path / "kernel"
    kernel.write_bytes(synthetic.PVH_CASES["moved-top"])
    options: list[str | Path] = ["--mode", "pvh", "--kernel", kernel, "--initrd", initrd, "--cmdline", "x"]
    options += ["--dom0-mem", "512M", "--xen-version", "4.22.0", "--e820", log_of(name, tmp_path)]
    done = mbtool("build-dom0", *options, "--json", "-o", out)
    assert (done.returncode, done.stderr) == (1, "")
    document = json.loads(done.stdout)
    jsonschema.validate(document, schema("manifest"))
    assert [(finding["id"], finding["severity"]) for finding in document["findings"]] == [
        ("PVH-OVERWRITTEN", "error")
    ]
    assert document == json.loads((out / "manifest.json").read_text())
    done = mbtool("build-dom0", *options, "--force", "-o", out)
    assert (done.returncode, done.stderr) == (1, "")
    assert "error: Xen puts the ACPI tables over the kernel, and does not notice; found" in done.stdout
    assert mbtool("plan", "dom0", *options).returncode == 1
