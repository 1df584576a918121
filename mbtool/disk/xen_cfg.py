"""The configuration that Xen's EFI image reads (Xen: docs/misc/efi.pandoc; xen/common/efi/boot.c)."""

from __future__ import annotations

from mbtool.errors import InputError

SECTION = "mbtool"


def build(xen_cmdline: str, kernel: str, cmdline: str, ramdisk: str | None) -> bytes:
    """A configuration with one section. ``kernel`` and ``ramdisk`` are file names beside Xen's.

    Raises InputError for a command line that Xen's parser cannot carry: it takes control characters for line ends
    and ``#`` anywhere for the start of a comment.
    """
    for what, text in (("Xen's", xen_cmdline), ("dom0's", cmdline)):
        if any(ord(char) < 0x20 or char == "#" for char in text):
            raise InputError(
                f"{what} command line cannot be written to a Xen EFI configuration",
                found=repr(text),
                expected="no '#' and no control characters",
            )
    lines = ["[global]", f"default={SECTION}", "", f"[{SECTION}]"]
    if xen_cmdline:
        lines.append(f"options={xen_cmdline}")
    lines.append(f"kernel={kernel} {cmdline}" if cmdline else f"kernel={kernel}")
    if ramdisk:
        lines.append(f"ramdisk={ramdisk}")
    # Up to Xen 4.21 a last line without a line end is ignored.
    return "\n".join(lines).encode("utf-8") + b"\n"
