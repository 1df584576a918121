#!/usr/bin/env python3
"""Record what a real Xen hands to a PV dom0.

    python -m tests.oracle.record --xen XEN --kernel KERNEL [--initrd INITRD] --out STEM

Boots Xen in QEMU (TCG: no KVM needed), stops at dom0's first instruction through QEMU's gdb server and reads the
registers, the start_info page, the bootstrap page tables and the head of the P2M as that instruction would.
Writes STEM.json, STEM.si, STEM.pt.gz, STEM.p2m.gz. Xen may be compressed. Needs qemu-system-x86_64.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.oracle.gdb import Gdb
from tests.oracle.recording import Recording

XEN_ARGS = "console=com1 com1=115200 loglvl=all guest_loglvl=all"
GIVEN_UP = re.compile(r"Reboot in five seconds|Manual reset required")
VERDICT = re.compile(rf"ENTRY ADDRESS: ([0-9a-f]{{16}})|{GIVEN_UP.pattern}")
STARTUP = re.compile(r"Xen version (\S+) .*debug=([yn])")


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot. ``memory`` in MiB; ``p2m_bytes`` of the P2M are kept at most."""

    xen: Path
    kernel: Path
    initrd: Path | None = None
    initrd_string: str = ""
    dom0_mem: str = "512M"
    xen_options: str = ""
    dom0_args: str = "console=hvc0"
    memory: int = 1024
    smp: int = 1
    cpu: str = "qemu64"
    p2m_bytes: int = 1 << 20
    timeout: float = 180

    @property
    def xen_args(self) -> str:
        own = f"{XEN_ARGS} dom0_mem={self.dom0_mem}" if self.dom0_mem else XEN_ARGS
        return f"{own} {self.xen_options}" if self.xen_options else own


def record(boot: Boot, entry: int | None = None) -> Recording:
    """Boot and read. Without knowing dom0's ``entry`` it boots twice: first to learn it from Xen's console.

    A boot in which Xen panics gives a recording with nothing but the console.
    """
    with tempfile.TemporaryDirectory(prefix="mbtool-record-") as folder:
        work = Path(folder)
        if entry is None:
            with qemu(boot, work, ()) as console:
                verdict = _wait(console, boot.timeout, VERDICT)
            if not verdict[1]:
                return Recording(about(boot, console), console_lines(console, "Building a PV Dom0")[:60])
            entry = int(verdict[1], 16)
        socket = work / "gdb"
        with qemu(boot, work, ("-S", "-gdb", f"unix:{socket},server=on,wait=off")) as console, Gdb(socket) as gdb:
            gdb.ask("qSupported")
            try:
                gdb.run_to(entry, boot.timeout)
            except TimeoutError:
                raise
            except (EOFError, OSError):  # QEMU ended: Xen gave up after it had printed the arrangement
                return Recording(about(boot, console), console_lines(console, "Building a PV Dom0")[:60])
            registers = gdb.registers()
            page = gdb.read(registers["rsi"], 4096)
            word, places = (8, (32, 88, 96, 104)) if registers["cs"] == 0xE033 else (4, (32, 60, 64, 68))
            nr_pages, pt_base, nr_pt_frames, mfn_list = (
                int.from_bytes(page[at : at + word], "little") for at in places
            )
            tables = gdb.read(pt_base, nr_pt_frames * 4096)
            p2m = gdb.read(mfn_list, min(word * nr_pages, boot.p2m_bytes))
        return Recording(
            about(boot, console), console_lines(console, "Building a PV Dom0")[:60], registers, page, tables, p2m
        )


def machine(boot: Boot) -> list[str]:
    """QEMU with a machine, and nothing yet to boot."""
    return [
        "qemu-system-x86_64",
        *("-machine", "q35,accel=tcg", "-cpu", boot.cpu, "-smp", str(boot.smp), "-m", str(boot.memory)),
        *("-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot"),
    ]


def _command(boot: Boot, xen: str, kernel: str, initrd: str) -> list[str]:
    modules = f"{kernel} {boot.dom0_args}".replace(",", ",,")
    if initrd:
        modules += "," + f"{initrd} {boot.initrd_string}".rstrip(" ").replace(",", ",,")
    return [*machine(boot), "-kernel", xen, "-append", boot.xen_args, "-initrd", modules]


