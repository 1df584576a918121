"""Sections of a PE image that hold something to boot: unified kernel images, systemd's stub, unified Xen.

Source: UAPI Group, UAPI.5 "Unified Kernel Image"; systemd-stub(7); Xen docs/misc/efi.pandoc, "Unified
Xen kernel image", and xen/common/efi/boot.c (``efi_start``, its ``read_section`` calls).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from enum import Enum

from mbtool.formats import sbat
from mbtool.formats.context import Context
from mbtool.formats.pe_sections import Section
from mbtool.model import Field, Node
from mbtool.source import Source

MAX_TEXT = 1 << 16
"""Bytes of a text section that are shown."""


class Shown(Enum):
    """How a section's content is shown."""

    TEXT = "text"
    IMAGE = "image"
    SBAT = "sbat"
    DATA = "data"


LINUX = {
    ".linux": ("Linux kernel", Shown.IMAGE),
    ".osrel": ("os-release of the system inside", Shown.TEXT),
    ".cmdline": ("kernel command line", Shown.TEXT),
    ".initrd": ("initrd", Shown.IMAGE),
    ".ucode": ("microcode, an initrd before the others", Shown.IMAGE),
    ".splash": ("boot splash bitmap", Shown.DATA),
    ".dtb": ("device tree", Shown.DATA),
    ".dtbauto": ("device tree for some machines", Shown.DATA),
    ".efifw": ("firmware for some machines", Shown.DATA),
    ".hwids": ("hardware ids for device trees", Shown.DATA),
    ".uname": ("kernel release (uname -r)", Shown.TEXT),
    ".profile": ("start of a boot profile", Shown.TEXT),
    ".pcrsig": ("signed TPM measurements (JSON)", Shown.TEXT),
    ".pcrpkey": ("public key for .pcrsig", Shown.TEXT),
    ".sbat": ("revocation data for shim", Shown.SBAT),
    ".sdmagic": ("mark of systemd's loaders", Shown.TEXT),
}

XEN = {
    ".config": ("Xen's boot configuration", Shown.TEXT),
    ".kernel": ("dom0 kernel", Shown.IMAGE),
    ".ramdisk": ("dom0 initrd", Shown.IMAGE),
    ".xsm": ("XSM/FLASK policy", Shown.DATA),
    ".ucode": ("microcode", Shown.IMAGE),
    ".sbat": LINUX[".sbat"],
    ".pad": ("padding up to the size that Xen maps", Shown.DATA),
}


def known_parts(xen: bool) -> dict[str, tuple[str, Shown]]:
    """The sections that mean something in this image: name to words and how it is shown."""
    return XEN if xen else LINUX


def purpose(names: Collection[str], xen: bool) -> str:
    """What an image with these sections is, "" when they say nothing."""
    if xen:
        return "unified Xen image" if {".config", ".kernel", ".ramdisk"} & set(names) else "Xen hypervisor"
    if ".linux" in names:
        return "unified kernel image"
    if ".sdmagic" in names:
        return "systemd's boot loader or stub"
    return ""


def describe(source: Source, part: Section, node: Node, xen: bool, context: Context) -> Node:
    """The section's node with what the section is for and what it holds."""
    words, shown = known_parts(xen).get(part.name, ("", Shown.DATA))
    if not words:
        return node
    fields = [Field("purpose", words, telling=True)]
    children: tuple[Node, ...] = ()
    content = source.part(part.offset, part.content, f"{source.name}:{part.name}")
    if part.content and shown is Shown.IMAGE:
        children = (context.inside(content, 0, part.content),)
    elif shown is Shown.SBAT:
        children = (sbat.inspect(content.read(0, sbat.MAX_SIZE)),)
    elif shown is Shown.TEXT:
        fields.append(_text(content, part.content))
        if part.name == ".osrel":
            fields += _os_release(str(fields[-1].value))
    # The name comes first, then what it is for, then what it says.
    return replace(node, fields=(node.fields[0], *fields, *node.fields[1:]), children=children)


def _text(content: Source, size: int) -> Field:
    """A text section up to its first NUL."""
    data = content.read(0, MAX_TEXT).partition(b"\0")[0]
    meaning = f"the first {MAX_TEXT} bytes" if size > MAX_TEXT and len(data) == MAX_TEXT else ""
    text = data.decode("utf-8", "backslashreplace").rstrip("\n")
    return Field("text", text, 0, len(data), meaning, data[:64], telling=True)


def _os_release(text: str) -> Iterable[Field]:
    """The settings of an os-release file that tell systems apart (os-release(5))."""
    wanted = {"ID", "VERSION_ID", "PRETTY_NAME"}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name in wanted:
            wanted.remove(name)
            yield Field(name, value.strip("\"'"))
