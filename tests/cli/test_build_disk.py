"""``mbtool build-disk`` as its user meets it: options, descriptions, JSON, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from pathlib import Path

import jsonschema
import pytest

from tests.cli.run import mbtool
from tests.conftest import ROOT

KERNEL = ROOT / "samples" / "multiboot1" / "multiboot1.elf"
SCHEMA = json.loads((ROOT / "mbtool" / "schemas" / "build-disk.schema.json").read_text())


def test_json_says_where_everything_is(tmp_path: Path) -> None:
    done = mbtool("build-disk", "--json", "--kernel", KERNEL, "-o", "disk.img", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    jsonschema.validate(document, SCHEMA)
    image = (tmp_path / "disk.img").read_bytes()
    assert document["size"] == len(image)
    assert document["firmware"] == ["bios"]
    (file,) = document["files"]
    assert image[file["offset"] : file["offset"] + file["size"]] == KERNEL.read_bytes()
    assert (tmp_path / "disk.img").stat().st_blocks * 512 < 2 << 20, "sparse"


def test_the_description_builds_the_same_disk_again(tmp_path: Path) -> None:
    """With every key, from files in other directories, and from another working directory."""
    inputs = tmp_path / "in puts"
    inputs.mkdir()
    for name in ("module", "policy:1", "root.img", "notes"):
        (inputs / name).write_bytes(os.urandom(3000))
    (inputs / "first.toml").write_text(
        f"""
        [boot]
        kernel = "{KERNEL}"
        cmdline = 'a "quoted" \\ word'
        modules = [{{ file = "module", cmdline = "one" }}, {{ file = "policy:1" }}]
        [disk]
        label = "SOMETHING"
        esp-size = "40M"
        source-date-epoch = 1700000000
        [[file]]
        source = "notes"
        path = "docs/read me.txt"
        [[partition]]
        name = "root"
        source = "root.img"
        size = "2M"
        """
    )
    assert mbtool("build-disk", inputs / "first.toml", "-o", "disk.img", cwd=tmp_path).returncode == 0
    description = tmp_path / "disk.img.toml"
    assert tomllib.loads(description.read_text())["boot"]["modules"][1] == {
        "file": "in puts/policy:1",
        "cmdline": "",
    }
    assert mbtool("build-disk", description, "-o", inputs / "again.img", cwd=Path("/")).returncode == 0
    assert (inputs / "again.img").read_bytes() == (tmp_path / "disk.img").read_bytes()
    assert (inputs / "again.img.toml").read_text() != description.read_text(), "paths are relative to the file"


def test_options_override_the_description(tmp_path: Path, tool) -> None:
    (tmp_path / "image.toml").write_text(f'[boot]\nkernel = "{KERNEL}"\ncmdline = "old"\n[disk]\nlabel = "OLD"\n')
    options = ["--cmdline", "new", "--label", "NEW", "--size", "64M"]
    done = mbtool("build-disk", "image.toml", *options, "-o", "disk.img", cwd=tmp_path)
    assert done.returncode == 0
    written = tomllib.loads((tmp_path / "disk.img.toml").read_text())
    assert (written["boot"]["cmdline"], written["disk"]["label"]) == ("new", "NEW")
    listing = subprocess.run([tool("sgdisk"), "-p", tmp_path / "disk.img"], capture_output=True, text=True).stdout
    (sectors,) = [
        int(line.split()[2]) - int(line.split()[1]) + 1 for line in listing.splitlines() if "EF00" in line
    ]
    assert 64 << 20 <= sectors * 512 < 66 << 20
    label = subprocess.run([tool("mlabel"), "-s", "-i", f"{tmp_path / 'disk.img'}@@1M", "::"], capture_output=True)
    assert b"NEW" in label.stdout


def test_modules_with_and_without_words(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b:c").write_bytes(b"2")
    modules = ["--module", "a:some words: more", "--module", "b:c"]
    done = mbtool("build-disk", "--kernel", KERNEL, *modules, "-o", "disk.img", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    described = tomllib.loads((tmp_path / "disk.img.toml").read_text())["boot"]["modules"]
    assert described == [{"file": "a", "cmdline": "some words: more"}, {"file": "b:c", "cmdline": ""}]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no kernel is named"),
        (["--kernel", "absent"], "absent: cannot open"),
        (["--kernel", "."], "directory"),
        (["--kernel", "text"], "no known boot protocol"),
        (["--kernel", KERNEL, "--size", "-1"], "not a size"),
        (["--kernel", KERNEL, "--size", "lots"], "not a size"),
        (["--kernel", KERNEL, "--size", "9999999T"], ""),
        (["--kernel", KERNEL, "--label", "MUCH TOO LONG A LABEL"], "label"),
        (["--kernel", KERNEL, "--label", "grüße"], "label"),
        (["--kernel", KERNEL, "--module", ":words"], ""),
        (["--kernel", KERNEL, "--module", "absent:words"], "absent: cannot open"),
        (["--kernel", KERNEL, "--xen", "text"], "text"),
        (["image.toml"], "unknown key"),
        (["text"], "text"),
        (["absent.toml"], "cannot open"),
        (["--kernel", b"bad\xffname".decode("utf-8", "surrogateescape")], "no UTF-8"),
    ],
)
def test_unusable_arguments_write_nothing(tmp_path: Path, arguments: list[str | Path], words: str) -> None:
    (tmp_path / "text").write_text("some text\n" * 1000)
    (tmp_path / os.fsdecode(b"bad\xffname")).write_bytes(KERNEL.read_bytes())
    (tmp_path / "image.toml").write_text('[boot]\nkernle = "x"\n')
    before = sorted(tmp_path.iterdir())
    done = mbtool("build-disk", *arguments, "-o", "disk.img", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, ""), done.stdout
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_an_older_image_needs_force(tmp_path: Path) -> None:
    assert mbtool("build-disk", "--kernel", KERNEL, "-o", "disk.img", cwd=tmp_path).returncode == 0
    done = mbtool("build-disk", "--kernel", KERNEL, "--cmdline", "x", "-o", "disk.img", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "mbtool: disk.img: is there already (replace it with --force)\n",
    )
    done = mbtool("build-disk", "--kernel", KERNEL, "--cmdline", "x", "--force", "-o", "disk.img", cwd=tmp_path)
    assert done.returncode == 0


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    for name in ("kernel", "disk.img.toml"):
        (tmp_path / name).write_bytes(KERNEL.read_bytes())
    (tmp_path / "link").symlink_to("kernel")
    for arguments in (["--kernel", "kernel", "-o", "link"], ["--kernel", "disk.img.toml", "-o", "disk.img"]):
        done = mbtool("build-disk", "--force", *arguments, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("is one of the inputs")) == (2, 1)
        assert (tmp_path / arguments[1]).read_bytes() == KERNEL.read_bytes()


def test_a_description_that_says_the_same_is_left_alone(tmp_path: Path) -> None:
    description = tmp_path / "disk.img.toml"
    description.write_text(f"# my own words\n[boot]\nkernel = '{KERNEL}'\n")
    done = mbtool("build-disk", description, "--force", "-o", tmp_path / "disk.img")
    assert (done.returncode, done.stderr) == (0, "")
    assert description.read_text().startswith("# my own words")
    assert mbtool("build-disk", description, "--label", "X", "--force", "-o", tmp_path / "disk.img").returncode == 0
    assert 'label = "X"' in description.read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("boot = 1", "boot: is not a table"),
        ("[boot]\nkernel = ''", "boot.kernel: is no file name"),
        ('[boot]\nkernel = "k\\u0000"', "boot.kernel: is no file name"),
        ("[boot]\nkernel = 'k'\nmodules = [1]", "boot.modules: is not a table"),
        ("[boot]\nkernel = 'k'\nmodules = [{cmdline = 'x'}]", "boot.modules: has no file"),
        ('[boot]\nkernel = "k"\ncmdline = "a\\u0000b"', "cannot hold a zero"),
        ("[boot]\nkernel = 'k'\n[disk]\nesp-size = true", "disk.esp-size: wrong type"),
        ("[boot]\nkernel = 'k'\n[disk]\nsource-date-epoch = 99999999999", "FAT has no such date"),
        ("[boot]\nkernel = 'k'\n[[file]]\nsource = 'k'\npath = '../../x'", "not a name for a FAT file system"),
        ("[boot]\nkernel = 'k'\n[[file]]\nsource = 'k'\npath = 'BOOT/K'", "named twice"),
        ("[boot]\nkernel = 'k'\n[[partition]]\nsource = '/dev/zero'", "is not a regular file"),
        ("[boot]\nkernel = 'k'\n[[partition]]\nsource = 'k'\nsize = '900000T'", "cannot write"),
        ("[boot]\nkernel = 'k'\n" + "[[partition]]\nsource = 'k'\n" * 127, "partition: too many"),
        ('[boot]\nkernel = "\\ud800"', "is no TOML file"),
    ],
)
def test_hostile_descriptions_are_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "k").write_bytes(KERNEL.read_bytes())
    (tmp_path / "image.toml").write_text(text)
    done = mbtool("build-disk", "image.toml", "-o", "disk.img", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert words in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.toml", "k"]