@contextmanager
def qemu(boot: Boot, work: Path, extra: tuple[str, ...]) -> Iterator[Path]:
    """A running machine, killed at the end; yields the file that its serial console goes to."""
    xen = boot.xen.read_bytes()
    plain = work / "xen"
    plain.write_bytes(gzip.decompress(xen) if xen.startswith(b"\x1f\x8b") else xen)
    for name, path in (("kernel", boot.kernel), ("initrd", boot.initrd)):  # QEMU splits its argument at blanks
        link = work / name
        if path is not None and not link.exists():
            link.symlink_to(path.resolve())
    with running([*_command(boot, "xen", "kernel", "initrd" if boot.initrd else ""), *extra], work) as console:
        yield console


@contextmanager
def running(command: list[str], work: Path) -> Iterator[Path]:
    """QEMU, started in the directory ``work`` and killed at the end; yields the file with its serial console."""
    console = work / "console"
    console.write_bytes(b"")
    process = subprocess.Popen([*command, "-serial", f"file:{console}"], stdin=subprocess.DEVNULL, cwd=work)
    try:
        yield console
    finally:
        process.kill()
        process.wait()


def refusal(boot: Boot) -> tuple[str, ...]:
    """Boot a Xen that gives up, and read its lines from where it builds dom0."""
    with tempfile.TemporaryDirectory(prefix="mbtool-record-") as folder, qemu(boot, Path(folder), ()) as console:
        _wait(console, boot.timeout, GIVEN_UP)
        return console_lines(console, "Building a PV Dom0")


def _wait(console: Path, seconds: float, verdict: re.Pattern[str]) -> re.Match[str]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if match := verdict.search(console.read_text(errors="replace")):
            return match
        time.sleep(0.2)
    raise TimeoutError(
        f"Xen did not say {verdict.pattern} within {seconds} s:\n{console.read_text(errors='replace')[-2000:]}"
    )


def console_lines(console: Path, start: str) -> tuple[str, ...]:
    """Xen's lines without their prefix, from the first that holds ``start``."""
    lines = [line.rstrip() for line in re.findall(r"\(XEN\) (.*)", console.read_text(errors="replace"))]
    begin = next((i for i, line in enumerate(lines) if start in line), len(lines))
    return tuple(lines[begin:])


def about(boot: Boot, console: Path, extra: tuple[str, ...] = ()) -> dict[str, object]:
    """What was booted and how: names and digests, no paths, no time."""
    initrd = boot.initrd
    started = STARTUP.search(console.read_text(errors="replace"))
    return {
        "command": shlex.join(
            [*_command(boot, boot.xen.name, boot.kernel.name, initrd.name if initrd else ""), *extra]
        ),
        "xen": started[1] if started else "",
        "debug": bool(started and started[2] == "y"),
        "kernel_sha256": hashlib.sha256(boot.kernel.read_bytes()).hexdigest(),
        "initrd_size": initrd.stat().st_size if initrd else None,
        "xen_args": boot.xen_args,
        "dom0_args": boot.dom0_args,
        "mem_mib": boot.memory,
        "smp": boot.smp,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # what is not given keeps Boot's default
    )
    parser.add_argument("--xen", type=Path, required=True)
    parser.add_argument("--kernel", type=Path, required=True)
    parser.add_argument("--initrd", type=Path)
    parser.add_argument("--dom0-mem", help="Xen's dom0_mem= ('' for none)")
    parser.add_argument("--xen-options", help="more of Xen's command line")
    parser.add_argument("--dom0-args")
    parser.add_argument("--memory", type=int, help="MiB")
    parser.add_argument("--smp", type=int)
    parser.add_argument("--cpu")
    parser.add_argument("--p2m-bytes", type=int)
    parser.add_argument("--out", required=True, help="stem of the files to write")
    args = vars(parser.parse_args())
    out = Path(args.pop("out"))
    recording = record(Boot(**args))
    recording.save(out)
    print("\n".join(recording.console[:24]))
    sys.exit(0 if recording.start_info else 1)


if __name__ == "__main__":
    main()
