"""Verdicts as JUnit XML, for pipelines that show test results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

NO_CHAR = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Case:
    """One test case: ``failure`` "" when it passed, ``error`` when it could not be run, ``log`` its output.

    ``file`` and ``line``: where to look, "" and 0 where that is not known.
    """

    name: str
    seconds: float
    failure: str = ""
    error: str = ""
    log: str = ""
    file: str = ""
    line: int = 0


def junit(suite: str, cases: Sequence[Case]) -> str:
    """The document, with an XML declaration."""
    root = ElementTree.Element(
        "testsuite",
        name=suite,
        tests=str(len(cases)),
        failures=str(sum(bool(case.failure) for case in cases)),
        errors=str(sum(bool(case.error) for case in cases)),
        time=f"{sum(case.seconds for case in cases):.3f}",
    )
    for case in cases:
        element = ElementTree.SubElement(
            root, "testcase", classname=suite, name=_clean(case.name), time=f"{case.seconds:.3f}"
        )
        if case.file:
            element.set("file", _clean(case.file))
        if case.line:
            element.set("line", str(case.line))
        if case.failure:
            ElementTree.SubElement(element, "failure", message=_clean(case.failure))
        if case.error:
            ElementTree.SubElement(element, "error", message=_clean(case.error))
        if case.log:
            ElementTree.SubElement(element, "system-out").text = _clean(case.log)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _clean(text: str) -> str:
    """XML has no way to write most control characters, nor what is no character (XML 1.0, section 2.2, Char)."""
    return NO_CHAR.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
