"""The description of a disk as a TOML file: what ``mbtool build-disk`` reads, and writes beside each image.

::

    [boot]
    xen = "xen.gz"                # paths are relative to the file
    kernel = "vmlinuz"
    initrd = "initrd.img"
    cmdline = "console=hvc0"
    modules = [{ file = "policy.bin", cmdline = "" }]
    loader = "grub"               # stub (the default), grub
    title = "Xen"                 # in GRUB's menu, which waits
    timeout = 5                   # seconds

    [[entry]]                     # further lines of that menu: title, xen, kernel, initrd, modules, command lines
    title = "Linux"
    kernel = "vmlinuz"

    [disk]
    label = "MYXEN"
    esp-size = "64M"
    format = "qcow2"              # raw (the default), iso, qcow2, vmdk, vhd

    [[file]]                      # further files for the ESP
    path = "loader/notes.txt"
    source = "notes.txt"

    [[partition]]                 # further partitions, filled from a file
    name = "root"
    source = "root.img"
    size = "2G"
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbtool.build import disk_format
from mbtool.disk.boot_set import BootSet, Module
from mbtool.disk.content import file_content
from mbtool.disk.grub_set import Entry
from mbtool.disk.image import Partition
from mbtool.errors import InputError
from mbtool.formats import gpt
from mbtool.source import MIB, read_file

MAX_MANIFEST = MIB
BOOT_PATHS = ("xen", "xen-efi", "kernel", "initrd", "efi-stub", "os-release")
FILE_KEYS = {*BOOT_PATHS, "file", "source"}
MAX_PARTITIONS = 126
"""Of the 128 in a GPT, two are the BIOS loader's and the ESP."""
BOOT_TEXTS = ("cmdline", "xen-cmdline", "title")
ENTRY_PATHS = ("xen", "kernel", "initrd")
LOADERS = ("stub", "grub")
TYPES = {"linux": gpt.LINUX_DATA, "esp": gpt.ESP}
DISK_FORMATS = ("raw", "iso", *disk_format.FORMATS)
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True, slots=True)
class Manifest:
    """A description as it was read: tables of plain values, checked for unknown keys and wrong types."""

    boot: Mapping[str, Any]
    disk: Mapping[str, Any]
    files: tuple[Mapping[str, Any], ...]
    partitions: tuple[Mapping[str, Any], ...]
    entries: tuple[Mapping[str, Any], ...]
    folder: Path
    """What relative paths are relative to."""


EMPTY = Manifest({}, {}, (), (), (), Path())


def load(path: Path) -> Manifest:
    """Read a description. InputError for anything that is not as described above, with the key's name."""
    import tomllib

    try:
        document = tomllib.loads(read_file(path, MAX_MANIFEST).decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"is no TOML file: {error}", source=str(path)) from error
    shape: dict[str, dict[str, Any]] = {
        "boot": {**dict.fromkeys((*BOOT_PATHS, *BOOT_TEXTS, "loader"), str), "modules": list, "timeout": int},
        "entry": {**dict.fromkeys((*ENTRY_PATHS, *BOOT_TEXTS), str), "modules": list},
        "disk": {"label": str, "esp-size": (str, int), "format": str, "source-date-epoch": int},
        "file": {"path": str, "source": str},
        "partition": {"name": str, "source": str, "size": (str, int), "type": str},
    }
    for table in document:
        if table not in shape:
            raise InputError("unknown table", source=str(path), field=table, expected=", ".join(shape))
    for table in ("boot", "disk"):
        _check(path, table, document.setdefault(table, {}), shape[table])
    for table in ("file", "partition", "entry"):
        if not isinstance(document.setdefault(table, []), list):
            raise InputError("is not a list of tables", source=str(path), field=table, expected=f"[[{table}]]")
        for item in document[table]:
            _check(path, table, item, shape[table])
            needed = "kernel" if table == "entry" else "source"
            if needed not in item:
                raise InputError(f"has no {needed}", source=str(path), field=table)
    for table, item in [("boot", document["boot"]), *(("entry", item) for item in document["entry"])]:
        for module in item.get("modules", []):
            _check(path, f"{table}.modules", module, {"file": str, "cmdline": str})
            if "file" not in module:
                raise InputError("has no file", source=str(path), field=f"{table}.modules")
    if len(document["partition"]) > MAX_PARTITIONS:
        found = str(len(document["partition"]))
        raise InputError("too many", source=str(path), field="partition", expected=f"{MAX_PARTITIONS}", found=found)
    files, partitions, entries = (tuple(document[table]) for table in ("file", "partition", "entry"))
    return Manifest(document["boot"], document["disk"], files, partitions, entries, path.parent)


