"""Which boot protocol a kernel speaks, and the plan of that protocol for the files on a disk.

Each protocol's structures and planner are imported when a kernel wants them: together they take longer to load than
many a disk to write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from mbtool.disk.content import size_of
from mbtool.disk.kernel import BootFile
from mbtool.errors import MbtoolError, UnsupportedError
from mbtool.formats import elf_file
from mbtool.formats.elf_file import ElfFile
from mbtool.formats.multiboot_search import MULTIBOOT1, MULTIBOOT2
from mbtool.plan.linux_kernel import HEAD_READ, is_bzimage
from mbtool.plan.load import LoadPlan
from mbtool.plan.modules import ModuleFile
from mbtool.source import Source

MULTIBOOT1_HEADER = 48
"""Bytes of a whole Multiboot 1 header."""


class Protocol(StrEnum):
    """How a kernel wants to be started; the values are names for people."""

    MULTIBOOT1 = "Multiboot 1"
    MULTIBOOT2 = "Multiboot 2"
    LINUX = "Linux"
    PVH = "PVH"


@dataclass(frozen=True, slots=True)
class DiskFile:
    """A file at ``path`` of the ESP, with the text that its protocol hands on."""

    path: str
    file: BootFile
    text: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return size_of(self.file.content)

    @property
    def named(self) -> str:
        """The text after the file's name."""
        return f"{self.file.name} {self.text}" if self.text else self.file.name


def protocol_of(kernel: Source) -> Protocol:
    """The protocol that a kernel is started by; UnsupportedError when it has none that is known.

    A kernel that speaks several gets the one that says most.
    """
    head = kernel.read(0, MULTIBOOT2.limit)
    if is_bzimage(head):
        return Protocol.LINUX
    if MULTIBOOT2.first(head) is not None:
        return Protocol.MULTIBOOT2
    if MULTIBOOT1.first(head) is not None:
        return Protocol.MULTIBOOT1
    from mbtool.plan import pvh

    elf = _elf(kernel)
    if elf is not None and pvh.entry_point(elf) is not None:
        return Protocol.PVH
    raise UnsupportedError(
        "a kernel of no known boot protocol",
        source=kernel.name,
        expected="a bzImage, a Multiboot header near its start, or an ELF file with a PHYS32_ENTRY note",
    )


def load_plan(protocol: Protocol, kernel: DiskFile, modules: Sequence[DiskFile]) -> LoadPlan:
    """What the boot stub loads, on any PC. Raises MbtoolError for a kernel or modules that cannot be loaded."""
    planners = {
        Protocol.MULTIBOOT1: _multiboot1_plan,
        Protocol.MULTIBOOT2: _multiboot2_plan,
        Protocol.LINUX: _linux_plan,
        Protocol.PVH: _pvh_plan,
    }
    try:
        return planners[protocol](kernel, modules)
    except MbtoolError as error:
        if error.source == kernel.path:  # the user knows the file by another name
            error.source = kernel.file.source.name
        raise


def _multiboot1_plan(kernel: DiskFile, modules: Sequence[DiskFile]) -> LoadPlan:
    """The plan of Multiboot 1; command lines begin with the file's name, as its loaders do it."""
    from mbtool.formats import multiboot1
    from mbtool.plan import multiboot1 as plan_multiboot1

    source = kernel.file.source
    offset = MULTIBOOT1.first(source.read(0, MULTIBOOT1.limit))
    if offset is None:
        raise UnsupportedError("no Multiboot 1 header", source=source.name)
    header = multiboot1.parse(source.read(offset, MULTIBOOT1_HEADER), source=source.name, base=offset)
    named = [ModuleFile(item.path, item.size, item.named) for item in modules]
    return plan_multiboot1.plan(kernel.path, kernel.size, header, offset, _elf(source), kernel.named, named)


def _multiboot2_plan(kernel: DiskFile, modules: Sequence[DiskFile]) -> LoadPlan:
    from mbtool.formats import multiboot2
    from mbtool.plan import multiboot2 as plan_multiboot2

    source = kernel.file.source
    head = source.read(0, MULTIBOOT2.limit)
    offset = MULTIBOOT2.first(head)
    assert offset is not None
    header = multiboot2.parse(head, offset, source=source.name)
    elf = _elf(source)
    return plan_multiboot2.plan(kernel.path, kernel.size, header, offset, elf, kernel.text, _modules(modules))


def _linux_plan(kernel: DiskFile, modules: Sequence[DiskFile]) -> LoadPlan:
    """The first module is the initrd; there are no others."""
    from mbtool.plan import linux_boot

    head = kernel.file.source.read(0, HEAD_READ)
    initrd = ModuleFile(modules[0].path, modules[0].size) if modules else None
    return linux_boot.plan(kernel.path, head, kernel.size, kernel.text, initrd).load_plan


def _pvh_plan(kernel: DiskFile, modules: Sequence[DiskFile]) -> LoadPlan:
    from mbtool.plan import pvh

    elf = elf_file.parse_elf(kernel.file.source)
    return pvh.plan(kernel.path, kernel.size, elf, kernel.text, _modules(modules))


def _modules(modules: Sequence[DiskFile]) -> list[ModuleFile]:
    return [ModuleFile(item.path, item.size, item.text) for item in modules]


def _elf(source: Source) -> ElfFile | None:
    return None if elf_file.reject(source) else elf_file.parse_elf(source)
