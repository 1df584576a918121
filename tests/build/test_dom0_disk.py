"""The disk beside a dom0 plan: what Xen is told, what is written, and that the directory stays whole or absent."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest

from mbtool.build.dom0 import Request, plan_dom0
from mbtool.build.dom0_disk import SERIAL, _named, xen_cmdline
from mbtool.build.dom0_files import build_dom0
from mbtool.errors import InputError, MbtoolError
from mbtool.plan import dom0_mem, xen_options
from mbtool.source import open_file
from tests.cli.run import mbtool
from tests.conftest import ROOT

KERNEL = ROOT / "samples" / "pv-dom0" / "pv-dom0-mapped.elf"
INITRD = ROOT / "samples" / "initrd" / "initrd.img"


def told(**given) -> str:
    request = Request(kernel=KERNEL, disk=True, **given)
    with open_file(KERNEL) as kernel:
        return xen_cmdline(request, plan_dom0(request, kernel, None, None))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"dom0_mem": "512M"}, f"{SERIAL} dom0_mem=512M"),
        ({"dom0_mem": "512M", "xen_cmdline": "loglvl=all"}, f"loglvl=all {SERIAL} dom0_mem=512M"),
        ({"dom0_mem": "1G", "xen_cmdline": "console=vga"}, "console=vga dom0_mem=1G"),
        ({"xen_cmdline": "console=com1 dom0_mem=1G"}, "console=com1 dom0_mem=1G"),
        ({"xen_cmdline": "console=com1 dom0_mem=1G -- quiet"}, "console=com1 dom0_mem=1G -- quiet"),
        ({"xen_cmdline": " -- console=hvc0", "dom0_mem": "1G"}, f"{SERIAL} dom0_mem=1G -- console=hvc0"),
        ({"xen_cmdline": "console=com1"}, "console=com1 dom0_mem=max:524288K"),
        ({"xen_cmdline": "console=com1", "dom0_mem": "min:600M"}, None),
        ({"xen_cmdline": "console=com1", "dom0_mem": "25%", "nr_pages": 30000}, None),
        ({"xen_cmdline": "console=com1", "dom0_mem": "min:256M,5%", "host_mem": 16 << 30}, None),
    ],
)
def test_what_xen_is_told(given, words):
    if words is not None:
        assert told(**given) == words
    # Whatever the host has, if it has enough, dom0 gets what was planned.
    request = Request(kernel=KERNEL, disk=True, **given)
    with open_file(KERNEL) as kernel:
        planned = plan_dom0(request, kernel, None, None).plan.nr_pages
    option = dom0_mem.parse(xen_options.dom0_mem(told(**given).encode()))
    assert [dom0_mem.compute_nr_pages(option, host << 18) for host in (4, 64)] == [planned] * 2  # GiB


@pytest.mark.parametrize(("version", "named"), [("4.18", False), ("4.19", True), ("4.22", True)])
def test_newer_xen_prepends_the_kernels_name_on_uefi(version: str, named: bool) -> None:
    request = Request(kernel=KERNEL, xen_version=version)
    with open_file(KERNEL) as kernel:
        notes = list(_named(plan_dom0(request, kernel, None, None)))
    assert [note[:5] for note in notes] == ["UEFI:"] * named


@pytest.mark.real
def test_directory_with_disk(tmp_path: Path, xen_gz: Path, xen_efi: Path) -> None:
    out = tmp_path / "dom0"
    done = mbtool("build-dom0", "--xen", xen_gz, "--kernel", KERNEL, "--initrd", INITRD, "-o", out)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"disk.img boots on bios and uefi; Xen is told: {SERIAL} dom0_mem=max:524288K\n" in done.stdout
    manifest = json.loads((out / "manifest.json").read_text())
    jsonschema.validate(manifest, json.loads((ROOT / "mbtool/schemas/manifest.schema.json").read_text()))
    assert manifest["disk"]["firmware"] == ["bios", "uefi"]
    assert [(item["role"], item["name"]) for item in manifest["inputs"]] == [
        ("kernel", KERNEL.name),
        ("initrd", INITRD.name),
        ("xen", xen_gz.name),
        ("xen-efi", xen_efi.name),
    ]
    listed = {item["name"]: item["size"] for item in manifest["outputs"]}
    assert listed["disk.img"] == (out / "disk.img").stat().st_size
    before = (out / "disk.img").read_bytes()
    assert mbtool("build-dom0", "--xen", xen_gz, "--kernel", KERNEL, "-o", out).returncode == 2
    assert (out / "disk.img").read_bytes() == before

    done = mbtool("build-dom0", "--kernel", KERNEL, "-o", out, "--force")
    assert done.returncode == 0
    assert "no disk.img: that needs --xen" in done.stdout
    assert not (out / "disk.img").exists()
    assert json.loads((out / "manifest.json").read_text())["disk"] is None


@pytest.mark.real
def test_with_one_xen_image_only(tmp_path: Path, xen_gz: Path, xen_efi: Path) -> None:
    for image, firmware in ((xen_gz, ("bios",)), (xen_efi, ("uefi",))):
        alone = tmp_path / f"{firmware[0]}-{image.name}"
        alone.symlink_to(image)
        built = build_dom0(Request(kernel=KERNEL, xen=alone, disk=True), tmp_path / firmware[0])
        assert built.disk is not None
        assert built.disk.firmware == firmware
        assert [note[:9] for note in built.disk.notes] == [f"{firmware[0].upper()} only"]
    done = mbtool("build-dom0", "--kernel", KERNEL, "--xen-efi", xen_efi, "-o", tmp_path / "none")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    done = mbtool("build-dom0", "--kernel", KERNEL, "--xen", xen_gz, "--no-disk", "-o", tmp_path / "no")
    assert done.returncode == 0
    assert not (tmp_path / "no" / "disk.img").exists()


@pytest.mark.real
@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"xen_efi": Path("/nonexistent.efi")}, InputError, "cannot open"),
        ({"xen_efi": KERNEL}, InputError, "is no EFI program of Xen's"),
        ({"cmdline": "a # b"}, InputError, "cannot be written to a Xen EFI configuration"),
    ],
)
def test_a_disk_that_cannot_be_made_leaves_nothing(tmp_path: Path, xen_gz: Path, given, error, words) -> None:
    with pytest.raises(error, match=words):
        build_dom0(Request(kernel=KERNEL, xen=xen_gz, disk=True, **given), tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.real
def test_full_disk_keeps_the_older_set(tmp_path: Path, xen_gz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = Request(kernel=KERNEL, xen=xen_gz, disk=True)
    build_dom0(request, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(MbtoolError, match="No space left"):
        build_dom0(request, tmp_path / "out", force=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
