"""Run a machine in QEMU and read its first serial port: emulated (no KVM), without display or network."""

from __future__ import annotations

import os
import re
import selectors
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

from tests.conftest import missing

QEMU = "qemu-system-x86_64"
ALWAYS = (
    *("-accel", "tcg"),
    *("-display", "none"),
    *("-monitor", "none"),
    *("-nic", "none"),
    *("-serial", "stdio"),
    "-no-reboot",  # a triple fault or reset ends QEMU
)


class Boot(NamedTuple):
    """What came of a boot."""

    console: str
    """All that the machine wrote to COM1, lines ended by a newline alone."""
    exit: int | None
    """QEMU's exit status: 0 after power-off; None when it was ended because ``until`` had been seen."""


def version() -> tuple[int, ...]:
    """Of ``qemu-system-x86_64``."""
    said = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, re.findall(r"\d+", said)[:3]))


def run(args: Sequence[str], until: str | None = None, timeout: float = 180) -> Boot:
    """Start ``qemu-system-x86_64`` with args and wait for what the machine does.

    Returns once the console matches the regular expression ``until`` (multi-line), else when QEMU exits. Raises
    AssertionError with the end of the console when QEMU exits without that match, or after ``timeout`` seconds.
    QEMU never outlives the call.
    """
    if not shutil.which(QEMU):
        missing(f"the program {QEMU}")
    command = [QEMU, *ALWAYS, *args]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        console = ""
        try:
            for console in _growing(process.stdout, time.monotonic() + timeout):
                if until is not None and re.search(until, console, re.MULTILINE):
                    return Boot(console, None)
            status = process.wait(30)  # it has closed its console: it is exiting
        except (TimeoutError, subprocess.TimeoutExpired):
            raise AssertionError(_story(f"still running after {timeout:g} s", console, errors)) from None
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        if until is not None:
            raise AssertionError(_story(f"QEMU exited with {status} before {until!r}", console, errors))
        return Boot(console, status)


def _growing(stream: IO[bytes], deadline: float) -> Iterator[str]:
    """The whole console text each time it has grown; ends with the stream; TimeoutError at the deadline."""
    seen = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while selector.select(max(deadline - time.monotonic(), 0)):
            chunk = os.read(stream.fileno(), 1 << 16)
            if not chunk:
                return
            seen += chunk
            yield seen.decode("utf-8", "replace").replace("\r", "")
        raise TimeoutError


def _story(what: str, console: str, errors: IO[bytes]) -> str:
    errors.seek(0)
    complaint = errors.read().decode("utf-8", "replace").strip()
    return f"{what}\nQEMU: {complaint or 'no message'}\nthe console ended with:\n{console[-3000:]}"
