"""``mbtool decode`` on what real loaders and Xen left in memory, on what mbtool writes, on what is none of it."""

from __future__ import annotations

import gzip
import json
import struct
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.cli.run import mbtool
from tests.formats.linux_images import kernel
from tests.formats.test_hvm_start_info import BASE, VERSION_1
from tests.oracle.recording import ORACLE, load

SCHEMA = json.loads((files("mbtool") / "schemas" / "decode.schema.json").read_text())
CAPTURED = json.loads((Path(__file__).parent.parent / "data/multiboot/captured.json").read_text())
KINDS = ("start_info", "hvm_start_info", "boot_params", "multiboot1-info", "multiboot2-info", "page-tables")


def decoded(*arguments: str | Path, status: int = 0) -> Any:
    done = mbtool("decode", *arguments, "--json")
    assert (done.returncode, done.stderr) == (status, "")
    found = json.loads(done.stdout)
    jsonschema.validate(found, SCHEMA)
    return found


def value(found: Any, name: str) -> Any:
    return found["structure"]["fields"][name]["value"]


def memory_of(loader: str, path: Path) -> tuple[int, int]:
    """Write a loader's captured memory, zeros where nothing was captured; where it begins, and EBX."""
    pieces = {int(at, 16): bytes.fromhex(data) for at, data in CAPTURED[loader]["memory"].items()}
    base = min(pieces)
    content = bytearray(max(at + len(data) for at, data in pieces.items()) - base)
    for at, data in pieces.items():
        content[at - base : at - base + len(data)] = data
    path.write_bytes(content)
    return base, int(CAPTURED[loader]["ebx"], 16)


def test_the_schema_is_sound_and_printed():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(mbtool("schema", "decode").stdout) == SCHEMA


# ---- what real loaders and Xen left --------------------------------------------------------------------------


@pytest.mark.parametrize("loader", ["qemu-multiboot1", "grub-multiboot1"])
def test_multiboot1(tmp_path: Path, loader: str) -> None:
    path = tmp_path / "memory"
    base, ebx = memory_of(loader, path)
    place = ("--base", hex(base), "--at", str(ebx - base))
    found = decoded("multiboot1-info", path, *place)
    assert value(found, "mods_count") == 2
    assert 'console=com1 "two words"' in found["structure"]["fields"]["cmdline"]["meaning"]
    modules = [child for child in found["structure"]["children"] if child["kind"] == "multiboot1-module"]
    ends = [(int(m["fields"]["mod_start"]["value"], 16), int(m["fields"]["mod_end"]["value"], 16)) for m in modules]
    assert [end - start for start, end in ends] == [5000, 100]
    assert "two words" in mbtool("decode", "multiboot1-info", path, *place).stdout


def test_multiboot1_at_an_unknown_place(tmp_path: Path, samples: Path) -> None:
    """As ``plan multiboot --info`` writes it: its pointers lead nowhere until it is said where it was."""
    info = tmp_path / "info"
    kernel = samples / "multiboot1/multiboot1.elf"
    assert mbtool("plan", "multiboot", "--kernel", kernel, "--cmdline", "one two", "--info", info).returncode == 0
    done = mbtool("decode", "multiboot1-info", info)
    assert "cmdline lies outside of the memory at hand at 0x30074 (say --base ADDRESS:" in done.stdout
    assert "one two" in mbtool("decode", "multiboot1-info", info, "--base", "0x30000").stdout


