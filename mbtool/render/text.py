"""Trees as text for people: a line per node, its telling fields below it, findings where they belong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from mbtool.model import Field, Finding, Hex, Node, Severity, Value
from mbtool.record import record
from mbtool.render.style import Style, human_size, printable

INLINE = 4
"""A leaf with at most this many telling fields, all short, is shown on one line."""
CROWD = 8
"""More leaves of one kind in a row than this are counted, not listed, unless every field is asked for."""
RAW = 16
"""Raw bytes shown per field."""


def tree_lines(node: Node, style: Style, *, every_field: bool = False) -> Iterator[str]:
    """The lines of a tree; with ``every_field`` all fields with offset and raw bytes, else the telling ones."""
    return _Tree(style, every_field).lines(node, "", "")


@record
class _Tree:
    style: Style
    every_field: bool

    def lines(self, node: Node, first: str, rest: str) -> Iterator[str]:
        """``first`` goes before the node's own line, ``rest`` before all that follow."""
        style = self.style
        telling = [field for field in node.fields if field.telling]
        title = f"{style.kind(node.kind)} {style.dim(f'{node.offset:#x}')} {style.dim(human_size(node.size))}"
        inline = not self.every_field and not node.children and _short(telling)
        if inline and telling:
            title += "  " + "  ".join(f"{field.name} {field_text(field)}" for field in telling)
        yield first + title
        bar = ("│  " if style.unicode else "|  ") if node.children else "   "
        if self.every_field:
            yield from (rest + bar + line for line in self.field_table(node.fields))
        elif not inline:
            width = max((len(field.name) for field in telling), default=0)
            yield from (rest + bar + f"{field.name:{width}}  {field_text(field)}" for field in telling)
        yield from (rest + bar + line for line in finding_lines(node.findings, style))
        yield from self.children(node.children, rest)

    def children(self, children: Sequence[Node], rest: str) -> Iterator[str]:
        tee, corner, bar = ("├─ ", "└─ ", "│  ") if self.style.unicode else ("|- ", "`- ", "|  ")
        shown: list[Node | str] = []
        for (kind, leaf), group in groupby(children, lambda child: (child.kind, not child.children)):
            nodes = list(group)
            if leaf and len(nodes) > CROWD and not self.every_field:
                quiet = [child for child in nodes[CROWD - 1 :] if not child.findings]
                shown += nodes[: CROWD - 1]
                shown += [child for child in nodes[CROWD - 1 :] if child.findings]
                shown.append(self.style.dim(f"… {len(quiet)} more {kind} (--fields shows all)"))
            else:
                shown += nodes
        for child in shown:
            last = child is shown[-1]
            first, below = rest + (corner if last else tee), rest + ("   " if last else bar)
            if isinstance(child, str):
                yield first + child
            else:
                yield from self.lines(child, first, below)

    def field_table(self, fields: Sequence[Field]) -> Iterator[str]:
        width = max((len(field.name) for field in fields), default=0)
        places = ["" if field.offset is None else f"{field.offset:#06x}" for field in fields]
        column = max(map(len, places), default=0)
        for place, field in zip(places, fields, strict=True):
            raw = field.raw[:RAW].hex(" ") + (" …" if len(field.raw) > RAW else "")
            line = f"{place:{column}}  {field.name:{width}}  {field_text(field)}"
            yield f"{line}  {self.style.dim(raw)}" if raw else line


def field_text(field: Field) -> str:
    """Value and meaning of a field on one line; the meaning alone when it says the same better."""
    value = value_text(field.value)
    meaning = printable(field.meaning)
    if not meaning:
        return value
    return f"{value} ({meaning})" if value else meaning


def value_text(value: Value) -> str:
    """A value for people: text as it is, addresses in hexadecimal, long byte strings cut."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case Hex():
            return f"{int(value):#x}"
        case bytes():
            return value[:32].hex() + ("…" if len(value) > 32 else "")
        case str():
            return printable(value)
        case tuple():
            return ", ".join(value_text(item) for item in value)
        case _:
            return str(value)


def finding_lines(findings: Sequence[Finding], style: Style) -> Iterator[str]:
    """One line per finding: severity, message, expected and found, remedy, id."""
    for finding in findings:
        paint = {Severity.ERROR: style.error, Severity.WARNING: style.warning, Severity.INFO: style.dim}
        text = finding.message
        if finding.field:
            text = f"{finding.field}: {text}"
        if finding.offset is not None:
            text += f" at {finding.offset:#x}"
        words = {"expected": finding.expected, "found": finding.found}
        if any(words.values()):
            text += f"; {', '.join(f'{name} {value}' for name, value in words.items() if value)}"
        if finding.remedy:
            text += f" ({finding.remedy})"
        yield f"{paint[finding.severity](str(finding.severity) + ':')} {printable(text)} [{finding.id}]"


def _short(fields: Sequence[Field]) -> bool:
    return len(fields) <= INLINE and sum(len(field.name) + len(field_text(field)) for field in fields) < 100
