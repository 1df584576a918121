"""Save the boot information that real loaders hand over: python -m tests.formats.multiboot_capture

Boots tests/data/multiboot/halt.asm in QEMU with QEMU's own Multiboot loader and with GRUB (multiboot, multiboot2),
waits for the loader's magic in EAX and writes captured.json beside it: for each loader EBX and the memory from its
structures on, as hexadecimal text by physical address. The structures' ends are worked out here by hand, from
the specifications, so that the recording owes nothing to the code it tests.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parent.parent / "data" / "multiboot"
RAM = 64 << 20
COMMAND_LINE = 'console=com1 "two words"'
FIRST, SECOND = b"1" * 5000, b"2" * 100
GRUB_MODULES = ("biosdisk", "part_msdos", "memdisk", "tar", "normal", "multiboot", "multiboot2", "vbe")
CONFIG = """\
set gfxpayload=keep
{command} (memdisk)/halt.elf {line}
{module} (memdisk)/first first module
{module} (memdisk)/second
boot
"""
MULTIBOOT1, MULTIBOOT2 = "2badb002", "36d76289"


@dataclass(frozen=True)
class Captured:
    """What a loader left: EBX and all 64 MiB of memory."""

    ebx: int
    memory: bytes

    def word(self, at: int) -> int:
        return int.from_bytes(self.memory[at : at + 4], "little")

    def text(self, at: int) -> tuple[int, int]:
        """The range of the zero-terminated string at an address; none at address 0."""
        return at, self.memory.index(0, at) + 1 if at else 0

    def ranges(self, magic: str) -> list[tuple[int, int]]:
        """Half-open ranges of memory that hold boot information, those that touch or nearly touch made one."""
        ranges = self._ranges1() if magic == MULTIBOOT1 else [(self.ebx, self.ebx + self.word(self.ebx))]
        merged: list[tuple[int, int]] = []
        for start, stop in sorted(item for item in ranges if item[0] < item[1]):
            if merged and start <= merged[-1][1] + 64:
                merged[-1] = merged[-1][0], max(stop, merged[-1][1])
            else:
                merged.append((start, stop))
        return merged

    def _ranges1(self) -> list[tuple[int, int]]:
        ebx, flags = self.ebx, self.word(self.ebx)
        ranges = [(ebx, ebx + 116), self.text(self.word(ebx + 16)), self.text(self.word(ebx + 64))]
        mods, count = self.word(ebx + 24), self.word(ebx + 20)
        ranges.append((mods, mods + 16 * count))
        ranges += [self.text(self.word(mods + 16 * number + 8)) for number in range(count)]
        ranges.append((self.word(ebx + 48), self.word(ebx + 48) + self.word(ebx + 44)))
        if flags & 0x20:  # ELF section headers: num, size, addr
            num, size, addr = (self.word(ebx + at) for at in (28, 32, 36))
            ranges.append((addr, addr + num * size))
        if flags & 0x400:
            ranges.append((self.word(ebx + 68), self.word(ebx + 68) + 20))
        if flags & 0x800:
            ranges.append((self.word(ebx + 72), self.word(ebx + 72) + 512))
            ranges.append((self.word(ebx + 76), self.word(ebx + 76) + 256))
        return ranges


def run(work: Path, *command: str) -> None:
    subprocess.run(command, check=True, cwd=work, capture_output=True)


def prepare(work: Path) -> None:
    """halt.elf and two modules in the work directory."""
    run(work, "nasm", "-f", "elf32", "-o", "halt.o", str(DATA / "halt.asm"))
    run(work, "ld", "-m", "elf_i386", "-Ttext", "0x100000", "-o", "halt.elf", "halt.o")
    (work / "first").write_bytes(FIRST)
    (work / "second").write_bytes(SECOND)


def grub_disk(work: Path, command: str, module: str) -> str:
    """A raw disk, named relative to the work directory: GRUB's boot sector and core image with a memory disk."""
    (work / "grub.cfg").write_text(CONFIG.format(command=command, module=module, line=COMMAND_LINE))
    run(work, "tar", "-cf", "memdisk.tar", "halt.elf", "first", "second")
    options = ("-O", "i386-pc", "-p", "(memdisk)", "-m", "memdisk.tar", "-c", "grub.cfg", "-o", "core.img")
    run(work, "grub-mkimage", *options, *GRUB_MODULES)
    boot = Path("/usr/lib/grub/i386-pc/boot.img").read_bytes()
    image = work / f"{command}.img"
    image.write_bytes((boot + (work / "core.img").read_bytes()).ljust(4 << 20, b"\0"))
    return image.name


def boot(work: Path, magic: str, *options: str) -> Captured:
    """What the machine's loader left, once EAX holds its magic; gives up after a minute."""
    command = ["qemu-system-i386", "-m", f"{RAM >> 20}", "-display", "none", "-vga", "std", "-monitor", "stdio"]
    with subprocess.Popen(
        [*command, *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=work,
    ) as qemu:
        assert qemu.stdin and qemu.stdout
        try:
            for _ in range(120):
                time.sleep(0.5)
                print("info registers", file=qemu.stdin, flush=True)
                text = ""
                while "EFL=" not in text:
                    line = qemu.stdout.readline()
                    assert line, "QEMU ended"
                    text += line
                if match := re.search(rf"EAX={magic} EBX=([0-9a-f]+)", text):
                    print(f"pmemsave 0 {RAM} dump\nquit", file=qemu.stdin, flush=True)
                    qemu.wait(30)
                    return Captured(int(match[1], 16), (work / "dump").read_bytes())
            raise TimeoutError("the kernel was not reached")
        finally:
            qemu.kill()


def boot_qemu(work: Path) -> Captured:
    options = ("-kernel", "halt.elf", "-append", COMMAND_LINE, "-initrd", "first first module,second")
    return boot(work, MULTIBOOT1, *options)


def boot_grub(work: Path, command: str) -> Captured:
    """``command``: multiboot or multiboot2."""
    module, magic = ("module", MULTIBOOT1) if command == "multiboot" else ("module2", MULTIBOOT2)
    return boot(work, magic, "-drive", f"format=raw,file={grub_disk(work, command, module)}")


def main() -> None:
    document = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(work)
        for name, magic, captured in (
            ("qemu-multiboot1", MULTIBOOT1, boot_qemu(work)),
            ("grub-multiboot1", MULTIBOOT1, boot_grub(work, "multiboot")),
            ("grub-multiboot2", MULTIBOOT2, boot_grub(work, "multiboot2")),
        ):
            memory = {hex(start): captured.memory[start:stop].hex() for start, stop in captured.ranges(magic)}
            document[name] = {"ebx": hex(captured.ebx), "memory": memory}
    (DATA / "captured.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
