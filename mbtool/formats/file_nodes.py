"""Files of a file system as nodes: where they lie, and what those hold that have to do with booting."""

from __future__ import annotations

from collections.abc import Sequence

from mbtool.errors import LimitError
from mbtool.formats.context import Context
from mbtool.formats.runs import Run, joined
from mbtool.model import Field, Finding, Node
from mbtool.source import Source

TEXT = (".cfg", ".conf", ".nsh")
"""Names of what boot loaders and firmware read as text."""
MAX_TEXT = 1 << 16
MAX_LINES = 256
FEW_LINES = 12
"""Texts up to this length are shown without being asked for."""
RELOCATABLE = b"\x01\0"
"""e_type of an ELF file that is only a part of a program: a boot loader's module."""


class Inner:
    """Shows what parts of ``source`` hold.

    Parts that overlap could hold each other, over and over: no more bytes are looked into than the source has.
    """

    def __init__(self, source: Source, context: Context, size: int | None = None) -> None:
        """``size``: bytes of the source that are in use."""
        known = source.known_size
        self._room = context.budget.limits.max_output if known is None else known
        if size is not None:
            self._room = min(self._room, size)
        self._name = source.name
        self._context = context
        self.findings: tuple[Finding, ...] = ()
        """That a limit was met, if so."""

    def take(self, size: int) -> bool:
        """Whether one more part, of ``size`` bytes, may be looked into."""
        if self.findings:
            return False
        self._room -= size
        try:
            self._context.budget.look(self._name)
            if self._room < 0:
                raise LimitError("overlapping parts: the rest are not looked into", source=self._name)
        except LimitError as error:
            self.findings = (Finding.of(error, "LIMIT"),)
            return False
        return True

    def nodes(self, part: Source) -> tuple[Node, ...]:
        """What a part holds, as a node placed at 0; () when it is nothing known."""
        if not self.take(part.at_hand):
            return ()
        node = self._context.inside(part, 0)
        return () if node.kind == "data" and not node.findings else (node,)


class FileNodes:
    """Makes the nodes of one volume's files; ``size``: bytes of the volume."""

    def __init__(self, source: Source, context: Context, size: int) -> None:
        self._source = source
        self._inner = Inner(source, context, size)
        self._reach = size if context.full else source.at_hand

    @property
    def findings(self) -> tuple[Finding, ...]:
        """That a limit was met, if so."""
        return self._inner.findings

    def node(
        self,
        path: str,
        size: int,
        runs: Sequence[Run],
        fields: tuple[Field, ...] = (),
        findings: tuple[Finding, ...] = (),
    ) -> Node:
        """The node ``file`` of ``size`` bytes, placed at its first byte in the volume, with what it holds."""
        fields = (Field("path", path, telling=True), *fields, Field("contiguous", len(runs) <= 1))
        if len(runs) > 1:
            fields = (*fields, Field("pieces", len(runs), telling=True))
        children: tuple[Node, ...] = ()
        if runs and max(map(sum, runs)) > self._reach:
            fields = (*fields, Field("content", None, meaning="not unpacked (--full does)"))
        elif runs:
            children = self._inside(path, joined(self._source, runs, f"{self._source.name}:{path}"))
        return Node("file", runs[0][0] if runs else 0, size, fields, children, findings)

    def _inside(self, path: str, source: Source) -> tuple[Node, ...]:
        if path.lower().endswith(TEXT):
            return text(source)
        head = source.read(0, 18)
        if head[:4] == b"\x7fELF" and head[16:18] == RELOCATABLE:
            return ()
        return self._inner.nodes(source)


def text(source: Source) -> tuple[Node, ...]:
    """The node ``text`` for a file of lines; () when it is something else."""
    data = source.read(0, MAX_TEXT)
    if b"\0" in data:
        return ()
    lines = data.decode("utf-8", "replace").splitlines()
    cut = len(lines) > MAX_LINES or len(data) < source.size
    fields = (
        Field("line_count", len(lines), meaning="more than are shown" if cut else "", telling=True),
        Field("lines", tuple(lines[:MAX_LINES]), 0, len(data), "", data[:64], len(lines) <= FEW_LINES),
    )
    return (Node("text", 0, source.size, fields),)
