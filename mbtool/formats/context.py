"""What a format is given beside its bytes: the budget, and a way to show what it contains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mbtool.errors import LimitError, MbtoolError, UnknownFormatError
from mbtool.model import Field, Finding, Node
from mbtool.record import record
from mbtool.source import Budget, Source

Recurse = Callable[[Source, "Context"], Node]


@record
class Context:
    """Passed to every ``inspect``. ``full`` asks for everything, even what needs a stream unpacked to its end."""

    budget: Budget
    recurse: Recurse
    full: bool = False
    depth: int = 0

    def inside(self, source: Source, offset: int, size: int | None = None) -> Node:
        """The node for what ``source`` holds, placed at ``offset`` in the caller's content.

        ``size`` overrides the node's size (for a source that would have to be unpacked to know it). Content of
        unknown format becomes a ``data`` node with a field for each format's reason, and one for what it seems to
        be, if anything; an error becomes a finding on one.
        """
        try:
            if self.depth >= self.budget.limits.max_depth:
                raise LimitError(f"nested more than {self.budget.limits.max_depth} levels deep", source=source.name)
            node = self.recurse(source, replace(self, depth=self.depth + 1)).at(offset)
            return node if size is None else replace(node, size=size)
        except UnknownFormatError as error:
            reasons = (Field(f"not_{kind.replace(' ', '_').replace('-', '_')}", why) for kind, why in error.reasons)
            seems = (Field("seems", error.found, telling=True),) if error.found else ()
            return _opaque(source, offset, size, reasons=(*seems, *reasons))
        except LimitError as error:
            return _opaque(source, offset, size, Finding.of(error, "LIMIT"))
        except MbtoolError as error:
            return _opaque(source, offset, size, Finding.of(error))


def _opaque(
    source: Source, offset: int, size: int | None, *findings: Finding, reasons: tuple[Field, ...] = ()
) -> Node:
    head = source.read(0, 16)
    size = source.at_hand if size is None else size
    meaning = "unknown format: --fields tells each reason" if reasons else ""
    field = Field("head", head, 0, len(head), meaning, head, telling=True)
    return Node("data", offset, size, (field, *reasons), (), findings)
