"""What a machine shows on its text screen: the VGA memory, read through QEMU's monitor.

All of it is read, not just the first screen: Linux scrolls by moving the screen's start through it.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

MEMORY = 0x8000
"""Bytes of text, from 0xb8000 on."""
COLUMNS = 80


def vga_text(disk: Path, expected: str, *, memory: int = 64, seconds: float = 180) -> str:
    """The text that a BIOS machine shows which boots ``disk``, once ``expected`` is there, else AssertionError."""
    command = ["qemu-system-x86_64", "-accel", "tcg", "-m", str(memory), "-display", "none", "-nic", "none"]
    command += ["-serial", "null", "-monitor", "stdio", "-drive", f"file={disk},format=raw,snapshot=on"]
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        dump = Path(folder) / "vga"
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdin is not None
            try:
                text = ""
                while expected not in text:
                    assert time.monotonic() < deadline, f"not on the screen: {expected!r}\n{text}"
                    time.sleep(0.3)
                    process.stdin.write(f'pmemsave 0xb8000 {MEMORY} "{dump}"\n')
                    process.stdin.flush()
                    cells = dump.read_bytes()[::2].decode("cp437") if dump.exists() else ""
                    if len(cells) < MEMORY // 2:
                        continue  # still being written
                    lines = [cells[at : at + COLUMNS].rstrip("\0 ") for at in range(0, len(cells), COLUMNS)]
                    text = "\n".join(lines)
                return text
            finally:
                process.kill()
