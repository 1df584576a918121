"""The few packets of the gdb remote protocol that reading a stopped machine takes."""

from __future__ import annotations

import socket
import time
from pathlib import Path

GENERAL = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{i}" for i in range(8, 16)), "rip")
SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
CR3_OFFSET = 204
"""Where QEMU's answer to ``g`` has it: 17 registers, eflags, 6 selectors, fs, gs, kernel gs bases, cr0, cr2."""


class Gdb:
    """A connection to QEMU's gdb server on a UNIX socket; usable with ``with``."""

    def __init__(self, path: Path, patience: float = 20) -> None:
        self._buffer = b""
        end = time.monotonic() + patience
        while True:
            self._socket = socket.socket(socket.AF_UNIX)
            try:
                self._socket.connect(str(path))
                return
            except OSError:
                self._socket.close()
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def __enter__(self) -> Gdb:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, packet: str, seconds: float = 30) -> str:
        """Send one packet, return the answer's payload; TimeoutError when none comes."""
        data = packet.encode()
        self._socket.sendall(b"$%s#%02x" % (data, sum(data) & 0xFF))
        self._socket.settimeout(seconds)
        while True:
            start = self._buffer.find(b"$")
            end = self._buffer.find(b"#", start)
            if start >= 0 and end >= 0 and len(self._buffer) >= end + 3:
                body, self._buffer = self._buffer[start + 1 : end], self._buffer[end + 3 :]
                self._socket.sendall(b"+")
                return body.decode()
            piece = self._socket.recv(65536)
            if not piece:
                raise EOFError("QEMU closed the gdb connection")
            self._buffer += piece

    def run_to(self, address: int, seconds: float) -> None:
        """Continue until the instruction at ``address`` is about to run."""
        assert self.ask(f"Z1,{address:x},1") == "OK"
        self.ask("c", seconds)
        assert self.registers()["rip"] == address

    def go_on(self, address: int) -> None:
        """Let the machine run on from a breakpoint at ``address``, for good."""
        assert self.ask(f"z1,{address:x},1") == "OK"
        self._socket.sendall(b"$c#63")

    def registers(self) -> dict[str, int]:
        """General registers, eflags, selectors and cr3 of the first CPU."""
        raw = bytes.fromhex(self.ask("g").replace("x", "0"))

        def number(at: int, size: int) -> int:
            return int.from_bytes(raw[at : at + size], "little")

        values = {name: number(8 * i, 8) for i, name in enumerate(GENERAL)}
        values["rflags"] = number(136, 4)
        values |= {name: number(140 + 4 * i, 4) for i, name in enumerate(SEGMENTS)}
        values["cr3"] = number(CR3_OFFSET, 8)
        return values

    def read(self, address: int, size: int) -> bytes:
        """Memory as the stopped CPU sees it; fewer bytes where a page is not mapped."""
        data = b""
        while len(data) < size:
            answer = self.ask(f"m{address + len(data):x},{min(size - len(data), 2048):x}")
            if answer.startswith("E"):
                break
            data += bytes.fromhex(answer)
        return data