def _check(path: Path, table: str, values: Any, shape: Mapping[str, Any]) -> None:
    if not isinstance(values, dict):
        raise InputError("is not a table", source=str(path), field=table)
    for key, value in values.items():
        if key not in shape:
            raise InputError(
                "unknown key", source=str(path), field=f"{table}.{key}", expected=", ".join(sorted(shape))
            )
        if not isinstance(value, shape[key]) or isinstance(value, bool):
            raise InputError("wrong type", source=str(path), field=f"{table}.{key}", found=repr(value))
        if key in FILE_KEYS and (not value or "\0" in value):
            raise InputError("is no file name", source=str(path), field=f"{table}.{key}", found=repr(value))


def boot_set(manifest: Manifest, overrides: Mapping[str, Any], mtime: int) -> BootSet:
    """The boot set that a description asks for; ``overrides`` (same keys as [boot], [disk]) go first.

    Raises InputError when no kernel is named or a file cannot be read.
    """

    def path(key: str) -> Path | None:
        if overrides.get(key) is not None:
            return Path(overrides[key])
        return manifest.folder / manifest.boot[key] if key in manifest.boot else None

    def value(table: Mapping[str, Any], key: str, default: Any) -> Any:
        return overrides[key] if overrides.get(key) is not None else table.get(key, default)

    kernel = path("kernel")
    if kernel is None:
        raise InputError("no kernel is named", remedy="give --kernel, or a manifest with boot.kernel")
    modules = [
        Module(manifest.folder / module.get("file", ""), module.get("cmdline", ""))
        for module in manifest.boot.get("modules", [])
    ]
    return BootSet(
        kernel=kernel,
        initrd=path("initrd"),
        xen=path("xen"),
        xen_efi=path("xen-efi"),
        efi_stub=path("efi-stub"),
        os_release=path("os-release"),
        modules=overrides.get("modules") or modules,
        cmdline=value(manifest.boot, "cmdline", ""),
        xen_cmdline=value(manifest.boot, "xen-cmdline", ""),
        files=[
            (file.get("path") or Path(file["source"]).name, manifest.folder / file["source"])
            for file in manifest.files
        ],
        partitions=[
            Partition(
                item.get("name", ""),
                file_content(manifest.folder / item["source"]),
                parse_size(item.get("size", 0), "partition.size"),
                _type(item.get("type", "linux")),
            )
            for item in manifest.partitions
        ],
        label=value(manifest.disk, "label", "MBTOOL"),
        mtime=mtime or _seconds("disk.source-date-epoch", manifest.disk.get("source-date-epoch", 0)),
        esp_size=parse_size(value(manifest.disk, "esp-size", 0), "esp-size"),
        format=_one_of("disk.format", value(manifest.disk, "format", "raw"), DISK_FORMATS),
        loader=_one_of("boot.loader", value(manifest.boot, "loader", "stub"), LOADERS),
        title=manifest.boot.get("title", ""),
        entries=[_entry(manifest.folder, item) for item in manifest.entries],
        timeout=_seconds("boot.timeout", manifest.boot.get("timeout", 5)),
    )


def _entry(folder: Path, item: Mapping[str, Any]) -> Entry:
    initrd, xen = item.get("initrd"), item.get("xen")
    return Entry(
        folder / item["kernel"],
        item.get("title", ""),
        folder / initrd if initrd else None,
        folder / xen if xen else None,
        [(folder / module.get("file", ""), module.get("cmdline", "")) for module in item.get("modules", [])],
        item.get("cmdline", ""),
        item.get("xen-cmdline", ""),
    )


def _seconds(what: str, value: int) -> int:
    if value < 0:
        raise InputError(f"{what}: not a number of seconds", expected="0 or more", found=str(value))
    return value


def _one_of(what: str, text: str, known: Sequence[str]) -> str:
    if text not in known:
        raise InputError(f"{what}: unknown", expected=", ".join(known), found=repr(text))
    return text


def parse_size(text: str | int, what: str) -> int:
    """Bytes from a number with an optional K, M, G or T; InputError for anything else."""
    match = re.fullmatch(r"(\d{1,15})([KMGT]?)(i?B)?", str(text).strip(), re.IGNORECASE)
    if not match:
        raise InputError(f"{what}: not a size", expected="a number, with K, M, G or T", found=repr(text))
    return int(match[1]) * UNITS[match[2].upper()]


def _type(text: str) -> uuid.UUID:
    if text in TYPES:
        return TYPES[text]
    try:
        return uuid.UUID(text)
    except ValueError:
        raise InputError(
            "partition.type: unknown", expected=f"{', '.join(TYPES)} or a GUID", found=repr(text)
        ) from None