def test_multiboot2(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    base, ebx = memory_of("grub-multiboot2", path)
    found = decoded("multiboot2-info", path, "--at", hex(ebx - base))
    assert value(found, "total_size") == path.stat().st_size
    strings = [child["fields"].get("string", {}).get("value") for child in found["structure"]["children"]]
    assert 'console=com1 "two words"' in strings and "first module" in strings


def test_start_info(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    path.write_bytes(bytes(8192) + (ORACLE / "xen4.17.7-linux61-512M.si").read_bytes())
    found = decoded("start_info", path, "--at", "0x2000")
    assert (value(found, "magic"), value(found, "nr_pages")) == ("xen-3.0-x86_64p", 131072)
    assert value(found, "cmd_line") == "console=hvc0 earlyprintk=xen"
    assert (found["offset"], found["structure"]["offset"]) == (8192, 8192)


def test_page_tables_of_real_xen(tmp_path: Path) -> None:
    recording = load(ORACLE / "xen4.17.7-linux61-512M")
    path = tmp_path / "pt"
    path.write_bytes(gzip.decompress((ORACLE / "xen4.17.7-linux61-512M.pt.gz").read_bytes()))
    # layout by the console: the initial mapping begins at ffffffff80000000 = alloc_base
    base = recording.alloc_base + recording.word(88) - 0xFFFF_FFFF_8000_0000
    rip = recording.registers["rip"]
    found = decoded("page-tables", path, "--base", hex(base), "--walk", hex(rip), "--ranges")
    (walk,) = found["page_tables"]["walks"]
    assert int(walk["target"], 16) == recording.alloc_base + rip - 0xFFFF_FFFF_8000_0000
    assert [step["level"] for step in walk["steps"]] == ["L4", "L3", "L2", "L1"]
    assert found["findings"] == []
    tables = next(r for r in found["page_tables"]["mapped"]["ranges"] if r["start"] == hex(recording.word(88)))
    assert (tables["target"], tables["size"]) == (hex(base), path.stat().st_size)
    assert "RW" not in tables["flags"]


def test_hvm_start_info(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    path.write_bytes(VERSION_1.ljust(0x3000, b"\0") + b"console=hvc0\0")
    found = decoded("hvm_start_info", path, "--base", hex(BASE))
    assert [child["kind"] for child in found["structure"]["children"]] == ["hvm-module"] + ["hvm-memmap-entry"] * 2
    assert value(found, "memmap_entries") == 2
    assert decoded("hvm_start_info", path)["structure"]["children"] == []


# ---- what mbtool writes --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dom0(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Path:
    folder = tmp_path_factory.mktemp("written") / "dom0"
    options = ("--kernel", samples / "pv-dom0/pv-dom0.elf", "--initrd", samples / "initrd/initrd.img", "-o", folder)
    assert mbtool("build-dom0", *options).returncode == 0
    return folder


def test_hvm_start_info_knows_its_place_from_the_layout_beside_it(tmp_path: Path, samples: Path) -> None:
    """In the blob it stands behind the initrd and what it points to."""
    dom0, initrd = tmp_path / "dom0", samples / "initrd/initrd.img"
    options = ("--mode", "pvh", "--kernel", samples / "pvh/pvh.elf", "--initrd", initrd, "--cmdline", "one two")
    assert mbtool("build-dom0", *options, "-o", dom0).returncode == 0
    layout = json.loads((dom0 / "layout.json").read_text())
    blob = dom0 / "hvm_start_info.bin"
    found = decoded("hvm_start_info", blob)
    assert (value(found, "nr_modules"), value(found, "cmdline")) == (1, "one two")
    assert int(layout["load"][0]["start"], 16) + found["offset"] == int(layout["registers"]["ebx"], 16)
    (module,) = found["structure"]["children"]
    assert module["fields"]["size"]["value"] == initrd.stat().st_size
    assert (
        decoded("hvm_start_info", blob, "--at", str(found["offset"]), "--base", layout["load"][0]["start"]) == found
    )
    (dom0 / "layout.json").write_text('{"load": [{"file": 7}, {"file": "hvm_start_info.bin", "start": "x"}]}')
    done = mbtool("decode", "hvm_start_info", blob)
    assert (done.returncode, done.stdout) == (2, "")


def test_page_tables_know_their_place_from_the_layout_beside_them(dom0: Path) -> None:
    layout = json.loads((dom0 / "layout.json").read_text())
    done = mbtool("decode", "page-tables", dom0 / "pagetables.bin")
    assert done.returncode == 0
    start, total = layout["machine"]["page_tables"]["start"], layout["virtual"]["total"]
    lines = done.stdout.splitlines()
    assert lines[-1] == f"5 tables, the first at {start}; none is writable"
    assert any("0x0000008000000000" in line and "is not in the dump" in line for line in lines)  # the P2M
    kernel_line = next(line for line in lines if line.startswith(total["start"]))
    assert "RW US" in kernel_line
    walked = mbtool("decode", "page-tables", dom0 / "pagetables.bin", "--walk", layout["entry"], "--walk", "0x1000")
    assert walked.returncode == 0
    entry = int(layout["entry"], 16) - int(total["start"], 16) + int(layout["machine"]["alloc"]["start"], 16)
    assert f"  machine address {entry:#x}\n" in walked.stdout
    assert walked.stdout.splitlines()[-1] == "  not mapped: the L4's entry is not present"


def test_a_flipped_bit_is_found(dom0: Path, tmp_path: Path) -> None:
    layout = json.loads((dom0 / "layout.json").read_text())
    tables = bytearray((dom0 / "pagetables.bin").read_bytes())
    base = int(layout["machine"]["page_tables"]["start"], 16)
    at = next(
        at for at in range(0, len(tables), 8) if struct.unpack_from("<Q", tables, at)[0] & ~0xFFF == base | 1 << 52
    )
    tables[at] |= 2
    bad = tmp_path / "bad.bin"
    bad.write_bytes(tables)
    found = decoded("page-tables", bad, "--base", hex(base), status=1)
    assert [finding["id"] for finding in found["findings"]] == ["PAGE-TABLE-WRITABLE"]
    done = mbtool("decode", "page-tables", bad, "--base", hex(base))
    assert done.returncode == 1
    assert "a page table is mapped writable" in done.stdout


def test_boot_params_and_what_they_point_at(tmp_path: Path) -> None:
    vmlinuz, page = tmp_path / "vmlinuz", tmp_path / "page"
    vmlinuz.write_bytes(kernel(loadflags=1, code32_start=1 << 20, cmdline_size=255, initrd_addr_max=0x7FFFFFFF))
    arguments = ("plan", "linux", "--kernel", vmlinuz, "--cmdline", "one two", "--boot-params", page)
    assert mbtool(*arguments).returncode == 0
    found = decoded("boot_params", page)
    assert "cmd_line" not in found["structure"]["fields"]
    setup = next(child for child in found["structure"]["children"] if child["kind"] == "setup-header")
    assert setup["fields"]["cmd_line_ptr"]["value"] == "0x3e000"
    page.write_bytes(page.read_bytes().ljust(0xE000, b"\0") + b"one two\0")
    assert value(decoded("boot_params", page, "--base", "0x30000"), "cmd_line") == "one two"


# ---- none of it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_no_such_structure(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "noise"
    base = ("--base", "0") if kind == "page-tables" else ()
    for content in (b"", b"\xff", b"\xff" * 3):
        path.write_bytes(content)
        done = mbtool("decode", kind, path, *base)
        assert (done.returncode, done.stdout) == (2, ""), content
        assert done.stderr.startswith(f"mbtool: {path}") and done.stderr.count("\n") == 1
    path.write_bytes(b"\xff" * 10000)
    for options in ((), ("--at", "9000"), ("--at", "0xffffffffffffffff"), ("--json",), ("--fields",)):
        done = mbtool("decode", kind, path, *base, *options)
        assert done.returncode in (0, 1, 2)
        assert done.stderr.count("\n") == (done.returncode == 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("page-tables", "FILE"), "say --base ADDRESS"),
        (("page-tables", "FILE", "--base", "0", "--walk", "0x800000000000"), "is no address of 48 bits"),
        (("start_info", "FILE", "--walk", "0"), "are for page tables"),
        (("start_info", "FILE", "--ranges"), "are for page tables"),
        (("start_info", "FILE", "--at", "-1"), "cannot be negative"),
        (("start_info", "FILE", "--at", "here"), "is no address"),
        (("start_info", "/nonexistent"), "cannot open"),
    ],
)
def test_usage(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    path = tmp_path / "zeros"
    path.write_bytes(bytes(8192))
    done = mbtool("decode", *(str(path) if word == "FILE" else word for word in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert mbtool("decode", "nonsense", path).returncode == 2
