"""A virtual machine to boot on: the one place that starts QEMU, reads its console and learns how it ended."""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from mbtool.errors import InputError

PROGRAM = "qemu-system-x86_64"
OVMF = (
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
)
"""Where distributions keep UEFI firmware: code and variable store."""
MAX_CONSOLE = 16 << 20
"""Console bytes kept: a guest that prints without end must not fill the memory."""


class Firmware(StrEnum):
    BIOS = "bios"
    UEFI = "uefi"


class End(StrEnum):
    """How a run ended."""

    STOPPED = "stopped"
    """The caller saw enough and stopped it."""
    POWER_OFF = "power-off"
    RESET = "reset"
    TRIPLE_FAULT = "triple-fault"
    TIMEOUT = "timeout"
    QEMU = "qemu"
    """QEMU itself failed; ``Run.message`` has its words."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine: ``memory`` in MiB, ``accel`` kvm or tcg, ``bus`` how disks are attached, ``extra`` arguments."""

    firmware: Firmware = Firmware.BIOS
    memory: int = 1024
    cpu: str = "qemu64"
    smp: int = 1
    accel: str = "tcg"
    machine: str = "q35"
    bus: str = "ahci"
    extra: tuple[str, ...] = ()


@dataclass(slots=True)
class Run:
    """What was seen: the console's text, how it ended, how long it took (seconds)."""

    console: str = ""
    end: End = End.STOPPED
    message: str = ""
    seconds: float = 0.0
    command: list[str] = field(default_factory=list)


def program() -> str:
    """The path of QEMU; InputError when it is not installed."""
    found = shutil.which(PROGRAM)
    if not found:
        raise InputError(f"{PROGRAM} is not installed", remedy="install QEMU for x86 (Debian: qemu-system-x86)")
    return found


# A Multiboot 1 kernel, loaded flat at 1 MiB and entered behind its header: zeroes 32 MiB, then ends QEMU.
#   mov edi, 0x1000000; mov ecx, 0x800000; xor eax, eax; rep stosd; mov dx, 0xf4; out dx, al; hlt
_PROBE_FLAGS = 0x10000
_PROBE = struct.pack(
    "<8I", 0x1BADB002, _PROBE_FLAGS, -(0x1BADB002 + _PROBE_FLAGS) & 0xFFFFFFFF, 0x100000, 0x100000, 0, 0, 0x100020
) + bytes.fromhex("bf00000001 b900008000 31c0 f3ab 66baf400 ee f4")
_PROBE_EXIT = 1
"""What isa-debug-exit makes of the byte 0."""
_PROBE_SECONDS = 2.0
"""Real KVM takes some hundredths of a second, TCG a tenth."""


