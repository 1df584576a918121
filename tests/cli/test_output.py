"""Whatever is to be printed can be printed: names that are no text, terminals of little encoding."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("verb", ["--help", "explain", "inspect FILE", "inspect --json FILE", "check FILE"])
def test_what_cannot_be_printed_is_one_clear_line(samples: Path, verb: str) -> None:
    command = [sys.executable, "-m", "mbtool", *verb.replace("FILE", str(samples / "initrd/initrd.img")).split()]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (2, b"mbtool: standard output: No space left on device\n")


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_started_without_standard_files(samples: Path, tmp_path: Path, closed: str) -> None:
    """What is written does not become standard output, to which others may print."""
    command = f"{sys.executable} -m mbtool build-disk --kernel {samples}/multiboot1/multiboot1.elf -o {tmp_path}/a"
    done = subprocess.run(f"{command} {closed}", shell=True, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.toml"]
    assert (tmp_path / "a").stat().st_size > 1 << 20


def _as_in_a_terminal() -> None:
    """Whoever runs the tests may have these signals ignored: a shell's background job, nohup."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_many_processes_end_together(samples: Path, tmp_path: Path, sent: signal.Signals) -> None:
    """A terminal sends Ctrl-C, and that it hangs up, to all of them; one that is killed can tell no other."""
    image = shutil.copy(samples / "pvh/pvh.elf", tmp_path / "pvh.elf")
    for number in range(2000):  # more lines than fit into a pipe that is not read
        (tmp_path / f"{number}.elf").hardlink_to(image)
    command = [sys.executable, "-m", "mbtool", "check", "--recursive", "--json", "--jobs", "2", str(tmp_path)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=_as_in_a_terminal,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        try:
            (os.kill if sent == signal.SIGKILL else os.killpg)(process.pid, sent)
            _, errors = process.communicate(timeout=60)  # as long as any process has the pipes open
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == (-sent if sent == signal.SIGKILL else 128 + sent)
    assert b"Traceback" not in errors


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("name", [b"k\xc3\xa9rnel.elf", b"kernel\xff.elf"])
@pytest.mark.parametrize("verb", [["inspect"], ["plan", "multiboot", "--kernel"]])
def test_file_names_of_any_bytes(
    samples: Path, tmp_path: Path, encoding: str, name: bytes, verb: list[str]
) -> None:
    path = os.fsencode(tmp_path) + b"/" + name
    Path(os.fsdecode(path)).write_bytes((samples / "multiboot1/multiboot1.elf").read_bytes())
    command = [os.fsencode(word) for word in (sys.executable, "-m", "mbtool", *verb)]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([*command, path], capture_output=True, env=environment, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"kernel" in done.stdout or b"rnel.elf" in done.stdout
