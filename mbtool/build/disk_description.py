"""Writing the description of a disk: the TOML file that ``mbtool.build.disk_manifest`` reads, beside each image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mbtool.disk.boot_set import BootSet
from mbtool.disk.content import FileSlice
from mbtool.errors import InputError


def describe(boot: BootSet, folder: Path) -> str:
    """The description of a boot set, as ``load`` reads it from a file in ``folder``, which paths are relative to.

    Raises InputError for a path that is no UTF-8 text: TOML could not name it.
    """

    def line(key: str, value: Any) -> str:
        return f"{key} = {_quoted(value) if isinstance(value, str) else value}\n" if value else ""

    def name(path: Path | None) -> str:
        return os.path.relpath(path.parent.resolve() / path.name, folder.resolve()) if path else ""

    def modules(items: Sequence[tuple[Path, str]]) -> str:
        tables = [f"{{ file = {_quoted(name(path))}, cmdline = {_quoted(text)} }}" for path, text in items]
        return f"modules = [{', '.join(tables)}]\n" if tables else ""

    text = "[boot]\n" + line("xen", name(boot.xen)) + line("xen-efi", name(boot.xen_efi))
    text += line("kernel", name(boot.kernel)) + line("initrd", name(boot.initrd))
    text += line("efi-stub", name(boot.efi_stub)) + line("os-release", name(boot.os_release))
    text += line("cmdline", boot.cmdline) + line("xen-cmdline", boot.xen_cmdline)
    text += line("title", boot.title) + modules([(module.path, module.cmdline) for module in boot.modules])
    if boot.loader != "stub":
        text += line("loader", boot.loader) + f"timeout = {boot.timeout}\n"
    text += "\n[disk]\n" + line("label", boot.label) + line("esp-size", boot.esp_size)
    text += line("format", boot.format if boot.format != "raw" else "") + line("source-date-epoch", boot.mtime)
    for target, path in boot.files:
        text += "\n[[file]]\n" + line("path", target) + line("source", name(path))
    for partition in boot.partitions:
        source = name(partition.content.path) if isinstance(partition.content, FileSlice) else ""
        text += "\n[[partition]]\n" + line("name", partition.name) + line("source", source)
        text += line("size", partition.size) + line("type", str(partition.type_guid))
    for entry in boot.entries:
        text += "\n[[entry]]\n" + line("title", entry.title) + line("xen", name(entry.xen))
        text += line("kernel", name(entry.kernel)) + line("initrd", name(entry.initrd))
        text += line("cmdline", entry.cmdline) + line("xen-cmdline", entry.xen_cmdline) + modules(entry.modules)
    return text


def _quoted(text: str) -> str:
    """A TOML basic string."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            "is no UTF-8 text, and the image's description has to name it", source=repr(text)
        ) from error
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}" for c in escaped) + '"'
