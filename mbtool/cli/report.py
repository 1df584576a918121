"""What ``mbtool inspect`` writes, one image after the other: text, or one JSON document."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import takewhile
from typing import Any, Protocol, TextIO

from mbtool.beside import Beside
from mbtool.errors import MbtoolError, UnknownFormatError
from mbtool.identify import inspect
from mbtool.model import Node, Severity
from mbtool.render.style import Style
from mbtool.source import Limits, open_file, open_stdin

HEAD_START = 0.2
"""Seconds until a file is hashed beside its inspection: most are shown by then, or of no known format."""


class Report(Protocol):
    """A sink for images and errors."""

    def prepare(self) -> None:
        """Load what it needs: done while the first image is being unpacked."""

    def image(self, path: str, size: int, sha256: str, root: Node) -> None: ...

    def error(self, path: str, error: MbtoolError) -> None: ...


def show(path: str, limits: Limits, report: Report, *, full: bool, tolerant: bool) -> int:
    """Show one file; the exit status it asks for: 0, 1 (damage found) or 2 (a limit was met).

    Raises MbtoolError when the file cannot be shown; with ``tolerant`` a file of no known format is passed over.
    """
    with open_stdin() if path == "-" else open_file(path) as source:
        with Beside(lambda: inspect(source, limits, full=full)) as inspection:
            inspection.wait(HEAD_START)
            report.prepare()
            pieces = takewhile(lambda _: not inspection.failed, source.chunks())
            sha256 = None if inspection.done else _sha256(pieces)
            try:
                root = inspection.result()
            except UnknownFormatError:
                if tolerant:
                    return 0
                raise
        report.image(path, source.size, sha256 or _sha256(source.chunks()), root)
    findings = [finding for node in root.walk() for finding in node.findings]
    if any(finding.id == "LIMIT" for finding in findings):
        return 2
    return int(any(finding.severity is Severity.ERROR for finding in findings))


def _sha256(pieces: Iterable[bytes]) -> str:
    import hashlib  # slow to load: not before the inspection is under way

    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _complain(error: MbtoolError) -> None:
    """The error's one line on standard error, then each format's reason when none fitted."""
    sys.stdout.flush()
    print(f"mbtool: {error}", file=sys.stderr)
    for kind, reason in getattr(error, "reasons", ()):
        print(f"  not {kind}: {reason}", file=sys.stderr)


class TextReport:
    """Each image as a titled tree."""

    def __init__(self, out: TextIO, *, every_field: bool) -> None:
        self._out = out
        self._style = Style.of(out)
        self._every_field = every_field
        self._first = True

    def __enter__(self) -> TextReport:
        return self

    def __exit__(self, *_: object) -> None: ...

    def prepare(self) -> None:
        from mbtool.render import text  # noqa: F401

    def image(self, path: str, size: int, sha256: str, root: Node) -> None:
        from mbtool.render.text import tree_lines

        if not self._first:
            print(file=self._out)
        self._first = False
        print(f"{self._style.bold(path)}  {size} bytes  sha256 {sha256}", file=self._out)
        for line in tree_lines(root, self._style, every_field=self._every_field):
            print(line, file=self._out)

    def error(self, path: str, error: MbtoolError) -> None:
        _complain(error)


class JsonReport:
    """One document, written image by image so that memory does not grow with their number."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._separator = ""
        self._errors: list[dict[str, Any]] = []

    def __enter__(self) -> JsonReport:
        self._out.write('{"schema": "mbtool/inspect/1", "images": [')
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        from mbtool.render.json import dumps

        if kind is None:
            self._out.write(f'], "errors": {dumps(self._errors)}}}\n')

    def prepare(self) -> None:
        from mbtool.render import json  # noqa: F401

    def image(self, path: str, size: int, sha256: str, root: Node) -> None:
        from mbtool.render.json import dumps, node_json

        image = {"path": path, "size": size, "sha256": sha256, "root": node_json(root)}
        self._out.write(f"{self._separator}\n{dumps(image)}")
        self._separator = ","

    def error(self, path: str, error: MbtoolError) -> None:
        from mbtool.render.json import error_json

        self._errors.append(error_json(path, error))
        _complain(error)
