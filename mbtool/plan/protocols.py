"""Which boot protocol a kernel speaks, and that protocol's plan for it.

Each protocol's structures and planner are imported when a kernel wants them: together they take longer to load than
many a disk to write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import PurePath

from mbtool.errors import UnsupportedError
from mbtool.formats import elf_file
from mbtool.formats.elf_file import ElfFile
from mbtool.formats.multiboot_search import MULTIBOOT1, MULTIBOOT2
from mbtool.plan.e820 import E820Map
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


def load_plan(
    protocol: Protocol,
    kernel: Source,
    path: str,
    cmdline: str,
    modules: Sequence[ModuleFile] = (),
    memory: E820Map | None = None,
) -> LoadPlan:
    """What to load for ``kernel``, which the plan calls ``path``; see the protocols' planners for ``memory``.

    Linux takes the first module for its initrd and has no others. Raises UnsupportedError for a kernel that does
    not speak the protocol, and what the planners raise.
    """
    return _PLANNERS[protocol](kernel, path, cmdline, modules, memory)


def named(path: str, text: str) -> str:
    """A command line that begins with the file's name, as loaders for Multiboot 1 write it."""
    name = PurePath(path).name
    return f"{name} {text}" if text else name


_Planner = Callable[[Source, str, str, Sequence[ModuleFile], E820Map | None], LoadPlan]


def _multiboot1(
    kernel: Source, path: str, cmdline: str, modules: Sequence[ModuleFile], memory: E820Map | None
) -> LoadPlan:
    from mbtool.formats import multiboot1
    from mbtool.plan import multiboot1 as plan_multiboot1

    offset = MULTIBOOT1.first(kernel.read(0, MULTIBOOT1.limit))
    if offset is None:
        raise UnsupportedError("no Multiboot 1 header", source=kernel.name)
    header = multiboot1.parse(kernel.read(offset, MULTIBOOT1_HEADER), source=kernel.name, base=offset)
    texts = [replace(module, cmdline=named(module.file, module.cmdline)) for module in modules]
    line = named(path, cmdline)
    return plan_multiboot1.plan(path, kernel.size, header, offset, _elf(kernel), line, texts, memory)


def _multiboot2(
    kernel: Source, path: str, cmdline: str, modules: Sequence[ModuleFile], memory: E820Map | None
) -> LoadPlan:
    from mbtool.formats import multiboot2
    from mbtool.plan import multiboot2 as plan_multiboot2

    head = kernel.read(0, MULTIBOOT2.limit)
    offset = MULTIBOOT2.first(head)
    if offset is None:
        raise UnsupportedError("no Multiboot 2 header", source=kernel.name)
    header = multiboot2.parse(head, offset, source=kernel.name)
    return plan_multiboot2.plan(path, kernel.size, header, offset, _elf(kernel), cmdline, modules, memory)


def _linux(
    kernel: Source, path: str, cmdline: str, modules: Sequence[ModuleFile], memory: E820Map | None
) -> LoadPlan:
    from mbtool.plan import linux_boot

    head = kernel.read(0, HEAD_READ)
    return linux_boot.plan(path, head, kernel.size, cmdline, modules[0] if modules else None, memory).load_plan


def _pvh(
    kernel: Source, path: str, cmdline: str, modules: Sequence[ModuleFile], memory: E820Map | None
) -> LoadPlan:
    from mbtool.plan import pvh

    return pvh.plan(path, kernel.size, elf_file.parse_elf(kernel), cmdline, modules, memory)


def _elf(source: Source) -> ElfFile | None:
    return None if elf_file.reject(source) else elf_file.parse_elf(source)


_PLANNERS: dict[Protocol, _Planner] = {
    Protocol.MULTIBOOT1: _multiboot1,
    Protocol.MULTIBOOT2: _multiboot2,
    Protocol.LINUX: _linux,
    Protocol.PVH: _pvh,
}
