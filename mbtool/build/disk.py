"""Building a disk image file: request, layout, content, description; nothing under its name before it is whole."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mbtool.build import disk_format
from mbtool.build.device import open_device
from mbtool.build.disk_description import describe
from mbtool.build.disk_manifest import boot_set, load
from mbtool.build.output import open_output, writable_target
from mbtool.disk.boot_set import BootSet, complete, firmware, request
from mbtool.disk.content import FileSlice, file_content
from mbtool.disk.copying import copy_content, write_at
from mbtool.disk.image import DiskPlan, Progress, plan_disk, write_disk
from mbtool.errors import InputError, MbtoolError


@dataclass(frozen=True, slots=True)
class BuiltDisk:
    """A disk that was written: ``size`` of the disk in bytes (the file is sparse), and notes for the user."""

    path: Path
    size: int
    firmware: tuple[str, ...]
    """On which it boots: "bios", "uefi"."""
    files: Mapping[str, tuple[int, int]]
    """Path on the ESP to where the file lies, in bytes from the start of the disk: offset and size."""
    notes: tuple[str, ...]
    description: Path | None = None
    """What was built, for ``build-disk`` to build it again."""


def source_date_epoch() -> int:
    """Seconds since 1970 from SOURCE_DATE_EPOCH, 0 when it is not set; InputError when it is no number."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return 0
    if not text.isdecimal() or len(text) > 12:
        raise InputError("SOURCE_DATE_EPOCH is no number of seconds", found=repr(text))
    return int(text)


def build_disk(
    boot: BootSet,
    output: Path,
    *,
    force: bool,
    verify: bool = False,
    sync: bool = True,
    progress: Progress = lambda done, total: None,
) -> BuiltDisk:
    """Write a disk image and its description (``output`` + ``.toml``).

    ``verify`` builds it a second time elsewhere and compares; ``sync`` is that of ``open_output``. Raises
    MbtoolError, and then has written nothing.
    """
    boot = complete(boot)
    wanted, notes = request(boot)
    plan = plan_disk(wanted)
    description = Path(f"{output}.toml")
    for target in (output, description):
        _refuse_input(boot, writable_target(target, force=force))
    text = describe(boot, description.parent)
    with open_output(output, force=force, sync=sync) as fd:
        _write(plan, boot, fd, output, progress)
        if verify:
            _verify(boot, fd, output, progress)
            notes.append("built twice, with the same bytes both times")
        if not _says(description, text, boot.mtime):
            with open_output(description, force=True, sync=sync) as beside:
                write_at(beside, text.encode(), 0)
    return _built(output, plan, notes, description)


def write_device(boot: BootSet, device: Path, progress: Progress = lambda done, total: None) -> BuiltDisk:
    """Write a disk onto a device in place, as large as that is; no description is written.

    Raises MbtoolError, before anything is written unless the device fails.
    """
    if boot.format != "raw":
        raise InputError(f"a device takes a raw disk, not {boot.format}", source=str(device))
    wanted, notes = request(boot)
    plan = plan_disk(wanted)
    try:
        with open_device(device, plan.size) as (fd, size):
            plan = replace(plan, size=size)
            write_disk(plan, fd, progress)
    except OSError as error:
        raise InputError(f"cannot write: {error.strerror}", source=str(device)) from error
    return _built(device, plan, notes)


def _refuse_input(boot: BootSet, target: Path) -> None:
    """An input must not be replaced by what is made of it, whatever is forced."""
    inputs = [boot.kernel, boot.initrd, boot.xen, boot.xen_efi, boot.efi_stub, boot.os_release]
    inputs += [module.path for module in boot.modules] + [path for _, path in boot.files]
    inputs += [part.content.path for part in boot.partitions if isinstance(part.content, FileSlice)]
    for entry in boot.entries:
        inputs += [entry.kernel, entry.initrd, entry.xen, *(path for path, _ in entry.modules)]
    if target.exists() and any(path.exists() and path.samefile(target) for path in inputs if path is not None):
        raise InputError("is one of the inputs", source=str(target), remedy="choose another output")


def _says(description: Path, text: str, mtime: int) -> bool:
    """Whether a description is there that says the same: its comments are someone's."""
    try:
        return describe(boot_set(load(description), {}, mtime), description.parent) == text
    except MbtoolError:
        return False


def _built(path: Path, plan: DiskPlan, notes: Sequence[str], description: Path | None = None) -> BuiltDisk:
    files = {name: (plan.esp_offset + offset, size) for name, (offset, size) in plan.esp.extents.items()}
    return BuiltDisk(path, plan.size, firmware(plan.request), files, tuple(notes), description)


def _write(plan: DiskPlan, boot: BootSet, fd: int, output: Path, progress: Progress) -> None:
    """The disk in the format that is asked for; other programs work in a directory beside ``output``."""
    if boot.format not in disk_format.FORMATS:
        write_disk(plan, fd, progress)
        return
    disk_format.program()  # refuse before the work
    # Killed while qemu-img works, the directory is left: it is called as all unfinished outputs are.
    with tempfile.TemporaryDirectory(prefix=f".{output.name[:200]}.", suffix=".tmp", dir=output.parent) as work:
        raw, target = Path(work) / f"{output.name}.raw", Path(work) / output.name
        with raw.open("x+b") as file:
            write_disk(plan, file.fileno(), progress)
        disk_format.convert(raw, target, disk_format.FORMATS[boot.format], boot.mtime)
        copy_content(file_content(target), fd, 0)


def _verify(boot: BootSet, fd: int, output: Path, progress: Progress) -> None:
    wanted, _ = request(boot)
    with tempfile.TemporaryFile() as second:
        try:
            _write(plan_disk(wanted), boot, second.fileno(), output, progress)
        except OSError as error:
            raise InputError(
                f"cannot write the second build: {error.strerror}", source=tempfile.gettempdir()
            ) from error
        if _digest(fd) != _digest(second.fileno()):
            raise MbtoolError("not reproducible: a second build gave other bytes", remedy="please report this")


def _digest(fd: int) -> bytes:
    os.lseek(fd, 0, os.SEEK_SET)
    with open(os.dup(fd), "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
