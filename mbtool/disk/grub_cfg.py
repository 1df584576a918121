"""grub.cfg: a menu, and how GRUB starts each kind of kernel (GRUB manual, "Shell-like scripting", "Commands")."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mbtool.disk.protocols import Protocol
from mbtool.errors import InputError

COMMANDS = {
    Protocol.MULTIBOOT2: ("multiboot2", "module2 --nounzip"),
    Protocol.MULTIBOOT1: ("multiboot", "module --nounzip"),
    Protocol.LINUX: ("linux", "initrd"),
}
"""What loads the kernel, and what its modules, of each protocol that GRUB has; files arrive as they are."""


@dataclass(frozen=True, slots=True)
class MenuEntry:
    """One line of the menu: a kernel and its modules, each a path on the ESP and a command line.

    ``protocol`` is one of COMMANDS.
    """

    title: str
    protocol: Protocol
    kernel: tuple[str, str]
    modules: Sequence[tuple[str, str]] = ()


def build(entries: Sequence[MenuEntry], timeout: int) -> bytes:
    """The menu; its first entry starts after ``timeout`` seconds. A serial console of the kernels is GRUB's too.

    Raises InputError for text that GRUB cannot hand on.
    """
    lines = [f"set timeout={timeout}", "set default=0"]
    if serial := _serial([text for entry in entries for _, text in (entry.kernel, *entry.modules)]):
        unit, speed = serial
        lines += [
            f"serial --unit={unit} --speed={speed}",
            "terminal_input console serial",
            "terminal_output console serial",
        ]
    for entry in entries:
        load, load_module = COMMANDS[entry.protocol]
        lines += ["", f"menuentry {quoted(entry.title)} {{", f"\t{load} {_file(*entry.kernel)}"]
        lines += [f"\t{load_module} {_file(*module)}" for module in entry.modules]
        lines.append("}")
    return ("\n".join(lines) + "\n").encode("utf-8")


def _serial(texts: Sequence[str]) -> tuple[int, int] | None:
    """Port number and baud rate of the first serial console that Linux or Xen is told to use."""
    for text in texts:
        if match := re.search(r"\bconsole=ttyS([0-3])(?:,(\d{3,6}))?", text):
            return int(match[1]), int(match[2] or 115200)
        if re.search(r"\bconsole=\S*com1", text) and (match := re.search(r"\bcom1=(\d{3,6})", text)):
            return 0, int(match[1])
        if re.search(r"\bconsole=\S*com2", text) and (match := re.search(r"\bcom2=(\d{3,6})", text)):
            return 1, int(match[1])
    return None


def _file(path: str, text: str) -> str:
    return " ".join(quoted(word) for word in (f"/{path}", *words(text)))


def words(text: str) -> list[str]:
    """A command line cut at blanks outside double quotes, these taken off: GRUB puts them around words with blanks.

    Raises InputError for what would not reach the kernel as it is (GRUB: grub-core/lib/cmdline.c).
    """
    if text.count('"') % 2 or any(char in "'\\" or ord(char) < 0x20 for char in text):
        raise InputError(
            "GRUB cannot hand this command line on as it is",
            found=text,
            expected="no apostrophe, backslash or control character, and every double quote closed",
        )
    parts: list[str] = re.findall(r'(?:[^ "]|"[^"]*")+', text)
    return [part.replace('"', "") for part in parts]


def quoted(text: str) -> str:
    """A word that GRUB's shell takes literally; InputError for line ends."""
    if any(ord(char) < 0x20 for char in text):
        raise InputError("a menu of GRUB cannot hold control characters", found=repr(text))
    return text if re.fullmatch(r"[A-Za-z0-9/._=,:+-]+", text) else "'" + text.replace("'", "'\\''") + "'"
