"""The plan of a kernel's boot protocol for the files on a disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mbtool.disk.content import size_of
from mbtool.disk.kernel import BootFile
from mbtool.errors import MbtoolError
from mbtool.plan import protocols
from mbtool.plan.load import LoadPlan
from mbtool.plan.modules import ModuleFile
from mbtool.plan.protocols import Protocol, protocol_of

__all__ = ["DiskFile", "Protocol", "load_plan", "protocol_of"]


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


def load_plan(protocol: Protocol, kernel: DiskFile, modules: Sequence[DiskFile]) -> LoadPlan:
    """What the boot stub loads, on any PC. Raises MbtoolError for a kernel or modules that cannot be loaded."""
    files = [ModuleFile(item.path, item.size, item.text) for item in modules]
    try:
        return protocols.load_plan(protocol, kernel.file.source, kernel.path, kernel.text, files)
    except MbtoolError as error:
        if error.source == kernel.path:  # the user knows the file by another name
            error.source = kernel.file.source.name
        raise