def kvm_works() -> bool:
    """Whether KVM is of use: it may be there, open, even start a guest, and yet be slower than none (nested)."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK) or not shutil.which(PROGRAM):
        return False
    with tempfile.NamedTemporaryFile(prefix="mbtool-") as kernel:
        kernel.write(_PROBE)
        kernel.flush()
        command = [program(), "-machine", "pc,accel=kvm", "-m", "64", "-nodefaults", "-display", "none"]
        command += ["-kernel", kernel.name, "-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_PROBE_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == _PROBE_EXIT


def uefi_firmware() -> tuple[Path, Path]:
    """UEFI code and variable template; InputError when no firmware is installed."""
    for code, variables in OVMF:
        if Path(code).exists() and Path(variables).exists():
            return Path(code), Path(variables)
    raise InputError("no UEFI firmware for QEMU is installed", remedy="install OVMF (Debian: ovmf)")


def drive_arguments(image: Path, bus: str, driver: str = "raw") -> list[str]:
    """QEMU's arguments for a disk or CD on a bus: ahci, ide, virtio, usb or cdrom. The image is never changed.

    ``driver`` is QEMU's name for the image's format.
    """
    drive = f"if=none,id=boot,format={driver},snapshot=on,file={str(image).replace(',', ',,')}"
    match bus:
        case "ahci":
            device = ["-device", "ahci,id=ahci0", "-device", "ide-hd,bus=ahci0.0,drive=boot,bootindex=0"]
        case "ide":
            device = ["-device", "ide-hd,drive=boot,bootindex=0"]
        case "virtio":
            device = ["-device", "virtio-blk-pci,drive=boot,bootindex=0"]
        case "usb":
            device = ["-device", "qemu-xhci", "-device", "usb-storage,drive=boot,bootindex=0"]
        case "cdrom":
            device = ["-device", "ide-cd,drive=boot,bootindex=0"]
            drive += ",media=cdrom"
        case _:
            raise InputError(f"unknown bus {bus!r}", expected="ahci, ide, virtio, usb or cdrom")
    return ["-drive", drive, *device]


PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Ask Linux to end this process when its parent is no more, even if that was killed (prctl(2))."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def _command(machine: Machine, what: list[str]) -> Iterator[tuple[list[str], Path]]:
    """The whole command line, and the directory that holds what belongs to this run alone."""
    with tempfile.TemporaryDirectory(prefix="mbtool-") as name:
        work = Path(name)
        command = [
            program(),
            "-machine",
            f"{machine.machine},accel={machine.accel}",
            "-cpu",
            machine.cpu,
            "-m",
            str(machine.memory),
            "-smp",
            str(machine.smp),
            *("-display", "none", "-nic", "none", "-no-reboot", "-monitor", "none"),
            *("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"),
            *("-qmp", f"unix:{work / 'qmp'},server=on,wait=off"),
            *("-d", "cpu_reset", "-D", str(work / "resets")),
        ]
        if machine.firmware is Firmware.UEFI:
            code, variables = uefi_firmware()
            shutil.copy(variables, work / "vars")
            command += ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={code}"]
            command += ["-drive", f"if=pflash,format=raw,unit=1,file={work / 'vars'}"]
        yield [*command, *what, *machine.extra], work


def boot(
    machine: Machine,
    what: list[str],
    *,
    timeout: float,
    seen: Callable[[str], bool] = lambda text: False,
    settle: float = 0,
    progress: Callable[[str], None] = lambda text: None,
) -> Run:
    """Boot ``what`` (QEMU arguments) until it ends, ``seen(console so far)`` says enough, or ``timeout`` seconds.

    Once that has been seen it goes on for ``settle`` more seconds. ``progress`` gets each new piece of console
    text. QEMU never outlives this call.
    """
    with _command(machine, what) as (command, work):
        run = Run(command=command)
        begin = time.monotonic()
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        ) as process:
            try:
                with _Events(work / "qmp") as events:
                    _watch(process, events, run, begin + timeout, seen, settle, progress)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        run.seconds = time.monotonic() - begin
        resets = work / "resets"
        if run.end is End.RESET and resets.exists() and b"Triple fault" in resets.read_bytes()[-(1 << 20) :]:
            run.end = End.TRIPLE_FAULT
        return run


def _watch(
    process: subprocess.Popen[bytes],
    events: _Events,
    run: Run,
    deadline: float,
    seen: Callable[[str], bool],
    settle: float,
    progress: Callable[[str], None],
) -> None:
    assert process.stdout is not None
    assert process.stderr is not None
    messages = b""
    enough = False
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                run.end = End.STOPPED if enough else End.TIMEOUT
                return
            for key, _ in selector.select(min(left, 0.25)):
                piece = os.read(key.fd, 65536)
                if not piece:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    messages = (messages + piece)[-65536:]
                else:
                    text = piece.decode("utf-8", "replace")
                    run.console = (run.console + text)[-MAX_CONSOLE:]
                    progress(text)
                    if not enough and seen(run.console):
                        enough = True
                        deadline = min(deadline, time.monotonic() + settle)
            events.poll()
    with suppress(subprocess.TimeoutExpired):
        process.wait(max(1.0, deadline - time.monotonic()))
    events.poll()
    run.message = messages.decode("utf-8", "replace").strip()
    reason = events.reason
    if process.returncode and not reason:
        run.end = End.QEMU
    else:
        run.end = End.RESET if reason == "guest-reset" else End.POWER_OFF


class _Events:
    """QEMU's control socket, listened to for one thing: why the machine shuts down."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._buffer = b""
        self.reason = ""

    def __enter__(self) -> _Events:
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()

    def poll(self) -> None:
        """Take in what QEMU has said so far; never waits."""
        try:
            if self._socket is None:
                sock = socket.socket(socket.AF_UNIX)
                sock.setblocking(False)
                try:
                    sock.connect(str(self._path))
                except OSError:
                    sock.close()
                    return
                self._socket = sock
                sock.send(b'{"execute": "qmp_capabilities"}\n')
            while piece := self._socket.recv(65536):
                self._buffer += piece
        except OSError:  # nothing to read yet, or QEMU has gone
            pass
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if message.get("event") == "SHUTDOWN":
                self.reason = message.get("data", {}).get("reason", "")
