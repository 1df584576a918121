"""``mbtool inspect`` as its users meet it: text, JSON, several files, bad files, exit codes."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mbtool.cli.report import TextReport, show
from mbtool.errors import UnknownFormatError
from mbtool.source import FileSource, Limits
from tests.cli.run import mbtool
from tests.conftest import ROOT

SCHEMA = json.loads((files("mbtool") / "schemas" / "inspect.schema.json").read_text())


def document(*arguments: str | Path, stdin: bytes | None = None, status: int = 0) -> Any:
    done = mbtool("inspect", "--json", *arguments, stdin=stdin)
    assert done.returncode == status, done.stderr
    found = json.loads(done.stdout)
    jsonschema.validate(found, SCHEMA)
    return found


def kinds(node: dict[str, Any]) -> list[str]:
    return [node["kind"], *(kind for child in node["children"] for kind in kinds(child))]


def test_the_schema_is_sound_and_printed():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(mbtool("schema", "inspect").stdout) == SCHEMA
    unknown = mbtool("schema", "nonsense")
    assert unknown.returncode == 2
    assert "inspect" in unknown.stderr


def test_json_of_a_sample(samples):
    path = samples / "multiboot1" / "multiboot1.elf"
    (image,) = document(path)["images"]
    assert image["path"] == str(path)
    assert image["size"] == path.stat().st_size
    assert image["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "multiboot1-header" in kinds(image["root"])
    assert image["root"]["kind"] == "elf"
    assert image["root"]["fields"]["e_entry"]["value"].startswith("0x")


def test_every_sample_is_valid_json_and_without_findings(samples):
    paths = sorted(samples.glob("*/*.elf")) + sorted(samples.glob("*/*.img"))
    for image in document(*paths)["images"]:
        stack = [image["root"]]
        while stack:
            node = stack.pop()
            assert not [finding for finding in node["findings"] if finding["severity"] != "info"], image["path"]
            stack += node["children"]


def test_standard_input_and_compression(samples):
    data = gzip.compress((samples / "multiboot2" / "multiboot2.elf").read_bytes())
    (image,) = document("-", stdin=data)["images"]
    assert (image["path"], image["root"]["kind"]) == ("-", "gzip")
    assert "multiboot2-header" in kinds(image["root"])


def test_a_bad_file_does_not_stop_the_others(samples, tmp_path):
    bad = tmp_path / "bad"
    bad.write_bytes(b"nothing that boots" * 100)
    good = samples / "multiboot1" / "multiboot1.elf"
    found = document(bad, tmp_path / "missing", good, status=2)
    assert [image["path"] for image in found["images"]] == [str(good)]
    unknown, missing = found["errors"]
    assert {reason["kind"] for reason in unknown["reasons"]} >= {"elf", "pe", "bzimage"}
    assert all(reason["reason"] for reason in unknown["reasons"])
    assert "No such file" in missing["message"]


def test_text_has_one_error_line_per_bad_file_and_the_reasons(samples, tmp_path):
    (tmp_path / "bad").write_bytes(b"\x7fEL")
    done = mbtool("inspect", tmp_path / "bad", samples / "multiboot1" / "multiboot1.elf")
    assert done.returncode == 2
    assert "multiboot1-header" in done.stdout
    assert f"mbtool: {tmp_path / 'bad'}: unknown format" in done.stderr
    assert "not elf:" in done.stderr


def test_fields_shows_offsets_and_raw_bytes(samples):
    done = mbtool("inspect", "--fields", samples / "multiboot1" / "multiboot1.elf")
    assert "02 b0 ad 1b" in done.stdout


@pytest.mark.parametrize("option", ["--fields", "--json"])
def test_a_reader_that_goes_away(option: str, samples):
    """141 is what shells say of a program that SIGPIPE ended; 1 would mean findings."""
    path = samples / "multiboot1" / "multiboot1.elf"
    command = [sys.executable, "-m", "mbtool", "inspect", option, str(path)]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, cwd=ROOT, timeout=120)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_an_interrupt_is_told(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "mbtool", "inspect", str(pipe)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=ROOT) as process, pipe.open("wb"):
        # the program has opened its end: it waits for what is written
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (130, b"mbtool: interrupted\n")


def test_a_named_pipe_whose_writer_comes_later(tmp_path: Path, samples: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "mbtool", "inspect", "--json", str(pipe)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        time.sleep(1)
        assert process.poll() is None
        pipe.write_bytes((samples / "multiboot1" / "multiboot1.elf").read_bytes())
        output, _ = process.communicate(timeout=120)
    assert (process.returncode, json.loads(output)["images"][0]["root"]["kind"]) == (0, "elf")


def test_an_empty_name():
    done = subprocess.run(
        [sys.executable, "-m", "mbtool", "inspect", ""], stderr=subprocess.PIPE, cwd=ROOT, timeout=120
    )
    assert (done.returncode, done.stderr) == (2, b"mbtool: '': cannot open: No such file or directory\n")


def test_the_interpreter_does_not_end_under_a_decoder():
    """It would take from the thread what that uses: one interrupt in 25 was a segmentation fault."""
    code = (
        "import atexit, sys, time; from mbtool import __main__, beside\n"
        "atexit.register(print, 'taken apart')\n"
        "if sys.argv[2:]: beside.begin(lambda: time.sleep(60))\n"
        "sys.argv[1:] = ['inspect', sys.argv[1]]\n"
        "__main__.main()"
    )
    for more, last in (([], [b"taken apart"]), (["busy"], [])):
        command = [sys.executable, "-c", code, os.devnull, *more]
        done = subprocess.run(command, capture_output=True, cwd=ROOT, timeout=50)
        assert (done.returncode, done.stdout.splitlines()) == (2, last)
        assert done.stderr.startswith(b"mbtool: /dev/null: ")


def test_too_little_memory_is_one_line(samples):
    code = (
        "import sys, mbtool.source; from mbtool import __main__\n"
        "def read(self, offset, size): raise MemoryError\n"
        "mbtool.source.FileSource.read = read\n"
        "sys.argv[1:] = ['inspect', sys.argv[1]]\n"
        "__main__.main()"
    )
    command = [sys.executable, "-c", code, str(samples / "multiboot1" / "multiboot1.elf")]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, timeout=120)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"mbtool: this takes more memory than there is\n"


def test_a_file_of_no_known_format_is_not_hashed_to_its_end(tmp_path, monkeypatch):
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 64 << 20)
    looked_at = threading.Event()
    read = FileSource.read

    def slow(self: FileSource, offset: int, size: int) -> bytes:
        if threading.current_thread() is not threading.main_thread():
            assert looked_at.wait(60)
        elif offset > 0:
            looked_at.set()
            time.sleep(0.05)
        return read(self, offset, size)

    monkeypatch.setattr(FileSource, "read", slow)
    start = time.monotonic()
    with pytest.raises(UnknownFormatError):
        show(str(path), Limits(), TextReport(sys.stdout, every_field=False), full=False, tolerant=False)
    assert time.monotonic() - start < 15  # all of it would take 25 seconds


def test_plain_when_piped(samples):
    assert "\x1b" not in mbtool("inspect", samples / "multiboot1" / "multiboot1.elf").stdout


def test_ascii_where_the_locale_has_no_more(samples):
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = mbtool("inspect", samples / "multiboot2" / "multiboot2.elf", env=env)
    assert done.returncode == 0
    assert done.stdout.isascii()


def test_directories_need_recursive_and_pass_over_what_is_no_image(samples, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "kernel").write_bytes((samples / "multiboot1" / "multiboot1.elf").read_bytes())
    (tmp_path / "config").write_text("CONFIG_X86=y\n")
    assert mbtool("inspect", tmp_path).returncode == 2
    found = document("--recursive", tmp_path)
    assert [image["path"] for image in found["images"]] == [str(tmp_path / "sub" / "kernel")]
    assert found["errors"] == []


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/proc/self/mem"])
def test_special_files_are_refused_or_harmless(path):
    done = mbtool("inspect", path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"mbtool: {path}")


def test_empty_file(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    assert mbtool("inspect", tmp_path / "empty").returncode == 2


def test_damage_is_exit_1_and_the_healthy_part_is_shown(samples, tmp_path):
    data = gzip.compress((samples / "multiboot1" / "multiboot1.elf").read_bytes())
    cut = tmp_path / "cut.gz"
    cut.write_bytes(data[:-6])
    (image,) = document(cut, status=1)["images"]
    assert "elf" in kinds(image["root"])
    assert any(finding["severity"] == "error" for finding in image["root"]["findings"])


def test_a_bomb_is_refused_within_its_budget(tmp_path):
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(bytes(300 << 20), 9))
    done = mbtool("inspect", "--full", "--max-output", "64", bomb)
    assert done.returncode == 2
    assert "64 MiB" in done.stdout + done.stderr
    assert "--max-output" in done.stdout + done.stderr


def test_a_reader_that_goes_away_is_no_error(samples):
    path = samples / "multiboot1" / "multiboot1.elf"
    command = f"{sys.executable} -m mbtool inspect --fields {' '.join([str(path)] * 50)} | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""


def test_usage_errors_are_exit_2():
    assert mbtool("inspect").returncode == 2
    assert mbtool("inspect", "--nonsense", "x").returncode == 2
    assert mbtool("nonsense").returncode == 2


def test_every_verb_has_examples_in_its_help():
    verbs = [line.split()[0] for line in mbtool("--help").stdout.split("Commands:")[1].splitlines() if line.strip()]
    assert "inspect" in verbs
    for verb in verbs:
        assert f"  mbtool {verb}" in mbtool(verb, "--help").stdout.split("Examples:")[1], verb


def test_version():
    import mbtool as package

    assert mbtool("--version").stdout == f"mbtool {package.__version__}\n"


def test_start_up_loads_neither_lief_nor_rich(samples):
    code = (
        "import sys, mbtool.__main__ as m\n"
        f"sys.argv = ['mbtool', 'inspect', {str(samples / 'pvh' / 'pvh.elf')!r}]\n"
        "try:\n    m.main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'lief', 'rich', 'pydantic'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr == "[]\n"
